"""What the surface knows of the cluster: every object of five kinds as a row, fresh by watches while somebody asks.

Following begins with the first question and ends when nobody has asked or listened for a while, so that an agent whose
surface is only there for emergencies pays nothing. Namespaces that the host's policy leaves out are never in it. Where
a kind may not be read everywhere, it is read in the namespaces that the policy names, or in the agent's own.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import structlog

from towline.agent.kubernetes.api import Api
from towline.agent.kubernetes.credentials import SERVICE_ACCOUNT, own_namespace
from towline.agent.kubernetes.inventory import MOST_NAMESPACES
from towline.agent.kubernetes.table import Feed
from towline.agent.kubernetes.watches import Source, State, Watcher, may_read
from towline.agent.policy import KubernetesRules, LocalPolicy, fits
from towline.agent.surface import cluster
from towline.agent.surface.cluster import Row, Sort
from towline.agent.surface.errors import SurfaceError, unavailable
from towline.agent.surface.shelf import Listener, Shelf, What
from towline.aio.backoff import Backoff
from towline.aio.clock import REAL_CLOCK, Clock
from towline.aio.malloc import Ebb, give_back
from towline.aio.tasks import TaskOwner
from towline.kube import objects

READ_TIMEOUT = 15.0
"""Seconds that a question waits for the first whole list: 10,000 pods take some three."""
IDLE_SECONDS = 600.0
"""Seconds without a question or a listener after which the watches end."""
LOOK_INTERVAL = 5.0
"""Seconds between two looks at whether anybody still asks, whether the policy is another one, and what time changed."""
FIRST_DENIED_INTERVAL, DENIED_INTERVAL = 5.0, 60.0
"""Seconds at most before something that was denied is asked for again, at first and later: an API server that has just
started denies everything, and somebody may sit there and mend the rights."""
EVENT_AGE_SECONDS = 5.0
"""Events in a list that are older are history, and not told as news."""

EventListener = Callable[[dict[str, Any]], None]

_log = structlog.get_logger("towline.agent.surface")


class _News:
    """Takes events of the cluster, and tells those that are news. Nothing is kept of them.

    Args: now: the cluster's time: by a clock of ours that is wrong all of them, or none, would be news.
    """

    def __init__(self, allowed: Callable[[str], bool], told: EventListener, now: Callable[[], float]) -> None:
        self._allowed = allowed
        self._told = told
        self._now = now
        self._is_listing = False

    def begin(self) -> None:
        self._is_listing = True

    def put(self, found: objects.Event) -> None:
        """What a watch brings is news, even late: it happened after all that was known."""
        told = cluster.event(found)
        is_news = not self._is_listing or self._now() - told["at"] < EVENT_AGE_SECONDS
        if is_news and self._allowed(told["namespace"]):
            self._told(told)

    def remove(self, found: objects.Event) -> None:
        return

    def finish(self) -> None:
        self._is_listing = False

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
        service_account: Path = SERVICE_ACCOUNT,
        clock: Clock = REAL_CLOCK,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._api = api
        self._policy = policy
        self._owner = owner
        self._service_account = service_account
        self._clock = clock
        self._draw = draw
        self._listeners: list[Listener] = []
        self._event_listeners: list[EventListener] = []
        self._used_at = 0.0
        self._shelves: dict[str, Shelf] = {}
        self._rules: KubernetesRules | None = None
        self._running: asyncio.Task[None] | None = None
        self._ebb = Ebb()

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

    def rows_now(self, sort: Sort[Any]) -> dict[str, Row] | None:
        """Return what is known of a kind at this moment, without asking; None when it was not read."""
        shelf = self._shelves.get(sort.source.kind)
        return shelf.rows if shelf is not None and shelf.is_read else None

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
            sort.source.kind: Shelf(sort, self._allows, self._changed, self._clock, self._api.now)
            for sort in cluster.SORTS
        }

    def _allows(self, namespace: str) -> bool:
        return not namespace or (self._rules is not None and fits(namespace, self._rules.namespaces))

    async def _follow(self, rules: KubernetesRules) -> None:
        """Follow everything until nobody asks any more, or the policy is another one."""
        _log.debug("cluster followed for the surface")
        async with TaskOwner("surface cache") as owner:
            for shelf in self._shelves.values():
                owner.spawn(shelf.sort.source.kind, self._fill(shelf))
            owner.spawn("events", self._watch_events())
            while self._is_wanted(rules):
                self._look_at_memory()
                await self._clock.sleep(LOOK_INTERVAL)
                for shelf in self._shelves.values():
                    shelf.age()
        self._shelves = {}
        self._rules = None
        give_back()

    def _look_at_memory(self) -> None:
        shelves = self._shelves.values()
        self._ebb.note(sum(len(shelf.rows) for shelf in shelves), sum(shelf.removed for shelf in shelves))

    def _is_wanted(self, rules: KubernetesRules) -> bool:
        policy = self._policy()
        if "kubernetes" not in policy.capabilities or policy.kubernetes != rules:
            return False
        return bool(self._listeners) or self._clock.monotonic() - self._used_at < IDLE_SECONDS

    async def _fill(self, shelf: Shelf) -> None:
        """Keep one shelf for ever: everywhere when that is allowed, else in the namespaces that there are instead."""
        source = shelf.sort.source
        named = self._named(shelf.sort)
        if named:
            shelf.narrowed(named)
            await self._fill_named(shelf, {name: Feed(shelf, partial(shelf.turned, name)) for name in named})
        shelf.instead = self._own_namespace(shelf.sort)
        feed, pauses = Feed(shelf, partial(shelf.turned, "")), self._pauses()
        while True:
            if await self._watch(source, feed):
                pauses = self._pauses()
            feed.clear()
            if shelf.instead:
                feed = await self._fill_instead(shelf)
            else:
                await pauses.wait()

    async def _fill_instead(self, shelf: Shelf) -> Feed[Any]:
        """Read the agent's own namespace until everything may be read. Returns: what goes on with its rows."""
        (name,) = shelf.instead
        shelf.narrowed(shelf.instead)
        feed = Feed(shelf, partial(shelf.turned, name))
        pauses = self._pauses()
        async with TaskOwner(f"surface {shelf.sort.source.kind}") as owner:
            owner.spawn(name, self._fill_named(shelf, {name: feed}))
            await pauses.wait()
            while not await may_read(self._api, shelf.sort.source):
                await pauses.wait()
        shelf.narrowed(())
        return feed.heir(partial(shelf.turned, ""))

    async def _fill_named(self, shelf: Shelf, feeds: dict[str, Feed[Any]]) -> None:
        """Read some namespaces for ever."""
        async with TaskOwner(f"surface {shelf.sort.source.kind}") as owner:
            for name, feed in feeds.items():
                source = replace(shelf.sort.source, namespace=name)
                owner.spawn(name, self._watch_for_ever(source, feed, denied=feed.clear))
            await owner.join()

    async def _watch(self, source: Source[Any], sink: Any) -> bool:
        """Watch until that is denied. Returns: whether anything was read before."""
        watcher: Watcher[Any] = Watcher(self._api, source, sink, clock=self._clock, draw=self._draw)
        await watcher.run()
        return watcher.was_read

    async def _watch_for_ever(self, source: Source[Any], sink: Any, denied: Callable[[], None] = lambda: None) -> None:
        """Watch, with pauses while that is denied."""
        pauses = self._pauses()
        while True:
            if await self._watch(source, sink):
                pauses = self._pauses()
            denied()
            await pauses.wait()

    def _pauses(self) -> Backoff:
        return Backoff(first=FIRST_DENIED_INTERVAL, longest=DENIED_INTERVAL, clock=self._clock, draw=self._draw)

    async def _watch_events(self) -> None:
        async with TaskOwner("surface events") as owner:
            for name in self._named(cluster.PODS) or ("",):
                news = _News(self._allows, self._happened, self._api.now)
                owner.spawn(name or "all", self._watch_for_ever(replace(cluster.EVENTS, namespace=name), news))
            await owner.join()

    def _named(self, sort: Sort[Any]) -> tuple[str, ...]:
        """Return the namespaces of the policy when it names them one by one; nodes and namespaces have none."""
        patterns = self._rules.namespaces if self._rules is not None else ()
        if not sort.is_namespaced or any(letter in each for each in patterns for letter in "*?["):
            return ()
        return tuple(dict.fromkeys(patterns))[:MOST_NAMESPACES]

    def _own_namespace(self, sort: Sort[Any]) -> tuple[str, ...]:
        """Return the namespace that the agent itself is in, when it is in one that may be told."""
        if not sort.is_namespaced:
            return ()
        own = own_namespace(self._service_account)
        return (own,) if own and self._allows(own) else ()

    def _changed(self, what: What, name: str, row: Row) -> None:
        for listener in tuple(self._listeners):
            listener(what, name, row)

    def _happened(self, told: dict[str, Any]) -> None:
        for listener in tuple(self._event_listeners):
            listener(told)
