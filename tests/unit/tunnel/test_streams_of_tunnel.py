"""Streams through a pair of sessions: opening, refusing, both directions, back-pressure, endings."""

import asyncio

import pytest
from tests.support.tunnel_pair import memory_tunnel

from towline.aio.clock import SimulatedClock, settle
from towline.aio.streams import Broken, ByteStream, EndedThere, pump
from towline.aio.tasks import TaskOwner
from towline.tunnel.errors import TargetRefused, TunnelClosed
from towline.tunnel.mux import EAGER_WRITES
from towline.tunnel.transport import LINGER_TIMEOUT, StreamTransport
from towline.wire import streams, yamux_frames
from towline.wire.yamux_frames import INITIAL_WINDOW_BYTES

ANSWER_BYTES = len(streams.encode_header(streams.Answer(ok=True)))
TARGET = streams.Tcp(host="127.0.0.1", port=22)


class Recorder(asyncio.Protocol):
    """Remembers what its transport told it."""

    def __init__(self):
        self.calls = []
        self.data = b""
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.data += data

    def eof_received(self):
        self.calls.append("eof")
        return True

    def pause_writing(self):
        self.calls.append("pause")

    def resume_writing(self):
        self.calls.append("resume")

    def connection_lost(self, exc):
        self.lost.set_result(exc)


def accepting(pair):
    """Let the agent accept everything; returns the list of its recorders."""
    accepted = []

    def serve(incoming):
        accepted.append(incoming.accept(Recorder)[1])

    pair.agent.on_stream = serve
    return accepted


async def test_opened_stream_is_a_byte_stream_with_the_agents_answer():
    async with memory_tunnel() as pair:
        pair.agent.on_stream = lambda incoming: incoming.accept(Recorder, info={"shell": "bash"}, have=True)
        stream = await pair.server.open_stream(TARGET)
        assert isinstance(stream, ByteStream)
        assert stream.answer.info == {"shell": "bash"}
        assert stream.answer.have


async def test_agent_sees_the_target_that_was_asked_for():
    seen = []

    def serve(incoming):
        seen.append(incoming.target)
        incoming.accept(Recorder)

    async with memory_tunnel() as pair:
        pair.agent.on_stream = serve
        await pair.server.open_stream(streams.Exec(container="web", argv=("sh",), tty=True))
    assert seen == [streams.Exec(container="web", argv=("sh",), tty=True)]


async def test_first_bytes_travel_in_the_message_of_the_header():
    async with memory_tunnel() as pair:
        accepted = accepting(pair)
        pair.server.create_stream(TARGET, Recorder, b"GET / HTTP/1.1")
        await settle()
        assert accepted[0].data == b"GET / HTTP/1.1"
        assert len([data for kind, data in pair.server_channel.sent if kind == "binary"]) == 1


async def test_refused_target_says_code_and_reason():
    async with memory_tunnel() as pair:
        pair.agent.on_stream = lambda incoming: incoming.refuse("forbidden", "port 22 is not allowed here")
        with pytest.raises(TargetRefused, match="port 22 is not allowed") as refused:
            await pair.server.open_stream(TARGET)
        assert refused.value.code == "forbidden"
        await settle()
        assert pair.server.stream_count == pair.agent.stream_count == 0


async def test_refusal_reaches_a_protocol_as_lost_connection():
    async with memory_tunnel() as pair:
        pair.agent.on_stream = lambda incoming: incoming.refuse("unreachable", "connection refused")
        recorder = Recorder()
        pair.server.create_stream(TARGET, lambda: recorder, b"early")
        error = await recorder.lost
        assert isinstance(error, TargetRefused)
        assert error.code == "unreachable"


async def test_agent_that_is_not_ready_refuses_as_busy():
    async with memory_tunnel() as pair:
        with pytest.raises(TargetRefused) as refused:
            await pair.server.open_stream(TARGET)
        assert refused.value.code == "busy"


async def test_agent_that_never_answers_is_a_timeout_and_its_stream_is_dropped():
    async with memory_tunnel() as pair:
        waiting = []
        pair.agent.on_stream = waiting.append
        with pytest.raises(TimeoutError, match="did not answer"):
            await pair.server.open_stream(TARGET, timeout=0.001)
        await settle()
        assert isinstance(waiting[0].gone, EndedThere)
        with pytest.raises(EndedThere):
            waiting[0].accept(Recorder)


