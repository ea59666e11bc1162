"""One WebSocket of a PipeOps agent: its messages to whom they concern, yamux beside them, and its end.

A connection begins with nothing but a token; who speaks is said by `register`, or by a `heartbeat` after a reconnect.
Those two take a database and wait in a queue; everything else is taken at once, in order. Who may come in is decided
in `office.py`, what an admitted agent is to the rest in `session.py`.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from towline.aio.clock import Clock, Timer
from towline.aio.tasks import TaskOwner
from towline.control.logging import get_logger
from towline.control.protocols.admission import Recognised
from towline.control.protocols.pipeops.channel import PipeOpsChannel
from towline.control.protocols.pipeops.requests import MAX_BINARY_BYTES, Requests
from towline.tunnel.errors import INTERNAL_ERROR, POLICY_VIOLATION, TOO_BIG, Closed, TunnelClosed
from towline.tunnel.mux import Mux
from towline.wire import pipeops, pipeops_frames
from towline.wire import pipeops_messages as messages

MAX_STRIKES: Final = 64
"""Messages of one connection that cannot be read, or that say what they must not: a bug survives, a probe does not."""

MAX_CONTROL_BYTES: Final = 256 * 1024
"""Largest message that is no part of an answer: a registration is 1 KiB, a list of routes some 100 KiB."""

MAX_INTRODUCTIONS: Final = 16
"""Introductions that wait for the database; an agent sends one, and a heartbeat each 30 s."""

MAX_OUTBOX: Final = 1024
"""Messages that wait for a line that is full; beyond it the agent does not read, and is dropped."""

YAMUX_INTERVAL: Final = 30.0
"""Seconds between two pings of yamux's own: an agent whose session died neither says so nor closes the WebSocket."""

YAMUX_TIMEOUT: Final = 40.0
"""Seconds for the answer: right after a reconnect an agent can be mute for 35."""

PROBE: Final = "tw-probe"
PROBE_INTERVAL: Final = 5.0
"""Seconds until an agent that has not answered is asked again."""

YAMUX_PATIENCE: Final = 5.0
"""Seconds for the answer to the offer of yamux, which comes at once or never; a later one is taken all the same."""

OFFER: Final = "gateway_hello"
"""The type of the offer, by which an agent that does not know it says so."""

CANNOT_READ: Final = "the message cannot be read"
"""Never says more: agents act on the words of an error."""

ANSWERS: Final = (
    messages.ProxyResponseHeader,
    messages.ProxyResponseChunk,
    messages.ProxyResponseEnd,
    messages.ProxyResponseAbort,
    messages.ProxyResponse,
    messages.ProxyError,
    messages.WebsocketData,
    messages.WebsocketClose,
)
"""What belongs to a request of ours, by its id."""

_log = get_logger("pipeops")


class Resident(Protocol):
    """What an admitted agent is; `session.PipeOpsSession`."""

    def took(self, envelope: pipeops.Envelope) -> None:
        """A message that is the session's business."""

    def yamux_changed(self) -> None:
        """Streams can be opened from now on, or cannot any more."""

    def ended(self, closed: Closed) -> None:
        """The connection is gone."""


