"""Bad input against real sockets: the right answer, the end of the connection, and nothing reaches an upstream."""

import asyncio
import random
import re
from dataclasses import replace

import pytest
from tests.support.edge import FAST, HOST, Raw, RunningEdge, ask, raw_upstream, running_edge
from tests.support.http1_script import BAD_REQUESTS

SMUGGLED = f"GET /smuggled HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()
GOOD = f"GET /good HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n".encode()


class Watching:
    """An upstream that notes what reaches it and answers only what is whole."""

    def __init__(self) -> None:
        self.heads: list[bytes] = []

    async def __call__(self, connection: Raw) -> None:
        while True:
            head = await connection.until(b"\r\n\r\n")
            self.heads.append(head)
            if b"chunked" in head:
                await connection.until(b"0\r\n\r\n")
            await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


def status_of(data: bytes) -> int:
    return int(data.split(b" ", 2)[1])


@pytest.mark.parametrize("name", BAD_REQUESTS)
async def test_bad_request_is_answered_and_its_connection_ends(name: str) -> None:
    data, statuses = BAD_REQUESTS[name]
    if data.startswith(b"\x16"):
        statuses = {400}  # the listener itself sees that this port has no TLS
    watching = Watching()
    async with raw_upstream(watching) as port, running_edge() as running:
        running.publish(port)
        running.publish(port, "a")
        for pieces in (1, 3):
            answer = await send_in_pieces(running, data + SMUGGLED, pieces)
            assert status_of(answer) in statuses, answer
            assert len(re.findall(rb"HTTP/1\.1 \d", answer)) == 1
        assert (await ask(running.port, GOOD)).endswith(b"ok")
    assert not any(b"/smuggled" in head for head in watching.heads)


async def send_in_pieces(running: RunningEdge, data: bytes, pieces: int) -> bytes:
    generator = random.Random(pieces)
    at = sorted(generator.randrange(1, len(data)) for _ in range(pieces - 1))
    async with await Raw.connect(running.port) as client:
        reading = asyncio.create_task(client.to_end())
        for start, end in zip([0, *at], [*at, len(data)], strict=True):
            if reading.done():
                break
            try:
                await client.send(data[start:end])
            except ConnectionError:
                break  # the edge may have answered and closed before it got everything
        return await reading


async def test_head_of_60_megabytes_is_refused_without_being_kept() -> None:
    async with running_edge() as running, await Raw.connect(running.port) as client:
        await client.send(b"GET / HTTP/1.1\r\nHost: a\r\nA: ")
        reading = asyncio.create_task(client.to_end())
        sent = 0
        while not reading.done() and sent < 60_000_000:
            try:
                await client.send(b"x" * 100_000)
            except ConnectionError:
                break
            sent += 100_000
        assert status_of(await reading) == 431
        assert sent < 30_000_000
        assert running.edge.counters.refused["head_too_large"] == 1


async def test_thousand_pipelined_requests_are_answered_in_order_one_at_a_time() -> None:
    busy = 0

    async def upstream(connection: Raw) -> None:
        nonlocal busy
        while True:
            head = await connection.until(b"\r\n\r\n")
            busy += 1
            assert busy == 1
            number = head.split(b" ")[1][1:]
            await asyncio.sleep(0)
            busy -= 1
            await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(number), number))

    async with raw_upstream(upstream) as port, running_edge() as running:
        running.publish(port)
        async with await Raw.connect(running.port) as client:
            requests = b"".join(b"GET /%d HTTP/1.1\r\nHost: app.example.test\r\n\r\n" % n for n in range(1000))
            sending = asyncio.create_task(client.send(requests))
            for number in range(1000):
                status, _, body = await client.answer()
                assert (status, body) == (200, b"%d" % number)
            await sending


async def test_other_connections_are_served_while_one_pipelines() -> None:
    request = b"GET / HTTP/1.1\r\nHost: unknown.example.test\r\n\r\n"
    async with (
        running_edge() as running,
        await Raw.connect(running.port) as flood,
        await Raw.connect(running.port) as other,
    ):
        await flood.send(request * 1000)
        await other.send(request)
        assert (await other.answer())[0] == 404
        for _ in range(1000):
            assert (await flood.answer())[0] == 404


