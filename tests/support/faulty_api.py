"""An API server on loopback that keeps a history, as a real one does, and breaks its answers in every way asked for.

api = FaultyApi(); await api.begin(); api.put("pods", pod("a")); api.cut_within = (1, 5000); api.forget_history()

A watch gets what happened behind the version that it names, or a 410 when that is forgotten; so whoever follows well
knows the same as `objects` in the end.
"""

from __future__ import annotations

import asyncio
import bisect
import json
import random
from asyncio import StreamReader, StreamWriter
from collections import defaultdict
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit

from towline.agent.kubernetes.material import Material
from towline.aio.tasks import TaskOwner

CORE = frozenset({"nodes", "namespaces", "pods", "events", "services"})
KINDS = CORE | {"deployments", "statefulsets", "daemonsets", "jobs", "cronjobs"}
BATCH_BYTES = 65_536
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


class _Cut(Exception):
    """An answer was cut on purpose."""


class FaultyApi:
    """See the module."""

    def __init__(self, seed: int = 1) -> None:
        self.objects: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
        self.cut_within: tuple[int, int] | None = None
        """Every answer ends after so many bytes, drawn at random, while this is set."""
        self.expire_by: Literal["status", "event"] = "status"
        self.refuse = 0
        """Answer everything with this status."""
        self.asked: list[str] = []
        self._draw = random.Random(seed)
        self._version = 10
        self._oldest = 0
        self._versions: list[int] = []
        self._history: list[tuple[str, bytes]] = []
        """Kind and line of each change; a line without a kind is for every watch."""
        self._news = asyncio.Event()
        self._pages: dict[str, tuple[list[dict[str, Any]], str]] = {}
        self._writers: set[StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self._owner = TaskOwner("faulty API")
        self.port = 0

    # -- life ------------------------------------------------------------------------------------

    async def begin(self) -> None:
        """Listen, on the port of the last time."""
        self._owner = owner = TaskOwner("faulty API")

        def accept(reader: StreamReader, writer: StreamWriter) -> None:
            owner.spawn("serve", self._serve(reader, writer))

        self._server = await asyncio.start_server(accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def end(self) -> None:
        """Stop as a killed process does: every connection is reset."""
        assert self._server is not None
        self._server.close()
        self.drop()
        await self._owner.close()
        await self._server.wait_closed()

    def material(self) -> Material:
        return Material(server=f"http://127.0.0.1:{self.port}", token="secret-of-the-agent")

    # -- what is in the cluster -------------------------------------------------------------------

    def put(self, kind: str, found: dict[str, Any]) -> None:
        """Add or change an object."""
        metadata = found["metadata"]
        key = f"{metadata.get('namespace', '')}/{metadata['name']}"
        what = "MODIFIED" if key in self.objects[kind] else "ADDED"
        self.objects[kind][key] = found
        self._tell(kind, what, found)

    def remove(self, kind: str, key: str) -> None:
        self._tell(kind, "DELETED", self.objects[kind].pop(key))

    def bookmark(self) -> None:
        """Tell every watch how far it is."""
        self._version += 1
        self._note("", {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": str(self._version)}}})

    def say(self, line: bytes) -> None:
        """Say something else to every watch that is open; nobody hears it later."""
        for writer in self._writers:
            if not writer.is_closing():
                writer.write(b"%x\r\n%s\r\n" % (len(line), line))

    # -- what goes wrong -------------------------------------------------------------------------

    def forget_history(self) -> None:
        """Know nothing before now: a watch from an older version is told that it is too old."""
        self._oldest = self._version
        self._versions.clear()
        self._history.clear()

    def drop(self) -> None:
        """Reset every connection."""
        for writer in self._writers:
            abort(writer)

    # -- answers ---------------------------------------------------------------------------------

    def _tell(self, kind: str, what: str, found: dict[str, Any]) -> None:
        self._version += 1
        found["metadata"]["resourceVersion"] = str(self._version)
        self._note(kind, {"type": what, "object": found})

    def _note(self, kind: str, event: dict[str, Any]) -> None:
        self._versions.append(self._version)
        self._history.append((kind, json.dumps(event).encode() + b"\n"))
        self._news.set()
        self._news = asyncio.Event()

    async def _serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                target = head.split(b" ", 2)[1].decode()
                self.asked.append(target)
                await self._answer(_Answer(writer, self._budget()), target)
        except (asyncio.IncompleteReadError, OSError):
            abort(writer)
        except _Cut:
            writer.close()  # what was written arrives, and then the end
        finally:
            self._writers.discard(writer)

    def _budget(self) -> int | None:
        return self._draw.randint(*self.cut_within) if self.cut_within is not None else None

    async def _answer(self, answer: _Answer, target: str) -> None:
        parts = urlsplit(target)
        asked = {name: values[0] for name, values in parse_qs(parts.query).items()}
        kind = parts.path.rpartition("/")[2]
        if self.refuse or kind not in KINDS:
            await answer.refuse(self.refuse or 404)
        elif "watch" in asked:
            await self._watch(answer, kind, int(asked["resourceVersion"]))
        else:
            await self._list(answer, kind, asked)

    async def _list(self, answer: _Answer, kind: str, asked: dict[str, str]) -> None:
        token, limit = asked.get("continue", ""), int(asked.get("limit", "500"))
        items, version = self._pages.pop(token) if token else (list(self.objects[kind].values()), str(self._version))
        more = ""
        if len(items) > limit:
            more = f"{kind}-{self._version}-{len(self.asked)}"
            self._pages[more] = items[limit:], version
        body = {"metadata": {"resourceVersion": version, "continue": more}, "items": items[:limit]}
        await answer.whole(200, body)

    async def _watch(self, answer: _Answer, kind: str, version: int) -> None:
        if version < self._oldest and self.expire_by == "status":
            await answer.refuse(410)
            return
        await answer.send(CHUNKED)
        while True:
            if version < self._oldest:
                status = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}
                await answer.chunk(json.dumps({"type": "ERROR", "object": status}).encode() + b"\n")
                await answer.chunk(b"")
                return
            news = self._news
            begin = bisect.bisect_right(self._versions, version)
            batch = b""
            for at in range(begin, len(self._history)):
                concerned, line = self._history[at]
                batch += line if concerned in ("", kind) else b""
                version = self._versions[at]
                if len(batch) > BATCH_BYTES:
                    break
            if batch:
                await answer.chunk(batch)
            elif begin == len(self._history):
                await news.wait()


def abort(writer: StreamWriter) -> None:
    """Reset a connection; uvloop minds one that is closed already."""
    if not writer.is_closing():
        writer.transport.abort()


class _Answer:
    """One answer. Args: budget: bytes after which it is cut; None: never."""

    def __init__(self, writer: StreamWriter, budget: int | None) -> None:
        self._writer = writer
        self._budget = budget

    async def send(self, data: bytes) -> None:
        """Raises: _Cut, OSError."""
        if self._writer.is_closing():
            raise ConnectionResetError
        if self._budget is not None:
            left = self._budget - len(data)
            if left < 0:
                self._writer.write(data[: self._budget])
                await self._writer.drain()
                raise _Cut
            self._budget = left
        self._writer.write(data)
        await self._writer.drain()

    async def chunk(self, data: bytes) -> None:
        await self.send(b"%x\r\n%s\r\n" % (len(data), data))

    async def whole(self, status: int, body: Any) -> None:
        raw = json.dumps(body).encode()
        await self.send(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n" % (status, len(raw)) + raw)

    async def refuse(self, status: int) -> None:
        await self.whole(status, {"kind": "Status", "code": status, "message": "refused by the test"})
