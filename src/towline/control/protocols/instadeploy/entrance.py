"""Letting InstaDeploy agents in: the headers of their upgrade, the token, and one live host for each name.

Its agents are told apart by their host names alone. A second host of a name that is there already is told so and
stays outside, as long as the first one answers: neither knocks the other off.
"""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Final

from towline.aio.tasks import TaskOwner
from towline.control.agents.connect import Admitted
from towline.control.agents.refusals import Refused
from towline.control.protocols.admission import Caller, Compat, Recognised
from towline.control.protocols.instadeploy.looking import READY
from towline.control.protocols.instadeploy.session import InstaDeploySession
from towline.control.protocols.instadeploy.shelf import Shelf
from towline.control.protocols.upgrade import Entering, UpgradeDoor, UpgradeRefused
from towline.tunnel.websocket import Channel, MessageLimits
from towline.wire import instadeploy
from towline.wire.http1 import RequestHead

if TYPE_CHECKING:
    from towline.aio.clock import Clock
    from towline.control.links.registry import Links

PROTOCOL: Final = "instadeploy"

PROBE_TIMEOUT = 3.0
"""Seconds in which a host that is there answers a ping: the agent's handshake ends after ten."""

STATUSES = {"bad_token": 401, "throttled": 429, "unavailable": 503}
"""Answers to upgrades that are refused; any other reason is a 403. The agent comes back after each, ever later."""

SILENCE_TIMEOUT = 70.0
"""Seconds without a byte after which the line is dead: the agent pings every 30 and may lose one."""


class Entrance:
    """Decides on upgrades of InstaDeploy agents."""

    def __init__(self, compat: Compat, links: Links, shelf: Shelf, owner: TaskOwner, clock: Clock) -> None:
        self._compat = compat
        self._links = links
        self._shelf = shelf
        self._owner = owner
        self._clock = clock
        self.strange: Counter[str] = Counter()
        """What sessions that have ended heard and did not understand, by why; for metrics."""

    def door(self) -> UpgradeDoor:
        """Return what takes the upgrades."""
        return UpgradeDoor(self.enter, owner=self._owner, make_channel=self._channel, clock=self._clock)

    def _channel(self) -> Channel:
        return Channel(
            clock=self._clock,
            silence_timeout=SILENCE_TIMEOUT,
            limits=MessageLimits(text_bytes=instadeploy.MAX_RESPONSE_BYTES),
        )

    async def enter(self, head: RequestHead, address: str) -> Entering:
        """Find out who asks. Raises: UpgradeRefused."""
        secret = _bearer(head)
        try:
            known = await self._compat.recognise(PROTOCOL, secret, address)
            announced = instadeploy.read_announcement(_headers(head))
            await self._require_alone(known, announced.hostname)
            caller = Caller(announced.hostname, hostname=announced.hostname, version=announced.version, address=address)
            admitted = await self._compat.admit(known, caller)
        except Refused as error:
            raise UpgradeRefused(STATUSES.get(error.refusal.code, 403), error.refusal.message) from error
        except instadeploy.BadMessage as error:
            raise UpgradeRefused(400, str(error)) from error
        return partial(self._entering, admitted, announced, address)

    def _entering(self, admitted: Admitted, announced: instadeploy.Announced, address: str, channel: Channel) -> None:
        session = InstaDeploySession(
            admitted, announced, channel, self._shelf, owner=self._owner, remote_address=address, clock=self._clock
        )
        channel.attach(session)
        session.on_close(lambda closed: self._note(session))
        channel.on_open = lambda: self._opened(session, admitted, channel)

    def _opened(self, session: InstaDeploySession, admitted: Admitted, channel: Channel) -> None:
        channel.lift_budget()
        self._compat.attach(session, admitted, (READY,))
        session.begin()

    def _note(self, session: InstaDeploySession) -> None:
        self.strange.update(session.conversation.ignored)
        self.strange["none"] += session.bad_messages

    async def _require_alone(self, known: Recognised, hostname: str) -> None:
        """Raises: UpgradeRefused, when a host of this name is connected and answers."""
        compat = await self._compat.find(known, hostname)
        one = self._links.of_agent(compat.agent_id) if compat is not None else None
        if one is not None and isinstance(one.session, InstaDeploySession):
            if await one.session.channel.answers(PROBE_TIMEOUT):
                raise UpgradeRefused(
                    409,
                    f"a host named {hostname} is connected already, from {one.session.remote_address}; "
                    "give one of them another host name, or a token of its own",
                )
            one.session.close(reason="it does not answer, and a newer connection of its name is there")


def _bearer(head: RequestHead) -> str:
    scheme, _, secret = (head.get(b"authorization") or b"").decode("latin-1").partition(" ")
    return secret.strip() if scheme.lower() == "bearer" else ""


def _headers(head: RequestHead) -> dict[str, str]:
    return {name.decode("latin-1"): value.decode("latin-1") for name, _, value in head.fields}
