"""The real API server behind the real edge: FastAPI on its private socket, and trusted proxies in front."""

import asyncio
import ipaddress
import json
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
import websockets
from fastapi import FastAPI, Request, WebSocket
from fastapi.responses import StreamingResponse
from tests.support.edge import DEADLINE, FAST, Raw, RunningEdge, ask, running_edge

from towline.aio.tasks import TaskOwner
from towline.gateway.api_server import ApiServer, ApiStartError
from towline.gateway.connectors import UnixConnector
from towline.gateway.interfaces import RouteKind
from towline.gateway.options import EdgeOptions

SIZE = 3_000_000


def make_app(cancelled: asyncio.Event) -> FastAPI:
    app = FastAPI()

    @app.get("/api/v1/echo")
    async def echo(request: Request) -> dict[str, object]:
        return {"path": request.scope["raw_path"].decode(), "headers": dict(request.headers)}

    @app.post("/api/v1/count")
    async def count(request: Request) -> dict[str, int]:
        return {"bytes": sum([len(part) async for part in request.stream()])}

    @app.get("/api/v1/large")
    async def large() -> StreamingResponse:
        return StreamingResponse(iter([b"x" * 30_000] * (SIZE // 30_000)))

    @app.get("/api/v1/events")
    async def events() -> StreamingResponse:
        async def stream() -> AsyncIterator[bytes]:
            try:
                yield b"data: first\n\n"
                await asyncio.Event().wait()
            finally:
                cancelled.set()

        return StreamingResponse(stream(), media_type="text/event-stream")

    @app.websocket("/api/v1/socket")
    async def talk(socket: WebSocket) -> None:
        await socket.accept()
        async for text in socket.iter_text():
            await socket.send_text(text.upper())

    return app


@asynccontextmanager
async def served(
    tmp_path: Path, options: EdgeOptions | None = None, cancelled: asyncio.Event | None = None
) -> AsyncIterator[RunningEdge]:
    server = ApiServer(make_app(cancelled or asyncio.Event()), tmp_path / "run" / "api.sock")
    await server.start()
    try:
        async with (
            TaskOwner("test-api") as owner,
            running_edge(options=options, api=UnixConnector(str(server.path), owner)) as running,
        ):
            yield running
    finally:
        await server.stop()
        assert not server.path.exists()


async def get_echo(port: int, fields: bytes = b"", path: bytes = b"/api/v1/echo") -> dict[str, object]:
    data = await ask(
        port, b"GET " + path + b" HTTP/1.1\r\nHost: control.test\r\nConnection: close\r\n" + fields + b"\r\n"
    )
    assert data.startswith(b"HTTP/1.1 200 "), data
    return json.loads(data.partition(b"\r\n\r\n")[2])


async def test_api_learns_the_peer_from_us_alone(tmp_path: Path) -> None:
    async with served(tmp_path) as running:
        got = await get_echo(
            running.port, b"X-Towline-Peer: 6.6.6.6\r\nX-Forwarded-For: 6.6.6.6\r\nX-Request-Id: 6\r\n"
        )
        record = await running.record()
    headers = got["headers"]
    assert isinstance(headers, dict)
    assert headers["x-towline-peer"] == headers["x-forwarded-for"] == "127.0.0.1"
    assert headers["x-forwarded-proto"] == "http"
    assert headers["x-forwarded-host"] == headers["host"] == "control.test"
    assert headers["x-request-id"] == record.request_id
    assert record.kind is RouteKind.API


async def test_socket_of_the_api_is_private(tmp_path: Path) -> None:
    async with served(tmp_path):
        folder = tmp_path / "run"
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert stat.S_IMODE((folder / "api.sock").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "path",
    [
        b"/a/%2e%2e/admin",
        b"/a/../admin",
        b"/a/./b",
        b"/a/..",
        b"/%252e%252e/admin",
        b"/a/..;/admin",
        b"/a;x=1/b",
        b"//evil/",
        b"/a//b",
        b"/a\\b",
        b"/a%5cb",
        b"/a%00b",
        b"/a%2fb",
        b"/a%2Fb",
        b"/a%0d%0ab",
        b"/a%zzb",
        b"/a%",
        b"/%c0%af",
        b"/%ff",
        b"/%ed%a0%80",
    ],
)
async def test_path_that_two_readers_could_read_differently_is_refused(path: bytes, tmp_path: Path) -> None:
    async with running_edge() as running:
        data = await ask(running.port, b"GET " + path + b" HTTP/1.1\r\nHost: control.test\r\nConnection: close\r\n\r\n")
        assert data.startswith(b"HTTP/1.1 400 ")
        assert b'"bad_path"' in data


async def test_plain_paths_and_any_query_reach_the_api(tmp_path: Path) -> None:
    async with served(tmp_path) as running:
        for query in (b"?a=//;../%2f%zz", b"?"):
            await get_echo(running.port, path=b"/api/v1/echo" + query)
        data = await ask(running.port, b"GET /%C3%A4~-._ HTTP/1.1\r\nHost: control.test\r\nConnection: close\r\n\r\n")
        assert data.startswith(b"HTTP/1.1 404 ")


async def test_uploads_and_downloads_pass_whole(tmp_path: Path) -> None:
    async with served(tmp_path) as running, httpx.AsyncClient(base_url=f"http://127.0.0.1:{running.port}") as client:

        async def parts() -> AsyncIterator[bytes]:
            for _ in range(SIZE // 30_000):
                yield b"y" * 30_000

        assert (await client.post("/api/v1/count", content=parts())).json() == {"bytes": SIZE}
        assert (await client.post("/api/v1/count", content=b"y" * SIZE)).json() == {"bytes": SIZE}
        assert len((await client.get("/api/v1/large")).content) == SIZE


async def test_websocket_of_the_api_passes(tmp_path: Path) -> None:
    async with (
        served(tmp_path) as running,
        websockets.connect(f"ws://127.0.0.1:{running.port}/api/v1/socket") as socket,
    ):
        for size in (1, 100_000):
            await socket.send("a" * size)
            assert await socket.recv() == "A" * size


async def test_events_arrive_at_once_and_end_with_their_reader(tmp_path: Path) -> None:
    cancelled = asyncio.Event()
    async with served(tmp_path, cancelled=cancelled) as running:
        async with await Raw.connect(running.port) as client:
            await client.send(b"GET /api/v1/events HTTP/1.1\r\nHost: control.test\r\n\r\n")
            assert (await client.until(b"first\n\n")).startswith(b"HTTP/1.1 200 ")
        await asyncio.wait_for(cancelled.wait(), 2)


async def test_application_that_fails_to_start_says_so(tmp_path: Path) -> None:
    @asynccontextmanager
    async def broken(app: FastAPI) -> AsyncIterator[None]:
        raise RuntimeError("no database")
        yield

    server = ApiServer(FastAPI(lifespan=broken), tmp_path / "api.sock")
    with pytest.raises(ApiStartError):
        await asyncio.wait_for(server.start(), DEADLINE)


def behind_proxy() -> EdgeOptions:
    return replace(
        FAST,
        header_timeout=5.0,
        trusted_proxies=(ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("10.0.0.0/8")),
        connections_per_address=1,
    )


@pytest.mark.parametrize(
    ("fields", "peer", "proto", "host"),
    [
        (b"", "127.0.0.1", "http", "control.test"),
        (b"X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Proto: https\r\n", "203.0.113.9", "https", "control.test"),
        (b"X-Forwarded-For: 6.6.6.6, 203.0.113.9, 10.1.2.3\r\n", "203.0.113.9", "http", "control.test"),
        (b"X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 203.0.113.9\r\n", "203.0.113.9", "http", "control.test"),
        (b"X-Forwarded-For: ::ffff:203.0.113.9\r\n", "203.0.113.9", "http", "control.test"),
        (b"X-Forwarded-For: [2001:db8::1]\r\n", "2001:db8::1", "http", "control.test"),
        (b"X-Forwarded-For: 10.0.0.1, 10.0.0.2\r\n", "10.0.0.1", "http", "control.test"),
        (b"X-Forwarded-Host: public.test\r\n", "127.0.0.1", "http", "public.test"),
    ],
)
async def test_trusted_proxy_is_believed(fields: bytes, peer: str, proto: str, host: str, tmp_path: Path) -> None:
    async with served(tmp_path, behind_proxy()) as running:
        headers = (await get_echo(running.port, fields))["headers"]
    assert isinstance(headers, dict)
    assert (headers["x-towline-peer"], headers["x-forwarded-proto"], headers["x-forwarded-host"]) == (peer, proto, host)


@pytest.mark.parametrize(
    "fields",
    [
        b"X-Forwarded-For: unknown\r\n",
        b"X-Forwarded-For: 1.2.3.4:80\r\n",
        b"X-Forwarded-Proto: ftp\r\n",
        b"X-Forwarded-Host: a@b\r\n",
    ],
)
async def test_trusted_proxy_that_makes_no_sense_is_refused(fields: bytes, tmp_path: Path) -> None:
    async with served(tmp_path, behind_proxy()) as running:
        data = await ask(running.port, b"GET / HTTP/1.1\r\nHost: control.test\r\n" + fields + b"\r\n")
        assert data.startswith(b"HTTP/1.1 400 ")
