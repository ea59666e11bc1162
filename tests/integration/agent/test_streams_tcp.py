"""TCP and service streams: real sockets at the target, a real tunnel before it."""

import asyncio
import hashlib
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from towline.agent.policy import ForwardRules, LocalPolicy
from towline.aio.streams import EndedThere
from towline.tunnel.errors import TargetRefused
from towline.wire import link
from towline.wire.streams import Service, Tcp

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
TIMEOUT = 20.0


@asynccontextmanager
async def target(serve: Serve) -> AsyncIterator[int]:
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


async def read_all(stream) -> bytes:
    parts = []
    while data := await stream.read():
        parts.append(data)
    return b"".join(parts)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(TIMEOUT):
        while not condition():
            await asyncio.sleep(0)


async def test_bytes_and_half_closes_pass_both_ways(streams_bed):
    async def sum_up(reader, writer):
        writer.write(hashlib.sha256(await reader.read()).hexdigest().encode())
        await writer.drain()
        writer.close()

    body = secrets.token_bytes(3_000_000)
    async with target(sum_up) as port, asyncio.timeout(TIMEOUT):
        stream = await streams_bed.session.open_stream(Tcp(host="localhost", port=port))
        assert stream.answer.info["address"] == f"127.0.0.1:{port}"
        await stream.write(body)
        await stream.write_eof()
        assert await read_all(stream) == hashlib.sha256(body).hexdigest().encode()
        await stream.aclose()
        await until(lambda: streams_bed.router.open == 0)


async def test_end_of_the_target_comes_first_and_the_opener_still_sends(streams_bed):
    got = asyncio.get_running_loop().create_future()

    async def greet_and_listen(reader, writer):
        writer.write(b"SSH-2.0-test\r\n")
        writer.write_eof()
        got.set_result(await reader.read())
        writer.close()

    async with target(greet_and_listen) as port, asyncio.timeout(TIMEOUT):
        stream = await streams_bed.session.open_stream(Tcp(host="127.0.0.1", port=port))
        assert await read_all(stream) == b"SSH-2.0-test\r\n"
        await stream.write(b"late words")
        await stream.write_eof()
        assert await got == b"late words"
        await stream.aclose()
        await until(lambda: streams_bed.router.open == 0)


async def test_bytes_behind_the_header_reach_the_target(streams_bed):
    async with target(echo) as port, asyncio.timeout(TIMEOUT):
        received = asyncio.get_running_loop().create_future()

        class Opener(asyncio.Protocol):
            def data_received(self, data: bytes) -> None:
                received.set_result(data)

        streams_bed.session.create_stream(Tcp(host="127.0.0.1", port=port), Opener, b"first bytes").write(b"")
        assert await received == b"first bytes"


async def test_bulk_is_held_back_by_a_target_that_does_not_read(streams_bed):
    go_on = asyncio.Event()

    async def slow(reader, writer):
        await go_on.wait()
        total = 0
        while data := await reader.read(65536):
            total += len(data)
        writer.write(str(total).encode())
        await writer.drain()
        writer.close()

    written = 0
    async with target(slow) as port, asyncio.timeout(TIMEOUT):
        stream = await streams_bed.session.open_stream(Tcp(host="127.0.0.1", port=port))

        async def send() -> None:
            nonlocal written
            for _ in range(512):
                await stream.write(bytes(64 * 1024))
                written += 64 * 1024
            await stream.write_eof()

        sending = streams_bed.pair.owner.spawn("send", send())
        await asyncio.wait({sending}, timeout=1.0)
        assert not sending.done()
        assert written < 24 * 1024 * 1024  # socket buffers of both sides, one window, and the marks between
        go_on.set()
        await sending
        assert await read_all(stream) == str(512 * 64 * 1024).encode()
        await stream.aclose()


async def test_reset_by_the_opener_resets_the_target(streams_bed):
    lost = asyncio.get_running_loop().create_future()

    async def watch(reader, writer):
        writer.write(b"x" * 10_000_000)
        try:
            await writer.drain()
            await reader.read()
        except ConnectionError as error:
            lost.set_result(error)
        finally:
            writer.transport.abort()

    async with target(watch) as port, asyncio.timeout(TIMEOUT):
        stream = await streams_bed.session.open_stream(Tcp(host="127.0.0.1", port=port))
        await stream.read()
        stream.abort("enough")
        assert isinstance(await lost, ConnectionError)
        await until(lambda: streams_bed.router.open == 0)


