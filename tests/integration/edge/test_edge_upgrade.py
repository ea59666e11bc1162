"""After a 101 there are two raw byte flows; without one, nothing of the upgrade is left on either connection."""

import asyncio

import pytest
from tests.support.edge import DEADLINE, HOST, Raw, ask, raw_upstream, running_edge

from towline.gateway.paths import LINK_PATH

HOST_LINE = f"Host: {HOST}\r\n".encode()
KEY = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
WEBSOCKET = b"GET /ws HTTP/1.1\r\n" + HOST_LINE + b"Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n" + KEY
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"


async def piped(connection: Raw) -> None:
    """Switch, then echo in upper case; the end of the input is answered with a last word."""
    head = await connection.until(b"\r\n\r\n")
    assert b"Connection: Upgrade\r\nUpgrade: websocket\r\n" in head
    await connection.send(SWITCH + b"Sec-WebSocket-Accept: x\r\n\r\nfirst")
    while data := await connection.reader.read(65536):
        await connection.send(data.upper())
    await connection.send(b"last")


async def test_upgraded_bytes_pass_both_ways_and_each_side_can_end() -> None:
    async with raw_upstream(piped) as port, running_edge() as running:
        running.publish(port)
        async with await Raw.connect(running.port) as client:
            await client.send(WEBSOCKET + b"\r\n" + b"early")
            head = await client.until(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 101 ")
            assert b"Sec-WebSocket-Accept: x\r\n" in head
            assert await client.exactly(10) == b"firstEARLY"
            await client.send(b"more")
            assert await client.exactly(4) == b"MORE"
            client.writer.write_eof()
            assert await client.to_end() == b"last"
        record = await running.record()
        assert (record.status, record.outcome) == (101, "upgraded")


async def test_bytes_behind_an_upgrade_request_wait_for_the_switch() -> None:
    seen = bytearray()

    async def upstream(connection: Raw) -> None:
        seen.extend(await connection.until(b"\r\n\r\n"))
        await connection.send(b"HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno")
        seen.extend(await connection.to_end())

    async with raw_upstream(upstream) as port, running_edge() as running:
        running.publish(port)
        smuggled = b"GET /admin HTTP/1.1\r\n" + HOST_LINE + b"\r\n"
        data = await ask(running.port, WEBSOCKET + b"\r\n" + smuggled)
        assert data.startswith(b"HTTP/1.1 403 ")
        assert data.endswith(b"\r\n\r\nno")
        assert b"/admin" not in seen


async def test_failed_upgrade_closes_the_upstream_connection() -> None:
    connections = 0
    closed = asyncio.Event()

    async def upstream(connection: Raw) -> None:
        nonlocal connections
        connections += 1
        await connection.until(b"\r\n\r\n")
        await connection.send(b"HTTP/1.1 400 No\r\nContent-Length: 2\r\n\r\nno")
        assert await connection.to_end() == b""
        closed.set()

    async with raw_upstream(upstream) as port, running_edge() as running:
        running.publish(port)
        await ask(running.port, WEBSOCKET + b"\r\n")
        await asyncio.wait_for(closed.wait(), DEADLINE)
        await ask(running.port, b"GET / HTTP/1.1\r\n" + HOST_LINE + b"Connection: close\r\n\r\n")
    assert connections == 2


async def test_switch_to_another_protocol_than_asked_is_a_bad_gateway() -> None:
    async def upstream(connection: Raw) -> None:
        await connection.until(b"\r\n\r\n")
        await connection.send(SWITCH.replace(b"websocket", b"other") + b"\r\n")
        await connection.to_end()

    async with raw_upstream(upstream) as port, running_edge() as running:
        running.publish(port)
        assert (await ask(running.port, WEBSOCKET + b"\r\n")).startswith(b"HTTP/1.1 502 ")


UPGRADE = b"GET / HTTP/1.1\r\n" + HOST_LINE + b"Connection: Upgrade\r\n"


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (UPGRADE + b"Upgrade: h2c\r\nHTTP2-Settings: x\r\n\r\n", 400),
        (UPGRADE + b"Upgrade: websocket, h2c\r\n" + KEY + b"\r\n", 400),
        (UPGRADE + b"Upgrade: TLS/1.3\r\n\r\n", 400),
        (UPGRADE + b"Upgrade: websocket\r\nUpgrade: h2c\r\n" + KEY + b"\r\n", 400),
        (UPGRADE + b"Upgrade: websocket\r\n" + KEY.replace(b"13", b"8") + b"\r\n", 426),
        (UPGRADE + b"Upgrade: websocket\r\n" + KEY.replace(b"==", b"") + b"\r\n", 400),
        (UPGRADE + b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\r\n", 400),
        (UPGRADE + b"Upgrade: websocket\r\n" + KEY + b"Content-Length: 5\r\n\r\nhello", 400),
        (UPGRADE.replace(b"GET", b"POST") + b"Upgrade: websocket\r\n" + KEY + b"\r\n", 400),
    ],
    ids=["h2c", "choice", "TLS", "two", "version", "key", "no key", "body", "POST"],
)
async def test_upgrade_that_could_confuse_two_readers_is_refused(request_bytes: bytes, status: int) -> None:
    async with running_edge() as running:
        data = await ask(running.port, request_bytes)
        assert data.startswith(b"HTTP/1.1 %d " % status)
        assert (b"sec-websocket-version: 13" in data) == (status == 426)


