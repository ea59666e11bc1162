"""The parts of Kubernetes objects that the inventory reads, and nothing else of them.

Partial structs: a decoder skips every other field without building it, so a list of 5,000 pods costs megabytes and not
hundreds. `gc=False` holds because these are trees. Times stay text (RFC 3339), amounts stay quantities. What they mean
is in `troubles` and `quantities`. A field that Go may write as null is optional here.
"""

from typing import Generic, TypeVar

import msgspec


class Part(msgspec.Struct, frozen=True, gc=False, kw_only=True, rename="camel"):
    """A part of some object; unknown fields are skipped."""


class Owner(Part, frozen=True, gc=False):
    kind: str = ""
    name: str = ""
    controller: bool = False


class Labels(Part, frozen=True, gc=False):
    """The labels by which people recognise an application."""

    app: str = ""
    app_name: str = msgspec.field(name="app.kubernetes.io/name", default="")
    instance: str = msgspec.field(name="app.kubernetes.io/instance", default="")


class NodeLabels(Part, frozen=True, gc=False):
    """The labels by which people recognise a node."""

    zone: str = msgspec.field(name="topology.kubernetes.io/zone", default="")
    instance_type: str = msgspec.field(name="node.kubernetes.io/instance-type", default="")
    architecture: str = msgspec.field(name="kubernetes.io/arch", default="")
    control_plane: str | None = msgspec.field(name="node-role.kubernetes.io/control-plane", default=None)
    """Empty on a node of the control plane, absent on others."""


class Metadata(Part, frozen=True, gc=False):
    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
    labels: Labels | None = None
    owner_references: tuple[Owner, ...] | None = None

    @property
    def owner(self) -> Owner | None:
        """The controller that made this object."""
        return next((owner for owner in self.owner_references or () if owner.controller), None)


class NodeMetadata(Part, frozen=True, gc=False):
    name: str = ""
    uid: str = ""
    resource_version: str = ""
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
    labels: NodeLabels | None = None


class ListMetadata(Part, frozen=True, gc=False):
    resource_version: str = ""
    continue_token: str = msgspec.field(name="continue", default="")
    remaining_item_count: int | None = None


class Condition(Part, frozen=True, gc=False):
    type: str = ""
    status: str = ""
    reason: str = ""
    message: str = ""
    last_transition_time: str | None = None


# -- nodes and namespaces -----------------------------------------------------------------------


class Address(Part, frozen=True, gc=False):
    type: str = ""
    address: str = ""


class Taint(Part, frozen=True, gc=False):
    key: str = ""
    value: str = ""
    effect: str = ""


class NodeSpec(Part, frozen=True, gc=False):
    unschedulable: bool = False
    taints: tuple[Taint, ...] | None = None


class NodeInfo(Part, frozen=True, gc=False):
    kubelet_version: str = ""
    os_image: str = ""
    kernel_version: str = ""
    container_runtime_version: str = ""
    architecture: str = ""


class Endpoint(Part, frozen=True, gc=False):
    port: int = msgspec.field(name="Port", default=0)


class DaemonEndpoints(Part, frozen=True, gc=False):
    kubelet_endpoint: Endpoint = Endpoint()


class NodeStatus(Part, frozen=True, gc=False):
    daemon_endpoints: DaemonEndpoints = DaemonEndpoints()
    conditions: tuple[Condition, ...] | None = None
    capacity: dict[str, str] | None = None
    allocatable: dict[str, str] | None = None
    addresses: tuple[Address, ...] | None = None
    node_info: NodeInfo = NodeInfo()


class Node(Part, frozen=True, gc=False):
    metadata: NodeMetadata = NodeMetadata()
    spec: NodeSpec = NodeSpec()
    status: NodeStatus = NodeStatus()


class NamespaceStatus(Part, frozen=True, gc=False):
    phase: str = ""


class Namespace(Part, frozen=True, gc=False):
    metadata: Metadata = Metadata()
    status: NamespaceStatus = NamespaceStatus()


# -- pods ---------------------------------------------------------------------------------------


