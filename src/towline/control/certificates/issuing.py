"""The worker: takes names that are due, one after the other and some at once, and writes down how each try ended.

Every try ends in a state with a reason in words, and in the moment of the next one; nothing is tried before it.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from towline.aio.tasks import TaskOwner
from towline.control.certificates import repository, schedule
from towline.control.certificates.errors import (
    AuthorityRefused,
    AuthorityUnreachable,
    Blocked,
    LeaseLost,
)
from towline.control.certificates.figures import Figures
from towline.control.certificates.keeping import TOPIC, Keeper, cut
from towline.control.certificates.models import Certificate
from towline.control.certificates.ordering import Ordering
from towline.control.certificates.states import State
from towline.control.errors import ApiError
from towline.control.logging import get_logger

_log = get_logger("certificates")

AT_ONCE = 4
"""Names that one replica works on at once: most of the time is the authority's."""
RATE_LIMITED_WAIT = 3600.0
"""Seconds after a rate limit without a wish: public authorities say when, others count by the hour."""


class Issuer:
    """Works on what is due. Args: ordering: None where no ACME authority is set."""

    def __init__(self, keeper: Keeper, ordering: Ordering | None, figures: Figures, tasks: TaskOwner) -> None:
        self._keeper = keeper
        self._ordering = ordering
        self._figures = figures
        self._tasks = tasks
        self._working: set[str] = set()

    def __repr__(self) -> str:
        return f"<Issuer at {len(self._working)} names>"

    async def take_due(self) -> int:
        """Begin with everything that is due, as far as there is room. Returns: how many were begun."""
        begun = 0
        async with self._keeper.db.read() as tx:
            due = await repository.next_moment(tx)
        if due is None or due > 0:
            return 0  # most looks find nothing, and claiming takes the one lock for writing
        while len(self._working) < AT_ONCE:
            async with self._keeper.db.begin() as tx:
                row = await repository.claim(tx, owner=self._keeper.owner, lease=self._keeper.lease)
            if row is None:
                break
            begun += 1
            self._working.add(row.id)
            self._tasks.spawn(f"certificate {row.name}", self._work(row))
        return begun

    async def _work(self, row: Certificate) -> None:
        try:
            async with self._keeper.holding(row, self._tasks):
                await self.bring_forward(row)
        except ApiError as error:  # the database; the lease runs out and somebody else goes on
            _log.warning("work on a certificate ended", name=row.name, why=error.message)
        finally:
            self._working.discard(row.id)
            if self._keeper.db.bus is not None:
                self._keeper.db.bus.publish(TOPIC, id=row.id)  # there is room for another one

    async def bring_forward(self, row: Certificate) -> None:
        """Do what is due for one name whose lease we hold, and write down how it ended."""
        try:
            if await self._needs_one(row):
                await self._issue(row)
                self._figures.orders.labels("issued").inc()
            await self._plan(row)
        except LeaseLost as error:
            _log.warning("work on a certificate ended", name=row.name, why=str(error))
        except Blocked as error:
            await self._end(
                row, State.BLOCKED, str(error), schedule.pause(schedule.BLOCKED_STEPS, row.attempts + 1, error.wait)
            )
        except AuthorityUnreachable as error:
            wait = schedule.pause(schedule.UNREACHABLE_STEPS, row.attempts + 1)
            await self._end(row, State.FAILED, str(error), wait)
        except AuthorityRefused as error:
            await self._refused(row, error)
        except Exception as error:
            _log.exception("work on a certificate failed", name=row.name)
            wait = schedule.pause(schedule.REFUSED_STEPS, row.attempts + 1)
            await self._end(row, State.FAILED, f"this server failed, see its log ({type(error).__name__})", wait)

    async def _needs_one(self, row: Certificate) -> bool:
        if not row.chain or row.state in (State.REVOKED, State.ORDERING, State.WAITING) or row.order_url:
            return True
        async with self._keeper.db.read() as tx:
            moment = await tx.now()
        return row.renew_at is None or row.renew_at <= moment

    async def _issue(self, row: Certificate) -> None:
        if self._ordering is None:
            raise Blocked("no authority is set: see acme_directory, or upload a certificate")
        await self._ordering.issue(row, force=row.force)

    async def _plan(self, row: Certificate) -> None:
        """Sleep until the next renewal, or until the authority is asked again when that should be."""
        if self._ordering is None:
            await self._keeper.save(row, next_at=row.renew_at)
        else:
            await self._ordering.plan_renewal(row)

    async def _refused(self, row: Certificate, error: AuthorityRefused) -> None:
        wish = error.retry_after
        if error.code == "rateLimited":
            wish = wish or RATE_LIMITED_WAIT
        words = f"the authority refused: {error}"
        await self._end(row, State.FAILED, words, schedule.pause(schedule.REFUSED_STEPS, row.attempts + 1, wish))

    async def _end(self, row: Certificate, state: State, reason: str, wait: float) -> None:
        """Write down why there is no certificate, and when the next try is."""
        self._figures.orders.labels(state.value).inc()
        reason = cut(reason)
        is_new = row.reason != reason
        try:
            async with self._keeper.db.begin() as tx:
                moment = await tx.now()
                if row.chain and row.ends_at is not None and row.ends_at <= moment:
                    state = State.EXPIRED
                values: dict[str, Any] = {
                    "attempts": row.attempts + 1, "next_at": moment + timedelta(seconds=wait), "force": False,
                }  # fmt: skip
                await self._keeper.write(tx, row, state=state, reason=reason, **values)
                if is_new:
                    await self._keeper.audit(tx, row, "certificate.issue", result="failed", reason=reason)
        except LeaseLost as error:
            _log.warning("work on a certificate ended", name=row.name, why=str(error))
            return
        log = _log.warning if is_new else _log.info
        log("no certificate", name=row.name, why=reason, again_in=round(wait), served=bool(row.chain))