async def test_reset_by_the_target_resets_the_stream(streams_bed):
    async def slam(reader, writer):
        await reader.read(1)
        writer.get_extra_info("socket").setsockopt(1, 13, b"\1\0\0\0\0\0\0\0")  # SO_LINGER 0: close sends RST
        writer.transport.abort()

    async with target(slam) as port, asyncio.timeout(TIMEOUT):
        stream = await streams_bed.session.open_stream(Tcp(host="127.0.0.1", port=port))
        await stream.write(b"!")
        with pytest.raises(EndedThere):
            await read_all(stream)


async def test_refused_connection_is_named_with_its_address(streams_bed):
    async with target(echo) as port:
        pass
    with pytest.raises(TargetRefused) as refused:
        await streams_bed.session.open_stream(Tcp(host="127.0.0.1", port=port))
    assert refused.value.code == "unreachable"
    assert refused.value.reason == f"connection refused by 127.0.0.1:{port}"


@pytest.mark.parametrize("port", [0, 65536, -1])
async def test_port_out_of_range_is_a_bad_request(streams_bed, port):
    with pytest.raises(TargetRefused, match="is not a port") as refused:
        await streams_bed.session.open_stream(Tcp(host="127.0.0.1", port=port))
    assert refused.value.code == "bad_request"


@pytest.mark.parametrize("host", ["169.254.169.254", "192.0.2.7"])
async def test_other_machines_are_forbidden_unless_the_policy_names_them(streams_bed, host):
    with pytest.raises(TargetRefused, match="policy of this host") as refused:
        await streams_bed.session.open_stream(Tcp(host=host, port=80))
    assert refused.value.code == "forbidden"


async def test_policy_is_read_for_each_stream(streams_bed):
    async with target(echo) as port:
        streams_bed.policy = LocalPolicy(forward=ForwardRules(targets=("loopback:1-10",)))
        with pytest.raises(TargetRefused) as refused:
            await streams_bed.session.open_stream(Tcp(host="127.0.0.1", port=port))
        assert refused.value.code == "forbidden"
        streams_bed.policy = LocalPolicy()
        stream = await streams_bed.session.open_stream(Tcp(host="127.0.0.1", port=port))
        await stream.aclose()


async def test_service_is_dialled_on_a_running_container_healthy_ones_first(streams_bed):
    async with target(echo) as port, asyncio.timeout(TIMEOUT):
        base = {"project": "shop", "service": "web", "state": "running"}
        streams_bed.containers += [
            (link.Container(id="a", name="a", health="unhealthy", **base), ("127.9.9.9",)),
            (link.Container(id="b", name="b", health="healthy", **base), ("127.0.0.1",)),
        ]
        stream = await streams_bed.session.open_stream(Service(project="shop", service="web", port=port))
        assert stream.answer.info["address"] == f"127.0.0.1:{port}"
        await stream.aclose()


async def test_next_container_is_dialled_when_the_first_refuses(streams_bed):
    async with target(echo) as port, asyncio.timeout(TIMEOUT):
        base = {"project": "shop", "service": "web", "state": "running"}
        streams_bed.containers += [
            (link.Container(id="a", name="a", **base), ("127.9.9.9",)),
            (link.Container(id="b", name="b", **base), ("127.0.0.1",)),
        ]
        stream = await streams_bed.session.open_stream(Service(project="shop", service="web", port=port))
        assert stream.answer.info["address"] == f"127.0.0.1:{port}"
        await stream.aclose()


async def test_service_that_does_not_run_is_not_found(streams_bed):
    streams_bed.containers.append(
        (link.Container(id="a", name="a", project="shop", service="web", state="exited"), ("127.0.0.1",))
    )
    with pytest.raises(TargetRefused, match="no container of shop/web runs here") as refused:
        await streams_bed.session.open_stream(Service(project="shop", service="web", port=80))
    assert refused.value.code == "not_found"


async def test_streams_over_the_limit_are_refused_as_busy(streams_bed):
    async with target(echo) as port, asyncio.timeout(TIMEOUT):
        held = [await streams_bed.session.open_stream(Tcp(host="127.0.0.1", port=port)) for _ in range(16)]
        with pytest.raises(TargetRefused) as refused:
            await streams_bed.session.open_stream(Tcp(host="127.0.0.1", port=port))
        assert refused.value.code == "busy"
        for stream in held:
            await stream.aclose()
        await until(lambda: streams_bed.router.open == 0)