async def test_agent_is_told_when_the_opener_gives_up_while_it_dials():
    async with memory_tunnel() as pair:
        told = []

        def serve(incoming):
            incoming.on_gone = lambda: told.append(True)

        pair.agent.on_stream = serve
        recorder = Recorder()
        transport = pair.server.create_stream(TARGET, lambda: recorder)
        await settle()
        transport.abort()
        await settle()
        assert told == [True]
        assert await recorder.lost is None


async def test_bytes_that_arrive_before_the_decision_are_kept_in_order():
    async with memory_tunnel() as pair:
        waiting = []
        pair.agent.on_stream = waiting.append
        transport = pair.server.create_stream(TARGET, Recorder, b"one ")
        await settle()
        transport.write(b"two")
        transport.write_eof()
        await settle()
        recorder = waiting[0].accept(Recorder)[1]
        await settle()
        assert recorder.data == b"one two"
        assert recorder.calls == ["eof"]


@pytest.mark.parametrize(
    ("header", "code"),
    [
        (b"\x00\x00\x00\x02{]", "bad_request"),
        (b"\x00\x00\x00\x10" + b'{"kind":"later"}', "unsupported"),
        (b"\xff\xff\xff\xff", "bad_request"),
    ],
    ids=["not json", "unknown kind", "too long"],
)
async def test_header_that_cannot_be_served_is_refused(header, code):
    async with memory_tunnel() as pair:
        accepting(pair)
        answers = []
        pair.server.mux.yamux.write(raw_stream(pair, answers), header)
        await settle()
        assert streams.decode_answer(streams.split_header(b"".join(answers))[0]).code == code


async def test_each_direction_ends_alone():
    async with memory_tunnel() as pair:
        accepted = accepting(pair)
        stream = await pair.server.open_stream(TARGET)
        await stream.write(b"question")
        await stream.write_eof()
        await settle()
        assert accepted[0].data == b"question"
        assert accepted[0].calls == ["eof"]
        accepted[0].transport.write(b"answer")
        accepted[0].transport.write_eof()
        assert await stream.read() == b"answer"
        assert await stream.read() == b""
        await settle()
        assert pair.server.stream_count == pair.agent.stream_count == 0


async def test_close_sends_what_was_written():
    async with memory_tunnel() as pair:
        accepted = accepting(pair)
        stream = await pair.server.open_stream(TARGET)
        accepted[0].transport.write(b"x" * 200_000)
        accepted[0].transport.close()
        got = b""
        while data := await stream.read():
            got += data
        assert len(got) == 200_000
        assert await accepted[0].lost is None


async def test_writer_is_paused_and_resumed():
    async with memory_tunnel() as pair:
        accepted = accepting(pair)
        stream = await pair.server.open_stream(TARGET)
        writer = accepted[0]
        stream.transport.pause_reading()
        writer.transport.write(b"x" * (INITIAL_WINDOW_BYTES + 100_000))
        await settle()
        assert writer.calls == ["pause"]
        assert writer.transport.get_write_buffer_size() == 100_000 + ANSWER_BYTES
        stream.transport.resume_reading()
        await settle()
        while writer.transport.get_write_buffer_size():
            await stream.read()
            await settle()
        assert writer.calls == ["pause", "resume"]


async def test_much_that_is_written_in_one_turn_is_on_its_way_before_the_turn_ends():
    async with memory_tunnel() as pair:
        accepted = accepting(pair)
        streams_there = [await pair.server.open_stream(TARGET) for _ in range(EAGER_WRITES)]
        await settle()
        sent = pair.agent_channel.sent
        before = len(sent)
        for one in accepted[:-1]:
            one.transport.write(b"a short answer")
        assert len(sent) == before
        accepted[-1].transport.write(b"the last one")
        assert len(sent) == before + 1
        await settle()
        assert len(sent) == before + 1
        assert await streams_there[-1].read() == b"the last one"


