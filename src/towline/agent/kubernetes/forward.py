"""Streams to the API server: the two ends of one, joined by callbacks, and the server of `Kube` targets.

As in `aio/bridge.py` no task and no buffer stands in the way of the bytes, and an end that is full makes the other
one stop reading. What may pass is decided by the `Conversation` between them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from towline.agent.kubernetes import upstream
from towline.agent.kubernetes.conversation import Conversation, Moved, State
from towline.agent.kubernetes.credentials import ApiServer, Credentials
from towline.agent.kubernetes.gate import Gate, admit, answer
from towline.agent.policy import KubernetesRules, LocalPolicy
from towline.aio.bridge import Bridge, join, until_over
from towline.aio.clock import REAL_CLOCK, Clock, Timer
from towline.aio.streams import StreamError
from towline.aio.tls import keep_paused_bytes
from towline.tunnel.opening import IncomingStream
from towline.wire import streams
from towline.wire.http1 import HeadError

POLICY_INTERVAL = 1.0
"""Seconds that a policy holds: its file is not read for each of a thousand requests in a second."""

SILENCE_TIMEOUT = 1.0
"""Seconds without a byte of the API server after which a stream whose opener has ended its side is over.

TLS cannot be closed one way here, and an API server takes such an end as the end of the request or of the shell anyway.
"""

DRAIN_TIMEOUT = 5.0
"""Seconds that the opener has to take an answer of the agent's own and end its side; then the stream is reset."""

RECHECK_INTERVAL = 5.0
"""Seconds between two looks at what runs: a policy that was narrowed ends watches and shells within ten."""

Dial = Callable[[ApiServer, Callable[[], "FarEnd"]], Awaitable[tuple[asyncio.Transport, "FarEnd"]]]

_log = structlog.get_logger("towline.agent")


class KubeServer:
    """Serves `Kube` targets: one connection to the API server for each stream."""

    def __init__(
        self,
        credentials: Credentials,
        policy: Callable[[], LocalPolicy],
        *,
        clock: Clock = REAL_CLOCK,
        dial: Dial = upstream.dial,
    ) -> None:
        self._credentials = credentials
        self._read_policy = policy
        self._clock = clock
        self._dial = dial
        self._policy: LocalPolicy | None = None
        self._policy_at = 0.0
        self._running: dict[FarEnd, Gate] = {}
        self._timer: Timer | None = None

    async def serve(self, incoming: IncomingStream, target: streams.Kube) -> None:
        """Join a stream to the API server. Raises: Refused, PolicyRefused, KubernetesError."""
        identity = admit(target)
        self._rules()
        server = self._credentials.current()
        gate = Gate(identity, server, self._credentials.current, self._rules, self._credentials.forget)
        conversation = Conversation(gate.judge, gate.not_taken, server.origins)
        _, far = await self._dial(server, lambda: FarEnd(incoming, conversation, self._clock))
        self._running[far] = gate
        try:
            self._look_later()
            await until_over(*far.both)
        finally:
            del self._running[far]
            far.both = ()

    def _look_later(self) -> None:
        if self._timer is None and self._running:
            self._timer = self._clock.call_later(RECHECK_INTERVAL, self._recheck)

    def _recheck(self) -> None:
        """Cut what the policy would not let begin now."""
        self._timer = None
        for far, gate in list(self._running.items()):
            if far.is_busy and (reason := gate.withdrawn()):
                far.cut(reason)
        self._look_later()

    def _rules(self) -> KubernetesRules:
        """Return the rules in force. Raises: PolicyRefused."""
        now = self._clock.monotonic()
        if self._policy is None or now - self._policy_at >= POLICY_INTERVAL:
            self._policy, self._policy_at = self._read_policy(), now
        return self._policy.require_kubernetes()


