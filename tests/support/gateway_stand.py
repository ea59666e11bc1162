"""One target behind two proxies: the gateway with a real tunnel and the agent's own dialler, and nginx.

Runs in a thread of its own, so that tests are plain blocking clients.
"""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import uvloop
from tests.support.edge import NoApi, RunningEdge, running_edge
from tests.support.gateway_target import Target
from tests.support.tunnel_pair import TunnelPair, loopback_tunnel

from towline.agent.policy import LocalPolicy
from towline.agent.streams.dialling import Dialler
from towline.agent.streams.router import StreamRouter
from towline.aio.tasks import TaskOwner
from towline.gateway.interfaces import ToTarget
from towline.gateway.options import EdgeOptions
from towline.gateway.route_options import RouteOptions
from towline.gateway.tunnelled import TunnelConnector
from towline.wire.streams import Tcp

HOST = "app.example.test"
READY = 10.0
NGINX = """
daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 256; }}
http {{
  access_log off; client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s; client_max_body_size 0;
  map $http_upgrade $hop {{ default upgrade; '' ''; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://127.0.0.1:{target}; proxy_http_version 1.1; proxy_buffering off; proxy_request_buffering off;
      proxy_set_header Host $http_host; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $hop;
      proxy_pass_header Server; proxy_pass_header Date;
    }}
  }}
}}
"""


@dataclass
class Stand:
    """What runs. `run` calls a coroutine in the thread of the edge."""

    target: Target
    running: RunningEdge
    pair: TunnelPair
    agents: TaskOwner
    loop: asyncio.AbstractEventLoop
    nginx: int = 0

    @property
    def gateway(self) -> int:
        return self.running.port

    def run(self, work: Awaitable[Any], timeout: float = 30.0) -> Any:
        async def wait() -> Any:
            return await work

        return asyncio.run_coroutine_threadsafe(wait(), self.loop).result(timeout)


def serve_agent(pair: TunnelPair, owner: TaskOwner) -> None:
    """Let the agent's end dial what streams name, by the agent's own code."""
    router = StreamRouter({Tcp: Dialler(LocalPolicy, lambda: ()).serve_tcp}, owner, 4096)
    pair.agent.on_stream = router.take


class _Thread:
    def __init__(self, options: EdgeOptions, route: RouteOptions | None) -> None:
        self._options = options
        self._route = route
        self._ready = threading.Event()
        self._stop: asyncio.Event | None = None
        self._error: BaseException | None = None
        self.stand: Stand | None = None
        self._thread = threading.Thread(target=self._main, name="gateway-stand")

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait(READY)
        if self._error is not None:
            raise self._error
        return self

    def __exit__(self, *_: object) -> None:
        if self.stand is not None and self._stop is not None:
            self.stand.loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(READY)

    def _main(self) -> None:
        try:
            uvloop.run(self._serve())
        except BaseException as error:
            self._error = error
            raise
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        async with AsyncExitStack() as stack:
            target = Target()
            await target.start()
            stack.push_async_callback(target.stop)
            running = await stack.enter_async_context(running_edge(options=self._options, api=NoApi()))
            pair = await stack.enter_async_context(loopback_tunnel())
            agents = await stack.enter_async_context(TaskOwner("agent"))
            serve_agent(pair, agents)
            connector = TunnelConnector(lambda: pair.server, Tcp(host="127.0.0.1", port=target.port))
            running.routes.by_host[HOST] = ToTarget("app", connector, options=self._route, id="rte_1")
            self.stand = Stand(target, running, pair, agents, asyncio.get_running_loop())
            self._ready.set()
            await self._stop.wait()


@contextmanager
def standing(
    *, options: EdgeOptions | None = None, route: RouteOptions | None = None, nginx: Path | None = None
) -> Iterator[Stand]:
    """Run the stand. Args: nginx: a folder for it; None leaves it out."""
    with _Thread(options or EdgeOptions(sweep_interval=0.05), route) as thread:
        stand = thread.stand
        assert stand is not None
        if nginx is None:
            yield stand
            return
        with _nginx(nginx, stand.target.port) as stand.nginx:
            yield stand


@contextmanager
def _nginx(folder: Path, target: int) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder, port=port, target=target))
    program = shutil.which("nginx") or "/usr/sbin/nginx"
    child = subprocess.Popen([program, "-p", str(folder), "-c", str(folder / "nginx.conf")])
    try:
        wait_until(lambda: _answers(port))
        yield port
    finally:
        child.terminate()
        child.wait(READY)


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def wait_until(condition: Callable[[], bool], timeout: float = READY) -> None:
    """Wait for something that another thread or process does."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        threading.Event().wait(0.01)


@dataclass
class Answer:
    """One answer as a strict client reads it. `interim` are the 1xx ones before it."""

    status: int
    fields: list[tuple[str, str]]
    body: bytes = b""
    trailers: list[tuple[str, str]] = field(default_factory=list)
    interim: list[int] = field(default_factory=list)
    is_chunked: bool = False

    def get(self, name: str) -> str | None:
        return next((value for key, value in self.fields if key == name), None)


class Wire:
    """A blocking client of raw bytes."""

    def __init__(self, port: int, timeout: float = 20.0) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout)
        self._data = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def send(self, *pieces: bytes) -> None:
        """Send pieces, each in a packet of its own as far as that can be had."""
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in pieces:
            self.sock.sendall(piece)

    def line(self) -> bytes:
        while b"\r\n" not in self._data:
            self._more()
        line, _, self._data = self._data.partition(b"\r\n")
        return line

    def exactly(self, size: int) -> bytes:
        while len(self._data) < size:
            self._more()
        found, self._data = self._data[:size], self._data[size:]
        return found

    def to_end(self) -> bytes:
        try:
            while True:
                self._more()
        except ConnectionError:
            pass
        found, self._data = self._data, b""
        return found

    def _more(self) -> None:
        data = self.sock.recv(1 << 18)
        if not data:
            raise ConnectionError("ended")
        self._data += data

    def answer(self, method: str = "GET", *, raw_switch: bool = True) -> Answer:
        """Read one whole answer. Raises: ConnectionError: it ended before it was whole."""
        interim: list[int] = []
        while True:
            status, fields = self._head()
            if status == 101 or status >= 200:
                break
            interim.append(status)
        found = Answer(status, fields, interim=interim)
        if status == 101 or status in (204, 304) or method == "HEAD":
            return found
        if (found.get("transfer-encoding") or "").lower() == "chunked":
            found.is_chunked = True
            found.body, found.trailers = self._chunked()
        elif (length := found.get("content-length")) is not None:
            found.body = self.exactly(int(length))
        else:
            found.body = self.to_end()
        return found

    def _head(self) -> tuple[int, list[tuple[str, str]]]:
        version, status, *_ = self.line().split(b" ", 2)
        assert version in (b"HTTP/1.1", b"HTTP/1.0")
        fields = []
        while line := self.line():
            name, colon, value = line.decode("latin-1").partition(":")
            assert colon
            fields.append((name.lower(), value.strip()))
        return int(status), fields

    def _chunked(self) -> tuple[bytes, list[tuple[str, str]]]:
        pieces = []
        while size := int(self.line().partition(b";")[0], 16):
            pieces.append(self.exactly(size))
            assert self.exactly(2) == b"\r\n"
        trailers = []
        while line := self.line():
            name, _, value = line.decode("latin-1").partition(":")
            trailers.append((name.lower(), value.strip()))
        return b"".join(pieces), trailers
