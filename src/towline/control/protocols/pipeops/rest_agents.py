"""PipeOps REST agents of this process: who they are, their sessions, and the two clocks that end things.

Any request with a known token and name is a sign of life, and brings a session back that a restart has ended. Only a
registration makes an agent that nobody knows.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from towline.aio.clock import Clock
from towline.aio.tasks import TaskOwner
from towline.control.access.throttle import Throttle
from towline.control.agents import refusals
from towline.control.agents.refusals import Refused
from towline.control.clusters.health import OFFLINE_AFTER
from towline.control.errors import ApiError
from towline.control.links.cleaning import clean
from towline.control.links.registry import Link
from towline.control.logging import get_logger
from towline.control.protocols.admission import Caller, Compat, Recognised, digest
from towline.control.protocols.lookups import AT_ONCE
from towline.control.protocols.pipeops import rest_repository as repository
from towline.control.protocols.pipeops.rest_commands import Commands
from towline.control.protocols.pipeops.rest_figures import Figures
from towline.control.protocols.pipeops.rest_session import RestSession
from towline.tunnel.errors import ABNORMAL_CLOSE, Closed
from towline.wire import pipeops_rest as rest

if TYPE_CHECKING:
    from towline.control.app import ControlPlane

_log = get_logger("protocols")

PROTOCOL = "pipeops"
LOOK_INTERVAL = 5.0
"""Seconds between two looks for agents that fell silent and leases that are over."""
CHECK_TOKEN_EVERY = 60.0
"""Seconds after which a session's token is looked up again: what a revoked one still opens."""
MOST_WAITING = 1000
"""Requests that wait for their turn: some ten seconds of them. Agents give up after 10 to 30."""
RATE, BURST = 2.0, 60
"""Requests per second of one agent, and at once: it makes three each 30 s, and as many more as it has results."""


class Unknown(Exception):
    """Nobody registered under this name with this token: the agent has to register."""


