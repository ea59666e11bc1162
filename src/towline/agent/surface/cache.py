"""What the surface knows of the cluster: every object of five kinds as a row, fresh by watches while somebody asks.

Following begins with the first question and ends when nobody has asked or listened for a while, so that an agent whose
surface is only there for emergencies pays nothing. Namespaces that the host's policy leaves out are never in it. Where
a kind may not be read everywhere, it is read in the namespaces that the policy names.
"""

from __future__ import annotations

import asyncio
import bisect
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import structlog

from towline.agent.kubernetes.api import Api
from towline.agent.kubernetes.inventory import MOST_NAMESPACES
from towline.agent.kubernetes.table import Feed
from towline.agent.kubernetes.watches import Source, State, Watcher
from towline.agent.policy import KubernetesRules, LocalPolicy, fits
from towline.agent.surface import cluster
from towline.agent.surface.cluster import Row, Sort
from towline.agent.surface.errors import SurfaceError, unavailable
from towline.agent.surface.selectors import Selector
from towline.aio.clock import REAL_CLOCK, Clock
from towline.aio.tasks import TaskOwner
from towline.kube import objects

READ_TIMEOUT = 15.0
"""Seconds that a question waits for the first whole list: 10,000 pods take some three."""
IDLE_SECONDS = 600.0
"""Seconds without a question or a listener after which the watches end."""
LOOK_INTERVAL = 5.0
"""Seconds between two looks at whether anybody still asks, and whether the policy is another one."""
DENIED_INTERVAL = 60.0
"""Seconds before something that was denied is asked for again: somebody sits there and mends the rights."""
EVENT_AGE_SECONDS = 5.0
"""Events of the cluster that are older when they are first seen are history, and not told as news."""

What = Literal["added", "changed", "removed"]
Listener = Callable[[What, str, Row], None]
EventListener = Callable[[dict[str, Any]], None]

_log = structlog.get_logger("towline.agent.surface")


@dataclass(frozen=True, slots=True)
class Freshness:
    """How much a shelf is worth. `age`: seconds since it was known to be current; 0 while a watch is open."""

    state: State
    age: float
    reason: str
    namespaces: tuple[str, ...]
    """Those that were read one by one; empty: all."""


class Shelf:
    """The rows of one kind. Fed by one watcher, or by one for each namespace."""

    def __init__(self, sort: Sort[Any], allowed: Callable[[str], bool], told: Listener, clock: Clock) -> None:
        self.sort = sort
        self.rows: dict[str, Row] = {}
        self.namespaces: tuple[str, ...] = ()
        self.is_read = False
        """True once everything was read, or denied."""
        self.settled = asyncio.Event()
        """Set while there is something to say: rows, or why there are none."""
        self._allowed = allowed
        self._told = told
        self._clock = clock
        self._keys: list[str] | None = []
        self._states: dict[str, tuple[State, str]] = {}
        self._current_at = clock.monotonic()

    def __repr__(self) -> str:
        return f"<Shelf {len(self.rows)} {self.sort.source.kind} {self.freshness.state}>"

    # what a feed uses

    def key(self, found: Any) -> str:
        metadata = found.metadata
        return f"{metadata.namespace}/{metadata.name}"

    def put(self, found: Any) -> str:
        metadata = found.metadata
        if not self._allowed(metadata.name if self.sort is cluster.NAMESPACES else metadata.namespace):
            return ""
        row = self.sort.row(found)
        before = self.rows.get(row.key)
        self.rows[row.key] = row
        if before is None:
            self._keys = None
        if self.is_read and (before is None or before.shown != row.shown):
            self._told("added" if before is None else "changed", self.sort.name, row)
        return row.key

    def remove(self, key: str) -> None:
        row = self.rows.pop(key, None)
        if row is not None:
            self._keys = None
            self._told("removed", self.sort.name, row)

    def turned(self, namespace: str, state: State, reason: str) -> None:
        """One of the watchers is in another state."""
        if self.freshness.state is State.FOLLOWING:
            self._current_at = self._clock.monotonic()
        self._states[namespace] = (state, reason)
        is_narrowed = state is State.DENIED and not namespace and self.namespaces
        if not is_narrowed and self._are_all(State.FOLLOWING, State.DENIED):
            self.is_read = True
        if self.is_read or state is State.AWAY:
            self.settled.set()
        else:
            self.settled.clear()

    def narrowed(self, namespaces: tuple[str, ...]) -> None:
        """From now on these namespaces are read one by one; none: all at once."""
        self.namespaces = namespaces
        self._states.clear()

    # what questions use

    @property
    def freshness(self) -> Freshness:
        """The worst of what the watchers say."""
        order = (State.AWAY, State.LISTING, State.DENIED, State.FOLLOWING)
        state, reason = min(self._states.values(), key=lambda each: order.index(each[0]), default=(State.LISTING, ""))
        age = 0.0 if state is State.FOLLOWING else self._clock.monotonic() - self._current_at
        return Freshness(state, round(age, 3), reason, self.namespaces)

    def page(
        self, *, namespace: str = "", selector: Selector, behind: str = "", limit: int
    ) -> tuple[list[Row], str, int]:
        """Return rows in the order of their keys. Returns besides: the last key, if there are more, and how many."""
        if self._keys is None:
            self._keys = sorted(self.rows)
        begin = bisect.bisect_right(self._keys, behind) if behind else 0
        rows = (self.rows[key] for key in self._keys[begin:])
        found = [row for row in rows if (not namespace or row.namespace == namespace) and selector.matches(row.labels)]
        more = len(found) - limit
        return (found[:limit], found[limit - 1].key, more) if more > 0 else (found, "", 0)

    def _are_all(self, *states: State) -> bool:
        known = self._states.values()
        expected = len(self.namespaces) or 1
        return len(known) >= expected and all(state in states for state, _ in known)


