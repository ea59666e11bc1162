"""Writing messages on a PipeOps socket, for everything that has something to say there."""

from __future__ import annotations

from towline.agent.protocols.line import Line
from towline.aio.clock import REAL_CLOCK, Clock
from towline.wire import pipeops, rfc3339
from towline.wire.pipeops_messages import Message


class Voice:
    """The agent's end of one connection."""

    def __init__(self, line: Line, *, clock: Clock = REAL_CLOCK) -> None:
        self.line = line
        self.is_multiplexed = False
        """Binary messages are yamux: nothing else may be one any more."""
        self._clock = clock

    async def say(self, message: Message, request_id: str = "") -> None:
        """Send a message; waits while the line is full. Raises: TunnelClosed."""
        await self.line.send(pipeops.encode_as_agent(message, request_id=request_id, timestamp=self.now()))

    def now(self) -> str:
        return rfc3339.write(self._clock.now())
