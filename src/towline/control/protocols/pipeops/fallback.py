"""The API server behind a PipeOps agent without yamux: lines that take HTTP/1.1 requests, each carried as a message.

What speaks on a line is the stand-in, which has judged the request and put on whose it is. Here it becomes a
`proxy_request`, and the parts of its answer become chunks; upgrades are `fallback_sockets.py`'s. The agent cuts what
lasts for 30 s, knows no flow control, and cancels nothing: so a reader that falls behind loses its request, and what
nobody waits for any more keeps its place until the agent has ended it. Source: docs/design/pipeops.md, "Without yamux".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from towline.aio.clock import Clock
from towline.aio.sockets import Line, pair_with
from towline.control.protocols.pipeops.request_line import RequestLine
from towline.control.protocols.pipeops.requests import Asker, Requests
from towline.control.protocols.pipeops.translation import CannotCarry, Carried
from towline.tunnel.errors import TargetRefused
from towline.wire import pipeops_messages as messages

UNREAD_BYTES: Final = 16 * 1024 * 1024
"""Of one answer that its reader has not taken; then the request ends."""

FAIR_UNREAD_BYTES: Final = 256 * 1024
"""Of one answer, whatever others hold."""

ALL_UNREAD_BYTES: Final = 64 * 1024 * 1024
"""Of all answers of one agent; whose answer holds more than its fair share then, ends."""

ABANDONED_TIMEOUT: Final = 60.0
"""Seconds that a request which nobody waits for keeps its place: the agent ends each after 30."""


class Speaker(Protocol):
    """What a connection of an agent is to its lines; `connection.Connection`."""

    requests: Requests

    def say(self, message: messages.Message, *, request_id: str = "") -> None:
        """Send a message."""

    @property
    def is_full(self) -> bool:
        """More waits than the agent's line takes."""


class Fallback:
    """The lines of one connection."""

    def __init__(self, speaker: Speaker, clock: Clock) -> None:
        self.speaker = speaker
        self.clock = clock
        self.lines: set[RequestLine] = set()
        self.bodies_bytes = 0
        """Of bodies that are gathered, or on their way."""

    def __repr__(self) -> str:
        return f"<Fallback {len(self.lines)} lines>"

    async def line(self) -> Line:
        """Make a line. Raises: OSError."""
        near, _, _ = await pair_with(lambda: RequestLine(self))
        return Line(near, is_plain=True)

    def begin(self, request: messages.ProxyRequest, asker: Asker) -> str:
        """Ask the agent; returns the id. Raises: CannotCarry: too much waits for it, or it is gone."""
        return self._begin(lambda _: request, asker)

    def open(self, asked: Carried, protocol: str, asker: Asker) -> str:
        """Open a WebSocket; returns the id. Raises: CannotCarry: as `begin`."""
        return self._begin(lambda stream_id: asked.websocket(stream_id, protocol), asker)

    def _begin(self, make: Callable[[str], messages.Message], asker: Asker) -> str:
        try:
            return self.speaker.requests.begin_as(make, asker)
        except TargetRefused as error:
            raise CannotCarry(429 if error.code == "busy" else 502, error.reason) from error

    def abandon(self, request_id: str) -> bool:
        """Nobody waits for a request any more: its place is free when the agent has ended it.

        Returns: whether it was still on its way.
        """
        if not self.speaker.requests.abandon(request_id):
            return False
        self.clock.call_later(ABANDONED_TIMEOUT, self.speaker.requests.forget, request_id)
        return True

    def is_behind(self, unread: int) -> bool:
        """Whether a line with so many unread bytes holds too much."""
        if unread <= FAIR_UNREAD_BYTES:
            return False
        return unread > UNREAD_BYTES or sum(line.unread for line in self.lines) > ALL_UNREAD_BYTES

    def close(self) -> None:
        """End every line."""
        for line in list(self.lines):
            line.cut("the older agent's connection is gone")
