"""Objects of the API server in the words of the inventory. Pure: partial objects in, entries of the wire out.

Every text is cut here, so that an entry stays below a few KiB whatever a cluster writes into its objects.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec.structs import replace

from towline.kube import objects
from towline.kube.quantities import BadQuantity, parse_quantity
from towline.kube.times import moment
from towline.kube.troubles import Crash, Trouble
from towline.wire import kube_inventory as wire

MESSAGE_CHARACTERS = 300
"""Of a condition or an event: two or three lines of a page."""
WORD_CHARACTERS = 128
"""Of what is a word or two: reasons, versions, schedules."""
MOST_CONDITIONS = 16
MOST_TAINTS = 16
PRESSURES = frozenset({"MemoryPressure", "DiskPressure", "PIDPressure", "NetworkUnavailable"})
"""Conditions of a node that are bad when they are true."""
MOST_WHOLE = 2**53
"""Whole numbers beyond it lose digits in JSON; no cluster has as many bytes."""

Workload = objects.Deployment | objects.DaemonSet | objects.Job | objects.CronJob


def word(text: str | None) -> str:
    return (text or "")[:WORD_CHARACTERS]


# -- nodes --------------------------------------------------------------------------------------


def node(found: objects.Node, *, pods: int = 0, usage: wire.Amounts | None = None) -> wire.Node:
    """Describe a node with what others know about it: how many pods it runs, and what they use."""
    metadata, info = found.metadata, found.status.node_info
    labels = metadata.labels or objects.NodeLabels()
    conditions = found.status.conditions or ()
    return wire.Node(
        name=metadata.name,
        ready=any(one.type == "Ready" and one.status == "True" for one in conditions),
        trouble=node_trouble(conditions),
        schedulable=not found.spec.unschedulable,
        roles=("control-plane",) if labels.control_plane is not None else (),
        conditions=tuple(_condition(one) for one in conditions[:MOST_CONDITIONS]),
        taints=tuple(_taint(one) for one in (found.spec.taints or ())[:MOST_TAINTS]),
        capacity=amounts(found.status.capacity),
        allocatable=amounts(found.status.allocatable),
        usage=usage,
        pods=pods,
        address=_address(found.status.addresses or ()),
        version=word(info.kubelet_version),
        system=word(info.os_image),
        kernel=word(info.kernel_version),
        runtime=word(info.container_runtime_version),
        architecture=word(info.architecture or labels.architecture),
        zone=word(labels.zone),
        instance_type=word(labels.instance_type),
        created_at=moment(metadata.creation_timestamp),
    )


def node_trouble(conditions: Iterable[objects.Condition]) -> str:
    """Return why a node is not well, worst first; empty for one that is."""
    by_type = {one.type: one for one in conditions}
    ready = by_type.get("Ready")
    if ready is None:
        return "the node has not reported yet"
    if ready.status != "True":
        words = f"not ready: {ready.reason}" if ready.reason else "not ready"
        return f"{words}: {ready.message}"[:MESSAGE_CHARACTERS] if ready.message else words
    pressed = [one.type for one in by_type.values() if one.type in PRESSURES and one.status == "True"]
    return ", ".join(sorted(pressed))


def amounts(quantities: Mapping[str, str] | None) -> wire.Amounts:
    """Read the quantities of a resource list; one that cannot be read counts as nothing."""
    held = quantities or {}
    return wire.Amounts(
        cpu=round(_quantity(held.get("cpu", "")), 3),
        memory_bytes=_whole(held.get("memory", "")),
        pods=_whole(held.get("pods", "")),
        storage_bytes=_whole(held.get("ephemeral-storage", "")),
    )


def _quantity(text: str) -> float:
    try:
        return max(0.0, min(parse_quantity(text), MOST_WHOLE)) if text else 0.0
    except BadQuantity:
        return 0.0


def _whole(text: str) -> int:
    return int(_quantity(text))


def _condition(one: objects.Condition) -> wire.NodeCondition:
    return wire.NodeCondition(
        type=word(one.type),
        status=word(one.status),
        reason=word(one.reason),
        message=one.message[:MESSAGE_CHARACTERS],
        since=moment(one.last_transition_time),
    )


def _taint(one: objects.Taint) -> str:
    return word(f"{one.key}={one.value}:{one.effect}" if one.value else f"{one.key}:{one.effect}")


def kubelet(found: objects.Node) -> tuple[str, int]:
    """Return where a node's kubelet listens: its internal address alone, and 0 for a port that it does not say."""
    internal = (one.address for one in found.status.addresses or () if one.type == "InternalIP")
    return next(internal, ""), found.status.daemon_endpoints.kubelet_endpoint.port


