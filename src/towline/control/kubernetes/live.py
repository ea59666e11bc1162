"""The requests that run, and their end when the right to them does.

Looked at on each hint about access or clusters, and every few seconds, so that a dead bus costs no more than that: a
revoked token, a disabled user, a role taken away and an expiry cut watches, shells and forwards within ten seconds.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

from towline.aio.tasks import TaskOwner
from towline.control.access.permissions import Rights
from towline.control.bus import RESYNC
from towline.control.errors import ApiError
from towline.control.kubernetes import audit
from towline.control.kubernetes.figures import Figures
from towline.control.kubernetes.grants import judge
from towline.control.kubernetes.places import Place, Places
from towline.control.kubernetes.tokens import Bearers
from towline.control.kubernetes.visit import Visit
from towline.control.logging import get_logger
from towline.gateway.interfaces import Ended

if TYPE_CHECKING:
    from towline.control.app import ControlPlane

_log = get_logger("kubernetes")

RECHECK_INTERVAL = 5.0
"""Seconds between two looks without a hint. Source: kubernetes.md 4.1, item 15: within 10 s."""

_Who = tuple[str, str]


class Visits:
    """The requests of this process that are on their way. Implements `visit.Host`."""

    def __init__(
        self, control: ControlPlane, places: Places, bearers: Bearers, records: audit.Records, figures: Figures
    ) -> None:
        self._control = control
        self._places = places
        self._bearers = bearers
        self._records = records
        self._figures = figures
        self._running: dict[_Who, set[Visit]] = {}
        self._by_user: Counter[str] = Counter()
        self._tasks = TaskOwner("kubernetes-visits")

    def __repr__(self) -> str:
        return f"<Visits {sum(self._by_user.values())} running>"

    def __len__(self) -> int:
        return sum(self._by_user.values())

    def start(self) -> None:
        """Begin to look."""
        self._tasks.spawn("recheck", self._recheck_for_ever())

    async def stop(self) -> None:
        """Stop looking; what runs ends with the edge."""
        await self._tasks.close()

    def of_user(self, user_id: str) -> int:
        """Return how many requests of a user run."""
        return self._by_user[user_id]

    # what visits say

    def began(self, visit: Visit) -> None:
        self._running.setdefault(_who(visit), set()).add(visit)
        self._by_user[owner(visit)] += 1
        self._figures.begin(visit.asked.access)

    def ended(self, visit: Visit, how: Ended) -> None:
        visits = self._running[_who(visit)]
        visits.discard(visit)
        if not visits:
            del self._running[_who(visit)]
        self._by_user[owner(visit)] -= 1
        if not self._by_user[owner(visit)]:
            del self._by_user[owner(visit)]
        self._figures.end(visit.asked.access, how)
        if visit.is_recorded:
            self._records.note(audit.ended(visit.asked, visit.actor, visit.place, how))

    # the right to them

    async def _recheck_for_ever(self) -> None:
        async with self._control.bus.subscribe("access", "cluster", RESYNC) as events:
            while True:
                try:
                    async with asyncio.timeout(RECHECK_INTERVAL):
                        event = await anext(events)
                except TimeoutError:
                    pass
                except StopAsyncIteration:
                    self._end_long_ones()
                    return
                else:
                    self._places.forget()
                    if event.topic != "cluster":
                        self._bearers.forget()
                        self._control.access.forget()
                await self.recheck()

    async def recheck(self) -> None:
        """Cut what its sender could not send now."""
        try:
            for who in list(self._running):
                await self._recheck(who)
        except ApiError as error:
            _log.warning("running requests not checked", why=error.message)  # they go on until the database answers

    async def _recheck(self, who: _Who) -> None:
        visits = tuple(self._running.get(who, ()))
        if not visits:
            return
        asked = list({visit.place.id for visit in visits})
        async with self._control.db.read() as tx:
            principal = await self._control.access.now(tx, visits[0].actor)
            places = await self._places.by_id(tx, asked)
        for visit in tuple(self._running.get(who, ())):
            if principal is None:
                self._cut(visit, "unauthenticated", "the token was revoked or has expired, or its user is disabled")
            elif visit.place.id not in asked:
                continue  # it began meanwhile, under rights that were looked up anew for it
            elif not _may_go_on(visit, principal.rights, places.get(visit.place.id)):
                self._cut(visit, "access_lost", "the right to this request was withdrawn while it ran")

    def _end_long_ones(self) -> None:
        """The server stops: watches and shells would outlast any patience, and their clients come back."""
        for visits in list(self._running.values()):
            for visit in tuple(visits):
                if visit.asked.is_long:
                    self._cut(visit, "stopping", "this server stops; try again in a moment")

    def _cut(self, visit: Visit, code: str, why: str) -> None:
        _log.info("request cut", request=visit.asked.request_id, cluster=visit.place.id, why=code)
        self._figures.cut.labels(code).inc()
        assert visit.cut is not None
        visit.cut(code, why)


def _may_go_on(visit: Visit, rights: Rights, place: Place | None) -> bool:
    """A request goes on with no more than its sender would have now: roles that were taken away end it."""
    if place is None:
        return False
    verdict = judge(rights, place, visit.asked.access)
    return verdict.allowed and set(visit.roles) <= set(verdict.roles)


def owner(visit: Visit) -> str:
    """Return whose request it is."""
    return visit.actor.user_id or visit.actor.token_id


def _who(visit: Visit) -> _Who:
    return visit.actor.token_id, visit.actor.session_id
