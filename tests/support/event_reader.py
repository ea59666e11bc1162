"""Reads server-sent events as a browser does."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any

import aiohttp


@dataclass(frozen=True)
class Event:
    kind: str
    data: Any
    id: str = ""


class EventReader:
    """Events of one answer, one after the other."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self._answer = answer
        self.comments = 0

    async def next(self, *kinds: str, timeout: float = 10.0) -> Event:
        """Return the next event, of some kinds when they are named. Raises: TimeoutError, EOFError."""
        async with asyncio.timeout(timeout):
            while True:
                event = await self._read()
                if not kinds or event.kind in kinds:
                    return event

    async def many(self, count: int, *kinds: str) -> list[Event]:
        return [await self.next(*kinds) for _ in range(count)]

    async def _read(self) -> Event:
        fields: dict[str, str] = {}
        while True:
            raw = await self._answer.content.readline()
            if not raw:
                raise EOFError("the stream has ended")
            line = raw.decode().rstrip("\n")
            if line.startswith(":"):
                self.comments += 1
            elif line:
                name, _, value = line.partition(": ")
                fields[name] = value
            elif "event" in fields:
                return Event(fields["event"], json.loads(fields["data"]), fields.get("id", ""))
            else:
                fields = {}
