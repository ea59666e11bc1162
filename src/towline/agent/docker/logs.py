"""Container logs as the engine streams them: cutting its frames, or a terminal's raw bytes, into lines.

Source: Docker Engine API, "Attach to a container", "Stream format".
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from towline.agent.docker import containers
from towline.agent.docker.engine import Engine

STDOUT, STDERR = 1, 2
_HEAD = struct.Struct(">BxxxI")

MAX_TAIL_BYTES = 1024 * 1024
"""Largest tail that is read: forty lines may each be as long as the engine's buffer."""


class Demultiplexer:
    """Cuts the engine's stream into pieces of one output each. Holds at most one frame."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Yield (output, bytes) for every frame that is whole."""
        data = self._rest + data if self._rest else data
        at, end = 0, len(data)
        while end - at >= _HEAD.size:
            output, length = _HEAD.unpack_from(data, at)
            stop = at + _HEAD.size + length
            if stop > end:
                break
            yield output, data[at + _HEAD.size : stop]
            at = stop
        self._rest = data[at:]


async def tail(engine: Engine, container: str, lines: int) -> list[bytes]:
    """Return the last lines of a container, both outputs. Raises: DockerError."""
    inspected = await containers.inspect(engine, container)
    path = f"/containers/{containers.quoted(container)}/logs"
    text = bytearray()
    async with engine.stream("GET", path, stdout=True, stderr=True, tail=lines) as chunks:
        demultiplexer = Demultiplexer()
        async for chunk in chunks:
            parts = [chunk] if inspected.config.tty else [part for _, part in demultiplexer.feed(chunk)]
            for part in parts:
                text += part
            if len(text) > MAX_TAIL_BYTES:
                del text[: len(text) - MAX_TAIL_BYTES]
    return bytes(text).replace(b"\r\n", b"\n").splitlines()[-lines:]
