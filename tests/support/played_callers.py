"""An API server that is played for callers of the agent's surface: any method, with what each request said.

server = PlayedCallers({"/version": [answer({"gitVersion": "v1"})]})
passage = Passage(server.credentials(clock), lambda: LocalPolicy(), connect=server.connect)
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from tests.support.played_api import Ending, Played, refusal

from towline.agent.kubernetes.credentials import ApiServer, Credentials
from towline.agent.kubernetes.material import Material
from towline.aio.clock import Clock
from towline.aio.streams import Broken, ByteStream, ClosedHere


@dataclass(frozen=True)
class Heard:
    """One request."""

    method: str
    target: str
    fields: list[tuple[str, str]]
    body: bytes
    connection: int

    def values(self, name: str) -> list[str]:
        return [value for each, value in self.fields if each == name]


@dataclass
class PlayedCallers:
    """Answers by path, each list in order; what is not in the script any more is held open for ever."""

    script: dict[str, list[Played]]
    heard: list[Heard] = field(default_factory=list)
    held: asyncio.Event = field(default_factory=asyncio.Event)
    dials: int = 0
    dead: set[int] = field(default_factory=set)
    """Connections that break at their next request."""

    async def connect(self, server: ApiServer) -> ByteStream:
        self.dials += 1
        return _PlayedStream(self, self.dials)

    def credentials(self, clock: Clock) -> Credentials:
        return Credentials(lambda: Material(server="http://127.0.0.1:1", token="secret-of-the-agent"), clock=clock)

    def next(self, heard: Heard) -> Played:
        self.heard.append(heard)
        answers = self.script.get(heard.target.partition("?")[0])
        if answers is None:
            return refusal(404, "NotFound", "the server could not find the requested resource")
        return answers.pop(0) if answers else Played(b"", "hold")


class _PlayedStream:
    def __init__(self, server: PlayedCallers, number: int) -> None:
        self._server = server
        self._number = number
        self._left = b""
        self._end: Ending = "clean"
        self._closed = False

    async def read(self, max_bytes: int = 65536) -> bytes:
        if self._closed:
            raise ClosedHere("closed")
        if self._left:
            found, self._left = self._left[:max_bytes], self._left[max_bytes:]
            await asyncio.sleep(0)
            return found
        if self._end == "hold":
            self._server.held.set()
            await asyncio.get_running_loop().create_future()
        return b""

    async def write(self, data: bytes) -> None:
        if self._number in self._server.dead:
            raise Broken("connection reset")
        head, _, body = data.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        method, target, _ = first.split(" ")
        fields = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
        played = self._server.next(Heard(method, target, fields, body, self._number))
        self._left, self._end = played.raw, played.end

    async def write_eof(self) -> None:
        return None

    async def aclose(self) -> None:
        self._closed = True

    def abort(self, reason: str = "") -> None:
        self._closed = True