class Waiting(Part, frozen=True, gc=False):
    reason: str = ""
    message: str = ""


class Terminated(Part, frozen=True, gc=False):
    reason: str = ""
    message: str = ""
    exit_code: int = 0
    signal: int = 0
    started_at: str | None = None
    finished_at: str | None = None


class Running(Part, frozen=True, gc=False):
    started_at: str | None = None


class ContainerState(Part, frozen=True, gc=False):
    waiting: Waiting | None = None
    running: Running | None = None
    terminated: Terminated | None = None


class ContainerStatus(Part, frozen=True, gc=False):
    name: str = ""
    ready: bool = False
    started: bool | None = None
    restart_count: int = 0
    state: ContainerState = ContainerState()
    last_state: ContainerState = ContainerState()


class PodSpec(Part, frozen=True, gc=False):
    node_name: str = ""


class PodStatus(Part, frozen=True, gc=False):
    phase: str = ""
    reason: str = ""
    message: str = ""
    start_time: str | None = None
    pod_ip: str = msgspec.field(name="podIP", default="")
    conditions: tuple[Condition, ...] | None = None
    container_statuses: tuple[ContainerStatus, ...] | None = None
    init_container_statuses: tuple[ContainerStatus, ...] | None = None


class Pod(Part, frozen=True, gc=False):
    metadata: Metadata = Metadata()
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()

    @property
    def restarts(self) -> int:
        """How often containers of this pod began again."""
        return sum(status.restart_count for status in self.status.container_statuses or ())


# -- workloads ----------------------------------------------------------------------------------


class ReplicasSpec(Part, frozen=True, gc=False):
    replicas: int | None = None
    """Absent means one."""
    paused: bool = False


class ReplicasStatus(Part, frozen=True, gc=False):
    replicas: int = 0
    ready_replicas: int = 0
    updated_replicas: int = 0
    available_replicas: int = 0
    observed_generation: int = 0
    conditions: tuple[Condition, ...] | None = None


class Deployment(Part, frozen=True, gc=False):
    metadata: Metadata = Metadata()
    spec: ReplicasSpec = ReplicasSpec()
    status: ReplicasStatus = ReplicasStatus()


class StatefulSet(Deployment, frozen=True, gc=False):
    pass


class DaemonSetStatus(Part, frozen=True, gc=False):
    desired_number_scheduled: int = 0
    number_ready: int = 0
    updated_number_scheduled: int = 0
    number_available: int = 0


class DaemonSet(Part, frozen=True, gc=False):
    metadata: Metadata = Metadata()
    status: DaemonSetStatus = DaemonSetStatus()


class ReplicaSet(Part, frozen=True, gc=False):
    """Only the link between a pod and its deployment."""

    metadata: Metadata = Metadata()


class JobSpec(Part, frozen=True, gc=False):
    completions: int | None = None
    parallelism: int | None = None
    suspend: bool | None = None


class JobStatus(Part, frozen=True, gc=False):
    active: int = 0
    succeeded: int = 0
    failed: int = 0
    ready: int | None = None
    start_time: str | None = None
    completion_time: str | None = None
    conditions: tuple[Condition, ...] | None = None


class Job(Part, frozen=True, gc=False):
    metadata: Metadata = Metadata()
    spec: JobSpec = JobSpec()
    status: JobStatus = JobStatus()


class CronJobSpec(Part, frozen=True, gc=False):
    schedule: str = ""
    suspend: bool | None = None


class CronJobStatus(Part, frozen=True, gc=False):
    active: tuple[Owner, ...] | None = None
    last_schedule_time: str | None = None
    last_successful_time: str | None = None


class CronJob(Part, frozen=True, gc=False):
    metadata: Metadata = Metadata()
    spec: CronJobSpec = CronJobSpec()
    status: CronJobStatus = CronJobStatus()


class Counts(msgspec.Struct, frozen=True, gc=False):
    """How far a workload is; equal numbers are a settled one."""

    desired: int
    ready: int
    updated: int


