"""What somebody may do in a cluster, and by which rule: for one question, or as a table of the usual ones. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from towline.control.access.permissions import Rights
from towline.control.kubernetes.grants import Verdict, judge
from towline.control.kubernetes.places import Place
from towline.kube import rules
from towline.kube.access import EXEC_FAMILY, AccessTuple

READ_WRITE = ("get", "list", "watch", "create", "update", "patch", "delete")
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


@dataclass(frozen=True, slots=True)
class Cell:
    """One question and its answer."""

    resource: str
    verb: str
    verdict: Verdict
    risk: str


def question(verb: str, resource: str, *, namespace: str = "", name: str = "", path: str = "") -> AccessTuple:
    """Return what a question is about.

    Args: resource: as kubectl writes it, `deployments.apps/scale`; empty when it is about a path.
    """
    if not resource:
        return AccessTuple(verb or "get", path=f"/{path.lstrip('/')}", is_resource=False)
    kind, _, subresource = resource.partition("/")
    plain, _, group = kind.partition(".")
    asked = "create" if subresource in EXEC_FAMILY else verb
    return AccessTuple(asked, group, "", plain, subresource, namespace, name)


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
