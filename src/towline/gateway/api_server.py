"""Runs the API application on a private Unix socket inside this process, for the edge to send requests to.

Only the edge can reach it: the socket has mode 0600 in a folder of mode 0700. That is why the application may believe
X-Towline-Peer, X-Forwarded-* and X-Request-Id.
"""

import asyncio
import socket
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import uvicorn

from towline.aio.tasks import TaskOwner

KEEP_ALIVE_TIMEOUT = 120  # seconds; longer than the edge keeps idle connections, so that it never loses that race
MAX_PATH_BYTES = 107  # sun_path without its final NUL, unix(7)
BACKLOG = 1024


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: the process has its own."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().startup(sockets)
        except SystemExit:
            raise ApiStartError("the application failed to start") from None
        self.ready.set()


class ApiStartError(RuntimeError):
    """The application's start-up code failed; its own error is logged before."""


class ApiServer:
    """One running application. `path` is where its socket is made; an old one of a killed process is replaced."""

    def __init__(self, app: Any, path: Path, *, shutdown_timeout: int = 10) -> None:
        if len(str(path).encode()) > MAX_PATH_BYTES:
            raise ValueError(f"the path of the API's socket is longer than {MAX_PATH_BYTES} bytes")
        self.path = path
        self._owner = TaskOwner("api-server")
        self._server = _Server(
            uvicorn.Config(
                app,
                http="httptools",
                ws="websockets-sansio",
                ws_per_message_deflate=False,
                lifespan="auto",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=KEEP_ALIVE_TIMEOUT,
                timeout_graceful_shutdown=shutdown_timeout,
            )
        )

    async def start(self) -> None:
        """Bind the socket and serve in the background; returns when the application has started.

        Raises: ApiStartError: the application failed to start. OSError: the socket cannot be made.
        """
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path.parent.chmod(0o700)
        with suppress(FileNotFoundError):
            self.path.unlink()
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.bind(str(self.path))
        self.path.chmod(0o600)
        sock.listen(BACKLOG)
        serving = self._owner.spawn("serve", self._server.serve(sockets=[sock]))
        ready = self._owner.spawn("ready", self._server.ready.wait())
        await asyncio.wait({serving, ready}, return_when=asyncio.FIRST_COMPLETED)
        if not ready.done():
            ready.cancel()
            sock.close()
            await serving
            raise ApiStartError("the application ended while it started")

    async def stop(self) -> None:
        """Let running requests end, within the shutdown limit, and remove the socket."""
        self._server.should_exit = True
        await self._owner.join()
        await self._owner.close()
        with suppress(FileNotFoundError):
            self.path.unlink()
