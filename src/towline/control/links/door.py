"""The control plane's part of a link's handshake, and what links say about themselves: heartbeats, facts, keys.

Who may enter is decided in `towline.control.agents`; this module speaks for it.
"""

from __future__ import annotations

import secrets

import msgspec

from towline.aio.clock import REAL_CLOCK, Clock
from towline.control.agents import keys
from towline.control.agents.admission import Attempt
from towline.control.agents.connect import Admissions, Admitted
from towline.control.agents.identity import IdentitySource
from towline.control.agents.refusals import Refused
from towline.control.agents.service import Agents, BadRotation
from towline.control.agents.trust import TrustKeeper
from towline.control.clusters.reports import Reports
from towline.control.links.registry import Link, Links
from towline.control.logging import get_logger
from towline.tunnel.errors import LinkRefused
from towline.tunnel.handshake import Admission
from towline.tunnel.session import LinkSession
from towline.wire import link

_log = get_logger("links")

NONCE_BYTES = 32
CLOCK_TOLERANCE = 60.0
"""Seconds that an agent's clock may differ before it is told."""


class Door:
    """Implements `towline.tunnel.handshake.Authenticator`."""

    def __init__(
        self,
        links: Links,
        admissions: Admissions,
        agents: Agents,
        reports: Reports,
        identity: IdentitySource,
        trust: TrustKeeper,
        settings: link.LinkSettings,
        *,
        replica: str = "",
        clock: Clock = REAL_CLOCK,
    ) -> None:
        self._links = links
        self._admissions = admissions
        self._agents = agents
        self._reports = reports
        self._identity = identity
        self._trust = trust
        self._settings = settings
        self._replica = replica
        self._clock = clock
        links.on(link.Heartbeat, self._heartbeat)
        links.on(link.Facts, self._facts)
        links.on(link.Inventory, self._inventory)
        links.on(link.KeyRotation, self._key_rotation)
        links.on(link.Goodbye, self._goodbye)
        links.on(link.Error, self._error)
        links.on_down(self._down)
        links.on_lead(self._lead)

    # -- the handshake -----------------------------------------------------------------------

    def challenge(self, remote_address: str) -> link.Challenge:
        return link.Challenge(
            nonce=keys.pack(secrets.token_bytes(NONCE_BYTES)),
            origin=self._identity().origin,
            server_time=self._clock.now().timestamp(),
            replica=self._replica,
        )

    async def authenticate(self, hello: link.Hello, challenge: link.Challenge, remote_address: str) -> Admission:
        try:
            admitted = await self._admissions.admit(
                Attempt(hello=hello, origin=challenge.origin, nonce=challenge.nonce, address=remote_address)
            )
        except Refused as error:
            refusal = error.refusal
            raise LinkRefused(
                refusal.code, refusal.message, close_code=refusal.close_code, pause=refusal.pause
            ) from error
        welcome = link.Welcome(
            agent_id=admitted.agent_id,
            cluster_id=admitted.cluster_id,
            cluster_name=admitted.cluster_name,
            epoch=admitted.epoch,
            generation=admitted.generation,
            settings=self._settings,
            trust=self._trust.current,
            pending=admitted.pending,
        )
        return Admission(welcome, (admitted, hello.capabilities))

    async def admitted(self, session: LinkSession, admission: Admission) -> None:
        admitted: Admitted
        admitted, capabilities = admission.context
        self._admissions.acknowledged(admitted.agent_id, admitted.generation, admitted.slot)
        one = self._links.attach(session, admitted)
        leads = self._links.leads(one)
        if leads:
            self._reports.connected(admitted.cluster_id, admitted.org_id, session.remote_address)
        if leads and capabilities:
            self._reports.capabilities(admitted.cluster_id, admitted.org_id, capabilities)
        if admitted.rotate_key and leads:
            await session.send(link.RotateKey())

    # -- what links say --------------------------------------------------------------------------

    async def _heartbeat(self, one: Link, message: link.Heartbeat) -> None:
        now = self._clock.now().timestamp()
        one.note_round_trip(one.session.rtt or message.round_trip)
        offset = message.sent_at - now
        if abs(offset) > CLOCK_TOLERANCE and abs(one.clock_offset) <= CLOCK_TOLERANCE:
            _log.warning("clock of the agent differs", agent=one.agent_id, seconds=round(offset))
        one.clock_offset, one.reconnects = offset, message.reconnects
        if self._links.leads(one):
            self._reports.heartbeat(one.cluster_id, one.org_id, message)
        await one.session.send(link.HeartbeatAck(sent_at=message.sent_at, server_time=now))

    async def _facts(self, one: Link, message: link.Facts) -> None:
        offset = round(one.clock_offset, 1) if abs(one.clock_offset) > CLOCK_TOLERANCE else 0.0
        facts = msgspec.structs.replace(message, time_offset=offset or message.time_offset)
        if self._links.leads(one):
            self._reports.facts(one.cluster_id, one.org_id, facts)

    async def _inventory(self, one: Link, message: link.Inventory) -> None:
        if not one.pending and self._links.leads(one):
            self._reports.inventory(one.cluster_id, one.org_id, message)

    async def _key_rotation(self, one: Link, message: link.KeyRotation) -> None:
        try:
            key_id = await self._agents.rotated(one.agent_id, one.epoch, one.admitted.key_id, message)
        except BadRotation as error:
            _log.warning("key not changed", agent=one.agent_id, why=str(error))
            await one.session.send(link.Error(code="bad_rotation", message=str(error)))
            return
        await one.session.send(link.KeyRotated(key_id=key_id))

    async def _goodbye(self, one: Link, message: link.Goodbye) -> None:
        one.said_goodbye = f"the agent said goodbye: {message.text or message.reason}"[:300]

    async def _error(self, one: Link, message: link.Error) -> None:
        _log.warning("agent reports an error", agent=one.agent_id, code=message.code[:64], why=message.message[:300])

    def _down(self, one: Link, why: str) -> None:
        self._admissions.released(one.agent_id, one.epoch)
        if self._links.of_agent(one.agent_id) is None and not self._links.is_connected(one.cluster_id):
            self._reports.disconnected(one.cluster_id, one.org_id, why, silence=one.session.silence)

    def _lead(self, one: Link) -> None:
        """The instance that spoke for the cluster is gone: the next one tells everything again."""
        self._reports.connected(one.cluster_id, one.org_id, one.session.remote_address)
        one.session.send_now(link.Lead())