class TooFast(Exception):
    """An agent asks more often than any does. Args: seconds until it may again."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"wait {seconds:.0f} s")
        self.seconds = seconds


Key = tuple[str, str]
"""Digest of the token, and what the agent calls itself."""


class RestAgents:
    """Every REST agent that beats at this process."""

    def __init__(self, control: ControlPlane, admission: Compat, tasks: TaskOwner) -> None:
        self._admission = admission
        self._db = control.db
        self._clock: Clock = control.clock
        self._links = control.fleet.links
        self._tasks = tasks
        self._sessions: dict[Key, RestSession] = {}
        self._entering: WeakValueDictionary[Key, asyncio.Lock] = WeakValueDictionary()
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._queued = 0
        self._pace = Throttle(control.clock, rate=RATE, burst=BURST)
        self.figures = Figures(control.metrics.registry)
        self.figures.watch(lambda: len(self._sessions))
        self.commands = Commands(control.db, control.sealer, self.figures, tasks, clock=control.clock)
        self._links.on_up(self._up)

    def __repr__(self) -> str:
        return f"<RestAgents {len(self._sessions)} sessions>"

    async def start(self) -> None:
        """Begin to notice silence."""
        self._tasks.spawn("pipeops rest agents", self._look_for_ever())

    # -- who asks --------------------------------------------------------------------------------

    async def register(self, secret: str, registration: rest.Registration, address: str) -> RestSession:
        """Take an agent in, or note what it says anew. Raises: Refused, TooFast, rest.BadBody: no such name."""
        key = (digest(secret), rest.agent_id(registration.id))
        self._keep_pace(key)
        async with self._lock(key), self._turn():
            known = await self._recognise(secret, address)
            session = self._sessions.get(key)
            if session is not None and session.registration.version == registration.version:
                session.heard()
                await self._remember(session.agent_id, registration, before=session.registration)
                session.registered(registration)
                return session
            return await self._enter(key, known, registration, address)

    async def known(self, secret: str, external_id: str, address: str) -> RestSession:
        """Return the session of an agent that registered once. Raises: Refused, Unknown, TooFast."""
        key = (digest(secret), external_id)
        self._keep_pace(key)
        session = self._checked(key)
        if session is None:
            async with self._lock(key):
                session = self._checked(key)
                if session is None:
                    async with self._turn():
                        session = await self._looked_up(key, secret, address)
        session.heard()
        return session

    def _checked(self, key: Key) -> RestSession | None:
        """Return a session whose token was looked up a short while ago."""
        session = self._sessions.get(key)
        is_fresh = session is not None and session.checked_at + CHECK_TOKEN_EVERY >= self._clock.monotonic()
        return session if is_fresh else None

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """Wait for a turn at the database. Raises: Refused: too many wait; an agent's next tick is soon enough."""
        if self._queued >= MOST_WAITING:
            raise Refused(refusals.UNAVAILABLE)
        self._queued += 1
        try:
            async with self._turns:
                yield
        finally:
            self._queued -= 1

    async def _looked_up(self, key: Key, secret: str, address: str) -> RestSession:
        """Look at the token's row; a session whose token counts no more ends."""
        try:
            known = await self._recognise(secret, address)
        except Refused as error:
            session = self._sessions.get(key)
            if session is not None and error.refusal.code != "unavailable":
                session.close(reason=error.refusal.message)
            raise
        session = self._sessions.get(key)
        if session is not None:
            session.checked_at = self._clock.monotonic()
            return session
        row = await self._admission.find(known, key[1])
        if row is None or row.external_id != key[1]:
            raise Unknown(key[1])
        told = rest.Registration(id=key[1], **{name: row.info.get(name, "") for name in REMEMBERED})
        return await self._enter(key, known, told, address, before=told)

    async def _recognise(self, secret: str, address: str) -> Recognised:
        return await self._admission.recognise(PROTOCOL, secret, address)

    async def _enter(
        self, key: Key, known: Recognised, registration: rest.Registration, address: str,
        *, before: rest.Registration | None = None,
    ) -> RestSession:  # fmt: skip
        """Begin a session: from here on the agent is there for everybody. Args: before: what is remembered of it."""
        caller = Caller(
            registration.id, hostname=registration.name or registration.hostname or registration.id,
            cluster_name=registration.cluster_name, version=registration.version, address=address,
        )  # fmt: skip
        admitted = await self._admission.admit(known, caller)
        await self._remember(admitted.agent_id, registration, before=before)
        session = RestSession(
            admitted, self.commands, registration, owner=self._tasks, remote_address=address, clock=self._clock
        )
        self._sessions[key] = session
        session.on_close(lambda _: self._left(key, session))
        self._admission.attach(session, admitted, session.capabilities)
        await session.begin()
        return session

    async def _remember(
        self, agent_id: str, registration: rest.Registration, *, before: rest.Registration | None = None
    ) -> None:
        """Keep what an agent says of itself, unless it said the same before."""
        told = _remembered(registration)
        if before is None or _remembered(before) != told:
            async with self._db.begin() as tx:
                await repository.remember(tx, agent_id, told)

    def _left(self, key: Key, session: RestSession) -> None:
        if self._sessions.get(key) is session:
            del self._sessions[key]

    def _lock(self, key: Key) -> asyncio.Lock:
        lock = self._entering.get(key)
        if lock is None:
            lock = self._entering[key] = asyncio.Lock()
        return lock

    def _keep_pace(self, key: Key) -> None:
        seconds = self._pace.wait("/".join(key))
        if seconds:
            raise TooFast(seconds)

    def _up(self, one: Link) -> None:
        """An agent that waited for approval is heard from now on: all of its inventory is told again."""
        if isinstance(one.session, RestSession):
            one.session.book.forget()

    # -- time ------------------------------------------------------------------------------------

    async def _look_for_ever(self) -> None:
        while True:
            await self._clock.sleep(LOOK_INTERVAL)
            self.end_silent()
            try:
                await self.expire()
            except ApiError as error:
                _log.warning("leases of commands not looked at", why=error.message)

    def end_silent(self) -> None:
        """End the sessions of agents that were silent for as long as makes them offline."""
        for session in list(self._sessions.values()):
            if session.silence >= OFFLINE_AFTER:
                session.ended(Closed(ABNORMAL_CLOSE, f"no word from the agent for {OFFLINE_AFTER:.0f} seconds"))

    async def expire(self) -> None:
        """Decide about commands whose lease is over, as far as their agents beat here."""
        here = {session.agent_id: session for session in self._sessions.values()}
        if not here:
            return
        for job_id, agent_id in await self.commands.overdue():
            session = here.get(agent_id)
            if session is not None:
                await self.commands.expire(session.who, job_id, session.tell)


REMEMBERED = ("name", "cluster_name", "version", "server_ip", "region", "hostname", "k8s_version", "cloud_provider")
"""What of a registration is kept, for sessions that begin with a heartbeat."""
LONGEST_REMEMBERED = 255


def _remembered(registration: rest.Registration) -> dict[str, str]:
    return {name: clean(getattr(registration, name))[:LONGEST_REMEMBERED] for name in REMEMBERED}