async def test_client_fields_that_name_ours_are_dropped_and_identities_are_reported() -> None:
    watching = Watching()
    async with raw_upstream(watching) as port, running_edge() as running:
        running.publish(port)
        answer = await ask(
            running.port,
            f"GET / HTTP/1.1\r\nHost: {HOST}\r\n".encode()
            + b"Connection: close, Impersonate-User, X-Forwarded-For, X-Request-Id, X-Secret\r\n"
            + b"Impersonate-User: system:admin\r\nimpersonate_group: x\r\nX-Remote-User: admin\r\nX-Secret: 1\r\n"
            + b'Forwarded: for="_evil"\r\nX-Towline-Peer: 1.1.1.1\r\nX-Request-Id: mine\r\nProxy-Authorization: x\r\n'
            + b"".join(b"X-Forwarded-For: 9.9.9.%d\r\n" % n for n in range(50))
            + b"\r\n",
        )
        record = await running.record()
    assert answer.endswith(b"ok")
    head = watching.heads[0].lower()
    for word in (
        b"system:admin",
        b"impersonate",
        b"x-remote",
        b"evil",
        b"towline",
        b"mine",
        b"9.9.9",
        b"proxy-",
        b"x-secret",
    ):
        assert word not in head, word
    assert head.count(b"x-forwarded-for: 127.0.0.1\r\n") == 1
    assert head.count(b"x-request-id: ") == 1
    assert b"connection:" not in head
    assert record.dropped_identity
    assert running.edge.counters.dropped_identities == 1


async def slow(running: RunningEdge, first: bytes, drip: bytes) -> bytes:
    """Send something, then single bytes, until the edge ends the connection."""
    async with await Raw.connect(running.port) as client:
        reading = asyncio.create_task(client.to_end())
        await client.send(first)
        while not reading.done():
            await asyncio.wait({reading}, timeout=0.05)
            if drip and not reading.done():
                client.writer.write(drip)
        return await reading


@pytest.mark.parametrize(
    ("first", "drip", "status"),
    [
        (b"", b"", 0),
        (b"G", b"", 408),
        (b"GET / HTTP/1.1\r\nHost: app.example.test\r\nA: ", b"x", 408),
        (b"POST / HTTP/1.1\r\nHost: app.example.test\r\nContent-Length: 90000\r\n\r\n", b"x", 408),
        (b"POST / HTTP/1.1\r\nHost: app.example.test\r\nContent-Length: 9\r\n\r\n", b"", 408),
        (b"POST / HTTP/1.1\r\nHost: app.example.test\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n", 408),
        (b"POST / HTTP/1.1\r\nHost: app.example.test\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n", b"", 408),
        (b"GET / HTTP/1.1\r\nHost: unknown.example.test\r\n\r\n", b"", 404),
        (b"GET / HTTP/1.1\r\nHost: unknown.example.test\r\n\r\nGET", b"x", 404),
    ],
    ids=["silent", "one byte", "head", "body", "no body", "chunks", "expectation", "idle", "second head"],
)
async def test_slow_client_is_ended_within_its_limit(first: bytes, drip: bytes, status: int) -> None:
    gone = asyncio.Event()

    async def upstream(connection: Raw) -> None:
        assert await connection.to_end() is not None
        gone.set()

    async with raw_upstream(upstream) as port, running_edge(options=FAST) as running:
        running.publish(port)
        answer = await slow(running, first, drip)
        assert (status_of(answer) if answer else 0) == status
        if b"POST" in first:
            await asyncio.wait_for(gone.wait(), 2)


async def test_connections_of_one_address_are_limited_and_counted_down() -> None:
    async with running_edge(options=replace(FAST, connections_per_address=3, keep_alive_timeout=5.0)) as running:
        held = [await Raw.connect(running.port) for _ in range(3)]
        for client in held:
            await client.send(b"GET / HTTP/1.1\r\nHost: unknown.example.test\r\n\r\n")
            assert (await client.answer())[0] == 404
        assert await ask(running.port, GOOD) == b""
        assert running.edge.counters.refused["too_many_connections_of_address"] == 1
        await held[0].close()
        while running.edge.counters.open_connections > 2:
            await asyncio.sleep(0.01)
        answer = await ask(running.port, b"GET / HTTP/1.1\r\nHost: unknown.example.test\r\nConnection: close\r\n\r\n")
        assert status_of(answer) == 404
        for client in held[1:]:
            await client.close()


async def test_router_that_fails_is_an_answer_not_a_hang() -> None:
    async with running_edge() as running:
        answer = await ask(running.port, b"GET / HTTP/1.1\r\nHost: broken.example.test\r\nConnection: close\r\n\r\n")
        assert status_of(answer) == 500
