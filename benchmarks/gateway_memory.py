"""What the gateway's memory does: stalled readers, idle WebSockets, and one very large upload.

    python -m benchmarks.gateway_memory [--readers 1000] [--websockets 1000] [--upload 10]

Server (edge and tunnel) and two agents are processes of their own, since one agent serves 512 streams at most. Readers
ask for 64 MiB and read nothing; WebSockets exchange one message and then say nothing; the upload is that many GiB. The
figures are the resident memory of the server: before, at the most, and after everybody has left. Plain HTTP on
loopback; no cap on connections per address.
"""

import argparse
import asyncio
import base64
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from typing import cast

import structlog
import uvloop
from benchmarks.common import Row, allow_open_files, cpu_seconds, forget_peak, peak_bytes, resident_bytes, table
from benchmarks.proxy import Door, Routes, be_agent, ignore, process
from tests.support.tunnel_pair import OpenDoor

from towline.aio.malloc import keep_large_blocks
from towline.aio.tasks import TaskOwner
from towline.gateway.connectors import TcpConnector
from towline.gateway.edge import Edge
from towline.gateway.interfaces import ToTarget
from towline.gateway.options import EdgeOptions
from towline.gateway.tunnelled import TunnelConnector
from towline.tunnel.accept import LinkAcceptor
from towline.tunnel.session import LinkSession
from towline.wire.streams import Tcp

HOST = "app.test"
AGENTS = 2
LARGE_BYTES = 64 * 2**20
WINDOW_BYTES = 256 * 2**10
CHUNK = bytes(64 * 1024)
READY_TIMEOUT = 30.0
SETTLE = 3.0
"""Seconds until a window has filled, or the last connection has been let go."""
KEY = base64.b64encode(b"0123456789abcdef").decode()


async def serve(port: int, target: int) -> None:
    """Be the control plane: an edge whose streams take turns among the agents."""
    async with TaskOwner("benchmark") as owner:
        door, sessions, turn = OpenDoor(), list[LinkSession](), count()
        connector = TunnelConnector(
            lambda: sessions[next(turn) % len(sessions)] if sessions else None, Tcp(host="127.0.0.1", port=target)
        )
        edge = Edge(
            EdgeOptions(connections_per_address=100_000),
            router=Routes({HOST: ToTarget("app", connector)}),
            api=TcpConnector("127.0.0.1", target, owner),
            links=Door(LinkAcceptor(door, owner=owner)),
        )
        edge.listen("127.0.0.1", port)
        while True:
            session = await door.sessions.get()
            session.start(ignore)
            sessions.append(session)
            print("agent", flush=True)