class Connection:
    """See the module. Implements `channel.Events`.

    Args: introduce: finds out who opened it (None), or who sent a `register` or a first `heartbeat`, and answers that.
        is_gateway: the agent came in gateway mode: it can never be told to register again.
        owner: holds the task of introductions. tally: counts what happens, for all connections; `metrics.EVENTS`.
    """

    def __init__(
        self,
        channel: PipeOpsChannel,
        known: Recognised,
        introduce: Callable[[Connection, pipeops.Envelope | None], Awaitable[None]],
        *,
        address: str,
        is_gateway: bool,
        owner: TaskOwner,
        clock: Clock,
        tally: Counter[str] | None = None,
    ) -> None:
        self.channel = channel
        self.tally: Counter[str] = Counter() if tally is None else tally
        self.known = known
        self.address = address
        self.is_gateway = is_gateway
        self.session: Resident | None = None
        self.external_id = ""
        """What the agent calls itself; empty until it said so."""
        self.mux: Mux | None = None
        self.declines_yamux = False
        """The offer was not answered."""
        self.requests = Requests(lambda message, request_id: self.say(message, request_id=request_id), self.tally)
        self.strikes = 0
        self._introduce = introduce
        self._owner = owner
        self._clock = clock
        self._introductions: deque[pipeops.Envelope | None] = deque()
        self._introducing = False
        self._outbox: deque[bytes] = deque()
        self._binary = bytearray()
        self._offered = False
        self._had_yamux = False
        self._heard_yamux = False
        self._timer: Timer | None = None
        self._was_open = False
        channel.listen(self)

    def __repr__(self) -> str:
        yamux = "yamux" if self.mux is not None else "no yamux"
        return f"<Connection of {self.external_id or 'a stranger'}, {yamux}, {self.channel!r}>"

    def opened(self) -> None:
        """The WebSocket is open: an agent that comes back may be known by its token alone."""
        self._was_open = True
        self.tally["opened"] += 1
        self._introduce_soon(None)

    # -- for the layer above -----------------------------------------------------------------

    def say(self, message: messages.Message, *, request_id: str = "") -> None:
        """Send a message, after those that wait for room. Nothing happens when the connection is gone."""
        if not self.channel.is_open:
            return
        text = pipeops.encode(message, request_id=request_id)
        if not self.channel.paused:
            self.channel.send_text(text)
            return
        self._outbox.append(text)
        if len(self._outbox) > MAX_OUTBOX:
            self.channel.abort("the agent does not read")

    def offer_yamux(self) -> None:
        """Ask the agent to speak yamux; once, until the session that comes of it has died."""
        if not self._offered:
            self._offered = True
            self._stop_timer()
            self.say(messages.GatewayHello(use_yamux=True))
            self._timer = self._clock.call_later(YAMUX_PATIENCE, self._declined)

    @property
    def is_full(self) -> bool:
        """More waits than the line takes."""
        return self.channel.paused

    def probe(self) -> None:
        """Offer yamux as soon as the agent answers: in its first moments it drops what it is told."""
        if self.channel.is_open and not self._offered:
            self.say(messages.Ping(), request_id=PROBE)
            self._timer = self._clock.call_later(PROBE_INTERVAL, self.probe)

    def close(self, code: int, reason: str) -> None:
        """Close the WebSocket. Every code makes the agent come back: only a status at its upgrade stops it."""
        self.channel.close(code, reason)

    def strike(self, why: str) -> None:
        """Note something that must not be."""
        self.strikes += 1
        self.tally["message_refused"] += 1
        _log.warning("message refused", agent=self.external_id[:64], why=why[:300])
        if self.strikes > MAX_STRIKES:
            self.close(POLICY_VIOLATION, "too many messages that cannot be read")

    # -- what the channel calls ----------------------------------------------------------------

    def text_arrived(self, text: bytes) -> None:
        try:
            envelope = pipeops.decode(text)
        except pipeops.BadMessage as error:
            self.say(messages.Error(error=CANNOT_READ), request_id=error.request_id[:200])
            self.strike(str(error))
            return
        if len(text) > MAX_CONTROL_BYTES and not isinstance(envelope.message, ANSWERS):
            self.strike(f"a message of {len(text)} bytes; the limit is {MAX_CONTROL_BYTES}")
            return
        self._take(envelope)

    def binary_arrived(self, data: memoryview) -> None:
        if self.mux is not None:
            self.mux.receive(data)
        elif len(self._binary) + len(data) > MAX_BINARY_BYTES:
            self.close(TOO_BIG, f"a binary message over {MAX_BINARY_BYTES} bytes")
        elif not self._had_yamux:  # else it is the rest of a session that was given up
            self._binary += data

    def binary_ended(self) -> None:
        data, self._binary = bytes(self._binary), bytearray()
        if not data:
            return
        try:
            frame = pipeops_frames.decode_response(data)
        except pipeops_frames.BadFrame as error:
            self.strike(f"a binary message: {error}")
            return
        self.requests.take_whole(frame.request_id, frame)

    def writable(self) -> None:
        while self._outbox and not self.channel.paused:
            self.channel.send_text(self._outbox.popleft())
        if self.mux is not None:
            self.mux.flush()

    def channel_closed(self, closed: Closed) -> None:
        self.tally["closed"] += self._was_open
        self._drop_yamux(f"tunnel closed: {closed}")
        self.requests.lose(TunnelClosed(f"tunnel closed: {closed}"))
        self._outbox.clear()
        self._introductions.clear()
        if self.session is not None:
            self.session.ended(closed)

    # -- messages ------------------------------------------------------------------------------

    def _take(self, envelope: pipeops.Envelope) -> None:
        match envelope.message:
            case messages.Register():
                self._introduce_soon(envelope)
            case messages.Heartbeat() if self.session is None:
                self._introduce_soon(envelope)
            case message if isinstance(message, ANSWERS):
                self.requests.take(envelope.stream, message)
            case messages.GatewayHelloAck():
                self._begin_yamux(envelope.message.use_yamux)
            case messages.Pong() if envelope.request_id == PROBE:
                self.offer_yamux()
            case messages.ProtocolFallback(unknown_type=unknown) if unknown == OFFER:
                self._declined()
            case messages.Ping():
                self.say(messages.Pong(), request_id=envelope.request_id)
            case _ if self.session is not None:
                self.session.took(envelope)
            case _:
                self.tally["message_ignored"] += 1

    def _introduce_soon(self, envelope: pipeops.Envelope | None) -> None:
        self._introductions.append(envelope)
        if len(self._introductions) > MAX_INTRODUCTIONS:
            self.close(POLICY_VIOLATION, "too many introductions")
        elif not self._introducing and not self._owner.closed:
            self._introducing = True
            self._owner.spawn(f"introductions from {self.address}", self._introduce_all())

    async def _introduce_all(self) -> None:
        try:
            while self._introductions and self.channel.is_open:
                await self._introduce(self, self._introductions.popleft())
        except Exception:
            # The agent waits for an answer that will not come: coming back is all that helps it.
            _log.exception("introduction failed", address=self.address)
            self.close(INTERNAL_ERROR, "the server could not look the agent up")
        finally:
            self._introducing = False

    # -- yamux -----------------------------------------------------------------------------------

    def _begin_yamux(self, agreed: bool) -> None:
        if not self._offered or not agreed or self.mux is not None:
            self.strike("an answer to an offer that was not made")
            return
        self._binary.clear()
        self._stop_timer()
        self.declines_yamux = False
        self.mux = Mux(self.channel, is_client=False, accept=None, failed=self._yamux_broken, clock=self._clock)
        self.mux.on_pong = self._yamux_heard
        self._had_yamux = self._heard_yamux = True
        self.tally["yamux_began"] += 1
        self._watch_yamux()
        if self.session is not None:
            self.session.yamux_changed()

    def _declined(self) -> None:
        """The agent does not speak yamux, as far as can be told."""
        if self.mux is not None or not self._offered or self.declines_yamux:
            return
        self._stop_timer()
        self.declines_yamux = True
        if self.session is not None and self.channel.is_open:
            self.session.yamux_changed()

    def _yamux_heard(self) -> None:
        self._heard_yamux = True

    def _watch_yamux(self) -> None:
        """Ask whether the agent's session is alive; one that did not answer is given up, and yamux offered anew."""
        if self.mux is None:
            return
        if not self._heard_yamux:
            self.tally["yamux_died"] += 1
            self._drop_yamux("the agent's yamux session died")
            self.offer_yamux()
            return
        self._heard_yamux = False
        self.mux.yamux.ping(1)
        self.mux.schedule()
        self._timer = self._clock.call_later(max(YAMUX_INTERVAL, YAMUX_TIMEOUT), self._watch_yamux)

    def _drop_yamux(self, why: str) -> None:
        mux, self.mux = self.mux, None
        self._offered = False
        self._stop_timer()
        if mux is not None:
            mux.lose(TunnelClosed(why))
            if self.session is not None and self.channel.is_open:
                self.session.yamux_changed()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _yamux_broken(self, reason: str) -> None:
        """Bytes that are no yamux: where the next frame begins is lost, and only a new WebSocket helps."""
        self.close(POLICY_VIOLATION, reason)
