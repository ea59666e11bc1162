"""The opener's end of a log stream, for tests: lines with their stamps, sources, events and cursors."""

from __future__ import annotations

import asyncio
import json

from towline.aio.streams import ByteStream
from towline.wire.streams import EVENT, SOURCE, STDERR, STDOUT, FrameReader

TIMEOUT = 30.0
Stamped = tuple[bytes, bytes]
"""A line's stamp and its text."""


class LogReader:
    """Reads frames and keeps what they said."""

    def __init__(self, stream: ByteStream) -> None:
        self.stream = stream
        self.lines: list[Stamped] = []
        self.sources: dict[int, tuple[str, str]] = {}
        """Number to container and service."""
        self.raw_events: list[bytes] = []
        self._kinds: list[int] = []
        self._line_sources: list[int] = []
        self._reader = FrameReader()
        self._ended = False

    @property
    def words(self) -> list[str]:
        return [text.decode("utf-8", "replace") for _, text in self.lines]

    @property
    def events(self) -> list[str]:
        return [json.loads(body)["text"] for body in self.raw_events]

    def kinds_of(self, text: bytes) -> set[int]:
        return {kind for kind, line in zip(self._kinds, self.lines, strict=True) if line[1] == text}

    async def more(self) -> list[Stamped]:
        """Read once; returns the lines that came."""
        before = len(self.lines)
        data = await self.stream.read()
        self._ended = not data
        for frame in self._reader.feed(data):
            if frame.kind == SOURCE:
                source = json.loads(frame.body)
                self.sources[frame.source] = (source["container"], source.get("service", ""))
            elif frame.kind == EVENT:
                self.raw_events.append(frame.body)
            elif frame.kind in (STDOUT, STDERR):
                self._take(frame.kind, frame.source, frame.body)
        return self.lines[before:]

    async def to_end(self) -> LogReader:
        async with asyncio.timeout(TIMEOUT):
            while not self._ended:
                await self.more()
        return self

    async def until(self, text: str) -> None:
        async with asyncio.timeout(TIMEOUT):
            while text not in self.words:
                assert not self._ended, f"ended with {self.words[-5:]}, {self.events}"
                await self.more()

    async def until_event(self, text: str) -> None:
        async with asyncio.timeout(TIMEOUT):
            while text not in self.events:
                await self.more()

    async def until_sources(self, count: int) -> None:
        async with asyncio.timeout(TIMEOUT):
            while len(self.sources) < count:
                await self.more()

    async def take(self, count: int) -> list[Stamped]:
        """Read until there are so many lines, or the end."""
        while len(self.lines) < count and not self._ended:
            await self.more()
        return self.lines[:count]

    def cursors_after(self, taken: list[Stamped], before: dict[str, str]) -> dict[str, str]:
        """Return the cursors of a reader that has had these lines, as `towline logs` keeps them."""
        cursors = dict(before)
        for number, (stamp, _) in zip(self._line_sources, taken, strict=False):
            container = self.sources[number][0]
            held, _, count = cursors.get(container, "/0").partition("/")
            same = held == stamp.decode()
            cursors[container] = f"{stamp.decode()}/{int(count) + 1 if same else 1}"
        return cursors

    def _take(self, kind: int, source: int, body: bytes) -> None:
        assert body.endswith(b"\n")
        assert len(body) <= 64 * 1024
        for line in body[:-1].split(b"\n"):
            stamp, _, text = line.partition(b" ")
            self.lines.append((stamp, text))
            self._kinds.append(kind)
            self._line_sources.append(source)
