"""Objects of the cluster as the surface tells them: partial structs with all labels in, small encoded rows out. Pure.

A row holds its answer as JSON already: thousands of them stay small, a page is joined and not built, and two rows that
look alike are the same to whoever listens.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import msgspec

from towline.agent.kubernetes import described
from towline.agent.kubernetes.watches import Source
from towline.kube import objects, traffic
from towline.kube.objects import Part
from towline.kube.times import moment
from towline.kube.troubles import pod_trouble

CORE, APPS = "/api/v1", "/apis/apps/v1"

MESSAGE_CHARACTERS = 500
"""Of an event's message: a scheduler's with one line for each kind of obstacle fits."""


UNTIL = "until"
"""Key under which a description says when time alone changes it; no part of an answer."""


class Metadata(Part, frozen=True, gc=False):
    name: str = ""
    namespace: str = ""
    resource_version: str = ""
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
    labels: dict[str, str] | None = None
    owner_references: tuple[objects.Owner, ...] | None = None

    @property
    def plain(self) -> objects.Metadata:
        """The same without labels, for what describes an object in the agent's other words."""
        return objects.Metadata(
            name=self.name,
            namespace=self.namespace,
            creation_timestamp=self.creation_timestamp,
            deletion_timestamp=self.deletion_timestamp,
            owner_references=self.owner_references,
        )


class Container(Part, frozen=True, gc=False):
    name: str = ""
    image: str = ""


class PodSpec(Part, frozen=True, gc=False):
    node_name: str = ""
    containers: tuple[Container, ...] | None = None


class Pod(Part, frozen=True, gc=False):
    metadata: Metadata = Metadata()
    spec: PodSpec = PodSpec()
    status: objects.PodStatus = objects.PodStatus()


class Node(Part, frozen=True, gc=False):
    metadata: Metadata = Metadata()
    spec: objects.NodeSpec = objects.NodeSpec()
    status: objects.NodeStatus = objects.NodeStatus()


class Namespace(Part, frozen=True, gc=False):
    metadata: Metadata = Metadata()
    status: objects.NamespaceStatus = objects.NamespaceStatus()


class Deployment(Part, frozen=True, gc=False):
    metadata: Metadata = Metadata()
    spec: objects.ReplicasSpec = objects.ReplicasSpec()
    status: objects.ReplicasStatus = objects.ReplicasStatus()


class ServiceSpec(traffic.ServiceSpec, frozen=True, gc=False):
    selector: dict[str, str] | None = None


class Service(Part, frozen=True, gc=False):
    metadata: Metadata = Metadata()
    spec: ServiceSpec = ServiceSpec()
    status: traffic.ServiceStatus = traffic.ServiceStatus()


@dataclass(frozen=True, slots=True)
class Row:
    """One object. `shown` is its JSON; `containers` are those of a pod."""

    key: str
    namespace: str
    name: str
    labels: Mapping[str, str]
    shown: bytes
    containers: tuple[str, ...] = ()
    is_over: bool = False
    """A pod that has ended for good."""
    until: float = 0.0
    """When time alone makes it another row, in seconds since the epoch; 0: never."""


T = TypeVar("T")
_encoder = msgspec.json.Encoder()


@dataclass(frozen=True, slots=True)
class Sort(Generic[T]):
    """One kind of objects: where it is read, and how one becomes the keys of an answer."""

    name: str
    """What an event calls one of them."""
    source: Source[T]
    describe: Callable[[T, float], dict[str, Any]]
    """Takes the moment besides: pods are judged by it."""

    @property
    def is_namespaced(self) -> bool:
        return self.name not in ("node", "namespace")

    def row(self, found: T, now: float) -> Row:
        """Make the row of an object. Args: now: seconds since the epoch."""
        metadata: Metadata = found.metadata  # type: ignore[attr-defined]
        labels = {sys.intern(name): value for name, value in (metadata.labels or {}).items()}
        told: dict[str, Any] = {"name": metadata.name}
        if self.is_namespaced:
            told["namespace"] = metadata.namespace
        told |= self.describe(found, now)
        until = told.pop(UNTIL, 0.0)
        told |= {"labels": labels, "created_at": moment(metadata.creation_timestamp)}
        if metadata.deletion_timestamp is not None:
            told["deleted_at"] = moment(metadata.deletion_timestamp)
        row = Row(
            f"{metadata.namespace}/{metadata.name}",
            sys.intern(metadata.namespace),
            metadata.name,
            labels,
            _encoder.encode(told),
            until=until,
        )
        return _with_containers(row, found) if isinstance(found, Pod) else row


def _with_containers(row: Row, pod: Pod) -> Row:
    names = tuple(sys.intern(each.name) for each in pod.spec.containers or ())
    is_over = pod.status.phase in ("Succeeded", "Failed")
    return replace(row, containers=names, is_over=is_over)


