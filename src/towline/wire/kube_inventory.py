"""What an agent tells of its Kubernetes cluster: the entries of the message `kube_inventory` of `towline.wire.link`.

Data only. Times are seconds since the epoch, 0 where unknown; amounts are cores and bytes. How they are found out is
the agent's matter, how they are kept the control plane's.
"""

from __future__ import annotations

from typing import Literal

import msgspec

Section = Literal["nodes", "namespaces", "workloads", "pods", "events"]
SECTIONS: tuple[Section, ...] = ("nodes", "namespaces", "workloads", "pods", "events")

MOST_ENTRIES: dict[Section, int] = {
    "nodes": 5_000,
    "namespaces": 5_000,
    "workloads": 10_000,
    "pods": 5_000,
    "events": 500,
}
"""Entries of each section that are told and kept: Kubernetes itself is built for 5,000 nodes, and nobody reads more
than some hundred events. Of pods, only those that are not well count."""


class _Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    pass


class Amounts(_Entry, frozen=True):
    """What a node has, gives to pods, or uses."""

    cpu: float = 0.0
    """Cores."""
    memory_bytes: int = 0
    pods: int = 0
    storage_bytes: int = 0
    """Ephemeral storage."""


class NodeCondition(_Entry, frozen=True):
    type: str
    status: str
    reason: str = ""
    message: str = ""
    since: float = 0.0


class Node(_Entry, frozen=True):
    name: str
    ready: bool = False
    trouble: str = ""
    """Why it is not well; empty for a node that is."""
    schedulable: bool = True
    roles: tuple[str, ...] = ()
    conditions: tuple[NodeCondition, ...] = ()
    taints: tuple[str, ...] = ()
    """`KEY=VALUE:EFFECT`."""
    capacity: Amounts = Amounts()
    allocatable: Amounts = Amounts()
    usage: Amounts | None = None
    """None where the cluster serves no metrics."""
    pods: int = 0
    """Pods on it that have not ended."""
    address: str = ""
    version: str = ""
    """Of its kubelet."""
    system: str = ""
    kernel: str = ""
    runtime: str = ""
    architecture: str = ""
    zone: str = ""
    instance_type: str = ""
    created_at: float = 0.0


class PodCounts(_Entry, frozen=True):
    total: int = 0
    running: int = 0
    pending: int = 0
    succeeded: int = 0
    failed: int = 0
    unwell: int = 0


class Namespace(_Entry, frozen=True):
    name: str
    phase: str = ""
    pods: PodCounts = PodCounts()
    created_at: float = 0.0


class Workload(_Entry, frozen=True):
    kind: str
    """Deployment, StatefulSet, DaemonSet, Job or CronJob."""
    namespace: str
    name: str
    state: str = ""
    """ready, progressing, degraded, paused; of jobs also running, complete, failed, suspended, scheduled."""
    reason: str = ""
    desired: int = 0
    desired_known: bool = True
    """False where nobody told how many pods it wants, or has of its newest form."""
    ready: int = 0
    updated: int = 0
    active: int = 0
    """Of jobs: pods that run; of cron jobs: jobs that run."""
    app: str = ""
    schedule: str = ""
    last_run_at: float = 0.0
    created_at: float = 0.0


class Crash(_Entry, frozen=True):
    """How a container of a pod ended that is started again, or will be."""

    container: str
    reason: str = ""
    exit_code: int = 0
    runs: bool = False
    """It runs at this moment, and has not for long enough to be well."""


class Pod(_Entry, frozen=True):
    """A pod that is not well."""

    namespace: str
    name: str
    phase: str = ""
    reason: str = ""
    node: str = ""
    owner_kind: str = ""
    owner: str = ""
    """The workload that it belongs to, not the ReplicaSet between."""
    restarts: int = 0
    crash: Crash | None = None
    """Told until the pod runs well or is gone. An agent that tells none says nothing of a pod that runs between two
    ends."""
    since: float = 0.0
    """When the agent first saw it unwell."""
    created_at: float = 0.0


class Event(_Entry, frozen=True):
    """Warnings of one reason about one object, as one."""

    namespace: str
    kind: str
    name: str
    reason: str
    message: str = ""
    count: int = 1
    first_at: float = 0.0
    last_at: float = 0.0


class Reference(_Entry, frozen=True):
    """An entry that is there no more."""

    section: Section
    key: str
    """As `entry_key` makes it."""


class Missing(_Entry, frozen=True):
    """A kind of objects that the agent cannot read, and why, in an operator's words."""

    kind: str
    namespace: str = ""
    reason: str = ""


class About(_Entry, frozen=True):
    """The cluster itself, and how well the agent sees it."""

    version: str = ""
    platform: str = ""
    metrics: bool = False
    namespaces: tuple[str, ...] = ()
    """Those that the agent reads; empty: all of them."""
    missing: tuple[Missing, ...] = ()
    away_since: float = 0.0
    """Since when the API server does not answer the agent; 0 while it does."""
    away_reason: str = ""


Entry = Node | Namespace | Workload | Pod | Event


def entry_key(entry: Entry) -> str:
    """Return what tells an entry from the others of its section."""
    match entry:
        case Node() | Namespace():
            return entry.name
        case Pod():
            return f"{entry.namespace}/{entry.name}"
        case Workload():
            return f"{entry.kind}/{entry.namespace}/{entry.name}"
        case Event():
            return f"{entry.kind}/{entry.namespace}/{entry.name}/{entry.reason}"
