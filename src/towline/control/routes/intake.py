"""Takes what agents say that their sources claim, gathers it for a moment, and writes it. Deciding is `settling`.

A whole list replaces what was known, but takes nothing away at once: what is missing from it stays for a grace time,
so that no blip of a link or of a source removes a route. What an agent says to be gone goes at once.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from sqlalchemy.exc import IntegrityError

from towline.aio.clock import REAL_CLOCK, Clock
from towline.aio.tasks import TaskOwner
from towline.control.audit.service import AuditLog
from towline.control.db import Database
from towline.control.domains.names import Ownership
from towline.control.errors import ApiError, ErrorCode
from towline.control.links.registry import Link, Links
from towline.control.logging import get_logger
from towline.control.routes.given import Sealer
from towline.control.routes.states import SOURCES
from towline.control.routes.writing import ClaimWriter
from towline.wire import link

_log = get_logger("routes")

FLUSH_INTERVAL = 0.1
"""Seconds that claims are gathered: a change at a source is to be live within a second, watches and all."""
RETRY_INTERVAL = 2.0
MOST_KEPT = 5000
"""Claims of one cluster; a larger one is shown in part, and says so."""
MOST_REMOVED = 5000
"""Refs of claims that went away while nothing was written, of one cluster: as many as there can be claims. Beyond it
the agent is asked for a whole list, which says what is left."""
AT_ONCE = 1000
"""Claims of one transaction: some 200 ms in which nobody else writes to SQLite."""
TRIES = 3


@dataclass(slots=True)
class Pending:
    """What is to be written of one cluster; of each claim the last word."""

    full: bool = False
    sources: frozenset[str] = frozenset()
    claims: dict[str, link.RouteClaim] = field(default_factory=dict)
    removed: set[str] = field(default_factory=set)
    late: set[str] = field(default_factory=set)
    """Refs of claims that were told after the whole list: they appeared later, even if a moment."""
    left_out: int = 0
    is_short: bool = False
    """More went away than is remembered here."""
    agent_id: str = ""

    def take(self, message: link.Routes) -> None:
        self._remove(message.removed)
        for claim in message.claims:
            if len(self.claims) >= MOST_KEPT and claim.ref not in self.claims:
                self.left_out += 1
                continue
            self.claims[claim.ref] = claim
            self.removed.discard(claim.ref)

    def after(self, older: Pending) -> Pending:
        """Return both, where this one came later."""
        if self.full:
            return self
        older._remove(self.removed)
        older.is_short |= self.is_short
        for ref, claim in self.claims.items():
            if ref not in older.claims:
                if len(older.claims) >= MOST_KEPT:  # the database is away for long, or the agent tells too much
                    older.left_out += 1
                    continue
                older.late.add(ref)
            older.claims[ref] = claim
        older.removed -= older.claims.keys()
        older.agent_id = self.agent_id
        return older

    def _remove(self, refs: Iterable[str]) -> None:
        for ref in refs:
            self.claims.pop(ref, None)
            self.late.discard(ref)
            if len(self.removed) < MOST_REMOVED or ref in self.removed:
                self.removed.add(ref)
            else:
                self.is_short = True


@dataclass(slots=True)
class _Listing:
    """A whole list that comes in several messages."""

    cluster_id: str
    next_sequence: int
    pending: Pending


class RouteIntake:
    """Takes `routes` messages, and writes them. Args: as `ClaimWriter` has them."""

    def __init__(
        self,
        db: Database,
        audit: AuditLog,
        sealer: Sealer,
        links: Links,
        ownership: Callable[[], Ownership],
        grace: float,
        away_grace: float,
        *,
        clock: Clock = REAL_CLOCK,
    ) -> None:
        self._db = db
        self._writer = ClaimWriter(audit, sealer, ownership, grace, away_grace)
        self._links = links
        self._clock = clock
        self._pending: dict[str, Pending] = {}
        self._listings: dict[str, _Listing] = {}
        self._unheard: set[str] = set()
        """Agents that told something before an administrator let them in."""
        self._asked: set[str] = set()
        """Agents that were asked for a whole list, and have not told it yet."""
        self._changed = asyncio.Event()
        self._flushing = asyncio.Lock()
        self._tasks = TaskOwner("route-claims")
        self.counts: Counter[str] = Counter()
        """Of messages, claims, claims left out, dropped batches and changed routes; for metrics."""
        links.on(link.Routes, self._told)
        links.on_up(self._up)
        links.on_down(lambda one, _: self._forget(one.agent_id))

    def __repr__(self) -> str:
        return f"<RouteIntake {len(self._pending)} clusters waiting>"

    @property
    def waiting(self) -> int:
        """Claims that are not written yet."""
        return sum(len(pending.claims) + len(pending.removed) for pending in self._pending.values())

    async def start(self) -> None:
        """Begin to write."""
        self._tasks.spawn("flush", self._flush_for_ever())

    async def stop(self) -> None:
        await self._tasks.close()
        await self.flush()

    async def _told(self, one: Link, message: link.Routes) -> None:
        if one.pending:
            self._unheard.add(one.agent_id)
        elif self._links.leads(one):
            self.take(one.cluster_id, one.agent_id, message)

    def _up(self, one: Link) -> None:
        """Have an agent that was let in meanwhile tell again what nobody listened to."""
        if not one.pending and one.agent_id in self._unheard:
            self._unheard.discard(one.agent_id)
            one.session.send_now(link.Lead())

    def take(self, cluster_id: str, agent_id: str, message: link.Routes) -> None:
        """Note what an agent says that its sources claim. A list that breaks off in the middle counts for nothing."""
        self.counts["messages"] += 1
        self.counts["claims"] += len(message.claims)
        if message.full:
            self._take_list(cluster_id, agent_id, message)
            return
        change = Pending(agent_id=agent_id)
        change.take(message)
        self._put(cluster_id, change)

    def _take_list(self, cluster_id: str, agent_id: str, message: link.Routes) -> None:
        listing = self._listings.pop(agent_id, None)
        if listing is None or listing.next_sequence != message.sequence or listing.cluster_id != cluster_id:
            sources: frozenset[str] = frozenset(SOURCES if message.sources is None else message.sources)
            listing = _Listing(cluster_id, message.sequence, Pending(full=True, sources=sources, agent_id=agent_id))
        listing.pending.take(message)
        listing.next_sequence = message.sequence + 1
        if message.more:
            self._listings[agent_id] = listing
        else:
            self._asked.discard(agent_id)
            self._put(cluster_id, listing.pending)

    def _put(self, cluster_id: str, pending: Pending) -> None:
        older = self._pending.get(cluster_id)
        self._pending[cluster_id] = kept = pending if older is None else pending.after(older)
        self.counts["left_out"] += pending.left_out
        if kept.is_short and not kept.full:
            self._ask_for_list(cluster_id)
        self._changed.set()

    def _ask_for_list(self, cluster_id: str) -> None:
        """Have the agent that speaks for a cluster tell everything again; once until it did."""
        found = self._links.of_cluster(cluster_id)
        if found is not None and found.agent_id not in self._asked:
            self._asked.add(found.agent_id)
            self.counts["lists_asked"] += 1
            _log.warning("more claims went away than are remembered", cluster=cluster_id)
            found.session.send_now(link.Lead())

    def _forget(self, agent_id: str) -> None:
        self._listings.pop(agent_id, None)
        self._unheard.discard(agent_id)
        self._asked.discard(agent_id)

    # -- writing -------------------------------------------------------------------------------

    async def _flush_for_ever(self) -> None:
        while True:
            await self._changed.wait()
            await self._clock.sleep(FLUSH_INTERVAL)
            self._changed.clear()
            if not await self.flush():
                await self._clock.sleep(RETRY_INTERVAL)
                self._changed.set()

    async def flush(self) -> bool:
        """Write what waits now. Returns: whether the database took it."""
        async with self._flushing:
            batch, self._pending = self._pending, {}
            for group in _groups(batch):
                try:
                    await self._write_group(group)
                except ApiError as error:
                    _log.error("claims not written", why=error.message, clusters=len(batch))
                    self._take_back(batch)
                    return False
                for cluster_id in group:
                    del batch[cluster_id]
        return True

    def _take_back(self, batch: Mapping[str, Pending]) -> None:
        """Put what was not written before what came meanwhile."""
        for cluster_id, old in batch.items():
            new = self._pending.get(cluster_id)
            self._pending[cluster_id] = old if new is None else new.after(old)

    async def _write_group(self, group: Mapping[str, Pending]) -> None:
        """Write some clusters at once; where something cannot be stored, that cluster's part is dropped."""
        try:
            await self._write_together(group)
        except Exception as error:  # whose claims it is shows when each is written by itself
            if isinstance(error, ApiError) and error.code is not ErrorCode.INVALID:
                raise
            for cluster_id, pending in group.items():
                await self._write_singly(cluster_id, pending)

    async def _write_singly(self, cluster_id: str, pending: Pending) -> None:
        try:
            await self._write_together({cluster_id: pending})
        except Exception as error:  # here the work on one cluster's claims ends; that on all goes on
            if isinstance(error, ApiError) and error.code is not ErrorCode.INVALID:
                raise
            self.counts["dropped"] += 1
            _log.error("claims dropped", cluster=cluster_id, why=str(error)[:300], kind=type(error).__name__)

    async def _write_together(self, group: Mapping[str, Pending]) -> None:
        for attempt in range(TRIES):
            try:
                async with self._db.begin() as tx:
                    changed = await self._writer.write(tx, group)
                self.counts["changed"] += changed
                return
            except IntegrityError:  # another process gave one of the names away at this moment
                if attempt == TRIES - 1:
                    raise


def _groups(batch: Mapping[str, Pending]) -> Iterator[dict[str, Pending]]:
    """Cut a batch into transactions."""
    group: dict[str, Pending] = {}
    size = 0
    for cluster_id, pending in list(batch.items()):
        amount = len(pending.claims) + len(pending.removed)
        if group and size + amount > AT_ONCE:
            yield group
            group, size = {}, 0
        group[cluster_id] = pending
        size += amount
    if group:
        yield group