def counts(workload: Deployment | DaemonSet | Job) -> Counts:
    """Return desired, ready and updated of a workload; of a job, the completions it wants and has."""
    if isinstance(workload, DaemonSet):
        daemons = workload.status
        return Counts(daemons.desired_number_scheduled, daemons.number_ready, daemons.updated_number_scheduled)
    if isinstance(workload, Job):
        wanted = workload.spec.completions
        done = workload.status.succeeded
        return Counts(1 if wanted is None else wanted, done, done)
    wanted = workload.spec.replicas
    return Counts(1 if wanted is None else wanted, workload.status.ready_replicas, workload.status.updated_replicas)


# -- events and usage ---------------------------------------------------------------------------


class Involved(Part, frozen=True, gc=False):
    kind: str = ""
    namespace: str = ""
    name: str = ""
    uid: str = ""


class Series(Part, frozen=True, gc=False):
    count: int = 0
    last_observed_time: str | None = None


class Event(Part, frozen=True, gc=False):
    """An event of the core API; those of the newer API are served there too, with their count in `series`."""

    metadata: Metadata = Metadata()
    type: str = ""
    reason: str = ""
    message: str = ""
    involved_object: Involved = Involved()
    count: int = 0
    first_timestamp: str | None = None
    last_timestamp: str | None = None
    event_time: str | None = None
    series: Series | None = None

    @property
    def times(self) -> int:
        """How often it happened."""
        return self.series.count if self.series is not None else max(self.count, 1)

    @property
    def last_time(self) -> str:
        """When it happened last, by whichever field the reporter filled."""
        series = self.series.last_observed_time if self.series is not None else None
        return series or self.last_timestamp or self.event_time or self.metadata.creation_timestamp or ""


class NodeMetrics(Part, frozen=True, gc=False):
    metadata: NodeMetadata = NodeMetadata()
    timestamp: str | None = None
    window: str | None = None
    """Over which it was measured, as Go writes durations: `15.2s`, `1m0s`."""
    usage: dict[str, str] | None = None


class ContainerMetrics(Part, frozen=True, gc=False):
    name: str = ""
    usage: dict[str, str] | None = None


class PodMetrics(Part, frozen=True, gc=False):
    metadata: Metadata = Metadata()
    timestamp: str | None = None
    containers: tuple[ContainerMetrics, ...] | None = None


class StatsCpu(Part, frozen=True, gc=False):
    usage_nano_cores: int | None = None
    """None until it was measured twice."""


class StatsMemory(Part, frozen=True, gc=False):
    working_set_bytes: int | None = None


class StatsReference(Part, frozen=True, gc=False):
    name: str = ""
    namespace: str = ""


class NodeStats(Part, frozen=True, gc=False):
    cpu: StatsCpu | None = None
    memory: StatsMemory | None = None


class PodStats(Part, frozen=True, gc=False):
    pod_ref: StatsReference = StatsReference()
    cpu: StatsCpu | None = None
    memory: StatsMemory | None = None


class StatsSummary(Part, frozen=True, gc=False):
    """What a kubelet says at `/stats/summary`."""

    node: NodeStats = NodeStats()
    pods: tuple[PodStats, ...] | None = None


# -- lists and errors ---------------------------------------------------------------------------

T = TypeVar("T")


class List(Part, Generic[T], frozen=True, gc=False):
    """One page of a list; `List[Pod]` is its type for a decoder."""

    metadata: ListMetadata = ListMetadata()
    items: list[T] | None = None


class Status(Part, frozen=True, gc=False):
    """How the API server says no."""

    status: str = ""
    reason: str = ""
    message: str = ""
    code: int = 0


class Version(Part, frozen=True, gc=False):
    """The answer of /version."""

    git_version: str = ""
    platform: str = ""


class TokenStatus(Part, frozen=True, gc=False):
    token: str = ""


class TokenRequest(Part, frozen=True, gc=False):
    """The answer to a request for a token of a ServiceAccount."""

    status: TokenStatus = TokenStatus()

    def __repr__(self) -> str:
        return "<TokenRequest>"
