"""Logs of a pod's containers as the frames that our log view reads: several containers side by side, resumable.

The API server cannot go on behind a certain line, only behind a certain second: lines that the reader has are left out
here by their moments, so that nothing is lost or doubled.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import msgspec
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from towline.control.access.actor import Access
from towline.control.errors import ApiError
from towline.control.kubernetes.kinds import PODS
from towline.control.kubernetes.talking import Question, Talker
from towline.control.streams.answer import ClientGone, while_wanted
from towline.wire.streams import EVENT, SOURCE, STDOUT, LogSource, encode_frame

LOG_FRAMES = "application/vnd.towline.logs"
LONGEST_LINE = 64 * 1024
"""Bytes; longer ones come in pieces, each with the moment of the whole."""
LONGEST_NOTE = 2000
AGAIN_AFTER = 5.0
"""Seconds that a followed log that ended stays open: a container that starts again and again is asked for less often
than its reader would."""
_TIMED = re.compile(rb"[0-9]{4}-[0-9]{2}-[0-9]{2}T")
_MOMENT = 30
"""Bytes of a moment in front of a line, and its blank: `2026-01-02T15:04:05.000000000Z `; more with an offset."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which log somebody wants to read."""

    namespace: str
    pod: str
    containers: Sequence[str]
    follow: bool = False
    previous: bool = False
    tail: int = 1000
    since_seconds: int = 0
    cursors: Mapping[str, str] = field(default_factory=dict)
    """Container to `MOMENT/COUNT`: go on behind so many lines of that moment."""

    def question(self, container: str) -> Question:
        query: dict[str, str | int] = {"container": container, "timestamps": "true"}
        cursor = self.cursors.get(container, "")
        if cursor:
            query["sinceTime"] = cursor.partition("/")[0]
        elif self.since_seconds:
            query["sinceSeconds"] = self.since_seconds
        elif self.tail >= 0:
            query["tailLines"] = self.tail
        if self.previous:
            query["previous"] = "true"
        elif self.follow:
            query["follow"] = "true"
        return Question(PODS.path(self.namespace, self.pod, "log", **query), accept="text/plain, */*")


class LogStream(Response):
    """Streams frames until every log has ended, or the reader leaves."""

    def __init__(self, talker: Talker, access: Access, cluster: str, wanted: Wanted) -> None:
        super().__init__(media_type=LOG_FRAMES, headers={"cache-control": "no-store", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._talker = talker
        self._access = access
        self._cluster = cluster
        self._wanted = wanted
        self._sending = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        with suppress(ClientGone):
            await while_wanted(receive, self._all(send))

    async def _all(self, send: Send) -> None:
        async with asyncio.TaskGroup() as group:
            for number, container in enumerate(self._wanted.containers):
                group.create_task(self._one(send, number, container), name=f"pod-logs/{number}")
        if self._wanted.follow and not self._wanted.previous:
            await asyncio.sleep(AGAIN_AFTER)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _one(self, send: Send, number: int, container: str) -> None:
        source = LogSource(project=self._wanted.pod, service=container, container=container, name=container)
        await self._say(send, encode_frame(SOURCE, msgspec.json.encode(source), number))
        sieve = Sieve(self._wanted.cursors.get(container, ""))
        try:
            async with self._talker.asked(self._access, self._cluster, self._wanted.question(container)) as answer:
                async for block in blocks(answer.pieces()):
                    if _TIMED.match(block) is None:  # the kubelet's own words, e.g. that it has removed the container
                        await self._tell(send, block.decode("utf-8", "replace").strip(), number)
                    elif kept := sieve.keep(block):
                        await self._say(send, encode_frame(STDOUT, kept, number))
        except ApiError as error:
            await self._tell(send, error.message, number)

    async def _tell(self, send: Send, text: str, number: int) -> None:
        await self._say(send, encode_frame(EVENT, json.dumps({"text": text[:LONGEST_NOTE]}).encode(), number))

    async def _say(self, send: Send, frame: bytes) -> None:
        async with self._sending:
            await send({"type": "http.response.body", "body": frame, "more_body": True})


async def blocks(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Cut bytes into blocks of whole lines; a line that is too long is cut, and its rest gets its moment."""
    held = b""
    async for piece in pieces:
        held += piece
        whole, mark, held = held.rpartition(b"\n")
        if mark:
            yield whole + mark
        while len(held) > LONGEST_LINE:
            moment = held[: held.find(b" ", 0, _MOMENT + 10) + 1]
            yield held[:LONGEST_LINE] + b"\n"
            held = moment + held[LONGEST_LINE:]
    if held:
        yield held + b"\n"


class Sieve:
    """Leaves out the lines that a reader has: all before its cursor's moment, and so many of that moment."""

    def __init__(self, cursor: str) -> None:
        at, _, count = cursor.partition("/")
        self._at = at.encode("ascii", "ignore")
        self._count = int(count) if count.isdigit() else 0
        self._is_open = not at

    def keep(self, block: bytes) -> bytes:
        """Return the lines of a block that are new."""
        if self._is_open:
            return block
        lines = block.splitlines(keepends=True)
        for place, line in enumerate(lines):
            moment = line.partition(b" ")[0]
            if moment == self._at and self._count > 0:
                self._count -= 1
            elif moment >= self._at:
                self._is_open = True
                return b"".join(lines[place:])
        return b""
