"""What this host can do, found by looking, with a reason and the moment since when it cannot."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable

import msgspec

from towline.agent.docker.compose import ComposeTool
from towline.agent.docker.engine import Engine
from towline.agent.errors import DockerError, KubernetesError
from towline.agent.policy import LocalPolicy
from towline.aio.clock import REAL_CLOCK, Clock
from towline.wire import link

CHECK_INTERVAL = 20.0
"""Seconds between two looks: well below the minute in which a change must be seen."""

_PING_TIMEOUT = 5.0
_COMPOSE_MISSING = "Docker Compose is not installed; install the package docker-compose-plugin (or docker-compose-v2)"


class Version(msgspec.Struct, frozen=True, rename="pascal"):
    """Answer of `GET /version`."""

    version: str = ""
    api_version: str = ""


class Capabilities:
    """Looks now and then; `current` is the last answer."""

    def __init__(
        self,
        engine: Engine,
        find_compose: Callable[[], Awaitable[ComposeTool | None]],
        policy: Callable[[], LocalPolicy],
        *,
        find_kubernetes: Callable[[], Awaitable[str]],
        clock: Clock = REAL_CLOCK,
    ) -> None:
        """`find_kubernetes` returns the version of the API server, or raises KubernetesError with the reason."""
        self._find_kubernetes = find_kubernetes
        self._engine = engine
        self._find_compose = find_compose
        self._policy = policy
        self._clock = clock
        self._compose: ComposeTool | None = None
        self.current: tuple[link.Capability, ...] = ()
        self.versions: dict[str, str] = {}
        """`docker`, `compose` and `kubernetes`, when they answer."""
        self.last_errors: dict[str, tuple[str, float]] = {}
        """Why a capability was not ready the last time that it was not, and when, in seconds since the epoch."""
        self.looked_at = 0.0
        """Monotonic moment of the last look; 0 before the first."""
        self.look_seconds: dict[str, float] = {}
        """How long the last look at a capability took."""

    def __repr__(self) -> str:
        return f"<Capabilities {[(each.name, each.ready) for each in self.current]}>"

    def found(self, name: str) -> link.Capability | None:
        """Return what the last look found; None before the first one."""
        return next((each for each in self.current if each.name == name), None)

    async def compose_tool(self) -> ComposeTool | None:
        """Return the host's Compose, looked for again while there is none."""
        if self._compose is None:
            self._compose = await self._find_compose()
        return self._compose

    async def look(self) -> bool:
        """Look at everything; returns whether something changed."""
        found = (
            await self._timed("compose", self._look_compose()),
            await self._timed("kubernetes", self._look_kubernetes()),
            self._look_forward(),
        )
        known = {each.name: each for each in self.current}
        now = self._clock.now().timestamp()
        updated = tuple(_since(each, known.get(each.name), now) for each in found)
        changed = updated != self.current
        self.current = updated
        self.looked_at = self._clock.monotonic()
        self.last_errors.update({each.name: (each.reason, now) for each in updated if not each.ready})
        return changed

    async def _timed(self, name: str, look: Awaitable[link.Capability]) -> link.Capability:
        began = self._clock.monotonic()
        found = await look
        self.look_seconds[name] = self._clock.monotonic() - began
        return found

    async def _look_compose(self) -> link.Capability:
        if "compose" not in self._policy().capabilities:
            return _missing("compose", "the policy of this host does not allow it")
        try:
            docker = await self._engine.get(Version, "/version", timeout=_PING_TIMEOUT)
        except DockerError as error:
            self.versions.pop("docker", None)
            if "KUBERNETES_SERVICE_HOST" in os.environ:
                return _missing("compose", "this agent is a pod and serves its cluster; there is no Docker here")
            return _missing("compose", f"Docker does not answer: {error}")
        self.versions["docker"] = docker.version
        tool = await self.compose_tool()
        if tool is None:
            return _missing("compose", _COMPOSE_MISSING)
        self.versions["compose"] = tool.version
        return link.Capability(name="compose", ready=True, version=tool.version)

    async def _look_kubernetes(self) -> link.Capability:
        policy = self._policy()
        if "kubernetes" not in policy.capabilities or not policy.kubernetes.enabled:
            return _missing("kubernetes", "the policy of this host does not allow it")
        try:
            version = await self._find_kubernetes()
        except KubernetesError as error:
            self.versions.pop("kubernetes", None)
            return _missing("kubernetes", str(error))
        self.versions["kubernetes"] = version
        return link.Capability(name="kubernetes", ready=True, version=version)

    def _look_forward(self) -> link.Capability:
        if "forward" not in self._policy().capabilities:
            return _missing("forward", "the policy of this host does not allow it")
        return link.Capability(name="forward", ready=True, version="1")


def _missing(name: str, reason: str) -> link.Capability:
    return msgspec.convert({"name": name, "ready": False, "reason": reason}, link.Capability)


def _since(found: link.Capability, known: link.Capability | None, now: float) -> link.Capability:
    """Keep the moment since when a capability is as it is."""
    same = known is not None and (known.ready, known.reason) == (found.ready, found.reason)
    since = known.since if same and known is not None else now
    return msgspec.structs.replace(found, since=since)
