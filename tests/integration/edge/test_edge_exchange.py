"""Requests and answers of every framing, upstreams that misbehave, and clients that leave."""

import asyncio

import pytest
from tests.support.edge import DEADLINE, FAST, HOST, Raw, ask, raw_upstream, running_edge

HOST_LINE = f"Host: {HOST}\r\n".encode()
GET = b"GET / HTTP/1.1\r\n" + HOST_LINE
POST = b"POST / HTTP/1.1\r\n" + HOST_LINE
CLOSE = b"Connection: close\r\n\r\n"


class Scripted:
    """An upstream that answers every request with the same bytes, and notes requests and connections."""

    def __init__(self, answer: bytes, *, close: bool = False) -> None:
        self.answer = answer
        self.close = close
        self.heads: list[bytes] = []
        self.bodies: list[bytes] = []
        self.connections = 0

    async def __call__(self, connection: Raw) -> None:
        self.connections += 1
        while True:
            head = await connection.until(b"\r\n\r\n")
            self.heads.append(head)
            self.bodies.append(await self._body(connection, head))
            await connection.send(self.answer)
            if self.close:
                return

    async def _body(self, connection: Raw, head: bytes) -> bytes:
        lowered = head.lower()
        if b"transfer-encoding: chunked" in lowered:
            return await connection.until(b"0\r\n\r\n")
        if b"content-length: " in lowered:
            return await connection.exactly(int(lowered.split(b"content-length: ")[1].split(b"\r\n")[0]))
        return b""


async def answer_to(request: bytes, upstream: Scripted) -> bytes:
    async with raw_upstream(upstream) as port, running_edge() as running:
        running.publish(port)
        return await ask(running.port, request)


OK = b"HTTP/1.1 200 OK\r\n"
NEW = b"GET / HTTP/1.1\r\n"
OLD = b"GET / HTTP/1.0\r\n"


@pytest.mark.parametrize(
    ("request_line", "sent", "got"),
    [
        (
            NEW,
            OK + b"Content-Length: 3\r\n\r\nabc",
            b"Content-Length: 3\r\nConnection: close\r\n\r\nabc",
        ),
        (
            NEW,
            OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n2;x=y\r\nbc\r\n0\r\n\r\n",
            b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        ),
        (
            NEW,
            OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-Sum: 1\r\nSet-Cookie: x\r\n\r\n",
            b"\r\n\r\n1\r\na\r\n0\r\nX-Sum: 1\r\n\r\n",
        ),
        (
            b"GET / HTTP/1.0\r\n",
            OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
            b"Connection: close\r\n\r\na",
        ),
        (b"HEAD / HTTP/1.1\r\n", OK + b"Content-Length: 3\r\n\r\n", b"Content-Length: 3\r\nConnection: close\r\n\r\n"),
        (b"GET / HTTP/1.1\r\n", b"HTTP/1.1 204 No\r\n\r\n", b"204 No\r\nConnection: close\r\n\r\n"),
        (
            NEW,
            b"HTTP/1.1 304 Not\r\nContent-Length: 9\r\nETag: x\r\n\r\n",
            b"ETag: x\r\nContent-Length: 9\r\nConnection: close\r\n\r\n",
        ),
        (
            NEW,
            b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n" + OK + b"Content-Length: 0\r\n\r\n",
            b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        ),
        (
            b"GET / HTTP/1.0\r\n",
            b"HTTP/1.1 103 Early\r\n\r\n" + OK + b"Content-Length: 0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n",
        ),
        (
            NEW,
            OK + b"Keep-Alive: timeout=5\r\nConnection: X-Hop\r\nX-Hop: 1\r\nX-End: 1\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nX-End: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        ),
    ],
    ids=["length", "chunked", "trailers", "old client", "HEAD", "204", "304", "interim", "old interim", "hop by hop"],
)
async def test_answer_is_framed_anew(request_line: bytes, sent: bytes, got: bytes) -> None:
    data = await answer_to(request_line + HOST_LINE + CLOSE, Scripted(sent))
    assert got in data
    assert data.endswith(got) or request_line.endswith(b"1.0\r\n")


async def test_answer_that_ends_by_close_is_chunked_and_ends_well() -> None:
    data = await answer_to(GET + CLOSE, Scripted(OK + b"\r\nabc", close=True))
    assert data.endswith(b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n3\r\nabc\r\n0\r\n\r\n")


@pytest.mark.parametrize(
    "sent",
    [
        OK + b"Content-Length: 10\r\n\r\nabc",
        OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n",
    ],
)
async def test_answer_that_breaks_off_never_looks_whole(sent: bytes) -> None:
    data = await answer_to(GET + CLOSE, Scripted(sent, close=True))
    assert b"0\r\n\r\n" not in data
    assert not data.endswith(b"abcabcabca")


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"garbage\r\n\r\n",
        b"HTTP/1.1 200",
        OK + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        OK + b"A: " + b"x" * 70_000,
        b"HTTP/1.1 103 Early\r\n\r\n" * 40,
        b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
    ],
    ids=["nothing", "garbage", "half", "two framings", "endless head", "endless interim", "unasked upgrade", "version"],
)
async def test_malformed_answer_is_a_bad_gateway(sent: bytes) -> None:
    data = await answer_to(GET + CLOSE, Scripted(sent, close=True))
    assert b"HTTP/1.1 502 Bad Gateway\r\n" in data
    assert data.endswith(b"}}\n")