class _News:
    """Takes events of the cluster, and tells those that are news. Nothing is kept of them."""

    def __init__(self, allowed: Callable[[str], bool], told: EventListener, clock: Clock) -> None:
        self._allowed = allowed
        self._told = told
        self._clock = clock

    def begin(self) -> None:
        return

    def put(self, found: objects.Event) -> None:
        told = cluster.event(found)
        if self._allowed(told["namespace"]) and self._clock.now().timestamp() - told["at"] < EVENT_AGE_SECONDS:
            self._told(told)

    def remove(self, found: objects.Event) -> None:
        return

    def finish(self) -> None:
        return

    def turned(self, state: State, reason: str) -> None:
        return


class ClusterCache:
    """The shelves, and who follows for them."""

    def __init__(
        self,
        api: Api,
        policy: Callable[[], LocalPolicy],
        owner: TaskOwner,
        *,
        clock: Clock = REAL_CLOCK,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._api = api
        self._policy = policy
        self._owner = owner
        self._clock = clock
        self._draw = draw
        self._listeners: list[Listener] = []
        self._event_listeners: list[EventListener] = []
        self._used_at = 0.0
        self._shelves: dict[str, Shelf] = {}
        self._rules: KubernetesRules | None = None
        self._running: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<ClusterCache {'followed' if self.is_followed else 'idle'} {list(self._shelves.values())}>"

    @property
    def is_followed(self) -> bool:
        return self._running is not None and not self._running.done()

    async def shelf(self, sort: Sort[Any]) -> Shelf:
        """Return a shelf that has been read once. Raises: SurfaceError, PolicyRefused, KubernetesError."""
        self.use()
        shelf = self._shelves[sort.source.kind]
        try:
            async with asyncio.timeout(READ_TIMEOUT):
                await shelf.settled.wait()
        except TimeoutError as error:
            reason = f"{sort.source.kind} were not read within {READ_TIMEOUT:g} s"
            raise unavailable("Kubernetes", reason) from error
        fresh = shelf.freshness
        if not shelf.is_read:
            raise unavailable("Kubernetes", fresh.reason)
        if fresh.state is State.DENIED and not shelf.rows:
            raise SurfaceError("forbidden", f"the agent may not read {sort.source.kind}: {fresh.reason}")
        return shelf

    def use(self) -> None:
        """Begin to follow, or go on. Raises: PolicyRefused: nothing may be told."""
        rules = self._policy().require_kubernetes()
        self._used_at = self._clock.monotonic()
        if self.is_followed and rules == self._rules:
            return
        if self._running is not None:
            self._running.cancel()
        self._begin(rules)
        self._running = self._owner.spawn("cluster cache", self._follow(rules))

    def standing(self) -> dict[str, Any]:
        """Return how the watches do, in a word and the reason for it; the worst of them counts."""
        states = [shelf.freshness for shelf in self._shelves.values()]
        if not self.is_followed or not states:
            return {"state": "idle", "reason": ""}
        away = next((each for each in states if each.state is State.AWAY), None)
        if away is not None:
            return {"state": "away", "reason": away.reason}
        return {
            "state": "reading" if any(each.state is State.LISTING for each in states) else "connected",
            "reason": "",
        }

    def listen(self, listener: Listener, events: EventListener | None = None) -> Callable[[], None]:
        """Call functions at each change, and with each event of the cluster. Returns: what ends that."""
        self._listeners.append(listener)
        if events is not None:
            self._event_listeners.append(events)
        return partial(self._unlisten, listener, events)

    def _unlisten(self, listener: Listener, events: EventListener | None) -> None:
        if listener in self._listeners:
            self._listeners.remove(listener)
        if events in self._event_listeners:
            self._event_listeners.remove(events)

    # -- following -----------------------------------------------------------------------------

    def _begin(self, rules: KubernetesRules) -> None:
        self._rules = rules
        self._shelves = {
            sort.source.kind: Shelf(sort, self._allows, self._changed, self._clock) for sort in cluster.SORTS
        }

    def _allows(self, namespace: str) -> bool:
        return not namespace or (self._rules is not None and fits(namespace, self._rules.namespaces))

    async def _follow(self, rules: KubernetesRules) -> None:
        """Follow everything until nobody asks any more, or the policy is another one."""
        _log.debug("cluster followed for the surface")
        async with TaskOwner("surface cache") as owner:
            for shelf in self._shelves.values():
                owner.spawn(shelf.sort.source.kind, self._fill(shelf))
            news = _News(self._allows, self._happened, self._clock)
            owner.spawn("events", self._watch_events(news))
            while self._is_wanted(rules):
                await self._clock.sleep(LOOK_INTERVAL)
        self._shelves = {}
        self._rules = None

    def _is_wanted(self, rules: KubernetesRules) -> bool:
        policy = self._policy()
        if "kubernetes" not in policy.capabilities or policy.kubernetes != rules:
            return False
        return bool(self._listeners) or self._clock.monotonic() - self._used_at < IDLE_SECONDS

    async def _fill(self, shelf: Shelf) -> None:
        """Keep one shelf for ever: everywhere when that is allowed, else in the namespaces that the policy names."""
        source = shelf.sort.source
        names = self._named(shelf.sort)
        while True:
            shelf.narrowed(())
            if not names:
                await self._feed(shelf, source, "")
                await self._clock.sleep(DENIED_INTERVAL)
                continue
            shelf.narrowed(names)
            async with TaskOwner(f"surface {source.kind}") as owner:
                tasks = [owner.spawn(name, self._feed_for_ever(shelf, source, name)) for name in names]
                await asyncio.wait(tasks)

    async def _feed_for_ever(self, shelf: Shelf, source: Source[Any], namespace: str) -> None:
        while True:
            await self._feed(shelf, replace(source, namespace=namespace), namespace)
            await self._clock.sleep(DENIED_INTERVAL)

    async def _feed(self, shelf: Shelf, source: Source[Any], namespace: str) -> None:
        """Feed a shelf until it is denied."""
        feed = Feed(shelf, partial(shelf.turned, namespace))
        await Watcher(self._api, source, feed, clock=self._clock, draw=self._draw).run()
        feed.clear()

    async def _watch_events(self, news: _News) -> None:
        names = self._named(cluster.PODS)
        async with TaskOwner("surface events") as owner:
            for name in names or ("",):
                owner.spawn(name or "all", self._watch_events_of(news, name))
            await owner.join()

    async def _watch_events_of(self, news: _News, namespace: str) -> None:
        source = replace(cluster.EVENTS, namespace=namespace)
        while True:
            await Watcher(self._api, source, news, clock=self._clock, draw=self._draw).run()
            await self._clock.sleep(DENIED_INTERVAL)

    def _named(self, sort: Sort[Any]) -> tuple[str, ...]:
        """Return the namespaces of the policy when it names them one by one; nodes and namespaces have none."""
        patterns = self._rules.namespaces if self._rules is not None else ()
        if not sort.is_namespaced or any(letter in each for each in patterns for letter in "*?["):
            return ()
        return tuple(dict.fromkeys(patterns))[:MOST_NAMESPACES]

    def _changed(self, what: What, name: str, row: Row) -> None:
        for listener in tuple(self._listeners):
            listener(what, name, row)

    def _happened(self, told: dict[str, Any]) -> None:
        for listener in tuple(self._event_listeners):
            listener(told)
