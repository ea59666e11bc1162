"""The first bytes of a stream: the opener's header that names the target, and the agent's answer to it.

Both ends take these bytes off and then step aside: the transport becomes the stream's owner.
Source: docs/wire-protocol.md, "Opening a stream".
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import msgspec

from towline.aio.streams import Broken, EndedThere, StreamError
from towline.aio.transports import TransportStream
from towline.tunnel.errors import TargetRefused, TunnelClosed
from towline.tunnel.mux import Mux
from towline.tunnel.transport import GONE, StreamTransport
from towline.wire import streams
from towline.wire.yamux_model import Stream

P = TypeVar("P", bound=asyncio.BaseProtocol)


class AwaitingAnswer:
    """Owner of a stream that we opened, until the agent's answer is in."""

    __slots__ = ("_buffer", "_mux", "_on_answer", "_transport")

    def __init__(
        self, mux: Mux, transport: StreamTransport, on_answer: Callable[[streams.Answer], None] | None
    ) -> None:
        self._mux = mux
        self._transport = transport
        self._on_answer = on_answer
        self._buffer = b""

    def data_arrived(self, payload: bytes) -> None:
        self._buffer += payload
        try:
            split = streams.split_header(self._buffer)
            if split is None:
                self._mux.yamux.consume(self._transport.stream, len(payload))
                return
            answer = streams.decode_answer(split[0])
        except streams.BadHeader as error:
            self._give_up(Broken(f"the agent's answer cannot be read: {error}"))
            return
        rest = self._buffer[split[1] :]
        self._mux.yamux.consume(self._transport.stream, len(payload) - len(rest))
        if answer.ok:
            self._accepted(answer, rest)
        else:
            self._give_up(TargetRefused(answer.code or "refused", answer.reason))

    def end_arrived(self) -> None:
        self._give_up(EndedThere("the agent ended the stream before it answered"))

    def room_arrived(self) -> None:
        self._transport.room_arrived()

    def lost(self, error: StreamError) -> None:
        self._transport.lost(error)

    def _accepted(self, answer: streams.Answer, rest: bytes) -> None:
        transport = self._transport
        transport.stream.owner = transport
        transport.note("answer", answer)
        if self._on_answer is not None:
            self._on_answer(answer)
        if rest:
            transport.data_arrived(rest)

    def _give_up(self, error: StreamError) -> None:
        self._mux.yamux.reset(self._transport.stream)
        self._mux.schedule()
        self._transport.lost(error)


class TunnelStream(TransportStream):
    """A byte stream through the tunnel; `answer` is what the agent said to its header."""

    @property
    def answer(self) -> streams.Answer:
        answer: streams.Answer = self.transport.get_extra_info("answer")
        return answer


def begin_stream(
    mux: Mux,
    target: streams.Target,
    protocol_factory: Callable[[], asyncio.BaseProtocol],
    first_bytes: bytes,
    *,
    on_answer: Callable[[streams.Answer], None] | None,
    extra: dict[str, Any],
) -> StreamTransport:
    """Open a stream to a target, its header and first bytes sent; the answer comes later."""
    header = streams.encode_header(target)
    stream = mux.open()
    protocol = protocol_factory()
    transport = StreamTransport(mux, stream, protocol, {"target": target, "stream_id": stream.id, **extra})
    stream.owner = AwaitingAnswer(mux, transport, on_answer)
    mux.yamux.write(stream, header + first_bytes)
    protocol.connection_made(transport)
    return transport


class Creates(Protocol):
    """Opens a stream for a protocol at once, as `towline.tunnel.session.Session.create_stream` does."""

    def __call__(
        self,
        target: streams.Target,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        first_bytes: bytes = b"",
        *,
        on_answer: Callable[[streams.Answer], None] | None = None,
    ) -> asyncio.Transport: ...


async def open_answered(create: Creates, target: streams.Target, timeout: float) -> TunnelStream:
    """Open a stream and wait for the answer to it.

    Raises: TargetRefused. TunnelClosed. TimeoutError: no answer within so many seconds. TooManyStreams.
    """
    answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    stream = _AnsweredStream(answered)
    transport = create(target, lambda: stream, on_answer=lambda _: _resolve(answered))
    try:
        async with asyncio.timeout(timeout):
            await answered
    except TimeoutError:
        transport.abort()
        raise TimeoutError(f"the agent did not answer within {timeout:g} seconds") from None
    except asyncio.CancelledError:
        transport.abort()
        raise
    return stream


