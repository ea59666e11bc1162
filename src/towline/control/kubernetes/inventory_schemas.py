"""What the API gives of the inventory of Kubernetes clusters. Every field is always there."""

from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator


def _moment(seconds: Any) -> Any:
    """Read the agent's seconds; nothing for a moment that nobody knows."""
    if not isinstance(seconds, int | float):
        return seconds
    try:
        return datetime.fromtimestamp(seconds, UTC) if seconds > 0 else None
    except (OverflowError, ValueError, OSError):
        return None


Moment = Annotated[datetime | None, BeforeValidator(_moment)]


class AmountsOut(BaseModel):
    cpu: float = 0.0
    """Cores."""
    memory_bytes: int = 0
    pods: int = 0
    storage_bytes: int = 0


class NodeConditionOut(BaseModel):
    type: str
    status: str
    reason: str = ""
    message: str = ""
    since: Moment = None


class NodeOut(BaseModel):
    name: str
    ready: bool = False
    trouble: str = ""
    schedulable: bool = True
    roles: list[str] = []
    conditions: list[NodeConditionOut] = []
    taints: list[str] = []
    capacity: AmountsOut = AmountsOut()
    allocatable: AmountsOut = AmountsOut()
    usage: AmountsOut | None = None
    """Null where the cluster serves no metrics."""
    pods: int = 0
    address: str = ""
    version: str = ""
    system: str = ""
    kernel: str = ""
    runtime: str = ""
    architecture: str = ""
    zone: str = ""
    instance_type: str = ""
    created_at: Moment = None


class PodCountsOut(BaseModel):
    total: int = 0
    running: int = 0
    pending: int = 0
    succeeded: int = 0
    failed: int = 0
    unwell: int = 0


class NamespaceOut(BaseModel):
    name: str
    phase: str = ""
    pods: PodCountsOut = PodCountsOut()
    created_at: Moment = None


class WorkloadOut(BaseModel):
    kind: str
    namespace: str
    name: str
    state: str = ""
    reason: str = ""
    desired: int = 0
    desired_known: bool = True
    """False where the agent does not tell `desired` and `updated`."""
    ready: int = 0
    updated: int = 0
    active: int = 0
    app: str = ""
    schedule: str = ""
    last_run_at: Moment = None
    created_at: Moment = None


class UnwellPodOut(BaseModel):
    namespace: str
    name: str
    phase: str = ""
    reason: str = ""
    node: str = ""
    owner_kind: str = ""
    owner: str = ""
    restarts: int = 0
    since: Moment = None
    created_at: Moment = None


class KubeEventOut(BaseModel):
    namespace: str
    kind: str
    name: str
    reason: str
    message: str = ""
    count: int = 1
    first_at: Moment = None
    last_at: Moment = None


class MissingOut(BaseModel):
    kind: str
    namespace: str = ""
    reason: str = ""


class ClusterName(BaseModel):
    id: str
    name: str


class UnwellOut(BaseModel):
    """Something that is not well; of what kind says `kind`: Node, Deployment, Pod, …"""

    kind: str
    namespace: str
    name: str
    reason: str
    since: datetime | None


class NodeCountsOut(BaseModel):
    total: int = 0
    ready: int = 0
    unwell: int = 0
    capacity: AmountsOut = AmountsOut()
    allocatable: AmountsOut = AmountsOut()
    usage: AmountsOut | None = None
    """Of all nodes together; null when none is measured."""


class KindCountsOut(BaseModel):
    total: int = 0
    unwell: int = 0


class WorkloadCountsOut(KindCountsOut):
    kinds: dict[str, KindCountsOut] = {}


class KubernetesOut(BaseModel):
    """What is known of a cluster, and how fresh it is."""

    cluster: ClusterName
    state: str
    """live, partial (some kinds cannot be read), away, or unknown (nothing was ever told)."""
    reason: str
    """Why it is not live, in a sentence; else empty."""
    connected: bool
    as_of: datetime | None
    """The moment that all this is the state of."""
    age: float
    """Seconds since then."""
    version: str
    platform: str
    metrics: bool
    namespaces_read: list[str]
    """Those that the agent may read; empty: all."""
    missing: list[MissingOut]
    restricted: bool
    """The caller sees some namespaces alone, and nothing of the nodes."""
    nodes: NodeCountsOut | None
    namespaces: int
    pods: PodCountsOut
    workloads: WorkloadCountsOut
    events: int
    unwell: list[UnwellOut]
    """The gravest twenty; all of them are in the lists."""
