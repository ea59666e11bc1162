"""Pods: all of them counted, those that are not well told.

A pod that is well leaves a line of four words; that is what keeps 5,000 of them small.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

from towline.agent.kubernetes import described
from towline.agent.kubernetes.book import Book
from towline.agent.kubernetes.table import Allowed, Table
from towline.aio.clock import Clock
from towline.kube import objects
from towline.kube.troubles import pod_trouble
from towline.wire import kube_inventory as wire

SETTLE_SECONDS = 30.0
"""A pod that merely is not ready is told when it stays so for this long: every rollout passes through that state."""

_SETTLING = "not ready since"
_PHASES = ("running", "pending", "succeeded", "failed")


@dataclass(slots=True)
class Tally:
    """Pods of one namespace."""

    running: int = 0
    pending: int = 0
    succeeded: int = 0
    failed: int = 0
    unwell: int = 0
    total: int = 0

    def add(self, phase: str, unwell: bool, step: int) -> None:
        self.total += step
        self.unwell += step * unwell
        if phase in _PHASES:
            setattr(self, phase, getattr(self, phase) + step)

    def counts(self) -> wire.PodCounts:
        return wire.PodCounts(
            total=self.total,
            running=self.running,
            pending=self.pending,
            succeeded=self.succeeded,
            failed=self.failed,
            unwell=self.unwell,
        )


class PodTable(Table[objects.Pod]):
    """Pods: counted all, told when they are not well."""

    def __init__(self, book: Book, allowed: Allowed, clock: Clock, now: Callable[[], float]) -> None:
        """`now` is the time of the cluster, in seconds since the epoch."""
        super().__init__(book, allowed)
        self._clock = clock
        self._now = now
        self._lines: dict[str, tuple[str, str, str, bool]] = {}
        """By key: namespace, phase, node, unwell."""
        self._tallies: dict[str, Tally] = {}
        self._settling: dict[str, tuple[float, wire.Pod]] = {}
        self._mending: dict[str, tuple[float, objects.Pod]] = {}
        """Pods that are well at a moment if nothing happens until then, in seconds since the epoch."""
        self.touched: set[str] = set()
        """Namespaces whose counts have changed."""
        self.on_node: dict[str, int] = {}
        """Pods by node that have not ended."""

    def counts(self, namespace: str) -> wire.PodCounts:
        tally = self._tallies.get(namespace)
        return tally.counts() if tally is not None else wire.PodCounts()

    def touch_all(self) -> None:
        """Have every namespace with pods counted anew."""
        self.touched |= self._tallies.keys()

    def keep(self, key: str, found: objects.Pod) -> None:
        trouble = pod_trouble(found, self._now())
        if trouble.until:
            self._mending[key] = (trouble.until, found)
        else:
            self._mending.pop(key, None)
        entry = described.pod(found, self._owner(found), trouble)
        waits = entry is not None and entry.reason.startswith(_SETTLING) and not self.book.has("pods", key)
        if entry is not None and waits:
            began = self._settling.get(key, (self._clock.monotonic(), entry))[0]
            self._settling[key] = (began, entry)
        else:
            self._settling.pop(key, None)
            self._tell(key, entry)
        unwell = entry is not None and not waits
        phase = sys.intern(found.status.phase.lower())
        self._line(key, (sys.intern(found.metadata.namespace), phase, sys.intern(found.spec.node_name), unwell))

    def drop(self, key: str) -> None:
        self._settling.pop(key, None)
        self._mending.pop(key, None)
        self._tell(key, None)
        self._line(key, None)

    def settle(self) -> bool:
        """Tell of pods that stayed not ready, or ran, for long enough. Returns: whether others still may."""
        self._mend()
        now = self._clock.monotonic()
        for key, (began, entry) in list(self._settling.items()):
            if now - began >= SETTLE_SECONDS:
                del self._settling[key]
                self._tell(key, entry)
                namespace, phase, node, _ = self._lines[key]
                self._line(key, (namespace, phase, node, True))
        return bool(self._settling or self._mending)

    def _mend(self) -> None:
        now = self._now()
        for key, (until, found) in list(self._mending.items()):
            if now >= until:
                self.keep(key, found)

    def _tell(self, key: str, entry: wire.Pod | None) -> None:
        if entry is None:
            self.book.remove("pods", key)
        else:
            self.book.put("pods", entry)

    def _line(self, key: str, line: tuple[str, str, str, bool] | None) -> None:
        """Keep one line of a pod, and what is counted by it."""
        before = self._lines.get(key)
        if line == before:
            return
        for one, step in ((before, -1), (line, 1)):
            if one is not None:
                self._count(*one, step)
        if line is None:
            del self._lines[key]
        else:
            self._lines[key] = line

    def _count(self, namespace: str, phase: str, node: str, unwell: bool, step: int) -> None:
        tally = self._tallies.setdefault(namespace, Tally())
        tally.add(phase, unwell, step)
        if not tally.total:
            del self._tallies[namespace]
        self.touched.add(namespace)
        if node and phase in ("running", "pending"):
            self.on_node[node] = self.on_node.get(node, 0) + step
            if not self.on_node[node]:
                del self.on_node[node]

    def _owner(self, found: objects.Pod) -> tuple[str, str]:
        """Name the workload: of a ReplicaSet the deployment whose name it carries, when there is one."""
        owner = found.metadata.owner
        if owner is None:
            return "", ""
        base = owner.name.rpartition("-")[0]
        if owner.kind == "ReplicaSet" and self.book.has("workloads", f"Deployment/{found.metadata.namespace}/{base}"):
            return "Deployment", base
        return owner.kind, owner.name
