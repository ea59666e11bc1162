"""The kinds of objects that have a page, and where they live in the API. Pure.

Secrets are not among them: no page shows their values, not even to who may read them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote, urlencode

from towline.kube.access import AccessTuple

NAME = r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$"
"""What Kubernetes takes as the name of an object, or less. Source: RFC 1123, and its page on names."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind, by the word that stands in addresses."""

    resource: str
    kind: str
    group: str = ""
    version: str = "v1"
    restarts: bool = False
    scales: bool = False
    has_pods: bool = False

    def path(self, namespace: str, name: str = "", subresource: str = "", **query: str | int) -> str:
        """Return the target of a request about objects of this kind; without a namespace about all of them."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        place = f"/namespaces/{quote(namespace, safe='')}" if namespace else ""
        parts = [self.resource, *(quote(part, safe="") for part in (name, subresource) if part)]
        return f"{root}{place}/{'/'.join(parts)}" + (f"?{urlencode(query)}" if query else "")

    def asked(self, verb: str, namespace: str, name: str = "", subresource: str = "") -> AccessTuple:
        """Return what a request with this verb asks for, to tell whether a page offers it."""
        return AccessTuple(verb, self.group, self.version, self.resource, subresource, namespace, name)


PODS = Kind("pods", "Pod")
POD_METRICS = Kind("pods", "PodMetrics", "metrics.k8s.io", "v1beta1")
"""Served where a metrics server runs; it has no page of its own."""
KINDS: Mapping[str, Kind] = {
    kind.resource: kind
    for kind in (
        PODS,
        Kind("deployments", "Deployment", "apps", restarts=True, scales=True, has_pods=True),
        Kind("statefulsets", "StatefulSet", "apps", restarts=True, scales=True, has_pods=True),
        Kind("daemonsets", "DaemonSet", "apps", restarts=True, has_pods=True),
        Kind("replicasets", "ReplicaSet", "apps", scales=True, has_pods=True),
        Kind("jobs", "Job", "batch", has_pods=True),
        Kind("cronjobs", "CronJob", "batch"),
        Kind("services", "Service"),
        Kind("configmaps", "ConfigMap"),
        Kind("ingresses", "Ingress", "networking.k8s.io"),
        Kind("persistentvolumeclaims", "PersistentVolumeClaim"),
        Kind("horizontalpodautoscalers", "HorizontalPodAutoscaler", "autoscaling", "v2"),
    )
}
BY_KIND: Mapping[str, Kind] = {kind.kind: kind for kind in KINDS.values()}


def page_of(cluster: str, kind: str, namespace: str, name: str) -> str:
    """Return the address of an object's page; empty when it has none."""
    if kind == "Node":
        return f"/clusters/{cluster}/nodes/{quote(name, safe='')}"
    found = BY_KIND.get(kind)
    if found is None or not namespace:
        return ""
    return f"/clusters/{cluster}/kubernetes/{namespace}/{found.resource}/{name}"
