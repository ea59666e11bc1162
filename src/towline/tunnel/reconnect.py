"""Keeps an agent's link up for ever: server addresses in turn, back-off, a watchdog, and the words that end it.

What travels on a link is not known here. Only a final word of the server, or a link that hangs again and again, ends
`run`; everything else is another attempt. Source: design.md, "Final words" and "Liveness".
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import structlog

from towline.aio.backoff import Backoff
from towline.aio.clock import REAL_CLOCK, Clock
from towline.aio.tasks import TaskOwner
from towline.tunnel.dial import Endpoint, Route, dial
from towline.tunnel.errors import ABNORMAL_CLOSE, Closed, LinkDown, ProtocolFailed
from towline.tunnel.handshake import Signer, enter
from towline.tunnel.session import LinkSession
from towline.wire import link

SILENT_INTERVALS = 3
"""Heartbeats without an answer after which the link is torn down, even while pings are answered: something between,
or a server that is stuck, may well keep a socket alive."""

MAX_HANGS = 5
"""Links in a row that hung before the agent gives up and lets its supervisor start it anew."""

ATTEMPT_TIMEOUT = 120.0
"""Seconds for one attempt in sum; its steps have their own, so that reaching this one means that something is stuck."""

_log = structlog.get_logger("towline.link")

Dialler = Callable[[Endpoint, Route], Awaitable[LinkSession]]
Connected = Callable[[LinkSession, link.Welcome], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Ending:
    """Why the agent stopped trying. `final`: the server said so; else the link hung MAX_HANGS times."""

    reason: str
    final: bool


@dataclass(slots=True)
class LinkStatus:
    """What is known about the link, for heartbeats and for `towline agent doctor`."""

    server: str = ""
    """The address in use, or tried last."""
    connected: bool = False
    connects: int = 0
    hangs: int = 0
    """Hangs in a row."""
    last_error: str = ""
    """Why the last link, or attempt, ended."""
    last_code: str = ""
    """The same as a stable word: what the server answered, or the hop that failed."""
    last_hint: str = ""
    """What an operator can do about it."""
    attempts: int = 0
    """In a row that brought no link up."""
    next_attempt_at: float = 0.0
    """Seconds since the epoch; 0 while none is waited for."""

    def failed(self, error: LinkDown) -> None:
        """Note why an attempt failed."""
        self.last_error, self.last_hint = str(error), error.hint
        self.last_code = getattr(error, "code", error.hop)

    @property
    def reconnects(self) -> int:
        return max(0, self.connects - 1)


class LinkKeeper:
    """Brings links up one after another.

    Args: addresses, route: asked before each attempt, since the server may change them in-band. connected: called
    with a session that has passed the handshake; it starts the session's handlers, and sends heartbeats until
    `on_close`. When it raises, the link is torn down, the error logged, and the next attempt made.
    """

    def __init__(
        self,
        *,
        addresses: Callable[[], Sequence[str]],
        route: Callable[[], Route],
        signer: Signer,
        connected: Connected,
        owner: TaskOwner,
        backoff: Backoff | None = None,
        clock: Clock = REAL_CLOCK,
        dialler: Dialler | None = None,
        heartbeat_interval: float = 30.0,
    ) -> None:
        self.status = LinkStatus()
        self.heartbeat_interval = heartbeat_interval
        """Seconds; the server's settings may change it."""
        self.session: LinkSession | None = None
        """The link that is up; None while there is none."""
        self._addresses = addresses
        self._route = route
        self._signer = signer
        self._connected = connected
        self._owner = owner
        self._clock = clock
        self._backoff = backoff or Backoff(clock=clock)
        self._dialler = dialler or self._dial

    def __repr__(self) -> str:
        state = "up" if self.status.connected else f"down: {self.status.last_error}"
        return f"<LinkKeeper {self.status.server} {state}>"

    async def run(self) -> Ending:
        """Keep the link up until there is a reason not to."""
        while True:
            pause = 0.0
            for address in self._addresses():
                lost = await self._attempt(address)
                if lost.final:
                    return Ending(self.status.last_error, final=True)
                if self.status.hangs >= MAX_HANGS:
                    return Ending(f"the link hung {MAX_HANGS} times in a row: {self.status.last_error}", final=False)
                pause = max(pause, lost.pause)
                if lost.was_up:
                    break
            delay = pause + self._backoff.next_delay()
            _log.info("link down", server=self.status.server, reason=self.status.last_error, retry_in=round(delay, 1))
            self.status.next_attempt_at = self._clock.now().timestamp() + delay
            await self._clock.sleep(delay)
            self.status.next_attempt_at = 0.0

    async def _attempt(self, address: str) -> _Lost:
        """Bring one link up and hold it; whatever goes wrong with it ends here, as the next one may fare better."""
        self.status.server = address
        self.status.attempts += 1
        try:
            session, welcome = await self._bring_up_in_time(address)
            return await self._hold(session, welcome)
        except LinkDown as error:
            self.status.failed(error)
            return _Lost(final=error.final, pause=getattr(error, "pause", 0.0))
        except Exception as error:
            _log.exception("link failed", server=address)
            self.status.failed(LinkDown(f"{type(error).__name__} in the agent: {error}"))
            return _Lost()

    async def _bring_up_in_time(self, address: str) -> tuple[LinkSession, link.Welcome]:
        try:
            async with asyncio.timeout(ATTEMPT_TIMEOUT):
                return await self._bring_up(address)
        except TimeoutError as error:
            self.status.hangs += 1
            raise ProtocolFailed(f"an attempt did not end within {ATTEMPT_TIMEOUT:g} seconds") from error

    async def _bring_up(self, address: str) -> tuple[LinkSession, link.Welcome]:
        try:
            endpoint = Endpoint.parse(address)
        except ValueError as error:
            raise ProtocolFailed(str(error)) from error
        session = await self._dialler(endpoint, self._route())
        try:
            return session, await enter(session, self._signer)
        except BaseException:
            session.close()
            raise

    async def _hold(self, session: LinkSession, welcome: link.Welcome) -> _Lost:
        """Wait for the end of a link that is up."""
        began = self._clock.monotonic()
        self.status.connected, self.session = True, session
        self.status.connects += 1
        self.status.attempts = 0
        _log.info("link up", server=self.status.server, cluster=welcome.cluster_name, epoch=welcome.epoch)
        watchdog = _Watchdog(self, session, self._clock)
        try:
            await self._connected(session, welcome)
            closed = await session.wait_closed()
        except BaseException:
            session.close()
            raise
        finally:
            watchdog.stop()
            self.status.connected, self.session = False, None
        self._note_end(session, closed, self._clock.monotonic() - began, watchdog.barked)
        goodbye = session.goodbye
        return _Lost(
            was_up=True,
            final=closed.is_final or (goodbye is not None and goodbye.final),
            pause=goodbye.pause if goodbye is not None else 0.0,
        )

    def _note_end(self, session: LinkSession, closed: Closed, lasted: float, hung: bool) -> None:
        goodbye = session.goodbye
        self.status.last_error = (goodbye.text or goodbye.reason) if goodbye is not None else str(closed)
        self.status.last_code, self.status.last_hint = goodbye.reason if goodbye is not None else "closed", ""
        if hung:
            self.status.hangs += 1
        elif closed.code != ABNORMAL_CLOSE or lasted > SILENT_INTERVALS * self.heartbeat_interval:
            self.status.hangs = 0
        self._backoff.note_lasted(lasted)

    async def _dial(self, endpoint: Endpoint, route: Route) -> LinkSession:
        return await dial(endpoint, route, owner=self._owner, clock=self._clock)


@dataclass(frozen=True, slots=True)
class _Lost:
    """How an attempt or a link ended, as far as the next one is concerned."""

    was_up: bool = False
    final: bool = False
    pause: float = 0.0


class _Watchdog:
    """Tears a link down on which no control message has come for SILENT_INTERVALS heartbeats."""

    def __init__(self, keeper: LinkKeeper, session: LinkSession, clock: Clock) -> None:
        self.barked = False
        self._keeper = keeper
        self._session = session
        self._clock = clock
        self._timer = clock.call_later(self._limit, self._look)

    @property
    def _limit(self) -> float:
        return SILENT_INTERVALS * self._keeper.heartbeat_interval

    def stop(self) -> None:
        self._timer.cancel()

    def _look(self) -> None:
        left = self._session.last_message_at + self._limit - self._clock.monotonic()
        if left > 0:
            self._timer = self._clock.call_later(left, self._look)
        else:
            self.barked = True
            self._session.abort(f"the server answered no heartbeat for {self._limit:g} seconds")
