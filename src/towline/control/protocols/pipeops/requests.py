"""Requests that a PipeOps agent carries as messages: `proxy_request`, its streamed or whole answer, by request id.

The way for agents without yamux, and for what is asked before it is spoken. Answers to ids that nobody waits for are
dropped: `proxy_cancel` cancels nothing, so they keep coming. Source: docs/design/pipeops.md.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Final, Protocol

from towline.aio.streams import Broken, StreamError
from towline.tunnel.errors import TargetRefused
from towline.wire import pipeops_frames as frames
from towline.wire import pipeops_messages as messages

MAX_WAITING: Final = 256
"""Requests of one agent at once: it starts a goroutine for each, and all share one socket."""

MAX_BINARY_BYTES: Final = 8 * 1024 * 1024
"""Largest binary answer that is put together; nothing that we ask for comes in one, unless the agent is older."""

FETCH_TIMEOUT: Final = 25.0
"""Seconds for a whole answer that is fetched: the agent itself gives up after 30."""

MAX_FETCHED_BYTES: Final = 4 * 1024 * 1024
"""Of a whole answer that is fetched."""

Say = Callable[[messages.Message, str], None]
"""Sends a message with a request id."""


class Asker(Protocol):
    """Gets the answer to one request. After `ended` or `failed` nothing follows, unless it `goes_on`."""

    @property
    def goes_on(self) -> bool:
        """The end of the answer is not the end: frames of a WebSocket follow."""

    def answered(self, status: int, headers: messages.Headers) -> None: ...
    def arrived(self, data: bytes) -> None: ...
    def framed(self, kind: int, payload: bytes) -> None:
        """A frame of a WebSocket, by RFC 6455's number of its kind."""

    def ended(self) -> None: ...
    def failed(self, error: StreamError) -> None: ...


class Requests:
    """The requests of one connection that wait for their answers."""

    def __init__(self, say: Say, tally: Counter[str] | None = None) -> None:
        self._say = say
        self._tally: Counter[str] = Counter() if tally is None else tally
        self._waiting: dict[str, Asker] = {}
        self._is_lost = False
        self._count = 0
        self.strays = 0
        """Answers that nobody waits for."""

    def __repr__(self) -> str:
        return f"<Requests {len(self._waiting)} waiting>"

    def __len__(self) -> int:
        return len(self._waiting)

    def begin(self, request: messages.ProxyRequest, asker: Asker) -> str:
        """Send a request; returns its id. Raises: TargetRefused: too many wait, or nothing comes."""
        return self.begin_as(lambda _: request, asker)

    def begin_as(self, make: Callable[[str], messages.Message], asker: Asker) -> str:
        """The same for a message that holds its own id, which `make` gets. Raises: TargetRefused."""
        self._count += 1
        request_id = f"tw-{self._count}"
        self.expect(request_id, asker)
        self._say(make(request_id), request_id)
        return request_id

    def expect(self, request_id: str, asker: Asker) -> None:
        """Have what comes for an id handed to somebody. Raises: TargetRefused: too many wait, or nothing comes."""
        if self._is_lost:
            raise TargetRefused("unreachable", "the agent's connection is gone")
        if len(self._waiting) >= MAX_WAITING:
            raise TargetRefused("busy", f"{MAX_WAITING} requests wait for this agent")
        self._waiting[request_id] = asker

    def forget(self, request_id: str) -> None:
        """Nobody waits for an answer any more. The agent goes on sending it."""
        self._waiting.pop(request_id, None)

    def abandon(self, request_id: str) -> bool:
        """Nobody waits for an answer any more; it keeps its place until the agent has ended it.

        Returns: whether it was still on its way.
        """
        if request_id not in self._waiting:
            return False
        self._waiting[request_id] = _Nobody()
        return True

    def asker(self, request_id: str) -> Asker | None:
        """Return who waits for an id."""
        return self._waiting.get(request_id)

    def take(self, request_id: str, message: messages.Message) -> None:
        """Take a part of an answer."""
        asker = self._waiting.get(request_id)
        if asker is None:
            self._stray()
            return
        match message:
            case messages.ProxyResponseHeader():
                asker.answered(message.status, message.headers or {})
            case messages.ProxyResponseChunk():
                asker.arrived(message.data)
            case messages.ProxyResponseEnd():
                self._ended(request_id, asker)
            case messages.ProxyResponseAbort() | messages.ProxyError():
                self._failed(request_id, asker, message.error)
            case messages.ProxyResponse():
                self.take_whole(request_id, message)
            case messages.WebsocketData():
                asker.framed(*frames.split_websocket(message.data, message.message_type))
            case messages.WebsocketClose():
                self.forget(request_id)
                asker.ended()

    def take_whole(self, request_id: str, answer: messages.ProxyResponse | frames.ResponseFrame) -> None:
        """Take a whole answer."""
        asker = self._waiting.get(request_id)
        if asker is None:
            self._stray()
            return
        try:
            body = frames.whole_body(answer)
        except frames.BadFrame as error:
            self._failed(request_id, asker, str(error))
            return
        asker.answered(answer.status, answer.headers or {})
        if body:
            asker.arrived(body)
        self._ended(request_id, asker)

    def lose(self, error: StreamError) -> None:
        """The connection is gone: who waits is told, and nobody can wait any more."""
        self._is_lost = True
        waiting, self._waiting = self._waiting, {}
        for asker in waiting.values():
            asker.failed(error)

    def _stray(self) -> None:
        self.strays += 1
        self._tally["stray_answer"] += 1

    def _ended(self, request_id: str, asker: Asker) -> None:
        asker.ended()
        if not asker.goes_on:
            self.forget(request_id)

    def _failed(self, request_id: str, asker: Asker, reason: str) -> None:
        self.forget(request_id)
        asker.failed(TargetRefused("unreachable", f"the agent says: {reason[:300]}"))


class _Nobody:
    """Hears the rest of an answer. Implements `Asker`."""

    goes_on = False

    def answered(self, status: int, headers: messages.Headers) -> None:
        """Too late."""

    def arrived(self, data: bytes) -> None:
        """Dropped."""

    def framed(self, kind: int, payload: bytes) -> None:
        """Dropped."""

    def ended(self) -> None:
        """Its place is free."""

    def failed(self, error: StreamError) -> None:
        """Its place is free."""


class Fetch:
    """A whole answer, awaited. Implements `Asker`."""

    goes_on = False

    def __init__(self) -> None:
        self.status = 0
        self.body = b""
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def answered(self, status: int, headers: messages.Headers) -> None:
        self.status = status

    def arrived(self, data: bytes) -> None:
        if len(self.body) + len(data) > MAX_FETCHED_BYTES:
            self.failed(Broken(f"an answer of more than {MAX_FETCHED_BYTES} bytes"))
        else:
            self.body += data

    def framed(self, kind: int, payload: bytes) -> None:
        """Nothing that is fetched speaks WebSocket."""

    def ended(self) -> None:
        if not self.done.done():
            self.done.set_result(None)

    def failed(self, error: StreamError) -> None:
        if not self.done.done():
            self.done.set_exception(error)


async def fetch(requests: Requests, request: messages.ProxyRequest) -> tuple[int, bytes]:
    """Ask for a whole answer; returns its status and body. Raises: StreamError. TimeoutError."""
    asker = Fetch()
    request_id = requests.begin(request, asker)
    try:
        async with asyncio.timeout(FETCH_TIMEOUT):
            await asker.done
    finally:
        requests.forget(request_id)
    return asker.status, asker.body