def _address(addresses: Iterable[objects.Address]) -> str:
    """Return the internal address, else the first there is."""
    ranked = sorted(addresses, key=lambda one: one.type != "InternalIP")
    return word(ranked[0].address) if ranked else ""


# -- pods ---------------------------------------------------------------------------------------


def pod(found: objects.Pod, owner: tuple[str, str], trouble: Trouble) -> wire.Pod | None:
    """Describe a pod that is not well, with the workload that it belongs to; None for one that is well."""
    if not trouble.words:
        return None
    metadata = found.metadata
    return wire.Pod(
        namespace=metadata.namespace,
        name=metadata.name,
        phase=word(found.status.phase),
        reason=trouble.words,
        node=found.spec.node_name,
        owner_kind=owner[0],
        owner=owner[1],
        restarts=found.restarts,
        crash=_crash(trouble.crash) if trouble.crash is not None else None,
        since=_unwell_since(found),
        created_at=moment(metadata.creation_timestamp),
    )


def _crash(found: Crash) -> wire.Crash:
    return wire.Crash(
        container=word(found.container), reason=word(found.reason), exit_code=found.exit_code, runs=found.runs
    )


def _unwell_since(found: objects.Pod) -> float:
    for one in found.status.conditions or ():
        if one.type in ("Ready", "PodScheduled") and one.status != "True" and one.last_transition_time:
            return moment(one.last_transition_time)
    return moment(found.metadata.creation_timestamp)


# -- workloads ----------------------------------------------------------------------------------


def workload(kind: str, found: Workload) -> wire.Workload:
    """Describe a workload and how far it is."""
    metadata = found.metadata
    labels = metadata.labels or objects.Labels()
    common = wire.Workload(
        kind=kind,
        namespace=metadata.namespace,
        name=metadata.name,
        app=word(labels.app_name or labels.app or labels.instance),
        created_at=moment(metadata.creation_timestamp),
    )
    if isinstance(found, objects.CronJob):
        return _cron_job(common, found)
    if isinstance(found, objects.Job):
        return _job(common, found)
    counts = objects.counts(found)
    state, reason = _daemon_state(counts) if isinstance(found, objects.DaemonSet) else _replica_state(found, counts)
    return replace(
        common, state=state, reason=reason, desired=counts.desired, ready=counts.ready, updated=counts.updated
    )


def _replica_state(found: objects.Deployment, counts: objects.Counts) -> tuple[str, str]:
    conditions = {one.type: one for one in found.status.conditions or ()}
    failure = conditions.get("ReplicaFailure")
    if failure is not None and failure.status == "True":
        return "degraded", _why(failure)
    progressing = conditions.get("Progressing")
    if progressing is not None and progressing.status == "False":
        return "degraded", _why(progressing)
    if found.spec.paused:
        return "paused", ""
    if counts.ready >= counts.desired and counts.updated >= counts.desired:
        return "ready", ""
    available = conditions.get("Available")
    return "progressing", _why(available) if available is not None and available.status == "False" else ""


def _daemon_state(counts: objects.Counts) -> tuple[str, str]:
    done = counts.ready >= counts.desired and counts.updated >= counts.desired
    return ("ready" if done else "progressing"), ""


def _job(common: wire.Workload, found: objects.Job) -> wire.Workload:
    counts, status = objects.counts(found), found.status
    state, reason = "running", ""
    for one in status.conditions or ():
        if one.status == "True" and one.type in ("Complete", "Failed", "Suspended"):
            state, reason = one.type.lower(), "" if one.type == "Complete" else _why(one)
    return replace(
        common, state=state, reason=reason, desired=counts.desired, ready=counts.ready, updated=counts.updated,
        active=status.active, last_run_at=moment(status.start_time),
    )  # fmt: skip


def _cron_job(common: wire.Workload, found: objects.CronJob) -> wire.Workload:
    return replace(
        common,
        state="suspended" if found.spec.suspend else "scheduled",
        active=len(found.status.active or ()),
        schedule=word(found.spec.schedule),
        last_run_at=moment(found.status.last_schedule_time),
    )


def _why(one: objects.Condition) -> str:
    return (f"{one.reason}: {one.message}" if one.message else one.reason)[:MESSAGE_CHARACTERS]


# -- events -------------------------------------------------------------------------------------


def event(found: objects.Event) -> wire.Event:
    """Describe one warning."""
    about = found.involved_object
    last = moment(found.last_time)
    return wire.Event(
        namespace=about.namespace,
        kind=word(about.kind),
        name=about.name[:253],
        reason=word(found.reason),
        message=found.message[:MESSAGE_CHARACTERS],
        count=max(1, min(found.times, 2**31 - 1)),
        first_at=moment(found.first_timestamp) or moment(found.event_time) or last,
        last_at=last,
    )
