"""Claims of the agent's own Kubernetes cluster: what is followed when, and what changes whose claims.

Services are always followed: by them controllers are found, the cluster's reach is judged, and streams find their
addresses. Ingresses and HTTPRoutes are followed when the cluster is private, or when the settings say so.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog

from towline.agent.errors import KubernetesAbsent, KubernetesError, PolicyRefused
from towline.agent.kubernetes.api import Api
from towline.agent.kubernetes.credentials import SERVICE_ACCOUNT, Credentials
from towline.agent.kubernetes.directory import Directory
from towline.agent.kubernetes.watches import Source, State
from towline.agent.policy import LocalPolicy
from towline.agent.routes import httproute, ingress
from towline.agent.routes.book import Source as Kind
from towline.agent.routes.controllers import ADDRESS_TIMEOUT, Controller, is_private, recognise
from towline.agent.routes.following import Follower
from towline.agent.routes.shelf import Shelf
from towline.agent.routes.telling import RouteTeller
from towline.aio.clock import REAL_CLOCK, Clock
from towline.aio.tasks import TaskOwner
from towline.kube import traffic
from towline.wire.link import WatchIngresses

LOOK_INTERVAL = 20.0
"""Seconds between two looks at whether Kubernetes is there and the policy is the same."""
CONTROLLER_PATIENCE = 120.0
"""Seconds that a controller whose Service vanished still counts: charts may make it anew, and without it requests would
go past the controller to the backends."""

SERVICES: Source[traffic.Service] = Source("services", "/api/v1", traffic.Service)
CLASSES: Source[traffic.IngressClass] = Source("ingressclasses", "/apis/networking.k8s.io/v1", traffic.IngressClass)
INGRESSES: Source[traffic.Ingress] = Source("ingresses", "/apis/networking.k8s.io/v1", traffic.Ingress)
HTTPROUTES: Source[traffic.HttpRoute] = Source("httproutes", "/apis/gateway.networking.k8s.io/v1", traffic.HttpRoute)
GATEWAYS: Source[traffic.Gateway] = Source("gateways", "/apis/gateway.networking.k8s.io/v1", traffic.Gateway)
_NEEDED = frozenset({SERVICES.kind, CLASSES.kind, INGRESSES.kind})
"""Kinds that the claims of an ingress are made of."""
_NEEDED_BY_ROUTES = frozenset({HTTPROUTES.kind, GATEWAYS.kind})
"""Kinds that the claims of an HTTPRoute are made of; without a right to read Gateways it inherits no host."""

_log = structlog.get_logger("towline.agent")


class ClusterRoutes:
    """Keeps the claims of the cluster's objects in a teller's book, and services in a directory."""

    def __init__(
        self,
        credentials: Credentials,
        policy: Callable[[], LocalPolicy],
        teller: RouteTeller,
        directory: Directory,
        *,
        api: Api | None = None,
        service_account: Path = SERVICE_ACCOUNT,
        clock: Clock = REAL_CLOCK,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._credentials = credentials
        self._policy = policy
        self._teller = teller
        self._api = api or Api(credentials)
        self._service_account = service_account
        self._clock = clock
        self._draw = draw
        self._choice: WatchIngresses = "auto"
        self._changed = asyncio.Event()
        self._services: Shelf[traffic.Service] = Shelf(self._service_changed)
        self._classes: Shelf[traffic.IngressClass] = Shelf(lambda _: self._translate_all())
        self._ingresses: Shelf[traffic.Ingress] = Shelf(self._translate, traffic.Ingress.without_copy)
        self._routes: Shelf[traffic.HttpRoute] = Shelf(self._translate_route)
        self._gateways: Shelf[traffic.Gateway] = Shelf(lambda _: self._translate_heirs())
        directory.watched = self._services.objects
        self._read: set[str] = set()
        """Kinds that were read whole."""
        self._denied: set[str] = set()
        """Kinds that may not be read."""
        self._controllers: dict[str, Controller] = {}
        self._without_address: dict[str, float] = {}
        """Since when load balancers are seen without an address."""
        self.is_private: bool | None = None
        """Whether nobody outside reaches the cluster by itself; None while that is not known."""
        self._allowed = policy()
        self._expect()

    def __repr__(self) -> str:
        reach = {True: "private", False: "public", None: "of unknown reach"}[self.is_private]
        return f"<ClusterRoutes {reach}, {len(self._ingresses.objects)} ingresses, {len(self._routes.objects)} routes>"

    @property
    def choice(self) -> WatchIngresses:
        """What the control plane's settings say about following ingresses."""
        return self._choice

    @choice.setter
    def choice(self, choice: WatchIngresses) -> None:
        if choice != self._choice:
            self._choice = choice
            self._changed.set()

    async def run(self) -> None:
        """Follow the cluster for ever, whenever there is one and the policy lets it publish."""
        while True:
            policy = self._policy()
            if self._is_there() and self._may_follow(policy):
                await self._follow_under(policy)
            else:
                self._rest()
                await self._wait(LOOK_INTERVAL)

    # -- whether -------------------------------------------------------------------------------

    def _expect(self) -> None:
        for kind in self._kinds():
            self._teller.expect(kind)

    def _kinds(self) -> tuple[Kind, ...]:
        """Return the sources of the cluster that the policy allows."""
        kinds: tuple[Kind, ...] = ("ingress", "httproute")
        return tuple(kind for kind in kinds if self._allowed.may_claim(kind))

    def _is_there(self) -> bool:
        try:
            self._credentials.current()
        except KubernetesAbsent:
            return False
        except KubernetesError as error:
            _log.info("cluster cannot be read", reason=str(error))
            return False
        return True

    def _may_follow(self, policy: LocalPolicy) -> bool:
        try:
            policy.require_kubernetes()
        except PolicyRefused:
            return False
        return policy.gateway.enabled

    def _rest(self) -> None:
        """There is nothing to follow, and nothing to claim."""
        self._stop_following()
        self._begin_anew()
        self.is_private = None

    def _begin_anew(self) -> None:
        """Forget objects, and keep what they claim until they were read again."""
        self._read.clear()
        self._denied.clear()
        for shelf in (self._services, self._classes, self._ingresses, self._routes, self._gateways):
            shelf.clear()

    # -- following -----------------------------------------------------------------------------

    async def _follow_under(self, policy: LocalPolicy) -> None:
        """Follow the cluster until the policy changes."""
        self._allowed = policy
        self._begin_anew()
        self._expect()
        follower = Follower(
            self._api, policy.gateway.namespaces, self._turned,
            service_account=self._service_account, clock=self._clock, draw=self._draw,
        )  # fmt: skip
        async with TaskOwner("cluster-routes") as owner:
            owner.spawn(SERVICES.kind, follower.follow(SERVICES, self._services))
            while self._policy() == policy:
                self._judge()
                if self._is_wanted():
                    await self._follow_sources(follower, policy)
                elif self._knows(SERVICES.kind):
                    self._stop_following()
                await self._wait(self._next_look())

    async def _follow_sources(self, follower: Follower, policy: LocalPolicy) -> None:
        """Follow what may claim names until settings, the cluster's reach or the policy say otherwise."""
        self._expect()
        async with TaskOwner("route-sources") as owner:
            if policy.may_claim("ingress"):
                owner.spawn(CLASSES.kind, follower.follow(CLASSES, self._classes, is_cluster_wide=True))
                owner.spawn(INGRESSES.kind, follower.follow(INGRESSES, self._ingresses))
            if policy.may_claim("httproute"):
                owner.spawn(GATEWAYS.kind, follower.follow(GATEWAYS, self._gateways))
                owner.spawn(HTTPROUTES.kind, follower.follow(HTTPROUTES, self._routes))
            while self._is_wanted(is_following=True) and self._policy() == policy:
                await self._wait(self._next_look())
                self._judge()
        if not self._is_wanted(is_following=True):
            self._stop_following()

    def _stop_following(self) -> None:
        """Let go of what the sources claim."""
        for kind in (CLASSES.kind, INGRESSES.kind, *_NEEDED_BY_ROUTES):
            self._read.discard(kind)
            self._denied.discard(kind)
        self._lose("ingress")
        self._lose("httproute")
        for shelf in (self._ingresses, self._classes, self._routes, self._gateways):
            shelf.clear()

    def _lose(self, source: Kind) -> None:
        self._teller.book.let_go(f"{source}/")
        self._teller.left(source)

    def _is_wanted(self, *, is_following: bool = False) -> bool:
        """A load balancer that waits for its address ends nothing that goes on already."""
        looks_private = self.is_private is True or (is_following and self.is_private is None)
        return self._choice == "on" or (self._choice == "auto" and looks_private)

    async def _wait(self, seconds: float) -> None:
        """Wait for a change, or for some time."""
        timer = self._clock.call_later(seconds, self._changed.set)
        try:
            await self._changed.wait()
        finally:
            timer.cancel()
        self._changed.clear()

    def _knows(self, kind: str) -> bool:
        """A kind was read, or may not be."""
        return kind in self._read or kind in self._denied

    def _turned(self, kind: str, state: State, reason: str) -> None:
        if state is State.DENIED:
            if kind not in self._denied:
                _log.info("not followed for routes", kind=kind, reason=reason)
            self._denied.add(kind)
            self._read.discard(kind)
            self._note_known(kind)
        elif state is State.FOLLOWING:
            is_news = kind not in self._read
            self._denied.discard(kind)
            self._read.add(kind)
            if is_news:
                self._note_known(kind)

    def _note_known(self, kind: str) -> None:
        """Once everything that a source's claims are made of is known, they are."""
        if kind in _NEEDED_BY_ROUTES:
            if all(map(self._knows, _NEEDED_BY_ROUTES)):
                self._note_source("httproute", HTTPROUTES.kind, self._routes, self._translate_route)
        elif all(map(self._knows, _NEEDED)):
            self._note_source("ingress", INGRESSES.kind, self._ingresses, self._translate)
        if kind == SERVICES.kind:
            self._changed.set()

    def _note_source(self, source: Kind, kind: str, shelf: Shelf[Any], translate: Callable[[str], None]) -> None:
        if kind in self._denied:
            self._lose(source)
            return
        for key in list(shelf.objects):
            translate(key)
        self._teller.book.let_go(f"{source}/", but={f"{source}/{key}" for key in shelf.objects})
        self._teller.has_read(source)

    # -- claims --------------------------------------------------------------------------------

    def _translate(self, key: str) -> None:
        """Bring the claims of one ingress up to date; before everything was read they would be guesses."""
        if INGRESSES.kind not in self._read or not all(map(self._knows, _NEEDED)):
            return
        found = self._ingresses.objects.get(key)
        claims: Any = ()
        if found is not None and self._allowed.may_claim("ingress", found.metadata.namespace):
            controllers = [
                one for one in self._controllers.values() if self._allowed.may_claim("ingress", one.namespace)
            ]
            claims = ingress.claims(found, ingress.Surroundings(self._classes.objects, controllers))
        self._teller.book.put(f"ingress/{key}", claims)

    def _translate_all(self) -> None:
        for key in list(self._ingresses.objects):
            self._translate(key)

    def _translate_heirs(self) -> None:
        """Bring the claims of the routes up to date whose hosts their Gateways name."""
        for key, route in list(self._routes.objects.items()):
            if not route.spec.hostnames:
                self._translate_route(key)

    def _translate_route(self, key: str) -> None:
        if HTTPROUTES.kind not in self._read or not self._knows(GATEWAYS.kind):
            return
        found = self._routes.objects.get(key)
        allowed = found is not None and self._allowed.may_claim("httproute", found.metadata.namespace)
        claims = httproute.claims(found, self._gateways.objects) if found is not None and allowed else ()
        self._teller.book.put(f"httproute/{key}", claims)

    # -- controllers, and the cluster's reach ----------------------------------------------------

    def _service_changed(self, key: str) -> None:
        service = self._services.objects.get(key)
        controller = recognise(service) if service is not None else None
        if controller is not None:
            self._take_controllers({**self._controllers, key: controller})
        elif key in self._controllers:
            self._clock.call_later(CONTROLLER_PATIENCE, self._forget_controller, key)

    def _forget_controller(self, key: str) -> None:
        service = self._services.objects.get(key)
        if service is None or recognise(service) is None:
            self._take_controllers({known: one for known, one in self._controllers.items() if known != key})

    def _take_controllers(self, controllers: dict[str, Controller]) -> None:
        if controllers != self._controllers:
            self._controllers = dict(sorted(controllers.items()))
            self._translate_all()
            self._changed.set()

    def _judge(self) -> None:
        """Find out whether the cluster is private; nothing is known before its services were read."""
        if SERVICES.kind not in self._read:
            self.is_private = None
            return
        now = self._clock.monotonic()
        waiting = [one.key for one in self._controllers.values() if one.type == "LoadBalancer" and not one.addresses]
        self._without_address = {key: self._without_address.get(key, now) for key in waiting}
        ages = {key: now - since for key, since in self._without_address.items()}
        found = is_private(self._controllers.values(), ages)
        if found is not self.is_private:
            _log.info("cluster judged", private=found, controllers=list(self._controllers))
        self.is_private = found

    def _next_look(self) -> float:
        """Return how long nothing but a change can make a difference."""
        now = self._clock.monotonic()
        ends = (since + ADDRESS_TIMEOUT - now for since in self._without_address.values())
        return min([LOOK_INTERVAL, *(left for left in ends if left > 0)])
