"""The tables of workloads, namespaces and nodes. Pods are `pod_table.py`'s, events `event_table.py`'s."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec.structs import replace

from towline.agent.kubernetes import described
from towline.agent.kubernetes.book import Book
from towline.agent.kubernetes.pod_table import PodTable
from towline.agent.kubernetes.table import Allowed, Table
from towline.kube import objects
from towline.kube.times import moment
from towline.wire import kube_inventory as wire

USAGE_STEP = 0.01
"""Share of a node's capacity by which its usage must move to be told again."""


class WorkloadTable(Table[described.Workload]):
    """Workloads of one kind."""

    def __init__(self, book: Book, allowed: Allowed, kind: str) -> None:
        super().__init__(book, allowed)
        self._kind = kind

    def keep(self, key: str, found: described.Workload) -> None:
        entry = described.workload(self._kind, found)
        owner = found.metadata.owner
        if self._kind == "Job" and owner is not None and owner.kind == "CronJob" and entry.state == "complete":
            self.drop(key)  # its cron job tells when it ran last; thousands of these say nothing more
        else:
            self.book.put("workloads", entry)

    def drop(self, key: str) -> None:
        self.book.remove("workloads", f"{self._kind}/{key}")


class NamespaceTable(Table[objects.Namespace]):
    """Namespaces, with the counts of their pods."""

    def __init__(self, book: Book, allowed: Allowed, pods: PodTable) -> None:
        super().__init__(book, allowed)
        self._pods = pods
        self._is_derived = False

    def derive(self, is_derived: bool) -> None:
        """Take the namespaces from the pods in them, when namespaces themselves may not be read."""
        if is_derived and not self._is_derived:
            self._pods.touch_all()
        self._is_derived = is_derived

    def key(self, found: objects.Namespace) -> str:
        return found.metadata.name

    def put(self, found: objects.Namespace) -> str:
        return super().put(found) if self._allowed(found.metadata.name) else ""

    def keep(self, key: str, found: objects.Namespace) -> None:
        created_at = moment(found.metadata.creation_timestamp)
        self._put(wire.Namespace(name=key, phase=described.word(found.status.phase), created_at=created_at))

    def drop(self, key: str) -> None:
        self.book.remove("namespaces", key)

    def name(self, names: Iterable[str]) -> None:
        """Tell of namespaces that are known by name alone."""
        for name in names:
            if not self.book.has("namespaces", name) and self._allowed(name):
                self._put(wire.Namespace(name=name))

    def recount(self) -> None:
        """Bring the counts of pods up to date."""
        touched, self._pods.touched = self._pods.touched, set()
        if self._is_derived:
            self.name(touched)
        for name in touched:
            known = self.book.get("namespaces", name)
            if isinstance(known, wire.Namespace):
                self._put(known)

    def _put(self, entry: wire.Namespace) -> None:
        self.book.put("namespaces", replace(entry, pods=self._pods.counts(entry.name)))


class NodeTable(Table[objects.Node]):
    """Nodes, with what others know about them."""

    def __init__(self, book: Book, allowed: Allowed, pods: PodTable) -> None:
        super().__init__(book, allowed)
        self._pods = pods
        self.kubelets: dict[str, tuple[str, int]] = {}
        """Address and port of each node's kubelet."""

    def key(self, found: objects.Node) -> str:
        return found.metadata.name

    def keep(self, key: str, found: objects.Node) -> None:
        known = self.book.get("nodes", key)
        usage = known.usage if isinstance(known, wire.Node) else None
        address, port = described.kubelet(found)
        if address and port:
            self.kubelets[key] = (address, port)
        self.book.put("nodes", described.node(found, pods=self._pods.on_node.get(key, 0), usage=usage))

    def drop(self, key: str) -> None:
        self.kubelets.pop(key, None)
        self.book.remove("nodes", key)

    def recount(self) -> None:
        """Bring the counts of pods up to date."""
        for key in self.keys:
            self._change(key, pods=self._pods.on_node.get(key, 0))

    def measured(self, found: Mapping[str, tuple[float, float]]) -> None:
        """Take cores and bytes that nodes use; what nodes that are left out use is not known."""
        usages = {name: wire.Amounts(cpu=cpu, memory_bytes=round(memory)) for name, (cpu, memory) in found.items()}
        for key in self.keys:
            known = self.book.get("nodes", key)
            if isinstance(known, wire.Node) and _moved(known, usages.get(key)):
                self._change(key, usage=usages.get(key))

    def _change(self, key: str, **changes: object) -> None:
        known = self.book.get("nodes", key)
        if isinstance(known, wire.Node):
            self.book.put("nodes", replace(known, **changes))


def _moved(known: wire.Node, usage: wire.Amounts | None) -> bool:
    before = known.usage
    if before is None or usage is None:
        return before is not usage
    return (
        abs(usage.cpu - before.cpu) > USAGE_STEP * known.capacity.cpu
        or abs(usage.memory_bytes - before.memory_bytes) > USAGE_STEP * known.capacity.memory_bytes
    )