def _pod(found: Pod, now: float) -> dict[str, Any]:
    status = found.status
    plain = objects.Pod(
        metadata=found.metadata.plain, spec=objects.PodSpec(node_name=found.spec.node_name), status=status
    )
    trouble = pod_trouble(plain, now)
    owner = plain.metadata.owner
    by_name = {each.name: each for each in status.container_statuses or ()}
    return {
        "phase": status.phase,
        "healthy": not trouble.words,
        "reason": trouble.words,
        UNTIL: trouble.until,
        "ready": sum(each.ready for each in by_name.values()),
        "containers": [_container(each, by_name.get(each.name)) for each in found.spec.containers or ()],
        "restarts": plain.restarts,
        "node": found.spec.node_name,
        "ip": status.pod_ip,
        "owner": {"kind": owner.kind, "name": owner.name} if owner is not None else None,
    }


def _container(declared: Container, status: objects.ContainerStatus | None) -> dict[str, Any]:
    told: dict[str, Any] = {"name": declared.name, "image": declared.image[:300]}
    if status is None:
        return told | {"state": "unknown", "ready": False, "restarts": 0}
    state, reason = _state(status.state)
    return told | {"state": state, "reason": reason, "ready": status.ready, "restarts": status.restart_count}


def _state(state: objects.ContainerState) -> tuple[str, str]:
    if state.running is not None:
        return "running", ""
    if state.terminated is not None:
        return "terminated", described.word(state.terminated.reason)
    return "waiting", described.word(state.waiting.reason) if state.waiting is not None else ""


def _node(found: Node, _now: float) -> dict[str, Any]:
    labels = msgspec.convert(found.metadata.labels or {}, objects.NodeLabels)
    metadata = objects.NodeMetadata(
        name=found.metadata.name, creation_timestamp=found.metadata.creation_timestamp, labels=labels
    )
    node = described.node(objects.Node(metadata=metadata, spec=found.spec, status=found.status))
    return {
        "ready": node.ready,
        "reason": node.trouble,
        "schedulable": node.schedulable,
        "roles": node.roles,
        "conditions": [{"type": one.type, "status": one.status, "reason": one.reason} for one in node.conditions],
        "taints": node.taints,
        "capacity": _amounts(node.capacity),
        "allocatable": _amounts(node.allocatable),
        "address": node.address,
        "version": node.version,
        "system": node.system,
        "runtime": node.runtime,
        "architecture": node.architecture,
        "zone": node.zone,
    }


def _amounts(amounts: Any) -> dict[str, Any]:
    return {"cpu": amounts.cpu, "memory_bytes": amounts.memory_bytes, "pods": amounts.pods}


def _namespace(found: Namespace, _now: float) -> dict[str, Any]:
    return {"phase": described.word(found.status.phase)}


def _deployment(found: Deployment, _now: float) -> dict[str, Any]:
    plain = objects.Deployment(metadata=found.metadata.plain, spec=found.spec, status=found.status)
    told = described.workload("Deployment", plain)
    return {
        "state": told.state,
        "reason": told.reason,
        "desired": told.desired,
        "ready": told.ready,
        "updated": told.updated,
        "available": found.status.available_replicas,
    }


def _service(found: Service, _now: float) -> dict[str, Any]:
    spec = found.spec
    addresses = [each.ip or each.hostname for each in found.status.load_balancer.ingress or ()]
    return {
        "type": spec.type,
        "cluster_ip": spec.cluster_ip,
        "external": [*(spec.external_ips or ()), *addresses, *((spec.external_name,) if spec.external_name else ())],
        "ports": [_port(each) for each in spec.ports or ()],
        "selector": spec.selector or {},
    }


def _port(port: traffic.ServicePort) -> dict[str, Any]:
    return {"name": port.name, "port": port.port, "target": port.target_port or port.port, "protocol": port.protocol}


PODS: Sort[Pod] = Sort("pod", Source("pods", CORE, Pod), _pod)
NODES: Sort[Node] = Sort("node", Source("nodes", CORE, Node), _node)
NAMESPACES: Sort[Namespace] = Sort("namespace", Source("namespaces", CORE, Namespace), _namespace)
DEPLOYMENTS: Sort[Deployment] = Sort("deployment", Source("deployments", APPS, Deployment), _deployment)
SERVICES: Sort[Service] = Sort("service", Source("services", CORE, Service), _service)
SORTS: tuple[Sort[Any], ...] = (NODES, NAMESPACES, PODS, DEPLOYMENTS, SERVICES)

EVENTS: Source[objects.Event] = Source("events", CORE, objects.Event)


def event(found: objects.Event) -> dict[str, Any]:
    """Return the keys of what the cluster itself calls an event."""
    about = found.involved_object
    return {
        "type": described.word(found.type),
        "kind": described.word(about.kind),
        "namespace": about.namespace or found.metadata.namespace,
        "name": about.name[:253],
        "reason": described.word(found.reason),
        "message": found.message[:MESSAGE_CHARACTERS],
        "count": found.times,
        "at": moment(found.last_time),
    }
