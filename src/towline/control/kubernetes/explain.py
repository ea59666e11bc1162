"""What somebody may do in a cluster, and by which rule: for one question, or as a table of the usual ones. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from towline.control.access.permissions import Rights
from towline.control.kubernetes.grants import Verdict, judge
from towline.control.kubernetes.places import Place
from towline.kube import rules
from towline.kube.access import EXEC_FAMILY, AccessTuple

VERBS = ("get", "list", "watch", "create", "update", "patch", "delete")
READ_WRITE = VERBS
_READ = ("get", "list", "watch")
_OPEN = ("create",)

TABLE: Sequence[tuple[str, bool, tuple[str, ...]]] = (
    ("pods", True, READ_WRITE),
    ("pods/log", True, ("get",)),
    ("pods/exec", True, _OPEN),
    ("pods/attach", True, _OPEN),
    ("pods/portforward", True, _OPEN),
    ("pods/eviction", True, _OPEN),
    ("pods/ephemeralcontainers", True, ("update", "patch")),
    ("pods/proxy", True, ("get", "create")),
    ("services/proxy", True, ("get", "create")),
    ("deployments.apps", True, READ_WRITE),
    ("deployments.apps/scale", True, ("get", "update", "patch")),
    ("statefulsets.apps", True, READ_WRITE),
    ("jobs.batch", True, READ_WRITE),
    ("services", True, READ_WRITE),
    ("ingresses.networking.k8s.io", True, READ_WRITE),
    ("configmaps", True, READ_WRITE),
    ("secrets", True, READ_WRITE),
    ("events", True, _READ),
    ("roles.rbac.authorization.k8s.io", True, READ_WRITE),
    ("serviceaccounts/token", True, _OPEN),
    ("namespaces", False, READ_WRITE),
    ("nodes", False, READ_WRITE),
    ("nodes/proxy", False, ("get", "create")),
    ("persistentvolumes", False, READ_WRITE),
    ("customresourcedefinitions.apiextensions.k8s.io", False, READ_WRITE),
)
"""Resource, whether it lives in namespaces, and the verbs that mean something for it."""

_GROUPS = {
    **{name: group for group, name in sorted(rules.CLUSTER_SCOPED, reverse=True)},
    **{plain: group for plain, _, group in (row[0].partition("/")[0].partition(".") for row in TABLE)},
    **dict.fromkeys(("daemonsets", "replicasets", "controllerrevisions"), "apps"), "cronjobs": "batch",
    "networkpolicies": "networking.k8s.io", "rolebindings": "rbac.authorization.k8s.io",
    "horizontalpodautoscalers": "autoscaling", "poddisruptionbudgets": "policy",
    "endpointslices": "discovery.k8s.io", "leases": "coordination.k8s.io",
}  # fmt: skip
"""Where the API keeps what people name without a group; what is not known here is in the core group."""
_SHORT = {
    "po": "pods", "deploy": "deployments", "sts": "statefulsets", "ds": "daemonsets", "rs": "replicasets",
    "cj": "cronjobs", "svc": "services", "ing": "ingresses", "ingress": "ingresses", "cm": "configmaps",
    "ev": "events", "sa": "serviceaccounts", "ns": "namespaces", "no": "nodes", "pv": "persistentvolumes",
    "pvc": "persistentvolumeclaims", "crd": "customresourcedefinitions", "netpol": "networkpolicies",
    "hpa": "horizontalpodautoscalers", "pdb": "poddisruptionbudgets", "networkpolicy": "networkpolicies",
}  # fmt: skip
"""Short names that kubectl takes."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One question and its answer."""

    resource: str
    verb: str
    verdict: Verdict
    risk: str


def question(verb: str, resource: str, *, namespace: str = "", name: str = "", path: str = "") -> AccessTuple:
    """Return what a question is about.

    Args: verb: `get` when empty. resource: as kubectl writes it, `deployments.apps/scale`; empty when it is about a
    path, which may stand in its place as well.
    """
    verb = verb or "get"
    if resource.startswith("/") or not resource:
        return AccessTuple(verb, path=f"/{(resource or path).lstrip('/')}", is_resource=False)
    kind, _, subresource = resource.lower().partition("/")
    plain, has_group, group = kind.partition(".")
    plain = _SHORT.get(plain, plain)
    if not has_group:
        plain = f"{plain}s" if plain not in _GROUPS and f"{plain}s" in _GROUPS else plain
        group = _GROUPS.get(plain, "")
    if (group, plain) in rules.CLUSTER_SCOPED and plain != "namespaces":
        namespace = ""
    asked = "create" if subresource in EXEC_FAMILY else verb
    return AccessTuple(asked, group, "", plain, subresource, namespace, name)


def granted(cell: Cell) -> str:
    """Say which role of somebody's this hangs on, and where it was granted."""
    verdict = cell.verdict
    return f"{verdict.roles[-1]} on {verdict.where}" if verdict.roles else ""


def sentence(cell: Cell) -> str:
    """Say all of a cell in one sentence."""
    verdict = cell.verdict
    role = f"; role: {granted(cell)}" if granted(cell) else ""
    risk = f"; it {cell.risk}" if cell.risk and verdict.allowed else ""
    return f"{cell.verb} {cell.resource}: {'yes' if verdict.allowed else 'no'}, {verdict.rule}{role}{risk}"


def rows(cells: Iterable[Cell]) -> list[tuple[str, dict[str, Cell]]]:
    """Return cells as a table: each resource with its cells by verb."""
    found: dict[str, dict[str, Cell]] = {}
    for cell in cells:
        found.setdefault(cell.resource, {})[cell.verb] = cell
    return list(found.items())


def reasons(cells: Iterable[Cell]) -> dict[tuple[str, str], int]:
    """Number each rule, with the role that it was asked for, in the order in which a table shows them."""
    found: dict[tuple[str, str], int] = {}
    for cell in cells:
        found.setdefault((cell.verdict.rule, granted(cell)), len(found) + 1)
    return found


def answer(rights: Rights, place: Place, access: AccessTuple) -> Cell:
    """Judge one question as a request would be."""
    resource = f"{access.resource}.{access.group}" if access.group else access.resource
    if access.subresource:
        resource += f"/{access.subresource}"
    return Cell(resource or access.path, access.verb, judge(rights, place, access), rules.is_high_risk(access))


def matrix(rights: Rights, place: Place, namespace: str) -> Iterator[Cell]:
    """Judge the usual questions, in one namespace or over all of them."""
    for resource, is_namespaced, verbs in TABLE:
        for verb in verbs:
            yield answer(rights, place, question(verb, resource, namespace=namespace if is_namespaced else ""))