async def test_stalled_reader_costs_one_window():
    async with memory_tunnel() as pair:
        accepting(pair)
        stream = await pair.server.open_stream(TARGET)
        stream.transport.pause_reading()
        pair.agent.mux.yamux.write(pair.agent.mux.yamux.streams[0], b"x" * 1_000_000)
        pair.agent.mux.schedule()
        await settle()
        assert isinstance(stream.transport, StreamTransport)
        assert sum(map(len, stream.transport._held)) == INITIAL_WINDOW_BYTES - ANSWER_BYTES


async def test_abort_is_seen_as_reset():
    async with memory_tunnel() as pair:
        accepted = accepting(pair)
        stream = await pair.server.open_stream(TARGET)
        stream.abort("enough")
        assert isinstance(await accepted[0].lost, EndedThere)


async def test_data_after_close_takes_nothing_away_from_a_slow_reader():
    async with memory_tunnel() as pair:
        accepted = accepting(pair)
        stream = await pair.server.open_stream(TARGET)
        stream.transport.pause_reading()
        accepted[0].transport.write(b"x" * 100_000)
        accepted[0].transport.close()
        await settle()
        await stream.write(b"nobody reads this")
        await settle()
        stream.transport.resume_reading()
        read = b""
        while piece := await stream.read():
            read += piece
        assert read == b"x" * 100_000
        stream.transport.close()
        await settle()
        assert (pair.server.stream_count, pair.agent.stream_count) == (0, 0)


async def test_closed_stream_whose_peer_never_ends_is_reset_after_a_while():
    clock = SimulatedClock()
    async with memory_tunnel(clock=clock) as pair:
        accepted = accepting(pair)
        stream = await pair.server.open_stream(TARGET)
        stream.transport.close()
        await clock.advance(LINGER_TIMEOUT - 1)
        assert pair.server.stream_count == 1
        await clock.advance(2)
        assert pair.server.stream_count == 0
        assert isinstance(await accepted[0].lost, EndedThere)


async def test_closed_tunnel_ends_every_stream_with_its_reason():
    async with memory_tunnel() as pair:
        accepted = accepting(pair)
        stream = await pair.server.open_stream(TARGET)
        pair.server.close(4503, "draining")
        with pytest.raises(TunnelClosed, match="draining"):
            await stream.read()
        assert isinstance(await accepted[0].lost, TunnelClosed)
        with pytest.raises(TunnelClosed, match="draining"):
            await pair.server.open_stream(TARGET)


async def test_tunnel_that_closes_while_a_stream_opens_raises():
    async with memory_tunnel() as pair:
        pair.agent.on_stream = lambda incoming: None
        async with TaskOwner("test", on_failure=lambda *_: None) as owner:
            opening = owner.spawn("open", pair.server.open_stream(TARGET))
            await settle()
            pair.agent.close(1001, "leaving")
            with pytest.raises(TunnelClosed, match="leaving"):
                await opening


async def test_protocol_that_raises_loses_its_stream_and_not_the_tunnel(caplog):
    class Faulty(Recorder):
        def data_received(self, data):
            raise ValueError("bug")

    async with memory_tunnel() as pair:
        faulty = []
        pair.agent.on_stream = lambda incoming: faulty.append(incoming.accept(Faulty)[1])
        stream = await pair.server.open_stream(TARGET)
        await stream.write(b"x")
        with pytest.raises(EndedThere):
            await stream.read()
        await faulty[0].lost
        accepting(pair)
        await pair.server.open_stream(TARGET)
    assert "its protocol failed" in caplog.text


async def test_pump_joins_two_streams_of_a_tunnel():
    async with memory_tunnel() as pair:
        accepted = accepting(pair)
        left = await pair.server.open_stream(TARGET)
        right = await pair.server.open_stream(TARGET)
        async with TaskOwner("test") as owner:
            pumping = owner.spawn("pump", pump(left, right))
            accepted[0].transport.write(b"there")
            accepted[0].transport.write_eof()
            accepted[1].transport.write(b"and back")
            accepted[1].transport.write_eof()
            await pumping
        assert accepted[1].data == b"there"
        assert accepted[0].data == b"and back"


