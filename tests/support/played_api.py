"""An API server that is played from a script, without sockets: for the agent's reading of lists and watches.

server = PlayedApi({"/api/v1/pods": [page(pods), watch(change("ADDED", pod), end="hold")]})
api = Api(server.credentials(), connect=server.connect)
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from towline.agent.kubernetes.credentials import ApiServer, Credentials
from towline.agent.kubernetes.material import Material
from towline.aio.clock import Clock
from towline.aio.streams import ByteStream, ClosedHere

Ending = Literal["clean", "cut", "hold"]


@dataclass(frozen=True)
class Played:
    """One answer. `end`: clean: whole; cut: the connection closes first; hold: nothing more comes."""

    raw: bytes
    end: Ending = "clean"


def page(
    items: Sequence[dict[str, Any]], *, version: str = "10", more: str = "", status: int = 200, **head: str
) -> Played:
    """One page of a list."""
    body = {"metadata": {"resourceVersion": version, **({"continue": more} if more else {})}, "items": list(items)}
    return answer(body, status=status, **head)


def answer(body: Any, *, status: int = 200, **head: str) -> Played:
    """A document with a length."""
    raw = json.dumps(body).encode()
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in head.items())
    return Played(f"HTTP/1.1 {status} X\r\nContent-Length: {len(raw)}\r\n{lines}\r\n".encode() + raw)


def refusal(status: int, reason: str = "", message: str = "no", **head: str) -> Played:
    """How an API server says no."""
    return answer({"kind": "Status", "code": status, "reason": reason, "message": message}, status=status, **head)


def watch(*events: dict[str, Any], end: Ending = "hold", tail: bytes = b"") -> Played:
    """A watch, chunked: one chunk for each event."""
    lines = [json.dumps(event).encode() + b"\n" for event in events] + ([tail] if tail else [])
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(line), line) for line in lines)
    last = b"0\r\n\r\n" if end == "clean" else b""
    return Played(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + last, end)


def change(kind: str, found: dict[str, Any]) -> dict[str, Any]:
    return {"type": kind, "object": found}


def bookmark(version: str) -> dict[str, Any]:
    return {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": version}}}


def expired() -> dict[str, Any]:
    return {"type": "ERROR", "object": {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}}


def thing(name: str, *, version: str = "1", namespace: str = "web", **more: Any) -> dict[str, Any]:
    """Any object."""
    metadata = {"name": name, "namespace": namespace, "resourceVersion": version, "uid": f"uid-{name}"}
    return {"metadata": {**metadata, **more.pop("metadata", {})}, **more}


@dataclass
class PlayedApi:
    """Answers by path, each list in order; what is not in the script any more is held open for ever."""

    script: dict[str, list[Played]]
    piece: int = 65536
    """Bytes of each read: cuts answers anywhere."""
    requests: list[str] = field(default_factory=list)
    held: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when somebody waits for something that will not come."""
    dials: int = 0

    async def connect(self, server: ApiServer) -> ByteStream:
        self.dials += 1
        return PlayedStream(self)

    def credentials(self, clock: Clock) -> Credentials:
        return Credentials(lambda: Material(server="http://127.0.0.1:1", token="t"), clock=clock)

    def asked(self, path: str) -> list[str]:
        """The queries of the requests for one path."""
        return [target.partition("?")[2] for target in self.requests if target.partition("?")[0] == path]

    def next(self, target: str) -> Played:
        self.requests.append(target)
        answers = self.script.get(target.partition("?")[0])
        if answers is None:
            return refusal(404, "NotFound", "the server could not find the requested resource")
        return answers.pop(0) if answers else Played(b"", "hold")


class PlayedStream:
    """One connection to the played server."""

    def __init__(self, server: PlayedApi) -> None:
        self._server = server
        self._left = b""
        self._end: Ending = "clean"
        self._closed = False

    async def read(self, max_bytes: int = 65536) -> bytes:
        if self._closed:
            raise ClosedHere("closed")
        if self._left:
            size = min(self._server.piece, max_bytes)
            found, self._left = self._left[:size], self._left[size:]
            await asyncio.sleep(0)
            return found
        if self._end == "hold":
            self._server.held.set()
            await asyncio.get_running_loop().create_future()
        return b""

    async def write(self, data: bytes) -> None:
        method, target, _ = data.split(b" ", 2)
        assert method == (b"POST" if target.endswith(b"/token") else b"GET")
        assert method == b"POST" or data.endswith(b"\r\n\r\n")
        assert b"Impersonate" not in data
        played = self._server.next(target.decode())
        self._left, self._end = played.raw, played.end

    async def write_eof(self) -> None:
        return None

    async def aclose(self) -> None:
        self._closed = True

    def abort(self, reason: str = "") -> None:
        self._closed = True
