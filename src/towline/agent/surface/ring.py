"""The last things that happened, kept once for all who listen: a bounded ring of events that are encoded already.

A listener holds nothing but the number of the last event that it has had. Who comes back with an id goes on behind it,
as far as the ring reaches; who fell behind is told so. Where events come from is `feed.py`'s, how they travel is
`events.py`'s and `websocket.py`'s.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from typing import Any

import msgspec

MOST_ENTRIES = 4096
"""Events kept: at 50 changes a second those of 80 s, longer than a browser takes to connect again."""

MOST_BYTES = 4 * 1024 * 1024
"""Bytes of the events kept; one of them has some 300."""

_encoder = msgspec.json.Encoder()


class Entry:
    """One event. `kind` is its name on the wire, `data` its JSON."""

    __slots__ = ("_message", "_sse", "data", "id", "kind", "namespace", "number")

    def __init__(self, number: int, boot: str, kind: str, data: bytes, namespace: str) -> None:
        self.number = number
        self.id = f"{boot}-{number}"
        self.kind = kind
        self.data = data
        self.namespace = namespace
        """Of the object that it is about; empty for what is in none."""
        self._sse = b""
        self._message = ""

    def __repr__(self) -> str:
        return f"<Entry {self.id} {self.kind} {len(self.data)} bytes>"

    @property
    def sse(self) -> bytes:
        """The event as server-sent events have it. Source: HTML Living Standard, "Server-sent events"."""
        if not self._sse:
            self._sse = b"id: %s\nevent: %s\ndata: %s\n\n" % (self.id.encode(), self.kind.encode(), self.data)
        return self._sse

    @property
    def message(self) -> str:
        """The event as a message of `/ws`."""
        if not self._message:
            self._message = f'{{"type":"{self.kind}","id":"{self.id}","payload":{self.data.decode()}}}'
        return self._message


class Ring:
    """The events of one life of the feed; `boot` tells lives apart, so that an id of another one is never believed."""

    def __init__(self, *, most_entries: int = MOST_ENTRIES, most_bytes: int = MOST_BYTES, boot: str = "") -> None:
        self.boot = boot or secrets.token_hex(4)
        self.last = 0
        """Number of the newest event."""
        self._most_entries = most_entries
        self._most_bytes = most_bytes
        self._entries: deque[Entry] = deque()
        self._bytes = 0
        self._news = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Ring {self.boot} {len(self._entries)} events, {self._bytes} bytes, last {self.last}>"

    @property
    def first(self) -> int:
        """Number of the oldest event that is kept; one more than the newest when there is none."""
        return self.last - len(self._entries) + 1

    def publish(self, kind: str, payload: Any, namespace: str = "") -> None:
        """Add an event, and wake everybody who waits."""
        self.last += 1
        entry = Entry(self.last, self.boot, kind, _encoder.encode(payload), namespace)
        self._entries.append(entry)
        self._bytes += len(entry.data)
        while len(self._entries) > self._most_entries or (self._bytes > self._most_bytes and len(self._entries) > 1):
            self._bytes -= len(self._entries.popleft().data)
        self._news.set()
        self._news.clear()

    def after(self, number: int, most: int = 500) -> list[Entry]:
        """Return the oldest events behind a number, `most` of them at most."""
        skip = max(0, number - self.first + 1)
        have = len(self._entries)
        return [self._entries[at] for at in range(skip, min(have, skip + most))]

    def has_lost(self, number: int) -> bool:
        """Tell whether events behind this number are not kept any more."""
        return number < self.first - 1

    def position(self, last_event_id: str) -> int | None:
        """Return the number to go on behind for an id that a listener had; None when it is not one of this life."""
        boot, dash, number = last_event_id.rpartition("-")
        if not dash or boot != self.boot or not (number.isascii() and number.isdigit()) or len(number) > 15:
            return None
        return int(number) if int(number) <= self.last else None

    async def wait(self, number: int) -> None:
        """Return when there is an event behind this number."""
        while self.last <= number:
            await self._news.wait()
