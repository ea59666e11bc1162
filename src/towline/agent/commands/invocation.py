"""One command at work: what it is, whose it is, and what it works with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from towline.agent.commands.cluster import Cluster
from towline.agent.commands.output import Output
from towline.agent.docker.engine import Engine
from towline.agent.errors import KubernetesAbsent
from towline.agent.policy import LocalPolicy
from towline.aio.clock import REAL_CLOCK, Clock
from towline.commandline.plan import Plan


@dataclass(frozen=True, slots=True)
class Invocation:
    """What the doing of every verb gets."""

    plan: Plan
    output: Output
    policy: Callable[[], LocalPolicy]
    engine: Engine = field(repr=False)
    before_write: Callable[[], None] = field(repr=False, default=lambda: None)
    """Called before each change: it is on disk then that the command may have happened."""
    api: Cluster | None = None
    """For kubectl."""
    clock: Clock = REAL_CLOCK
    protected: tuple[str, ...] = ()
    """Folders of the agent itself, which nobody mounts."""

    @property
    def cluster(self) -> Cluster:
        """Return the way to the API server. Raises: KubernetesAbsent."""
        if self.api is None:
            raise KubernetesAbsent("this agent has no Kubernetes")
        return self.api