class Target(asyncio.Protocol):
    """Answers `/large` with zeros, `/sink` with what it counted, `/ws` with a switch and an echo."""

    def __init__(self) -> None:
        self._head = b""
        self._left = -1
        self._unsent = 0
        self._is_echo = False
        self._full = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self._is_echo:
            self._transport.write(data)
        elif self._left >= 0:
            self._count(len(data))
        else:
            self._head += data
            head, mark, rest = self._head.partition(b"\r\n\r\n")
            if mark:
                self._head = b""
                self._answer(head, rest)

    def _answer(self, head: bytes, rest: bytes) -> None:
        if head.startswith(b"GET /large"):
            self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % LARGE_BYTES)
            self._unsent = LARGE_BYTES
            self._send()
        elif head.startswith(b"GET /ws"):
            self._is_echo = True
            self._transport.write(b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
        elif head.startswith(b"PUT"):
            self._left = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
            self._count(len(rest))
        else:
            self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    def _count(self, size: int) -> None:
        self._left -= size
        if self._left == 0:
            self._left = -1
            self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone")

    def _send(self) -> None:
        while self._unsent and not self._full:
            self._transport.write(CHUNK)
            self._unsent -= len(CHUNK)

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        self._send()


async def be_target(port: int) -> None:
    """Serve until the process ends."""
    server = await asyncio.get_running_loop().create_server(Target, "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


def role(name: str, port: int, target: int) -> list[str]:
    """Return the command of one of our own processes."""
    return [sys.executable, "-m", "benchmarks.gateway_memory", "--role", name, f"--port={port}", f"--target={target}"]


@dataclass
class Bed:
    """The running processes."""

    port: int
    server: int

    def ask(self, path: str, *lines: str, method: str = "GET") -> socket.socket:
        """Send a request's head and return its connection."""
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.settimeout(READY_TIMEOUT)
        sock.connect(("127.0.0.1", self.port))
        more = "".join(f"{line}\r\n" for line in lines)
        sock.sendall(f"{method} {path} HTTP/1.1\r\nHost: {HOST}\r\n{more}\r\n".encode())
        return sock

    def settled(self) -> int:
        """Return the server's memory once it uses no more processor time: everybody is stalled."""
        deadline = time.monotonic() + READY_TIMEOUT
        while True:
            before = cpu_seconds(self.server)
            time.sleep(1.0)
            if cpu_seconds(self.server) - before < 0.05 or time.monotonic() > deadline:
                return resident_bytes(self.server)


@contextmanager
def bed() -> Iterator[Bed]:
    """Run target, server and agents, and warm them up."""
    port, target = 20_000 + 2 * secrets.randbelow(10_000), 0
    target = port + 1
    with ExitStack() as stack:
        stack.enter_context(process(role("target", port, target)))
        server = subprocess.Popen(role("server", port, target), stdout=subprocess.PIPE)
        stack.callback(server.wait, 10)
        stack.callback(server.terminate)
        wait_for(lambda: _answers(port))
        assert server.stdout is not None
        stack.callback(server.stdout.close)
        for _ in range(AGENTS):
            stack.enter_context(process(role("agent", port, target)))
            server.stdout.readline()  # it is connected
        made = Bed(port, server.pid)
        wait_for(lambda: all(_is_good(made) for _ in range(4 * AGENTS)))
        yield made


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def _is_good(made: Bed) -> bool:
    with made.ask("/") as sock:
        return sock.recv(64).startswith(b"HTTP/1.1 200")


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + READY_TIMEOUT
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit("the processes do not come up")
        time.sleep(0.1)


def stalled(made: Bed, readers: int) -> tuple[int, int, int]:
    """Return the server's memory before, with stalled readers, and after they left."""
    before = resident_bytes(made.server)
    held = [made.ask("/large") for _ in range(readers)]
    most = made.settled()
    answered = sum(sock.recv(12).startswith(b"HTTP/1.1 200") for sock in held)
    if answered != readers:
        raise SystemExit(f"only {answered} of {readers} readers were answered")
    for sock in held:
        sock.close()
    time.sleep(SETTLE)
    return before, most, resident_bytes(made.server)


def websockets(made: Bed, number: int) -> tuple[int, int, int]:
    """Return the server's memory before, with idle WebSockets, and after they left."""
    before = resident_bytes(made.server)
    lines = ("Connection: Upgrade", "Upgrade: websocket", f"Sec-WebSocket-Key: {KEY}", "Sec-WebSocket-Version: 13")
    held = [made.ask("/ws", *lines) for _ in range(number)]
    for sock in held:
        if not sock.recv(4096).startswith(b"HTTP/1.1 101"):
            raise SystemExit("a WebSocket was refused")
        sock.sendall(b"\x81\x85\x00\x00\x00\x00hello")
    for sock in held:
        sock.recv(64)
    time.sleep(SETTLE)
    most = resident_bytes(made.server)
    for sock in held:
        sock.close()
    time.sleep(SETTLE)
    return before, most, resident_bytes(made.server)


def upload(made: Bed, size: int) -> tuple[int, int, float]:
    """Return the server's memory before, at its peak during an upload, and the seconds that it took."""
    with made.ask("/sink", f"Content-Length: {64 * len(CHUNK)}", method="PUT") as warm:
        for _ in range(64):
            warm.sendall(CHUNK)
        warm.recv(4096)
    before = resident_bytes(made.server)
    forget_peak(made.server)
    started = time.monotonic()
    with made.ask("/sink", f"Content-Length: {size}", method="PUT") as sock:
        for _ in range(size // len(CHUNK)):
            sock.sendall(CHUNK)
        answer = b""
        while not answer.endswith(b"done"):
            piece = sock.recv(4096)
            if not piece:
                raise SystemExit("the upload was not counted to its end")
            answer += piece
    return before, peak_bytes(made.server), time.monotonic() - started


def measure(readers: int, sockets: int, gibibytes: float) -> list[Row]:
    """Return the rows of the table."""
    rows: list[Row] = []
    with bed() as made:
        before, most, after = stalled(made, readers)
        each = (most - before) / readers
        rows.append(
            (
                f"{readers} stalled readers, memory of each",
                kib(each),
                f"one window: {kib(WINDOW_BYTES)}",
                each <= WINDOW_BYTES,
            )
        )
        rows.append(
            ("what stays when they have left", mib(after - before), "under 32 MiB", after - before < 32 * 2**20)
        )
        _, again, _ = stalled(made, readers)
        rows.append(
            (
                "the same once more, at the most",
                mib(again - most),
                "not above the first by 16 MiB",
                again - most < 16 * 2**20,
            )
        )
        before, most, after = websockets(made, sockets)
        each = (most - before) / sockets
        rows.append((f"{sockets} idle WebSockets, memory of each", kib(each), "under 32 KiB", each < 32 * 1024))
        rows.append(
            ("what stays when they have left", mib(after - before), "under 16 MiB", after - before < 16 * 2**20)
        )
        size = int(gibibytes * 2**30)
        before, peak, seconds = upload(made, size)
        grown = peak - before
        rows.append((f"upload of {gibibytes:g} GiB, growth", mib(grown), "under 16 MiB", grown < 16 * 2**20))
        rows.append(("its speed", f"{size / 2**20 / seconds:,.0f} MiB/s", "", None))
    return rows


def kib(size: float) -> str:
    return f"{size / 1024:,.0f} KiB"


def mib(size: float) -> str:
    return f"{size / 2**20:,.1f} MiB"


def main() -> None:
    """Measure, or be one of the processes that are measured."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--role", choices=["server", "agent", "target"])
    parser.add_argument("--port", type=int)
    parser.add_argument("--target", type=int)
    parser.add_argument("--readers", type=int, default=1000)
    parser.add_argument("--websockets", type=int, default=1000)
    parser.add_argument("--upload", type=float, default=10)
    arguments = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(30))
    allow_open_files()
    if arguments.role is None:
        print(table(measure(arguments.readers, arguments.websockets, arguments.upload)))
        return
    keep_large_blocks()
    if arguments.role == "server":
        uvloop.run(serve(arguments.port, arguments.target))
    elif arguments.role == "agent":
        uvloop.run(be_agent(arguments.port))
    else:
        uvloop.run(be_target(arguments.target))


if __name__ == "__main__":
    main()
