"""Byte streams: the in-memory pair, the transport adapter and the copy between two."""

import asyncio

import pytest

from towline.aio.clock import settle
from towline.aio.memory import memory_pair
from towline.aio.streams import Broken, ByteStream, ClosedHere, EndedThere, Pumped, pump
from towline.aio.tasks import TaskOwner
from towline.aio.transports import READ_AHEAD_BYTES, TransportStream


def test_memory_stream_is_a_byte_stream():
    assert isinstance(memory_pair()[0], ByteStream)


async def test_bytes_arrive_in_order_and_in_pieces_as_asked():
    a, b = memory_pair()
    await a.write(b"hello")
    assert await b.read(2) == b"he"
    assert await b.read() == b"llo"


async def test_each_direction_ends_alone():
    a, b = memory_pair()
    await a.write_eof()
    assert await b.read() == b""
    await b.write(b"still")
    assert await a.read() == b"still"


async def test_writer_waits_for_its_reader():
    a, b = memory_pair(room_bytes=4)
    async with TaskOwner("test") as owner:
        writing = owner.spawn("write", a.write(b"12345"))
        await settle()
        assert not writing.done()
        await b.read()
        await writing


async def test_writing_after_the_end_says_closed_here():
    a, _ = memory_pair()
    await a.write_eof()
    with pytest.raises(ClosedHere):
        await a.write(b"x")


async def test_abort_is_seen_as_ended_there_with_its_reason():
    a, b = memory_pair()
    a.abort("policy")
    with pytest.raises(EndedThere, match="policy"):
        await b.read()
    with pytest.raises(ClosedHere):
        await a.read()


async def test_lost_connection_is_seen_as_broken_by_both():
    a, b = memory_pair()
    a.break_both("cable")
    for end in (a, b):
        with pytest.raises(Broken, match="cable"):
            await end.read()


async def test_pump_copies_both_ways_and_passes_each_end_on():
    left, a = memory_pair()
    b, right = memory_pair()
    async with TaskOwner("test") as owner:
        pumping = owner.spawn("pump", pump(a, b))
        await left.write(b"question")
        await left.write_eof()
        assert await right.read() == b"question"
        assert await right.read() == b""
        await right.write(b"answer")
        await right.write_eof()
        assert await left.read() == b"answer"
        assert await pumping == Pumped(8, 6)


async def test_pump_aborts_both_sides_when_one_breaks():
    left, a = memory_pair()
    b, right = memory_pair()
    failed = []
    async with TaskOwner("test", on_failure=lambda _, error: failed.append(error)) as owner:
        owner.spawn("pump", pump(a, b))
        await settle()
        left.abort("visitor left")
        with pytest.raises(EndedThere, match="visitor left"):
            await right.read()
        await owner.join()
        await settle()
    assert isinstance(failed[0], EndedThere)


async def test_pump_aborts_both_sides_when_cancelled():
    left, a = memory_pair()
    b, right = memory_pair()
    async with TaskOwner("test") as owner:
        owner.spawn("pump", pump(a, b))
        await settle()
    for end in (left, right):
        with pytest.raises(EndedThere, match="cancelled"):
            await end.read()


class FakeTransport(asyncio.Transport):
    """Records what the adapter asks for."""

    def __init__(self):
        super().__init__()
        self.calls = []
        self.ending = False

    def __getattribute__(self, name):
        if name in {"pause_reading", "resume_reading", "write", "write_eof", "close", "abort"}:
            calls = object.__getattribute__(self, "calls")
            return lambda *args: calls.append((name, *args))
        return super().__getattribute__(name)

    def can_write_eof(self):
        return True

    def is_closing(self):
        return self.ending


async def connected():
    stream, transport = TransportStream(), FakeTransport()
    stream.connection_made(transport)
    return stream, transport


async def test_adapter_stops_the_transport_when_nobody_reads():
    stream, transport = await connected()
    stream.data_received(b"x" * READ_AHEAD_BYTES)
    assert transport.calls == [("pause_reading",)]
    await stream.read()
    assert transport.calls[-1] == ("resume_reading",)


async def test_adapter_write_waits_while_the_transport_is_full():
    stream, transport = await connected()
    stream.pause_writing()
    async with TaskOwner("test") as owner:
        writing = owner.spawn("write", stream.write(b"data"))
        await settle()
        assert transport.calls == [("write", b"data")]
        assert not writing.done()
        stream.resume_writing()
        await writing


async def test_adapter_returns_what_arrived_before_the_loss():
    stream, _ = await connected()
    stream.data_received(b"last words")
    stream.connection_lost(OSError("no route"))
    assert await stream.read() == b"last words"
    with pytest.raises(Broken, match="no route"):
        await stream.read()


async def test_adapter_tells_a_reset_from_a_lost_connection():
    stream, _ = await connected()
    stream.connection_lost(ConnectionResetError())
    with pytest.raises(EndedThere, match="reset"):
        await stream.write(b"x")


async def test_adapter_half_close_keeps_writing_open():
    stream, transport = await connected()
    assert stream.eof_received() is True
    assert await stream.read() == b""
    await stream.write(b"x")
    await stream.write_eof()
    assert transport.calls == [("write", b"x"), ("write_eof",)]


async def test_adapter_abort_says_closed_here():
    stream, transport = await connected()
    stream.abort("enough")
    assert transport.calls == [("abort",)]
    with pytest.raises(ClosedHere, match="enough"):
        await stream.read()


async def test_writer_of_a_transport_that_ends_waits_until_it_is_told():
    stream, transport = await connected()
    transport.ending = True  # bytes are dropped from now on; `connection_lost` comes with the next turn of the loop
    asyncio.get_running_loop().call_soon(stream.connection_lost, Broken("cut"))
    with pytest.raises(Broken, match="cut"):
        await stream.write(b"a log line")
