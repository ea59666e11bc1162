"""Thousands of clients of the agent's event streams and WebSockets in one process, and the age of what they get.

Each event carries the moment at which its cause began, in a label or a text `t-NANOSECONDS-`; a client looks for that
and for nothing else, so that a thousand of them cost little beside the agent that they share the machine with.
"""

from __future__ import annotations

import asyncio
import base64
import re
import secrets
import time
from typing import Any, Self

STAMP = re.compile(rb"t-(\d+)-")
LONGEST = 32
"""Bytes of a stamp: as much of a piece is kept for the next one."""
TOGETHER = 50
"""Clients that connect at once."""
SUBSCRIBE = b'{"type":"subscribe","payload":{"topics":["event"]}}'

PING, PONG = b"\x89\x00", b"\x8a\x80\x00\x00\x00\x00"
"""Source: RFC 6455, 5.5."""


def stamp() -> str:
    """Return the word that tells now."""
    return f"t-{time.monotonic_ns()}-"


def mask(text: bytes) -> bytes:
    """Return a text message as a client sends it. Source: RFC 6455, 5.2."""
    assert len(text) < 126
    key = secrets.token_bytes(4)
    masked = bytes(byte ^ key[place % 4] for place, byte in enumerate(text))
    return bytes([0x81, 0x80 | len(text)]) + key + masked


class Listener(asyncio.Protocol):
    """One client."""

    def __init__(self, crowd: Crowd) -> None:
        self._crowd = crowd
        self._rest = b""
        self._begun = False
        self.begun = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        transport.write(self._crowd.head)

    def data_received(self, data: bytes) -> None:
        if not self._begun:
            status = int(data[9:12])
            assert status in (101, 200), data[:500]
            self._begun = True
            if status == 101:
                self.transport.write(mask(SUBSCRIBE))
            self.begun.set_result(None)
        if data == PING:
            self.transport.write(PONG)
            return
        data = self._rest + data
        now, end = time.monotonic_ns(), 0
        for found in STAMP.finditer(data):
            end = found.end()
            self._crowd.ages.append((now - int(found[1])) / 1e9)
        self._rest = data[max(end, len(data) - LONGEST) :]

    def connection_lost(self, error: Exception | None) -> None:
        self._crowd.lost += 1
        if not self.begun.done():
            self.begun.set_exception(error or ConnectionError("closed at once"))


class Crowd:
    """Clients of one address of a surface.

    async with Crowd(port, "/api/realtime/events", token, 1000) as crowd:
        …
    """

    def __init__(self, port: int, path: str, token: str, count: int) -> None:
        upgrade = ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"] if path == "/ws" else []
        key = base64.b64encode(secrets.token_bytes(16)).decode()
        lines = [f"GET {path} HTTP/1.1", f"Host: 127.0.0.1:{port}", f"Authorization: Bearer {token}", *upgrade]
        self.head = "\r\n".join([*lines, f"Sec-WebSocket-Key: {key}", "", ""]).encode()
        self.ages: list[float] = []
        """Seconds of each delivery."""
        self.lost = 0
        self._port = port
        self.count = count
        self._listeners: list[Listener] = []

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        while missing := min(TOGETHER, self.count - len(self._listeners)):
            opening = (loop.create_connection(lambda: Listener(self), "127.0.0.1", self._port) for _ in range(missing))
            fresh = [listener for _, listener in await asyncio.gather(*opening)]
            await asyncio.gather(*(one.begun for one in fresh))
            self._listeners += fresh
        return self

    async def __aexit__(self, *_: object) -> None:
        for one in self._listeners:
            one.transport.abort()
        await asyncio.sleep(0)

    async def have(self, count: int, timeout: float) -> bool:
        """Wait for deliveries. Returns: whether all of them came."""
        deadline = time.monotonic() + timeout
        while len(self.ages) < count and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
        return len(self.ages) >= count