class _AnsweredStream(TunnelStream):
    """Tells the opener when the stream ends before it was answered."""

    def __init__(self, answered: asyncio.Future[None]) -> None:
        super().__init__()
        self._answered = answered

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if not self._answered.done():
            self._answered.set_exception(exc if isinstance(exc, StreamError) else TunnelClosed("aborted"))


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class IncomingStream:
    """A stream that the control plane opened, seen from the agent: its target, to be accepted or refused.

    Bytes that arrive before the decision wait, one window at most. `on_gone` is called when the opener gives up
    meanwhile, so that dialling can be cancelled.
    """

    __slots__ = ("_buffer", "_decided", "_ended", "_held", "_mux", "_requested", "_stream", "gone", "on_gone", "target")

    def __init__(self, mux: Mux, stream: Stream, requested: Callable[[IncomingStream], None]) -> None:
        self.target: streams.Target
        self.gone: StreamError | None = None
        self.on_gone: Callable[[], None] | None = None
        self._mux = mux
        self._stream = stream
        self._requested: Callable[[IncomingStream], None] | None = requested
        self._buffer = b""
        self._held: deque[bytes] = deque()
        self._decided = False
        self._ended = False

    def __repr__(self) -> str:
        state = "gone" if self.gone else "decided" if self._decided else "waiting"
        return f"<IncomingStream {self._stream.id} {state} {getattr(self, 'target', None)}>"

    @property
    def stream_id(self) -> int:
        return self._stream.id

    def accept(
        self, protocol_factory: Callable[[], P], *, info: dict[str, str] | None = None, have: bool = False
    ) -> tuple[StreamTransport, P]:
        """Answer yes and connect a protocol to the stream.

        Raises: StreamError: the opener has given up.
        """
        self._decide()
        protocol = protocol_factory()
        extra: dict[str, Any] = {"target": self.target, "stream_id": self._stream.id}
        transport = StreamTransport(self._mux, self._stream, protocol, extra)
        transport.write(streams.encode_header(streams.Answer(ok=True, info=info or {}, have=have)))
        self._stream.owner = transport
        protocol.connection_made(transport)
        transport.begin_with(self._held, ended=self._ended)
        return transport, protocol

    def accept_stream(self, *, info: dict[str, str] | None = None, have: bool = False) -> TunnelStream:
        """Answer yes; returns the stream for reading and writing. Raises as `accept`."""
        return self.accept(TunnelStream, info=info, have=have)[1]

    def refuse(self, code: str, reason: str) -> None:
        """Answer no and why; `code` is one of those in `towline.wire.streams.Answer`."""
        if self.gone is not None or self._decided:
            return
        self._decided = True
        mux, stream = self._mux, self._stream
        mux.yamux.write(stream, streams.encode_header(streams.Answer(ok=False, code=code, reason=reason)))
        mux.yamux.finish(stream)
        mux.schedule()
        stream.owner = GONE

    # -- the mux's side ----------------------------------------------------------------------

    def data_arrived(self, payload: bytes) -> None:
        if self._requested is None:
            self._held.append(payload)
            return
        self._buffer += payload
        try:
            split = streams.split_header(self._buffer)
            if split is None:
                self._mux.yamux.consume(self._stream, len(payload))
                return
            self.target = streams.decode_target(split[0])
        except streams.BadHeader as error:
            self.refuse(_refusal_code(error), str(error))
            return
        self._mux.yamux.consume(self._stream, split[1] - len(self._buffer) + len(payload))
        if rest := self._buffer[split[1] :]:
            self._held.append(rest)
        self._buffer = b""
        requested, self._requested = self._requested, None
        requested(self)

    def end_arrived(self) -> None:
        self._ended = True
        if self._requested is not None:
            self.refuse("bad_request", "the stream ended within its header")

    def room_arrived(self) -> None:
        """Nothing is written before the decision."""

    def lost(self, error: StreamError) -> None:
        self.gone = error
        self._held.clear()
        if self.on_gone is not None:
            self.on_gone()

    def _decide(self) -> None:
        if self.gone is not None:
            raise self.gone
        if self._decided:
            raise RuntimeError("the stream was accepted or refused before")
        self._decided = True


def _refusal_code(error: streams.BadHeader) -> str:
    """A well-formed header of a kind that this release does not know is not the sender's mistake."""
    return "unsupported" if isinstance(error.__cause__, msgspec.ValidationError) else "bad_request"