class NearEnd(Bridge):
    """The end towards the opener."""

    __slots__ = ("_clock", "_state", "_timer", "conversation")

    peer: FarEnd | None

    def __init__(self, conversation: Conversation, clock: Clock) -> None:
        super().__init__()
        self.conversation = conversation
        self._clock = clock
        self._state = conversation.state
        self._timer: Timer | None = None

    def data_received(self, data: bytes) -> None:
        far = self.peer
        if far is None:
            return  # what the opener still sends after our last answer
        if self._state is State.PIPE:
            far.transport.write(data)
            return
        try:
            self.move(self.conversation.from_opener(data))
        except HeadError as error:
            self._refuse(error)

    def eof_received(self) -> bool:
        """The opener asks nothing more. Returns: whether what it asked for may still come."""
        self._ended = True
        far = self.peer
        if far is None or far.transport.is_closing() or self.conversation.is_quiet:
            return False
        if far.transport.can_write_eof():
            far.transport.write_eof()
        else:
            self._await_silence(far)
        return True

    def pause_writing(self) -> None:
        if self.peer is not None:
            self.peer.is_held = True
        super().pause_writing()

    def resume_writing(self) -> None:
        if self.peer is not None:
            self.peer.is_held = False
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel()
        far = self.peer
        if far is not None and self._state is not State.PIPE:
            exc = exc or ConnectionAbortedError()  # nothing that was asked is wanted any more
        super().connection_lost(exc)

    def move(self, moved: Moved) -> None:
        """Write what passes, and follow the conversation's state."""
        far = self.peer
        assert far is not None
        if moved.to_api:
            far.transport.write(moved.to_api)
        if moved.to_opener:
            self.transport.write(moved.to_opener)
        if self._state is not self.conversation.state:
            self._state = self.conversation.state
            self._follow(far)

    def drop(self, error: HeadError, side: str) -> None:
        """Reset both sides: what one of them sent cannot be followed."""
        _log.warning("stream broken off", side=side, code=error.code, reason=str(error))
        self.transport.abort()
        if self.peer is not None:
            self.peer.transport.abort()

    def _follow(self, far: FarEnd) -> None:
        if self._state is State.SWITCHING:
            self.transport.pause_reading()
        elif self._state is State.PIPE:
            if not far.is_full:
                self.transport.resume_reading()
        else:
            self._end(far)

    def _end(self, far: FarEnd) -> None:
        """Let go of the API server; end our side towards the opener, and wait for his end so that he can read."""
        self.peer = far.peer = None
        far.transport.abort()
        self.transport.resume_reading()
        if self._ended:
            self.transport.close()
            return
        self.transport.write_eof()
        self._timer = self._clock.call_later(DRAIN_TIMEOUT, self.transport.abort)

    def _refuse(self, error: HeadError) -> None:
        far = self.peer
        if far is None or not self.conversation.is_quiet:
            self.drop(error, "opener")
            return
        _log.warning("request refused", code=error.code, reason=str(error))
        self.conversation.state = self._state = State.ENDING
        self.transport.write(answer(error.status, str(error), b"", False, True))
        self._end(far)

    def _await_silence(self, far: FarEnd) -> None:
        far.was_heard = False
        self._timer = self._clock.call_later(SILENCE_TIMEOUT, self._judge_silence)

    def _judge_silence(self) -> None:
        far = self.peer
        if far is None or far.is_lost:
            return
        if far.was_heard or far.is_held or far.transport.get_write_buffer_size():
            self._await_silence(far)
        else:
            self.transport.close()

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class FarEnd(Bridge):
    """The end at the API server. It accepts the stream the moment it is connected, so that no byte arrives before."""

    __slots__ = ("_clock", "_conversation", "_incoming", "both", "is_full", "is_held", "was_heard")

    peer: NearEnd | None

    def __init__(self, incoming: IncomingStream, conversation: Conversation, clock: Clock) -> None:
        super().__init__()
        self._incoming = incoming
        self._conversation = conversation
        self._clock = clock
        self.both: tuple[Bridge, ...] = (self,)
        """Emptied at last: a circle would keep the connection's buffers until the collector looks at old objects."""
        self.is_full = False
        """More waits here than the API server takes."""
        self.is_held = False
        """The opener does not take what has come."""
        self.was_heard = False

    @property
    def is_busy(self) -> bool:
        """True while a request runs."""
        return self.peer is not None and not self._conversation.is_quiet

    def cut(self, reason: str) -> None:
        """End both sides in the middle of a request, so that it never looks whole."""
        _log.info("request cut", reason=reason)
        for end in self.both:
            end.transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        keep_paused_bytes(transport)
        try:
            _, near = self._incoming.accept(lambda: NearEnd(self._conversation, self._clock))
        except StreamError:
            self.transport.abort()  # the opener has given up meanwhile
            return
        join(self, near)
        self.both = (self, near)

    def data_received(self, data: bytes) -> None:
        near = self.peer
        if near is None:
            return
        self.was_heard = True
        if self._conversation.state is State.PIPE:
            near.transport.write(data)
            return
        try:
            near.move(self._conversation.from_api(data))
        except HeadError as error:
            near.drop(error, "api")

    def eof_received(self) -> bool:
        """The API server has ended: what it sent is passed on, then both sides are closed."""
        return False

    def pause_writing(self) -> None:
        self.is_full = True
        super().pause_writing()

    def resume_writing(self) -> None:
        self.is_full = False
        if self._conversation.state is not State.SWITCHING:
            super().resume_writing()
