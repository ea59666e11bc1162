"""Which objects of the cluster the agent follows, with which rights, and what it says about itself while it does.

Each kind is read in all namespaces at once. Where that is not allowed, and the host's policy (or the agent's own
namespace) names some, those are read one by one; what remains unreadable is told as missing, with the API server's
words, and tried again only now and then.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import structlog
from msgspec import structs

from towline.agent.errors import KubernetesAbsent, KubernetesError, PolicyRefused
from towline.agent.kubernetes import described
from towline.agent.kubernetes.api import Api, Connection
from towline.agent.kubernetes.credentials import SERVICE_ACCOUNT, Credentials, own_namespace
from towline.agent.kubernetes.event_table import EventTable
from towline.agent.kubernetes.kubelets import Account, KubeletReader
from towline.agent.kubernetes.pod_table import PodTable
from towline.agent.kubernetes.sight import Sight
from towline.agent.kubernetes.table import Feed, Table
from towline.agent.kubernetes.tables import NamespaceTable, NodeTable, WorkloadTable
from towline.agent.kubernetes.telling import Teller
from towline.agent.kubernetes.usage import UsageSampler, UsageTeller
from towline.agent.kubernetes.usage_reading import Reading, unknown
from towline.agent.kubernetes.watches import Source, State, Watcher, may_read
from towline.agent.policy import KubernetesRules, LocalPolicy, fits
from towline.aio.backoff import Backoff
from towline.aio.clock import REAL_CLOCK, Clock
from towline.aio.malloc import Ebb
from towline.aio.tasks import TaskOwner
from towline.kube import objects
from towline.wire.kube_inventory import About

LOOK_INTERVAL = 20.0
"""Seconds between two looks at whether Kubernetes is there and the policy allows it."""
POLL_INTERVAL = 60.0
"""Seconds between two looks at the version."""
TICK_INTERVAL = 5.0
"""Seconds between two looks at what only time changes, and at counts that well pods alone have changed."""
COUNT_TICKS = 6
"""Ticks after which counts of pods by node are told: with each change they would tell every node all the time."""
FIRST_DENIED_INTERVAL, DENIED_INTERVAL = 5.0, 600.0
"""Seconds at most before something that was denied is asked for again, at first and later: an API server that has just
started denies everything, and rights that are missing mostly stay so."""
MOST_NAMESPACES = 20
"""Namespaces that are read one by one: each costs one connection for every kind."""

CORE, APPS, BATCH = "/api/v1", "/apis/apps/v1", "/apis/batch/v1"
VERSION_PATH = "/version"
_SMALL_BYTES = 64 * 1024

NODES: Source[objects.Node] = Source("nodes", CORE, objects.Node)
NAMESPACES: Source[objects.Namespace] = Source("namespaces", CORE, objects.Namespace)
PODS: Source[objects.Pod] = Source("pods", CORE, objects.Pod)
EVENTS: Source[objects.Event] = Source("events", CORE, objects.Event, fields="type=Warning")
WORKLOADS: tuple[tuple[str, Source[Any]], ...] = (
    ("Deployment", Source("deployments", APPS, objects.Deployment)),
    ("StatefulSet", Source("statefulsets", APPS, objects.StatefulSet)),
    ("DaemonSet", Source("daemonsets", APPS, objects.DaemonSet)),
    ("Job", Source("jobs", BATCH, objects.Job)),
    ("CronJob", Source("cronjobs", BATCH, objects.CronJob)),
)

_log = structlog.get_logger("towline.agent")
_version = msgspec.json.Decoder(objects.Version)


class KubernetesInventory:
    """Follows the cluster and tells of it. `teller` takes the links."""

    def __init__(
        self,
        credentials: Credentials,
        policy: Callable[[], LocalPolicy],
        *,
        api: Api | None = None,
        service_account: Path = SERVICE_ACCOUNT,
        kubelets: Account | None = None,
        kubelet_authorities: Path | None = None,
        clock: Clock = REAL_CLOCK,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._credentials = credentials
        self._policy = policy
        self._api = api or Api(credentials)
        self._service_account = service_account
        self._kubelets: KubeletReader | None = None
        if kubelets is not None:
            self._kubelets = KubeletReader(
                self._api, credentials, kubelets, lambda: self._nodes.kubelets, authorities=kubelet_authorities,
                clock=clock,
            )  # fmt: skip
        self._clock = clock
        self._draw = draw
        self.teller = Teller(self._gather, clock=clock)
        self.usage = UsageTeller()
        self.sampler = UsageSampler(
            self._api, self.usage, allowed=self._allows, named=lambda: self._named(PODS), read=self._measured,
            kubelets=self._kubelets, clock=clock,
        )  # fmt: skip
        self._begin(KubernetesRules())

    def __repr__(self) -> str:
        return f"<KubernetesInventory {self.teller!r}>"

    def watch_states(self) -> list[tuple[str, State]]:
        """Return kind and state of every watch, for figures."""
        return self._sight.states()

    async def run(self) -> None:
        """Follow the cluster for ever, whenever there is one and the policy lets it be told."""
        async with TaskOwner("kubernetes-telling") as owner:
            owner.spawn("tell", self.teller.run())
            while True:
                rules = self._rules()
                if rules is not None and self._is_there():
                    await self._follow_under(rules)
                    await self.usage.tell(unknown("the agent does not follow the cluster any more"))
                await self._clock.sleep(LOOK_INTERVAL)

    # -- whether -------------------------------------------------------------------------------

    def _rules(self) -> KubernetesRules | None:
        try:
            return self._policy().require_kubernetes()
        except PolicyRefused as error:
            if not self._is_withdrawn:
                self._withdraw(str(error))
            return None

    def _withdraw(self, why: str) -> None:
        """Tell that nothing is told any more, and take back what was told before."""
        self._is_withdrawn = True
        if not self._is_there():
            return
        self.teller.is_read = True
        self.teller.book.clear(About(away_since=self._clock.now().timestamp(), away_reason=why))
        self.teller.tell_whole()

    def _is_there(self) -> bool:
        try:
            self._credentials.current()
        except KubernetesAbsent:
            return False
        except KubernetesError as error:
            _log.info("cluster cannot be read", reason=str(error))
            return False
        return True

    async def _follow_under(self, rules: KubernetesRules) -> None:
        """Follow the cluster until the policy changes."""
        self._begin(rules)
        self._sight.expect(PODS.kind)
        async with TaskOwner("kubernetes-inventory") as owner:
            owner.spawn("ticks", self._tick())
            owner.spawn("poll", self._poll())
            owner.spawn("usage", self.sampler.run())
            self._spawn(owner, NODES, self._nodes)
            self._spawn(owner, NAMESPACES, self._namespaces)
            for _, source in WORKLOADS:
                self._spawn(owner, source, self._workloads[source.kind])
            self._spawn(owner, EVENTS, self._events)
            await self._sight.has_read({source.kind for _, source in WORKLOADS})
            self._spawn(owner, PODS, self._pods)  # owners of pods are found among the workloads
            while self._rules() == rules:
                await self._clock.sleep(LOOK_INTERVAL)

    def _begin(self, rules: KubernetesRules) -> None:
        """Begin with empty tables."""
        book = self.teller.book
        book.clear(About())
        self.teller.is_read = self._is_withdrawn = False
        self._patterns = rules.namespaces
        self._sight = Sight(book, self._read, clock=self._clock)
        self._pods = PodTable(book, self._allows, self._clock, self._api.now)
        self._nodes = NodeTable(book, self._allows, self._pods)
        self._namespaces = NamespaceTable(book, self._allows, self._pods)
        self._events = EventTable(book, self._allows, self._api.now)
        self._workloads = {source.kind: WorkloadTable(book, self._allows, kind) for kind, source in WORKLOADS}

    def _allows(self, namespace: str) -> bool:
        return not namespace or fits(namespace, self._patterns)

    def _read(self) -> None:
        """Everything was read once: from now on it is told."""
        self.teller.is_read = True
        self.teller.tell_whole()

    # -- following -----------------------------------------------------------------------------

    def _spawn(self, owner: TaskOwner, source: Source[Any], table: Table[Any]) -> None:
        self._sight.expect(source.kind)
        owner.spawn(source.kind, self._follow(source, table))

    async def _follow(self, source: Source[Any], table: Table[Any]) -> None:
        """Follow one kind for ever: everywhere when that is allowed, else in the namespaces that are named."""
        pauses = self._denied_pauses()
        while True:
            feed = Feed(table, lambda state, reason: self._turned(source, state, reason))
            if await self._watch(source, feed):
                pauses = self._denied_pauses()
            names = self._named(source)
            if names:
                await self._follow_named(source, table, names)
            else:
                await pauses.wait()

    async def _watch(self, source: Source[Any], feed: Feed[Any]) -> bool:
        """Watch until it is denied, and take everything back. Returns: whether anything was read before that."""
        watcher: Watcher[Any] = Watcher(self._api, source, feed, clock=self._clock, draw=self._draw)
        await watcher.run()
        feed.clear()
        return watcher.was_read

    async def _follow_named(self, source: Source[Any], table: Table[Any], names: tuple[str, ...]) -> None:
        """Follow one kind in some namespaces, until all of them may be read at once."""
        self._sight.narrowed(source.kind, names)
        self._namespaces.name(names)
        feeds: list[Feed[Any]] = []
        async with TaskOwner(f"kubernetes-{source.kind}") as owner:
            for name in names:
                one = replace(source, namespace=name)
                feeds.append(Feed(table, partial(self._sight.turned, source.kind, name)))
                owner.spawn(name, self._follow_one(one, feeds[-1]))
            pauses = self._denied_pauses()
            while not await may_read(self._api, source):
                await pauses.wait()
        for feed in feeds:
            feed.clear()
        self._sight.widened(source.kind)

    async def _follow_one(self, source: Source[Any], feed: Feed[Any]) -> None:
        pauses = self._denied_pauses()
        while True:
            if await self._watch(source, feed):
                pauses = self._denied_pauses()
            await pauses.wait()

    def _turned(self, source: Source[Any], state: State, reason: str) -> None:
        """What is denied everywhere and read in some namespaces is not missing."""
        if source is NAMESPACES:
            self._namespaces.derive(state is State.DENIED)
        if state is not State.DENIED or not self._named(source):
            self._sight.turned(source.kind, "", state, reason)

    def _denied_pauses(self) -> Backoff:
        return Backoff(first=FIRST_DENIED_INTERVAL, longest=DENIED_INTERVAL, clock=self._clock, draw=self._draw)

    def _named(self, source: Source[Any]) -> tuple[str, ...]:
        """Return the namespaces to read a kind in one by one: those of the policy, else the agent's own."""
        if source in (NODES, NAMESPACES):
            return ()
        patterns = self._patterns
        if not any(letter in pattern for pattern in patterns for letter in "*?["):
            return tuple(dict.fromkeys(patterns))[:MOST_NAMESPACES]
        own = own_namespace(self._service_account)
        return (own,) if own and self._allows(own) else ()

    # -- what time changes -----------------------------------------------------------------------

    async def _tick(self) -> None:
        ebb = Ebb()
        for ticks in itertools.count(1):
            await self._clock.sleep(TICK_INTERVAL)
            self._pods.settle()
            self._events.forget_old()
            self._sight.look()
            self._namespaces.recount()
            ebb.note(len(self._pods.keys), self._pods.removed)
            if ticks % COUNT_TICKS == 0:
                self._nodes.recount()

    def _gather(self) -> None:
        self._namespaces.recount()

    async def _poll(self) -> None:
        """Look at the version now and then."""
        while True:
            try:
                async with self._api.connection() as connection:
                    await self._look_version(connection)
            except KubernetesError as error:
                _log.debug("version not read", reason=str(error))
            await self._clock.sleep(POLL_INTERVAL)

    async def _look_version(self, connection: Connection) -> None:
        found = await connection.get(VERSION_PATH, _version, _SMALL_BYTES)
        book = self.teller.book
        book.about = structs.replace(
            book.about, version=described.word(found.git_version), platform=described.word(found.platform)
        )

    # -- usage -----------------------------------------------------------------------------------

    def _measured(self, reading: Reading) -> None:
        """Note what nodes use now, and whether there is a metrics API; one that was not reached says nothing."""
        book = self.teller.book
        book.about = structs.replace(book.about, metrics=reading.source == "metrics")
        self._nodes.measured(reading.nodes())