async def test_refused_connection_is_a_bad_gateway() -> None:
    async with raw_upstream(Scripted(b"")) as port:
        pass
    async with running_edge() as running:
        running.publish(port)
        data = await ask(running.port, GET + CLOSE)
        assert data.startswith(b"HTTP/1.1 502 ")
        assert (await running.record()).outcome == "upstream_unreachable"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"Content-Length: 5\r\n\r\nhello", b"hello"),
        (b"Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n", b"5\r\nhello\r\n0\r\n\r\n"),
    ],
)
async def test_request_body_arrives_in_its_framing(body: bytes, expected: bytes) -> None:
    upstream = Scripted(OK + b"Content-Length: 0\r\n\r\n")
    async with raw_upstream(upstream) as port, running_edge() as running:
        running.publish(port)
        async with await Raw.connect(running.port) as client:
            await client.send(POST + body)
            assert (await client.answer())[0] == 200
            await client.send(GET + b"\r\n")
            assert (await client.answer())[0] == 200
    assert upstream.bodies == [expected, b""]


@pytest.mark.parametrize("chunked", [False, True])
async def test_large_bodies_pass_both_ways_unchanged(chunked: bool) -> None:
    size = 5_000_000
    body = bytes(range(256)) * (size // 256)

    async def echo(connection: Raw) -> None:
        head = await connection.until(b"\r\n\r\n")
        if chunked:
            await connection.send(OK + b"Transfer-Encoding: chunked\r\n\r\n")
            while (length := int((await connection.until(b"\r\n"))[:-2], 16)) > 0:
                await connection.send(b"%x\r\n" % length + await connection.exactly(length + 2))
            await connection.send(b"0\r\n\r\n")
        else:
            assert b"Content-Length: %d\r\n" % len(body) in head
            await connection.send(OK + b"Content-Length: %d\r\n\r\n" % len(body))
            for start in range(0, len(body), 50_000):
                await connection.send(await connection.exactly(min(50_000, len(body) - start)))

    async with raw_upstream(echo) as port, running_edge() as running:
        running.publish(port)
        async with await Raw.connect(running.port) as client:
            if chunked:
                pieces = [body[at : at + 70_001] for at in range(0, len(body), 70_001)]
                wire = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
                sending = asyncio.create_task(client.send(POST + b"Transfer-Encoding: chunked\r\n\r\n" + wire))
                await client.until(b"\r\n\r\n")
                got = b""
                while (length := int((await client.until(b"\r\n"))[:-2], 16)) > 0:
                    got += (await client.exactly(length + 2))[:-2]
            else:
                sending = asyncio.create_task(client.send(POST + b"Content-Length: %d\r\n\r\n" % len(body) + body))
                _, _, got = await client.answer()
            await sending
            assert got == body


async def test_second_request_on_a_connection_goes_where_its_host_goes() -> None:
    first, second = Scripted(OK + b"Content-Length: 1\r\n\r\n1"), Scripted(OK + b"Content-Length: 1\r\n\r\n2")
    async with raw_upstream(first) as one, raw_upstream(second) as two, running_edge() as running:
        running.publish(one, "one.example.test")
        running.publish(two, "two.example.test")
        async with await Raw.connect(running.port) as client:
            for name, body in (("one", b"1"), ("two", b"2"), ("one", b"1"), ("unknown", None)):
                await client.send(f"GET / HTTP/1.1\r\nHost: {name}.example.test\r\n\r\n".encode())
                status, _, got = await client.answer()
                assert (status == 404) if body is None else (got == body)
    assert (len(first.heads), len(second.heads), first.connections) == (2, 1, 1)


async def test_idle_connections_are_used_again_and_closed_after_their_time() -> None:
    upstream = Scripted(OK + b"Content-Length: 0\r\n\r\n")
    async with raw_upstream(upstream) as port, running_edge(options=FAST) as running:
        running.publish(port)
        for _ in range(3):
            assert (await ask(running.port, GET + CLOSE)).startswith(OK)
        assert upstream.connections == 1
        counters = running.edge.counters
        assert (counters.upstream_connections, counters.upstream_reuses) == (1, 2)


class Dying(Scripted):
    """Answers the first request of its first connection, and drops that connection at the second."""

    async def __call__(self, connection: Raw) -> None:
        self.connections += 1
        if self.connections > 1:
            self.connections -= 1
            await super().__call__(connection)
            return
        self.heads.append(await connection.until(b"\r\n\r\n"))
        await connection.send(self.answer)
        self.heads.append(await connection.until(b"\r\n\r\n"))
        connection.writer.transport.abort()


@pytest.mark.parametrize(
    ("request_bytes", "status"), [(GET + b"\r\n", 200), (POST + b"Content-Length: 0\r\n\r\n", 502)]
)
async def test_only_a_safe_request_goes_once_more_when_a_pooled_connection_died(
    request_bytes: bytes, status: int
) -> None:
    upstream = Dying(OK + b"Content-Length: 0\r\n\r\n")
    async with raw_upstream(upstream) as port, running_edge() as running:
        running.publish(port)
        async with await Raw.connect(running.port) as client:
            await client.send(GET + b"\r\n")
            assert (await client.answer())[0] == 200
            await client.send(request_bytes)
            assert (await client.answer())[0] == status
        assert running.edge.counters.retries == (1 if status == 200 else 0)


async def test_request_is_not_repeated_on_a_new_connection_that_dies() -> None:
    seen = 0

    async def upstream(connection: Raw) -> None:
        nonlocal seen
        await connection.until(b"\r\n\r\n")
        seen += 1
        connection.writer.transport.abort()

    async with raw_upstream(upstream) as port, running_edge() as running:
        running.publish(port)
        assert (await ask(running.port, GET + CLOSE)).startswith(b"HTTP/1.1 502 ")
    assert seen == 1


async def test_unasked_bytes_of_an_idle_upstream_never_answer_the_next_request() -> None:
    connections = 0

    async def upstream(connection: Raw) -> None:
        nonlocal connections
        connections += 1
        await connection.until(b"\r\n\r\n")
        await connection.send(OK + b"Content-Length: 1\r\n\r\n%d" % connections)
        await connection.send(OK + b"Content-Length: 4\r\n\r\nevil")
        await connection.to_end()

    async with raw_upstream(upstream) as port, running_edge() as running:
        running.publish(port)
        for _ in range(4):
            assert b"evil" not in await ask(running.port, GET + CLOSE)


async def test_expectation_is_passed_on_and_its_permission_back() -> None:
    async def upstream(connection: Raw) -> None:
        head = await connection.until(b"\r\n\r\n")
        assert b"Expect: 100-continue\r\n" in head
        await connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = await connection.exactly(5)
        await connection.send(OK + b"Content-Length: 5\r\n\r\n" + body)

    async with raw_upstream(upstream) as port, running_edge() as running:
        running.publish(port)
        async with await Raw.connect(running.port) as client:
            await client.send(POST + b"Content-Length: 5\r\nExpect: 100-continue\r\n\r\n")
            assert await client.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            await client.send(b"hello")
            assert (await client.answer())[2] == b"hello"


async def test_early_answer_ends_the_connection_instead_of_the_upload() -> None:
    async def upstream(connection: Raw) -> None:
        await connection.until(b"\r\n\r\n")
        await connection.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
        await connection.to_end()

    async with raw_upstream(upstream) as port, running_edge() as running:
        running.publish(port)
        async with await Raw.connect(running.port) as client:
            await client.send(POST + b"Content-Length: 100000\r\n\r\npart")
            status, fields, body = await client.answer()
            assert (status, body, fields["connection"]) == (413, b"no", "close")
            assert await client.to_end() == b""


async def test_half_closed_client_gets_its_answer() -> None:
    async def upstream(connection: Raw) -> None:
        await connection.until(b"\r\n\r\n")
        await asyncio.sleep(0.1)
        await connection.send(OK + b"Content-Length: 2\r\n\r\nok")

    async with raw_upstream(upstream) as port, running_edge() as running:
        running.publish(port)
        async with await Raw.connect(running.port) as client:
            await client.send(GET + b"\r\n")
            client.writer.write_eof()
            assert (await client.to_end()).endswith(b"ok")


@pytest.mark.parametrize("moment", ["waiting", "streaming", "uploading"])
@pytest.mark.parametrize("reset", [False, True])
async def test_upstream_is_cancelled_within_two_seconds_of_its_client_leaving(moment: str, reset: bool) -> None:
    started, gone = asyncio.Event(), asyncio.Event()

    async def upstream(connection: Raw) -> None:
        await connection.until(b"\r\n\r\n")
        if moment == "streaming":
            await connection.send(OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n")
        started.set()
        await connection.to_end()
        gone.set()

    async with raw_upstream(upstream) as port, running_edge() as running:
        running.publish(port)
        client = await Raw.connect(running.port)
        await client.send((POST + b"Content-Length: 9\r\n\r\nx") if moment == "uploading" else GET + b"\r\n")
        await asyncio.wait_for(started.wait(), DEADLINE)
        client.writer.transport.abort() if reset else await client.close()
        await asyncio.wait_for(gone.wait(), 2)
        assert (await running.record()).outcome == "client_gone"
        assert running.edge.counters.clients_gone == 1


async def test_slow_reader_pauses_the_upstream_and_gets_everything() -> None:
    total = 64 * 1024 * 1024
    sent = 0

    async def upstream(connection: Raw) -> None:
        nonlocal sent
        await connection.until(b"\r\n\r\n")
        connection.writer.write(OK + b"Content-Length: %d\r\n\r\n" % total)
        while sent < total:
            connection.writer.write(bytes(65536))
            sent += 65536
            await connection.writer.drain()

    async with raw_upstream(upstream) as port, running_edge() as running:
        running.publish(port)
        async with await Raw.connect(running.port, limit=65536) as client:
            await client.send(GET + b"\r\n")
            await client.until(b"\r\n\r\n")
            stalled = -1
            while stalled != sent:
                stalled = sent
                await asyncio.sleep(0.3)
            assert sent < total / 2  # what kernels and one window hold, not the file
            left = total
            while left:
                left -= len(await client.exactly(min(left, 65536)))


async def test_slow_upstream_pauses_the_upload() -> None:
    total = 64 * 1024 * 1024
    go = asyncio.Event()

    async def upstream(connection: Raw) -> None:
        await connection.until(b"\r\n\r\n")
        await go.wait()
        left = total
        while left:
            left -= len(await connection.exactly(min(left, 65536)))
        await connection.send(OK + b"Content-Length: 2\r\n\r\nok")

    async with raw_upstream(upstream) as port, running_edge() as running:
        running.publish(port)
        async with await Raw.connect(running.port) as client:
            await client.send(POST + b"Content-Length: %d\r\n\r\n" % total)
            sent = 0
            while sent < total:
                client.writer.write(bytes(65536))
                sent += 65536
                try:
                    await asyncio.wait_for(client.writer.drain(), 0.5)
                except TimeoutError:
                    break
            assert sent < total / 2
            go.set()
            await client.send(bytes(total - sent))
            assert (await client.answer())[2] == b"ok"