async def test_agent_that_opens_a_stream_is_refused():
    async with memory_tunnel() as pair:
        stream = pair.agent.mux.open()
        lost = asyncio.get_running_loop().create_future()
        stream.owner = type("Raw", (), {"lost": lambda _, error: lost.set_result(error)})()
        assert isinstance(await lost, EndedThere)
        assert pair.server.mux.yamux.strikes == 1


async def test_broken_framing_closes_the_tunnel_with_4400():
    async with memory_tunnel() as pair:
        pair.agent.channel.send_binary(bytearray(14) + yamux_frames.encode(9, 0, 0, 0))
        closed = await pair.agent.wait_closed()
        assert closed.code == 4400
        assert "unknown frame type" in closed.reason


class Greeting(Recorder):
    """Says something in the very turn it is connected."""

    def connection_made(self, transport):
        super().connection_made(transport)
        transport.write(b"220 ready")


async def test_first_bytes_of_the_agent_travel_behind_its_answer():
    async with memory_tunnel() as pair:
        pair.agent.on_stream = lambda incoming: incoming.accept(Greeting)
        recorder = Recorder()
        pair.server.create_stream(TARGET, lambda: recorder)
        await settle()
        assert recorder.data == b"220 ready"
        assert len([data for kind, data in pair.agent_channel.sent if kind == "binary"]) == 1


def raw_stream(pair, answers):
    """Open a stream whose bytes the test writes itself."""
    stream = pair.server.mux.open()
    stream.owner = type("Raw", (), {"data_arrived": lambda _, data: answers.append(data)})()
    stream.owner.end_arrived = stream.owner.room_arrived = lambda: None
    stream.owner.lost = answers.append
    return stream


async def test_header_may_arrive_byte_by_byte():
    async with memory_tunnel() as pair:
        accepted = accepting(pair)
        stream = raw_stream(pair, [])
        for byte in streams.encode_header(TARGET) + b"first":
            pair.server.mux.yamux.write(stream, bytes([byte]))
            pair.server.mux.flush()
            await settle()
        assert accepted[0].data == b"first"
        assert accepted[0].transport.get_extra_info("target") == TARGET


async def test_answer_may_arrive_byte_by_byte():
    async with memory_tunnel() as pair:
        recorder, answers = Recorder(), []
        pair.agent.on_stream = lambda incoming: None
        pair.server.create_stream(TARGET, lambda: recorder, on_answer=answers.append)
        await settle()
        there = pair.agent.mux.yamux.streams[0]
        for byte in streams.encode_header(streams.Answer(ok=True, have=True)) + b"first":
            pair.agent.mux.yamux.write(there, bytes([byte]))
            pair.agent.mux.flush()
            await settle()
        assert answers == [streams.Answer(ok=True, have=True)]
        assert recorder.data == b"first"


async def test_credit_of_headers_and_answers_is_given_back():
    async with memory_tunnel() as pair:
        accepted = accepting(pair)
        recorder = Recorder()
        pair.server.create_stream(TARGET, lambda: recorder, b"first bytes")
        await settle()
        accepted[0].transport.write(b"answer")
        await settle()
        for session in (pair.server, pair.agent):
            stream = session.mux.yamux.streams[0]
            assert stream._in_window + stream._uncredited == INITIAL_WINDOW_BYTES


async def test_answer_that_cannot_be_read_ends_the_stream():
    async with memory_tunnel() as pair:
        pair.agent.on_stream = lambda incoming: None
        recorder = Recorder()
        pair.server.create_stream(TARGET, lambda: recorder)
        await settle()
        pair.agent.mux.yamux.write(pair.agent.mux.yamux.streams[0], b"\xff\xff\xff\xff")
        pair.agent.mux.schedule()
        assert isinstance(await recorder.lost, Broken)


async def test_stream_data_goes_on_when_the_line_has_room_again():
    """Less than half a window, so that no returning credit helps."""
    async with memory_tunnel() as pair:
        accepted = accepting(pair)
        stream = await pair.server.open_stream(TARGET)
        pair.server_channel._room_bytes = 1_000
        pair.server_channel.hold()
        stream.transport.write(b"x" * 120_000)
        await settle()
        assert pair.server.channel.paused
        assert stream.transport.get_write_buffer_size() > 0
        pair.server_channel.release()
        await settle()
        assert len(accepted[0].data) == 120_000
