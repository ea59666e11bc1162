"""Kinds of Kubernetes objects by the names that people type. Source: `kubectl api-resources` of Kubernetes 1.36.

Built-in ones are known here with their version; others are named with their group, `certificates.cert-manager.io`,
so that both ends know what is asked for without asking the cluster.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from towline.commandline.errors import BadCommand
from towline.commandline.flags import shown

_GROUPED = re.compile(r"([a-z][a-z0-9]{0,62})\.((?:[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?\.)+[a-z]{2,63})")
_VERSION = re.compile(r"v[0-9]{1,3}(?:(?:alpha|beta)[0-9]{1,3})?")
_KIND = re.compile(r"[A-Z][A-Za-z0-9]{0,62}")


@dataclass(frozen=True, slots=True)
class Resource:
    """One kind of object. `version` is empty when the cluster has to be asked."""

    name: str
    kind: str
    group: str = ""
    version: str = "v1"
    namespaced: bool = True
    short: tuple[str, ...] = ()
    is_known: bool = True
    """False for one that the cluster adds: version, plural and scope are a guess until it is asked."""

    @property
    def shown(self) -> str:
        """How kubectl prints it before a name: `deployment.apps`."""
        singular = self.kind.lower() or self.name
        return f"{singular}.{self.group}" if self.group else singular

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version


_BUILT_IN = (
    Resource("pods", "Pod", short=("po",)),
    Resource("services", "Service", short=("svc",)),
    Resource("configmaps", "ConfigMap", short=("cm",)),
    Resource("secrets", "Secret"),
    Resource("events", "Event", short=("ev",)),
    Resource("endpoints", "Endpoints", short=("ep",)),
    Resource("serviceaccounts", "ServiceAccount", short=("sa",)),
    Resource("persistentvolumeclaims", "PersistentVolumeClaim", short=("pvc",)),
    Resource("replicationcontrollers", "ReplicationController", short=("rc",)),
    Resource("resourcequotas", "ResourceQuota", short=("quota",)),
    Resource("limitranges", "LimitRange", short=("limits",)),
    Resource("podtemplates", "PodTemplate"),
    Resource("nodes", "Node", namespaced=False, short=("no",)),
    Resource("namespaces", "Namespace", namespaced=False, short=("ns",)),
    Resource("persistentvolumes", "PersistentVolume", namespaced=False, short=("pv",)),
    Resource("deployments", "Deployment", "apps", short=("deploy",)),
    Resource("replicasets", "ReplicaSet", "apps", short=("rs",)),
    Resource("statefulsets", "StatefulSet", "apps", short=("sts",)),
    Resource("daemonsets", "DaemonSet", "apps", short=("ds",)),
    Resource("controllerrevisions", "ControllerRevision", "apps"),
    Resource("jobs", "Job", "batch"),
    Resource("cronjobs", "CronJob", "batch", short=("cj",)),
    Resource("horizontalpodautoscalers", "HorizontalPodAutoscaler", "autoscaling", "v2", short=("hpa",)),
    Resource("ingresses", "Ingress", "networking.k8s.io", short=("ing",)),
    Resource("ingressclasses", "IngressClass", "networking.k8s.io", namespaced=False),
    Resource("networkpolicies", "NetworkPolicy", "networking.k8s.io", short=("netpol",)),
    Resource("poddisruptionbudgets", "PodDisruptionBudget", "policy", short=("pdb",)),
    Resource("roles", "Role", "rbac.authorization.k8s.io"),
    Resource("rolebindings", "RoleBinding", "rbac.authorization.k8s.io"),
    Resource("clusterroles", "ClusterRole", "rbac.authorization.k8s.io", namespaced=False),
    Resource("clusterrolebindings", "ClusterRoleBinding", "rbac.authorization.k8s.io", namespaced=False),
    Resource("storageclasses", "StorageClass", "storage.k8s.io", namespaced=False, short=("sc",)),
    Resource("volumeattachments", "VolumeAttachment", "storage.k8s.io", namespaced=False),
    Resource("priorityclasses", "PriorityClass", "scheduling.k8s.io", namespaced=False, short=("pc",)),
    Resource("endpointslices", "EndpointSlice", "discovery.k8s.io"),
    Resource("leases", "Lease", "coordination.k8s.io"),
    Resource(
        "customresourcedefinitions",
        "CustomResourceDefinition",
        "apiextensions.k8s.io",
        namespaced=False,
        short=("crd", "crds"),
    ),
    Resource("apiservices", "APIService", "apiregistration.k8s.io", namespaced=False),
    Resource(
        "validatingwebhookconfigurations",
        "ValidatingWebhookConfiguration",
        "admissionregistration.k8s.io",
        namespaced=False,
    ),
    Resource(
        "mutatingwebhookconfigurations",
        "MutatingWebhookConfiguration",
        "admissionregistration.k8s.io",
        namespaced=False,
    ),
)
BY_NAME = {each.name: each for each in _BUILT_IN}
_BY_WORD = {
    word: each
    for each in _BUILT_IN
    for word in (each.name, each.kind.lower(), *each.short, f"{each.name}.{each.group}")
}
_BY_KIND = {(each.group, each.kind): each for each in _BUILT_IN}

ALL = ("pods", "services", "daemonsets", "deployments", "replicasets", "statefulsets", "jobs", "cronjobs")
"""What the word `all` stands for, as for kubectl."""

POD_METRICS = Resource("pods", "PodMetrics", "metrics.k8s.io", "v1beta1")
NODE_METRICS = Resource("nodes", "NodeMetrics", "metrics.k8s.io", "v1beta1", namespaced=False)

HAS_PODS = ("pods", "deployments", "replicasets", "statefulsets", "daemonsets", "jobs", "replicationcontrollers")
"""Kinds whose pods can be found by their selector."""


def find(word: str, *, cluster_wide: bool = False) -> Resource:
    """Return the kind that somebody named. Raises: BadCommand.

    Args: cluster_wide: of a kind that is not built in, the objects of the whole cluster are meant.
    """
    lowered = word.lower()
    found = _BY_WORD.get(lowered)
    if found is not None:
        return found
    match = _GROUPED.fullmatch(lowered)
    if match is None:
        raise BadCommand(f"there is no kind {shown(word)} that Towline knows; name others with their group, NAME.GROUP")
    name, group = match.groups()
    version, _, rest = group.partition(".")
    if _VERSION.fullmatch(version) and rest:
        return _known(name, rest) or Resource(name, "", rest, version, not cluster_wide, is_known=False)
    return _known(name, group) or Resource(name, "", group, "", not cluster_wide, is_known=False)


def find_kind(api_version: str, kind: str, *, has_namespace: bool) -> Resource:
    """Return the resource of a manifest's object; for one that is not built in the usual plural. Raises: BadCommand."""
    group, slash, version = api_version.rpartition("/")
    if not _VERSION.fullmatch(version) or (slash and not _is_group(group)) or not _KIND.fullmatch(kind):
        raise BadCommand("an object of the manifest has no usable apiVersion and kind")
    known = _BY_KIND.get((group, kind))
    if known is not None:
        return Resource(known.name, known.kind, group, version, known.namespaced, known.short)
    if not group:
        raise BadCommand(f"there is no kind {shown(kind)} in {shown(api_version)}")
    namespaced = has_namespace or not kind.startswith("Cluster")
    return Resource(_plural(kind.lower()), kind, group, version, namespaced, is_known=False)


def _known(name: str, group: str) -> Resource | None:
    found = _BY_WORD.get(name)
    return found if found is not None and found.group == group else None


def _is_group(text: str) -> bool:
    return text in {each.group for each in _BUILT_IN} or _GROUPED.fullmatch(f"x.{text}") is not None


def _plural(word: str) -> str:
    """Guess as Kubernetes does. Source: apimachinery, meta.UnsafeGuessKindToResource."""
    if word.endswith("s"):
        return f"{word}es"
    return f"{word[:-1]}ies" if word.endswith("y") else f"{word}s"
