"""Figures of Kubernetes access for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge

from towline.gateway.interfaces import Ended
from towline.kube.access import AccessTuple

VERBS = frozenset({"get", "list", "watch", "create", "update", "patch", "delete", "deletecollection", "head"})
"""What a label may say; other methods count as one."""


class Figures:
    """Counts the requests of one control plane."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.requests = Counter(
            "towline_kubernetes_requests",
            "Requests to clusters, by verb and by the status that the client got; 0 without an answer.",
            ["verb", "code"],
            registry=registry,
        )
        self.open = Gauge(
            "towline_kubernetes_open", "Requests to clusters that run, streams included.", ["kind"], registry=registry
        )
        self.bytes = Counter(
            "towline_kubernetes_bytes", "Bytes of requests to clusters, up and down.", ["way"], registry=registry
        )
        self.refused = Counter(
            "towline_kubernetes_refused", "Requests to clusters refused by us, by why.", ["why"], registry=registry
        )
        self.cut = Counter(
            "towline_kubernetes_cut", "Requests to clusters that we ended, by why.", ["why"], registry=registry
        )

    def refuse(self, code: int, why: str) -> None:
        """Count a request that went nowhere."""
        self.refused.labels(why).inc()
        self.requests.labels("none", str(code)).inc()

    def begin(self, access: AccessTuple) -> None:
        """Count a request that goes out."""
        self.open.labels(kind(access)).inc()

    def end(self, access: AccessTuple, ended: Ended) -> None:
        """Count its end."""
        self.open.labels(kind(access)).dec()
        self.requests.labels(verb(access), str(ended.status)).inc()
        self.bytes.labels("up").inc(ended.received_bytes)
        self.bytes.labels("down").inc(ended.sent_bytes)


def verb(access: AccessTuple) -> str:
    """Return the verb as a label."""
    return access.verb if access.verb in VERBS else "other"


def kind(access: AccessTuple) -> str:
    """Return which sort of request one is, as a label: a few words only."""
    if access.is_exec_family or access.is_proxy:
        return access.subresource
    return "watch" if access.verb == "watch" else "log" if access.kind == "pods/log" else "request"
