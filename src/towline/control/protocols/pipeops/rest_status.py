"""What a PipeOps REST agent says of its cluster, in the words of the inventory: bodies in, `KubeInventory` out. Pure.

Such an agent tells names and whether things are ready, all of it each time. What it does not tell is said to be
missing, never counted as nothing. Moments are ours: an agent's clock decides nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from msgspec.structs import replace

from towline.kube.quantities import BadQuantity, parse_quantity
from towline.wire import kube_inventory as wire
from towline.wire import link, rfc3339
from towline.wire import pipeops_rest as rest

SETTLE_SECONDS = 25.0
"""What is not ready is told when it still is not in a status that comes this much later: every rollout passes through
that state. Less than the shortest interval of statuses that was seen."""
STUCK_SECONDS = 300.0
"""A pod that has waited for so long is not merely starting: large images are pulled within minutes."""
DEADLINE_SECONDS = 600.0
"""A deployment that is not ready for so long has failed. Source: Kubernetes, `progressDeadlineSeconds`, its default."""
WORD_CHARACTERS = 253
"""Longest name of Kubernetes; what is longer is cut."""
MOST_WHOLE = 2**53
"""Whole numbers beyond it lose digits in JSON; no cluster has as many bytes."""

DEPLOYMENT = "Deployment"
POD_HASH = "pod-template-hash"
"""Label of a deployment's pods: their ReplicaSet's name ends in it."""
ROLE_PREFIX = "node-role.kubernetes.io/"
ZONE = "topology.kubernetes.io/zone"
INSTANCE_TYPE = "node.kubernetes.io/instance-type"

NOT_TOLD = "an agent of the PipeOps REST protocol does not tell of it"
MISSING = tuple(
    wire.Missing(kind=kind, reason=NOT_TOLD)
    for kind in ("StatefulSet", "DaemonSet", "Job", "CronJob", "Event", "usage", "replica counts", "node conditions")
)

Entry = wire.Node | wire.Namespace | wire.Workload | wire.Pod
Key = tuple[wire.Section, str]


@dataclass(slots=True)
class Book:
    """What was told of one cluster, so that later only what changed is told. Begins with all of it."""

    _told: dict[Key, Entry] | None = None
    _unready: dict[Key, float] = field(default_factory=dict)
    """Since when something is not ready, by our monotonic clock and by what a status said."""

    def __repr__(self) -> str:
        return f"<Book {'nothing told' if self._told is None else len(self._told)}>"

    def forget(self) -> None:
        """Tell all of it with the next status."""
        self._told = None

    def take(self, status: rest.Status, *, now: float, version: str = "") -> link.KubeInventory | None:
        """Return what is to be told after a status; None when nothing has changed.

        Args: now: seconds since the epoch, by our clock. version: of the cluster, when the agent told one.
        """
        entries = {_key(entry): entry for entry in self._entries(status, now)}
        before, self._told = self._told, entries
        if before is None:
            about = wire.About(version=version[:WORD_CHARACTERS], missing=MISSING)
            return _message(entries.values(), about=about, full=True)
        changed = [entry for key, entry in entries.items() if before.get(key) != entry]
        gone = tuple(wire.Reference(section=section, key=key) for section, key in before.keys() - entries.keys())
        return _message(changed, removed=gone) if changed or gone else None

    def _entries(self, status: rest.Status, now: float) -> Iterator[Entry]:
        pods = [one for one in status.pods if one.name and one.namespace]
        deployments = [one for one in status.deployments if one.name and one.namespace]
        known = {(one.namespace, one.name) for one in deployments}
        owners = {id(one): _owner(one, known) for one in pods}
        unready = self._unready_since(pods, deployments, now)
        unwell = [entry for one in pods if (entry := _unwell(one, owners[id(one)], unready, now)) is not None]
        yield from _nodes(status.nodes, pods)
        yield from _namespaces(status.namespaces, pods, unwell)
        ready = Counter((one.namespace, owners[id(one)]) for one in pods if one.ready)
        for one in deployments[: wire.MOST_ENTRIES["workloads"]]:
            yield _workload(one, ready[one.namespace, one.name], unready, now)
        yield from unwell[: wire.MOST_ENTRIES["pods"]]

    def _unready_since(
        self, pods: Iterable[rest.Pod], deployments: Iterable[rest.Workload], now: float
    ) -> Mapping[Key, float]:
        """Note since when each thing is not ready; what is ready, or gone, is forgotten."""
        found: dict[Key, float] = {}
        for pod in pods:
            if not pod.ready and pod.phase != "Succeeded":
                key: Key = ("pods", f"{pod.namespace}/{pod.name}")
                found[key] = self._unready.get(key, now)
        for one in deployments:
            if not one.ready:
                key = ("workloads", f"{one.namespace}/{one.name}")
                found[key] = self._unready.get(key, now)
        self._unready = found
        return found


def _message(
    entries: Iterable[Entry],
    *,
    about: wire.About | None = None,
    full: bool = False,
    removed: tuple[wire.Reference, ...] = (),
) -> link.KubeInventory:
    listed = tuple(entries)
    return link.KubeInventory(
        full=full,
        about=about,
        nodes=tuple(one for one in listed if isinstance(one, wire.Node)),
        namespaces=tuple(one for one in listed if isinstance(one, wire.Namespace)),
        workloads=tuple(one for one in listed if isinstance(one, wire.Workload)),
        pods=tuple(one for one in listed if isinstance(one, wire.Pod)),
        removed=removed,
    )


def _key(entry: Entry) -> Key:
    match entry:
        case wire.Node():
            return "nodes", wire.entry_key(entry)
        case wire.Namespace():
            return "namespaces", wire.entry_key(entry)
        case wire.Workload():
            return "workloads", wire.entry_key(entry)
        case wire.Pod():
            return "pods", wire.entry_key(entry)


# -- nodes and namespaces --------------------------------------------------------------------------


def _nodes(nodes: Iterable[rest.Node], pods: Iterable[rest.Pod]) -> Iterator[wire.Node]:
    running = Counter(one.node_name for one in pods if one.phase not in ("Succeeded", "Failed"))
    named = [one for one in nodes if one.name]
    for one in named[: wire.MOST_ENTRIES["nodes"]]:
        yield wire.Node(
            name=word(one.name),
            ready=one.ready,
            trouble="" if one.ready else "not ready",
            roles=tuple(sorted(word(key.removeprefix(ROLE_PREFIX)) for key in one.labels if _is_role(key))),
            capacity=amounts(one.resources.capacity),
            allocatable=amounts(one.resources.allocatable),
            pods=running[one.name],
            version=word(one.version),
            system=word(one.os),
            architecture=word(one.arch),
            zone=word(one.labels.get(ZONE, "")),
            instance_type=word(one.labels.get(INSTANCE_TYPE, "")),
        )


def _is_role(label: str) -> bool:
    return label.startswith(ROLE_PREFIX) and len(label) > len(ROLE_PREFIX)


def _namespaces(names: Iterable[str], pods: Iterable[rest.Pod], unwell: Iterable[wire.Pod]) -> Iterator[wire.Namespace]:
    phases = Counter((one.namespace, one.phase) for one in pods)
    totals = Counter(one.namespace for one in pods)
    sick = Counter(one.namespace for one in unwell)
    every = list(dict.fromkeys(name for name in (*names, *totals) if name))
    for name in every[: wire.MOST_ENTRIES["namespaces"]]:
        counts = wire.PodCounts(
            total=totals[name],
            running=phases[name, "Running"],
            pending=phases[name, "Pending"],
            succeeded=phases[name, "Succeeded"],
            failed=phases[name, "Failed"],
            unwell=sick[name],
        )
        yield wire.Namespace(name=word(name), pods=counts)


# -- pods and deployments --------------------------------------------------------------------------


def _owner(pod: rest.Pod, deployments: set[tuple[str, str]]) -> str:
    """Return the deployment that made a pod, by its name `DEPLOYMENT-HASH-RANDOM`; empty when that is not known."""
    head, found, _ = pod.name.rpartition(f"-{pod.labels.get(POD_HASH, '-')}-")
    return head if found and (pod.namespace, head) in deployments else ""


def _unwell(pod: rest.Pod, owner: str, unready: Mapping[Key, float], now: float) -> wire.Pod | None:
    since = unready.get(("pods", f"{pod.namespace}/{pod.name}"), now)
    reason = _trouble(pod, now - since)
    if not reason:
        return None
    return wire.Pod(
        namespace=word(pod.namespace),
        name=word(pod.name),
        phase=word(pod.phase),
        reason=reason,
        node=word(pod.node_name),
        owner_kind=DEPLOYMENT if owner else "",
        owner=word(owner),
        restarts=max(0, min(pod.restarts, 2**31 - 1)),
        since=since,
        created_at=moment(pod.created_at),
    )


def _trouble(pod: rest.Pod, unready_seconds: float) -> str:
    """Say what is wrong with a pod as far as the agent tells; empty for one that is well, done or merely starting."""
    if pod.phase in ("Failed", "Unknown"):
        return f"{pod.phase}; the agent does not tell why"
    if pod.ready or pod.phase == "Succeeded":
        return ""
    restarts = f", {pod.restarts} restarts" if pod.restarts > 0 else ""
    if pod.phase == "Pending":
        return f"still not started{restarts}" if unready_seconds >= STUCK_SECONDS else ""
    return f"not ready{restarts}" if unready_seconds >= SETTLE_SECONDS else ""


def _workload(one: rest.Workload, ready_pods: int, unready: Mapping[Key, float], now: float) -> wire.Workload:
    entry = wire.Workload(
        kind=DEPLOYMENT,
        namespace=word(one.namespace),
        name=word(one.name),
        state="ready",
        ready=ready_pods,
        desired_known=False,
        app=word(one.labels.get("app.kubernetes.io/name") or one.labels.get("app", "")),
        created_at=moment(one.created_at),
    )
    if one.ready:
        return entry
    failed = now - unready.get(("workloads", f"{one.namespace}/{one.name}"), now) >= DEADLINE_SECONDS
    return replace(entry, state="degraded" if failed else "progressing", reason="not ready")


# -- words and amounts -------------------------------------------------------------------------------


def word(text: str) -> str:
    return text[:WORD_CHARACTERS]


def moment(text: str) -> float:
    """Return an RFC 3339 time as seconds since the epoch; 0 for what is none."""
    found = rfc3339.parse(text)
    return found.timestamp() if found is not None else 0.0


def amounts(quantities: Mapping[str, str]) -> wire.Amounts:
    """Read the quantities of a resource list; what is not told is 0, which pages show as unknown."""
    return wire.Amounts(
        cpu=round(_quantity(quantities.get("cpu", "")), 3),
        memory_bytes=int(_quantity(quantities.get("memory", ""))),
        pods=int(_quantity(quantities.get("pods", ""))),
        storage_bytes=int(_quantity(quantities.get("ephemeral-storage", ""))),
    )


def _quantity(text: str) -> float:
    try:
        return max(0.0, min(parse_quantity(text), MOST_WHOLE)) if text else 0.0
    except BadQuantity:
        return 0.0
