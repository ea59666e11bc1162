"""One PipeOps WebSocket with a clock and a line that tests hold in their hands."""

from __future__ import annotations

import json
from typing import Any

from towline.aio.clock import SimulatedClock
from towline.aio.tasks import TaskOwner
from towline.control.protocols.admission import Recognised
from towline.control.protocols.pipeops.connection import Connection
from towline.tunnel.errors import Closed
from towline.tunnel.websocket import HEADROOM
from towline.wire import pipeops

ACK = b'{"type":"gateway_hello_ack","payload":{"use_yamux":true}}'


class Line:
    """A channel that keeps what is sent."""

    round_trip = 0.0

    def __init__(self) -> None:
        self.paused = False
        self.closed: Closed | None = None
        self.said: list[dict[str, Any]] = []
        self.bytes = bytearray()
        self.sizes: list[int] = []
        """Of binary messages."""

    @property
    def is_open(self) -> bool:
        return self.closed is None

    def listen(self, events: Any) -> None:
        self.events = events

    def send_text(self, text: bytes) -> None:
        assert not self.paused
        self.said.append(json.loads(text))

    def send_binary(self, buffer: bytearray) -> None:
        self.bytes += buffer[HEADROOM:]
        self.sizes.append(len(buffer) - HEADROOM)

    def close(self, code: int, reason: str) -> None:
        self.closed = self.closed or Closed(code, reason)

    def abort(self, reason: str) -> None:
        self.close(1006, reason)

    def types(self) -> list[str]:
        said, self.said = self.said, []
        return [message["type"] for message in said]


class Bench:
    """A connection on such a line."""

    def __init__(self, owner: TaskOwner, *, is_gateway: bool = False) -> None:
        self.line = Line()
        self.clock = SimulatedClock()
        self.introduced: list[pipeops.Envelope | None] = []
        known = Recognised("ctk_1", "org_1", "pipeops", shared=False)
        self.connection = Connection(
            self.line,
            known,
            self._introduce,
            address="192.0.2.1",
            is_gateway=is_gateway,
            owner=owner,
            clock=self.clock,
        )

    async def _introduce(self, connection: Connection, envelope: pipeops.Envelope | None) -> None:
        self.introduced.append(envelope)
