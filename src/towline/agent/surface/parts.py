"""What the agent has that the surface shows. Fields are the agent's own objects, never copies that could grow old."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from towline.agent.docker.engine import Engine
from towline.agent.host.capabilities import Capabilities
from towline.agent.host.inventory import Inventory
from towline.agent.identity import Store
from towline.agent.journal import Journal
from towline.agent.kubernetes.api import Api
from towline.agent.kubernetes.credentials import Credentials
from towline.agent.kubernetes.inventory import KubernetesInventory
from towline.agent.policy import LocalPolicy
from towline.agent.projects.records import Records
from towline.agent.settings import AgentSettings
from towline.agent.surface.linkstate import LinkState
from towline.agent.uplink.reports import Counts
from towline.agent.uplink.silence import Heard, Silence
from towline.aio.clock import REAL_CLOCK, Clock
from towline.aio.tasks import TaskOwner
from towline.tunnel.dial import Route


@dataclass(frozen=True, slots=True)
class Kubernetes:
    """The cluster beside the agent. It may be absent now (`credentials.current()` says why) and there later."""

    credentials: Credentials
    api: Api
    """Reads with the agent's own rights."""
    inventory: KubernetesInventory


@dataclass(frozen=True, slots=True)
class Docker:
    """The Docker engine of this host; it may be away now."""

    engine: Engine
    inventory: Inventory
    records: Records


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything that an endpoint may use."""

    settings: AgentSettings
    policy: Callable[[], LocalPolicy]
    """Reads the local policy anew; ask before each thing that it may forbid."""
    owner: TaskOwner
    """For background work that lives as long as the surface; closed when it stops."""
    capabilities: Capabilities
    link: LinkState
    counts: Counts
    started_at: datetime
    store: Store
    """Who this host is to a control plane; empty for a standalone agent that never joined."""
    route: Callable[[], Route]
    """How the control plane is reached. Raises IdentityError without an identity."""
    session: Callable[[], Heard | None] = lambda: None
    """The link that is up."""
    silence: Silence | None = None
    """How long the control plane has said nothing. A real agent always has it."""
    kubernetes: Kubernetes | None = None
    """A real agent always has both; None is for tests of what needs neither."""
    docker: Docker | None = None
    journal: Journal | None = None
    """Jobs of this agent. A real agent always has it."""
    clock: Clock = field(default=REAL_CLOCK)
