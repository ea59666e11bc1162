"""A server in front of the real API server that does what a real one will not: refuse, stall, count, cut, invent.

It speaks TLS, one request a connection: reads the head, asks its script, and either answers by itself or becomes a
pipe to the real one. Threads, as tests of processes are synchronous.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import trustme

HEAD_LIMIT = 65536
PIECE = 65536
QUIET = 300.0


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
            back = threading.Thread(target=_pump, args=(real, self.connection, answers), daemon=True)
            back.start()
            _pump(self.connection, real, True)
            back.join(QUIET)


Script = Callable[[Call], None]


def _pump(source: socket.socket, target: socket.socket, forward: bool) -> None:
    with contextlib.suppress(OSError, ValueError):
        while piece := source.recv(PIECE):
            if forward:
                target.sendall(piece)
    for each in (source, target):
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)


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
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

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