@pytest.mark.parametrize("side", ["client", "upstream"])
async def test_pipe_ends_for_one_side_when_the_other_one_resets(side: str) -> None:
    started, ended = asyncio.Event(), asyncio.Event()

    async def upstream(connection: Raw) -> None:
        await connection.until(b"\r\n\r\n")
        await connection.send(SWITCH + b"\r\n")
        await started.wait()
        if side == "upstream":
            connection.writer.transport.abort()
        await connection.to_end()
        ended.set()

    async with raw_upstream(upstream) as port, running_edge() as running:
        running.publish(port)
        async with await Raw.connect(running.port) as client:
            await client.send(WEBSOCKET + b"\r\n")
            await client.until(b"\r\n\r\n")
            started.set()
            if side == "client":
                client.writer.transport.abort()
            else:
                assert await client.to_end() == b""
            await asyncio.wait_for(ended.wait(), 2)


async def test_pipe_with_a_reader_that_stalls_pauses_its_source() -> None:
    sent = 0

    async def upstream(connection: Raw) -> None:
        nonlocal sent
        await connection.until(b"\r\n\r\n")
        await connection.send(SWITCH + b"\r\n")
        while sent < 64 * 1024 * 1024:
            connection.writer.write(bytes(65536))
            sent += 65536
            await connection.writer.drain()

    async with raw_upstream(upstream) as port, running_edge() as running:
        running.publish(port)
        async with await Raw.connect(running.port) as client:
            await client.send(WEBSOCKET + b"\r\n")
            await client.until(b"\r\n\r\n")
            stalled = -1
            while stalled != sent:
                stalled = sent
                await asyncio.sleep(0.3)
            assert sent < 32 * 1024 * 1024


LINK = b"GET " + LINK_PATH + b" HTTP/1.1\r\nHost: control.example.test\r\n"


async def test_agent_link_is_handed_over_with_its_bytes() -> None:
    head = LINK + b"Connection: Upgrade\r\nUpgrade: websocket\r\n" + KEY + b"\r\n"
    async with running_edge() as running, await Raw.connect(running.port) as client:
        await client.send(head + b"early")
        assert await client.until(b"linked\n") == b"linked\n"
        await client.send(b"raw")
        assert await client.exactly(3) == b"raw"
        taken, peer = running.links.taken[0]
        assert (taken, peer.address) == (head + b"early", "127.0.0.1")
        counters = running.edge.counters
        assert (counters.links, counters.open_connections) == (1, 0)


async def test_link_without_a_websocket_is_told_so() -> None:
    async with running_edge() as running:
        data = await ask(running.port, LINK + b"Connection: close\r\n\r\n")
        assert data.startswith(b"HTTP/1.1 426 ")
        assert running.links.taken == []
