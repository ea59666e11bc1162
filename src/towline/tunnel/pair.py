"""Two multiplexers joined in memory: streams between two halves of one process, as if a line lay between them.

For the control plane that runs the agent's own code in place of an older agent: what opens a stream, and what serves
it, are the same as over a link.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from towline.aio.clock import REAL_CLOCK, Clock
from towline.aio.streams import StreamError
from towline.tunnel.errors import TunnelClosed
from towline.tunnel.mux import Mux
from towline.tunnel.opening import IncomingStream, begin_stream
from towline.tunnel.transport import StreamTransport
from towline.tunnel.websocket import HEADROOM, Channel
from towline.wire import streams
from towline.wire.yamux_model import Stream


class _End:
    """What a multiplexer sees of its line: always room, no distance. Bytes arrive in the next turn of the loop."""

    paused = False
    round_trip = 0.0

    def __init__(self) -> None:
        self.is_open = True
        self.peer: Mux | None = None
        self._loop = asyncio.get_running_loop()

    def send_binary(self, buffer: bytearray) -> None:
        self._loop.call_soon(self._arrive, memoryview(buffer)[HEADROOM:])

    def _arrive(self, data: memoryview) -> None:
        if self.is_open and self.peer is not None:
            self.peer.receive(data)


class Pair:
    """The opener's half and the server's half. Credit bounds what waits in each stream.

    Args: take: serves each stream that is opened, as the handler of a session's `on_stream` does.
    """

    def __init__(self, take: Callable[[IncomingStream], None], *, clock: Clock = REAL_CLOCK) -> None:
        self._ends = (_End(), _End())
        self._take = take
        self._near = self._mux(0, is_client=False, clock=clock)
        self._far = self._mux(1, is_client=True, clock=clock)
        self._ends[0].peer, self._ends[1].peer = self._far, self._near

    def __repr__(self) -> str:
        return f"<Pair of {self._near!r}>"

    @property
    def stream_count(self) -> int:
        return self._near.yamux.stream_count

    def create_stream(
        self,
        target: streams.Target,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        first_bytes: bytes = b"",
        *,
        on_answer: Callable[[streams.Answer], None] | None = None,
    ) -> StreamTransport:
        """Open a stream, as a session does. Raises: TunnelClosed, TooManyStreams."""
        if not self._ends[0].is_open:
            raise TunnelClosed("the older agent's connection is gone")
        return begin_stream(self._near, target, protocol_factory, first_bytes, on_answer=on_answer, extra={})

    def close(self, error: StreamError) -> None:
        """End every stream, on both sides."""
        for end, mux in zip(self._ends, (self._near, self._far), strict=True):
            end.is_open = False
            end.peer = None
            mux.lose(error)

    def _mux(self, place: int, *, is_client: bool, clock: Clock) -> Mux:
        return Mux(
            cast(Channel, self._ends[place]),
            is_client=is_client,
            accept=self._opened if is_client else None,
            failed=lambda reason: self.close(TunnelClosed(reason)),
            clock=clock,
        )

    def _opened(self, stream: Stream) -> IncomingStream:
        return IncomingStream(self._far, stream, self._take)
