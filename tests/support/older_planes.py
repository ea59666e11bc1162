"""Small control planes of the older systems, for agents under test: real sockets, and they do as they are told.

async with InstaDeployPlane() as plane:
    ... an agent with SERVER_URL=plane.url ...
    line = await plane.connected()
    await line.send({"id": "j1", "type": "HEALTH_CHECK", "payload": {}})
    answer = await line.next()
"""

from __future__ import annotations

import asyncio
import json
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self

from aiohttp import web
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

WAIT = 30.0
"""Seconds that a test waits for what a busy machine must do."""

TOKEN = "old-and-shared"


class PlaneLine:
    """One connection of an agent."""

    def __init__(self, socket: ServerConnection) -> None:
        self._socket = socket
        self.headers: dict[str, str] = dict(socket.request.headers.raw_items()) if socket.request else {}
        self.path = socket.request.path if socket.request else ""
        self.messages: asyncio.Queue[str | bytes | None] = asyncio.Queue()

    async def send(self, message: dict[str, Any] | str | bytes) -> None:
        await self._socket.send(json.dumps(message) if isinstance(message, dict) else message)

    async def next(self) -> dict[str, Any]:
        """The next text message as JSON. Raises: ConnectionError: there is none."""
        async with asyncio.timeout(WAIT):
            message = await self.messages.get()
        if message is None:
            raise ConnectionError("the agent has gone")
        assert isinstance(message, str), message
        found: dict[str, Any] = json.loads(message)
        return found

    async def final(self, job_id: str) -> dict[str, Any]:
        """The answer that ends a command; answers to others are passed over."""
        while True:
            answer = await self.next()
            if answer["job_id"] == job_id and answer["status"] in ("COMPLETED", "FAILED"):
                return answer

    async def close(self, code: int = 1000) -> None:
        await self._socket.close(code)

    async def read(self) -> None:
        try:
            async for message in self._socket:
                self.messages.put_nowait(message)
        except ConnectionClosed:
            pass
        finally:
            self.messages.put_nowait(None)


class Plane:
    """Listens on loopback; each connection is handed to whoever awaits `connected`."""

    def __init__(self, token: str = TOKEN) -> None:
        self.token = token
        self.refused = 0
        self._server: Server | None = None
        self._lines: asyncio.Queue[PlaneLine] = asyncio.Queue()
        self._port = 0

    async def __aenter__(self) -> Self:
        await self.begin()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.end()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._port}"

    async def begin(self) -> None:
        """Listen, on the same port as before."""
        self._server = await serve(
            self._serve, "127.0.0.1", self._port, process_request=self._judge, compression=None, max_size=None
        )
        self._port = next(iter(self._server.sockets)).getsockname()[1]

    async def end(self) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()

    async def connected(self) -> PlaneLine:
        """The next connection of an agent."""
        async with asyncio.timeout(WAIT):
            return await self._lines.get()

    def _judge(self, connection: ServerConnection, request: Request) -> Response | None:
        if request.headers.get("Authorization") == f"Bearer {self.token}":
            return None
        self.refused += 1
        return connection.respond(HTTPStatus.UNAUTHORIZED, "wrong token\n")

    async def _serve(self, socket: ServerConnection) -> None:
        line = PlaneLine(socket)
        self._lines.put_nowait(line)
        await line.read()


class InstaDeployPlane(Plane):
    """Speaks InstaDeploy."""

    @property
    def url(self) -> str:
        return f"ws://{self.address}/ws"


class RestPlane:
    """Speaks PipeOps REST as the recording has it; commands are those that a test puts into `commands`."""

    def __init__(self, token: str = TOKEN) -> None:
        self.token = token
        self.calls: asyncio.Queue[tuple[str, str, dict[str, str], Any]] = asyncio.Queue()
        """Method, path, headers and JSON of every call that was let in."""
        self.commands: list[dict[str, Any]] = []
        self.answers: dict[str, int] = {}
        """End of a path to the status that is answered instead of 200."""
        self.refused = 0
        self._runner: web.AppRunner | None = None
        self._port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    async def __aenter__(self) -> Self:
        await self.begin()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.end()

    async def begin(self) -> None:
        """Listen, on the same port as before."""
        app = web.Application(client_max_size=32 * 1024 * 1024)
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port).start()
        self._port = self._runner.addresses[0][1]

    async def end(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def called(self, ending: str) -> tuple[str, str, dict[str, str], Any]:
        """The next call whose path ends like this; others are passed over."""
        async with asyncio.timeout(WAIT):
            while True:
                call = await self.calls.get()
                if call[1].endswith(ending):
                    return call

    async def _answer(self, request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != f"Bearer {self.token}":
            self.refused += 1
            return web.json_response({"error": "unauthorized"}, status=401)
        body = await request.read()
        found = json.loads(body) if body else None
        self.calls.put_nowait((request.method, request.raw_path, dict(request.headers), found))
        for ending, status in self.answers.items():
            if request.path.endswith(ending):
                return web.json_response({"error": "as the test wants it"}, status=status)
        if request.path.endswith("/commands"):
            commands, self.commands = self.commands, []
            return web.json_response({"commands": commands})
        return web.json_response({"status": "ok"})
