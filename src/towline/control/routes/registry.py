"""The routes in memory: filled from the database, kept fresh by the bus, asked by the edge for each request.

The database is the only truth. A shared cache for several processes would stand behind `load`, never beside it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from towline.aio.clock import REAL_CLOCK, Clock
from towline.aio.tasks import TaskOwner
from towline.control.bus import RESYNC, Bus, Event
from towline.control.db import Database
from towline.control.domains import repository as domains
from towline.control.domains.names import parents
from towline.control.errors import ApiError
from towline.control.logging import get_logger
from towline.control.routes import repository
from towline.control.routes.entries import EntryMaker
from towline.control.routes.models import PublishedRoute
from towline.control.routes.states import PortLost
from towline.gateway.interfaces import Answer, Route
from towline.gateway.routing import PathRefused, RouteEntry, RouteTable

_log = get_logger("routes")

RETRY_INTERVAL = 2.0
"""Seconds after which a look that the database did not answer is tried again."""
SETTLE_TIMEOUT = 2.0
"""Seconds that whoever changed something waits until it is in effect; a change takes some milliseconds."""
PAGE = 500
"""Rows that are read at once: some 10 ms in which no request is answered."""
MARK = "routes-mark"
"""A topic of our own, never sent anywhere: its event stands behind all hints that came before."""
PINNED = "setting:"
"""Begins the ids of routes that settings declare: no row has one."""
UNKNOWN = Answer(404, "route_unknown", "no route answers for this address")
AMBIGUOUS = Answer(400, "path_ambiguous", "the path can be read in two ways; send it without relative or odd segments")


@dataclass(slots=True)
class _Dirty:
    """What has to be looked at again."""

    everything: bool = False
    ids: set[str] = field(default_factory=set)
    sources: set[str] = field(default_factory=set)
    """Clusters whose claims changed."""
    clusters: set[str] = field(default_factory=set)
    """Clusters that may be gone."""
    domains: bool = False
    marks: list[asyncio.Event] = field(default_factory=list)
    """Set once all that came before was looked at."""

    def note(self, event: Event) -> None:
        match event.topic:
            case "route" if "id" in event.ids:
                self.ids.add(event.ids["id"])
            case "route":
                self.sources.add(event.ids.get("cluster_id", ""))
            case "cluster":
                self.clusters.add(event.ids.get("id", ""))
            case "domain":
                self.domains = True
            case "resync":
                self.everything = True


class RouteRegistry:
    """Holds the table. `find` is what the edge's router asks.

    Args: own_hosts: names of the server itself: no route ever answers for one. zone: domain whose unknown names are
        ours to answer for; empty: none.
    """

    def __init__(
        self,
        db: Database,
        bus: Bus,
        entries: EntryMaker,
        *,
        own_hosts: Callable[[], frozenset[str]],
        zone: str,
        clock: Clock = REAL_CLOCK,
    ) -> None:
        self._db = db
        self._bus = bus
        self._entries = entries
        self._own_hosts = own_hosts
        self._own: frozenset[str] = frozenset()
        self._zones = frozenset({zone} - {""})
        self._answered: frozenset[str] = self._zones
        self._clock = clock
        self.table = RouteTable()
        self.lost_ports: Mapping[str, PortLost] = {}
        """Routes whose port another one has, by id; `raw` finds them."""
        self.also_when_gone: list[Callable[[str], None]] = []
        """Told the id of each route that is taken out: what is kept by it elsewhere goes too."""
        self._sources: dict[str, set[str]] = {}
        """Ids of claimed routes in the table, by their cluster."""
        self._pinned: dict[str, RouteEntry] = {}
        self._dirty = _Dirty()
        self._changed = asyncio.Event()
        self._marks: list[asyncio.Event] = []
        self._tasks = TaskOwner("routes")
        self.reads: Counter[str] = Counter()
        """Reads of `everything` and of `changes`; for metrics."""

    def __repr__(self) -> str:
        return f"<RouteRegistry {len(self.table)} routes>"

    def find(self, host: str, path: bytes) -> Route | None:
        """Return what the edge does with a request; None for a host that is not ours to answer for."""
        if host in self._own:
            return None
        try:
            entry = self.table.find(host, path)
        except PathRefused:
            return AMBIGUOUS
        if entry is not None:
            return entry.route
        if self._answered and any(name in self._answered for name in parents(host)):
            return UNKNOWN
        return None

    def pin(self, host: str, route: Route) -> None:
        """Hold a route that settings declare, before any of the database and of the server's own names."""
        entry = RouteEntry(PINNED + host, host, route)
        self._pinned[host] = entry
        self._own -= {host}
        self.table.put(entry)

    async def start(self) -> None:
        """Read every route, and follow changes from then on."""
        ready = asyncio.Event()
        self._tasks.spawn("follow", self._follow(ready))
        await ready.wait()
        self._own = self._own_hosts()
        await self.load()
        self._tasks.spawn("refresh", self._refresh_for_ever())

    async def stop(self) -> None:
        await self._tasks.close()

    async def load(self) -> None:
        """Read everything anew, a page at a time: requests go on meanwhile, by what was known before."""
        self.reads["everything"] += 1
        found: dict[str, RouteEntry] = {}
        sources: dict[str, set[str]] = {}
        last, rows = "", PAGE
        while rows == PAGE:
            async with self._db.read() as tx:
                page = await repository.served(tx, last, PAGE)
            rows, last = len(page), page[-1].id if page else ""
            for row in page:
                entry = self._entries.entry(row)
                if entry is not None:
                    found[row.id] = entry
                if row.cluster_id:
                    sources.setdefault(row.cluster_id, set()).add(row.id)
        async with self._db.read() as tx:
            self._note_domains(await domains.all_verified(tx))
        self._sources = sources
        self._hold(found)
        self._entries.forget_but(found)
        _log.info("routes read", routes=len(self.table))

    def _hold(self, found: Mapping[str, RouteEntry]) -> None:
        """Have these routes in the table and no others, beside those that settings declare."""
        for entry in self.table:
            if entry.id not in found and not entry.id.startswith(PINNED):
                self._remove(entry.id)
        changed = [entry for entry in found.values() if self.table.get(entry.id) is not entry]
        late = [entry for entry in changed if self.table.put(entry) is not None]
        for entry in late:  # whose name another one still had that has given it up by now
            self.table.put(entry)

    async def settled(self) -> None:
        """Wait until every hint that came before was acted on: for callers that ask the edge right after a change.

        Not longer than `SETTLE_TIMEOUT`: a database that is away, or a server that stops, keeps nobody waiting.
        """
        if not len(self._tasks):
            return
        mark = asyncio.Event()
        self._marks.append(mark)
        self._bus.deliver(Event(MARK))
        with suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_TIMEOUT):
                await mark.wait()

    # -- following changes -----------------------------------------------------------------------

    async def _follow(self, ready: asyncio.Event) -> None:
        async with self._bus.subscribe("route", "cluster", "domain", MARK, RESYNC) as events:
            ready.set()
            async for event in events:
                self._dirty.note(event)
                self._dirty.marks += self._marks
                self._marks.clear()
                self._changed.set()

    async def _refresh_for_ever(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            dirty, self._dirty = self._dirty, _Dirty()
            try:
                await self._refresh(dirty)
            except ApiError as error:
                _log.warning("routes not read", why=error.message)
                await self._clock.sleep(RETRY_INTERVAL)
                self._dirty.everything = True
                self._changed.set()
            for mark in dirty.marks:
                mark.set()

    async def _refresh(self, dirty: _Dirty) -> None:
        if dirty.everything:
            await self.load()
            return
        gone = await self._gone(dirty.clusters)
        if dirty.ids or dirty.sources or gone:
            await self._look_again(dirty.ids, dirty.sources | gone)
        if dirty.domains:
            async with self._db.read() as tx:
                self._note_domains(await domains.all_verified(tx))

    async def _gone(self, cluster_ids: Collection[str]) -> set[str]:
        """Return those of some clusters that have claims here and do not exist any more."""
        ours = {cluster_id for cluster_id in cluster_ids if cluster_id in self._sources}
        if not ours:
            return set()
        async with self._db.read() as tx:
            return ours - set(await repository.cluster_names(tx, ours))

    async def _look_again(self, ids: Collection[str], sources: Collection[str]) -> None:
        self.reads["changes"] += 1
        async with self._db.read() as tx:
            rows = {row.id: row for row in await repository.by_ids(tx, ids)}
            for cluster_id in sources:
                rows |= {row.id: row for row in await repository.of_cluster(tx, cluster_id)}
        looked = set(ids).union(*(self._sources.get(one, ()) for one in sources), rows)
        for route_id in looked:  # names are given back before they are given out
            row = rows.get(route_id)
            if row is None or row.claim is None or not row.enabled:
                self._take_out(route_id)
        for row in rows.values():
            if row.claim is not None and row.enabled:
                self._put(row)

    def _put(self, row: PublishedRoute) -> None:
        entry = self._entries.entry(row)
        if entry is None:
            self._take_out(row.id)
        elif self.table.get(row.id) is not entry:
            held = self.table.put(entry)
            self._note_source(row)
            if held is not None and not held.id.startswith(PINNED):  # its own hint has yet to come
                self._dirty.ids |= {held.id, row.id}
                self._changed.set()

    def _take_out(self, route_id: str) -> None:
        self._remove(route_id)
        self._entries.forget(route_id)
        for ids in self._sources.values():
            ids.discard(route_id)

    def _remove(self, route_id: str) -> None:
        self.table.remove(route_id)
        for tell in self.also_when_gone:
            tell(route_id)

    def _note_source(self, row: PublishedRoute) -> None:
        if row.cluster_id:
            self._sources.setdefault(row.cluster_id, set()).add(row.id)

    def _note_domains(self, verified: Collection[str]) -> None:
        """Names of verified domains are ours to answer for, once the server knows its own name among them."""
        self._answered = self._zones | (frozenset(verified) if self._entries.knows_own_name else frozenset())
