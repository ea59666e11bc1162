"""The edge with real sockets: routing of each request, framing of bodies, and what travels on."""

from tests.support.edge import HOST, Raw, ask, raw_upstream, running_edge

GET = f"GET /a%2Fb?c=d;e HTTP/1.1\r\nHost: {HOST}\r\n".encode()


async def test_request_travels_with_its_bytes_and_our_fields() -> None:
    seen: list[bytes] = []

    async def upstream(connection: Raw) -> None:
        seen.append(await connection.until(b"\r\n\r\n"))
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-End: 1\r\n\r\nhello")

    async with raw_upstream(upstream) as port, running_edge() as running:
        running.publish(port)
        async with await Raw.connect(running.port) as client:
            await client.send(GET + b"X-Mine: 1\r\nX-Forwarded-For: 6.6.6.6\r\nX_Under: 1\r\n\r\n")
            status, fields, body = await client.answer()
        assert (status, body, fields["x-end"]) == (200, b"hello", "1")
        head = seen[0].decode()
        assert head.startswith("GET /a%2Fb?c=d;e HTTP/1.1\r\n")
        assert "X-Mine: 1\r\n" in head
        assert "6.6.6.6" not in head
        assert "X_Under" not in head
        assert "X-Forwarded-For: 127.0.0.1\r\n" in head
        record = await running.record()
        assert (record.status, record.path, record.sent_bytes > 5) == (200, "/a%2Fb", True)


async def test_unknown_host_is_answered_by_the_edge() -> None:
    async with running_edge() as running:
        data = await ask(running.port, b"GET / HTTP/1.1\r\nHost: unknown.example.test\r\nConnection: close\r\n\r\n")
        assert data.startswith(b"HTTP/1.1 404 ")
