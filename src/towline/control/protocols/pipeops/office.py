"""Who PipeOps WebSocket agents are: tokens at the upgrade, introductions afterwards, and what is remembered of them.

The upgrade carries a token and nothing else. A token of its own is one agent, which is let in at once when it is known;
of several that share one, `register` or `heartbeat` says which it is. Source: docs/design/pipeops.md, "Who it is".
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs

from sqlalchemy import update

from towline.aio.clock import Clock
from towline.aio.tasks import TaskOwner
from towline.control.agents.connect import Admitted
from towline.control.agents.refusals import Refused
from towline.control.db import Database
from towline.control.links.cleaning import clean, clean_json
from towline.control.logging import get_logger
from towline.control.protocols.admission import BAD_TOKEN, LONGEST_NAME, THROTTLED, Caller, Compat
from towline.control.protocols.models import CompatAgent
from towline.control.protocols.pipeops.channel import PipeOpsChannel
from towline.control.protocols.pipeops.claims import Book
from towline.control.protocols.pipeops.connection import Connection
from towline.control.protocols.pipeops.kube import Journal, KubeHalf
from towline.control.protocols.pipeops.registered import RegisteredTokens
from towline.control.protocols.pipeops.session import REGISTER_AGAIN, PipeOpsSession
from towline.control.protocols.standins import MakesStandIns
from towline.control.protocols.upgrade import Entering, UpgradeRefused
from towline.tunnel.websocket import Channel
from towline.wire import pipeops
from towline.wire import pipeops_messages as messages
from towline.wire.http1 import RequestHead

PROTOCOL: Final = "pipeops"
MOST_FEATURES: Final = 50
MOST_BOOKS: Final = 10_000
"""Agents whose claims are kept while they are away."""

_log = get_logger("pipeops")


class Office:
    """See the module. Args: folder: holds the journals of stand-ins. owner: the tasks of introductions and messages."""

    def __init__(
        self,
        compat: Compat,
        db: Database,
        tokens: RegisteredTokens,
        stand_ins: Callable[[], MakesStandIns | None],
        folder: Path,
        *,
        owner: TaskOwner,
        clock: Clock,
    ) -> None:
        self._compat = compat
        self._db = db
        self._tokens = tokens
        self._stand_ins = stand_ins
        self._folder = folder
        self._journals: dict[str, Journal] = {}
        self._owner = owner
        self._clock = clock
        self._books: dict[str, Book] = {}
        self.tally: Counter[str] = Counter()
        """What happened, by `metrics.EVENTS`."""
        self.sessions: dict[str, PipeOpsSession] = {}
        """Of agents that are connected to this process, by our id of them."""

    def __repr__(self) -> str:
        return f"<Office {len(self.sessions)} connected>"

    # -- the upgrade ---------------------------------------------------------------------------

    async def enter(self, head: RequestHead, address: str) -> Entering:
        """Look at an upgrade. Raises: UpgradeRefused."""
        is_gateway = b"cluster_uuid" in parse_qs(head.target.partition(b"?")[2])
        try:
            known = await self._compat.recognise(PROTOCOL, bearer(head), address)
            if not known.shared and (compat := await self._compat.find(known, "")) is not None:
                await self._check(compat)
        except Refused as error:
            raise UpgradeRefused(status_of(error, is_gateway=is_gateway), str(error)) from error

        def entering(channel: Channel) -> None:
            assert isinstance(channel, PipeOpsChannel)
            connection = Connection(
                channel, known, self.introduce, address=address, is_gateway=is_gateway, owner=self._owner,
                clock=self._clock, tally=self.tally,
            )  # fmt: skip
            channel.on_open = connection.opened

        return entering

    def make_channel(self) -> Channel:
        """Return the channel of a connection."""
        return PipeOpsChannel(self._clock)

    async def _check(self, compat: CompatAgent) -> None:
        """Raises: Refused: the agent was revoked or removed, which its upgrade is the only moment to tell it."""
        refusal = await self._compat.refusal(compat.agent_id)
        if refusal is not None and refusal.final:
            raise Refused(refusal)

    # -- introductions ---------------------------------------------------------------------------

    async def introduce(self, connection: Connection, envelope: pipeops.Envelope | None) -> None:
        """Find out who speaks, and answer; None: the connection has just opened."""
        if envelope is None:
            await self._recognise(connection)
            return
        try:
            match envelope.message:
                case messages.Register():
                    await self._register(connection, envelope.message, envelope.request_id)
                case messages.Heartbeat():
                    await self._beat(connection, envelope)
        except Refused as error:
            # There is no negative answer: a registration that is not answered ends the agent's process, which comes
            # back, and a close would have it come back at once. So it is kept waiting, and asked anew at its next word.
            self.tally["not_admitted"] += 1
            _log.warning("agent not let in", agent=connection.external_id[:64], why=str(error))

    async def _recognise(self, connection: Connection) -> None:
        """An agent with a token of its own that is known needs no introduction: it comes back."""
        if connection.known.shared or connection.session is not None:
            return
        compat = await self._compat.find(connection.known, "")
        if compat is None:
            return
        try:
            await self._admit(connection, Caller(compat.external_id, address=connection.address))
            connection.probe()
        except Refused as error:
            self.tally["not_admitted"] += 1
            _log.warning("agent not let in", agent=compat.external_id[:64], why=str(error))

    async def _register(self, connection: Connection, register: messages.Register, request_id: str) -> None:
        if not register.agent_id:
            connection.strike("a registration without an agent id")
            return
        if connection.session is not None and connection.known.shared and connection.external_id != register.agent_id:
            connection.strike("a registration in another agent's name")
            return
        session = connection.session
        if not isinstance(session, PipeOpsSession):
            caller = Caller(
                register.agent_id, hostname=register.hostname, cluster_name=register.name,
                version=register.agent_version, address=connection.address, instance=register.agent_id,
            )  # fmt: skip
            session = await self._admit(connection, caller)
        connection.external_id = register.agent_id
        await self._remember(session.admitted, register)
        connection.say(
            messages.RegisterSuccess(
                cluster_id=session.cluster_id,
                cluster_uuid=session.cluster_id,
                name=session.admitted.cluster_name,
                status="pending" if session.admitted.pending else "active",
            ),
            request_id=request_id,
        )
        connection.offer_yamux()
        session.registered(register)
        session.kube_changed()

    async def _beat(self, connection: Connection, envelope: pipeops.Envelope) -> None:
        beat = envelope.message
        assert isinstance(beat, messages.Heartbeat)
        if connection.session is None:
            compat = await self._compat.find(connection.known, beat.agent_id)
            if compat is None and not connection.is_gateway:
                self.tally["told_to_register"] += 1
                connection.say(messages.Error(error=REGISTER_AGAIN))
                return
            caller = Caller(
                beat.agent_id, version=beat.metadata.agent_version, address=connection.address, instance=beat.agent_id
            )
            await self._admit(connection, caller)
            connection.offer_yamux()
        if connection.session is not None:
            connection.session.took(envelope)

    async def _admit(self, connection: Connection, caller: Caller) -> PipeOpsSession:
        admitted = await self._compat.admit(connection.known, caller)
        self.tally["admitted"] += 1
        connection.external_id = caller.external_id
        book = self.book(admitted.agent_id)
        session = PipeOpsSession(admitted, connection, book, owner=self._owner, clock=self._clock)
        session.kube = KubeHalf(
            connection,
            self._stand_ins(),
            lambda: self._tokens.read(admitted.agent_id),
            session.tell_of_kube,
            session.report,
            self._journal(admitted.agent_id),
            clock=self._clock,
        )
        connection.session = session
        self.sessions[admitted.agent_id] = session
        session.on_close(lambda _: self._gone(session))
        self._compat.attach(session, admitted, session.capabilities())
        session.begin()
        return session

    def _gone(self, session: PipeOpsSession) -> None:
        if self.sessions.get(session.agent_id) is session:
            del self.sessions[session.agent_id]

    def changed(self, cluster_id: str) -> None:
        """Something of a cluster's agent was switched; an empty id: of any."""
        for session in list(self.sessions.values()):
            if not cluster_id or session.cluster_id == cluster_id:
                session.kube_changed()

    # -- what is remembered ----------------------------------------------------------------------

    def book(self, agent_id: str) -> Book:
        """Return the claims of an agent, kept while it is away."""
        book = self._books.get(agent_id)
        if book is None:
            book = self._books[agent_id] = Book()
            while len(self._books) > MOST_BOOKS:
                del self._books[next(iter(self._books))]
        return book

    def _journal(self, agent_id: str) -> Journal:
        return self._journals.setdefault(agent_id, Journal(self._folder / agent_id, asyncio.Lock()))

    async def _remember(self, admitted: Admitted, register: messages.Register) -> None:
        """Keep what the agent said of itself; its token sealed, to be used only where an administrator allows that."""
        external_id = clean(register.agent_id)[:LONGEST_NAME]
        values: dict[str, Any] = {"info": clean_json(told_by(register)), "external_id": external_id}
        sealed = self._tokens.seal(admitted.org_id, admitted.agent_id, register.k8s_service_token)
        if sealed is not None:
            values["sealed_secret"] = sealed
        async with self._db.begin() as tx:
            await tx.execute(update(CompatAgent).where(CompatAgent.agent_id == admitted.agent_id).values(**values))


