"""A server in front of the real API server that does what a real one will not: refuse, stall, count, cut, invent.

It speaks TLS, one request a connection: reads the head, asks its script, and either answers by itself or becomes a
pipe to the real one. Threads, as tests of processes are synchronous.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import trustme

HEAD_LIMIT = 65536
PIECE = 65536
QUIET = 300.0
LOOK_AGAIN = 0.5
"""Seconds: a write may take in what the reader waits for, and the socket then says nothing of it."""


@dataclass
class Call:
    """One request: its head, and the connection that it came on."""

    server: MeddlingApi
    connection: ssl.SSLSocket
    head: bytes
    rest: bytes

    @property
    def line(self) -> str:
        return self.head.partition(b"\r\n")[0].decode("latin-1")

    @property
    def upgrade(self) -> str:
        for line in self.head.decode("latin-1").split("\r\n")[1:]:
            name, _, value = line.partition(":")
            if name.lower() == "upgrade":
                return value.strip().lower()
        return ""

    def answer(self, status: str, body: bytes, *fields: str, kind: str = "application/json") -> None:
        """Answer by itself, and close."""
        lines = [f"HTTP/1.1 {status}", f"Content-Type: {kind}", f"Content-Length: {len(body)}", *fields]
        self.send(("\r\n".join([*lines, "Connection: close"]) + "\r\n\r\n").encode() + body)

    def begin_chunks(self) -> None:
        """Begin an answer that comes in pieces."""
        self.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")

    def chunk(self, data: bytes) -> None:
        """Send a piece; an empty one is the end."""
        self.send(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    def send(self, data: bytes) -> None:
        self.connection.sendall(data)

    def pass_on(self, *, answers: bool = True) -> None:
        """Become a pipe to the real server. Args: answers: False: nothing that follows its head comes back."""
        # Closing after one answer brings the next request back to the script.
        head = self.head if self.upgrade else self.head.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)
        with self.server.connect() as real:
            real.sendall(head + self.rest)
            if not answers:
                self.send(real.recv(PIECE))
            ours, theirs = Shared(self.connection), Shared(real)
            back = threading.Thread(target=_pump, args=(theirs, ours, answers), daemon=True)
            back.start()
            _pump(ours, theirs, True)
            back.join(QUIET)


Script = Callable[[Call], None]


class Shared:
    """A TLS socket that one thread reads while another writes. OpenSSL allows one at a time, so nobody waits inside."""

    def __init__(self, sock: ssl.SSLSocket) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._lock = threading.Lock()

    def recv(self) -> bytes:
        """Raises: OSError."""
        quiet_at = time.monotonic() + QUIET
        while time.monotonic() < quiet_at:
            with self._lock, contextlib.suppress(ssl.SSLWantReadError):
                return self._sock.recv(PIECE)
            select.select([self._sock], [], [], LOOK_AGAIN)
        raise TimeoutError

    def sendall(self, data: bytes) -> None:
        """Raises: OSError."""
        rest, quiet_at = memoryview(data), time.monotonic() + QUIET
        while rest:
            if time.monotonic() > quiet_at:
                raise TimeoutError
            sent = 0
            with self._lock, contextlib.suppress(ssl.SSLWantReadError, ssl.SSLWantWriteError):
                sent = self._sock.send(rest)
            rest = rest[sent:]
            if not sent:
                select.select([], [self._sock], [], LOOK_AGAIN)

    def cut(self) -> None:
        _cut(self._sock)


def _cut(sock: socket.socket) -> None:
    """End a connection, whatever another thread does with its TLS."""
    with contextlib.suppress(OSError):
        socket.socket.shutdown(sock, socket.SHUT_RDWR)


def _pump(source: Shared, target: Shared, forward: bool) -> None:
    with contextlib.suppress(OSError, ValueError):
        while piece := source.recv():
            if forward:
                target.sendall(piece)
    for each in (source, target):
        each.cut()


@dataclass
class MeddlingApi:
    """See the module."""

    folder: Path
    real_port: int
    real_authority: Path
    script: Script = Call.pass_on
    port: int = 0
    calls: list[str] = field(default_factory=list)
    """Request lines, in the order they came."""
    _open: set[socket.socket] = field(default_factory=set)

    def __enter__(self) -> Self:
        authority = trustme.CA()
        self.authority = self.folder / "meddling.crt"
        authority.cert_pem.write_to_path(str(self.authority))
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(self._context)
        self._upstream = ssl.create_default_context(cafile=self.real_authority)
        self.listen()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def listen(self) -> None:
        """Begin to accept, on the port of the last time."""
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def close(self) -> None:
        """Stop accepting, and cut what is open."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
        self._listener.close()
        for each in list(self._open):
            _cut(each)

    def connect(self) -> ssl.SSLSocket:
        raw = socket.create_connection(("127.0.0.1", self.real_port), timeout=QUIET)
        return self._upstream.wrap_socket(raw, server_hostname="127.0.0.1")

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, raw: socket.socket) -> None:
        raw.settimeout(QUIET)
        with contextlib.suppress(OSError), self._context.wrap_socket(raw, server_side=True) as connection:
            self._open.add(connection)
            try:
                held = b""
                while b"\r\n\r\n" not in held and len(held) < HEAD_LIMIT:
                    if not (piece := connection.recv(PIECE)):
                        return
                    held += piece
                head, mark, rest = held.partition(b"\r\n\r\n")
                call = Call(self, connection, head + mark, rest)
                self.calls.append(call.line)
                self.script(call)
            finally:
                self._open.discard(connection)