def told_by(register: messages.Register) -> dict[str, Any]:
    """Return what is kept of a registration: nothing secret, and little of each."""
    return {
        "name": register.name[:LONGEST_NAME],
        "k8s_version": register.k8s_version[:LONGEST_NAME],
        "region": register.region[:LONGEST_NAME],
        "cloud_provider": register.cloud_provider[:LONGEST_NAME],
        "registration_mode": register.metadata.get("registration_mode", "")[:LONGEST_NAME],
        "features": sorted(name[:LONGEST_NAME] for name, has in register.features.items() if has)[:MOST_FEATURES],
    }


def bearer(head: RequestHead) -> str:
    """Return the token of a request; empty when there is none."""
    scheme, _, token = (head.get(b"authorization") or b"").partition(b" ")
    return token.strip().decode("latin-1") if scheme.lower() == b"bearer" else ""


def status_of(error: Refused, *, is_gateway: bool) -> int:
    """Return the status of a refused upgrade.

    401 and 403 stop an agent for good, until its process is restarted; one in gateway mode never gets them, as it would
    go on in a state that nothing ends. All others make it come back.
    """
    refusal = error.refusal
    if is_gateway:
        return 503
    if refusal.final:
        return 403
    return 401 if refusal in (BAD_TOKEN,) else 429 if refusal is THROTTLED else 503
