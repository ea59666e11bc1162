"""Rights turned into a word about one request: which of somebody's roles reach it, and what the highest allows.

Pure. What a role may do is `kube.rules`; who holds which role where is `access.permissions`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from towline.control.access.permissions import Resource, Right, Rights, ScopeKind
from towline.control.kubernetes.places import Place
from towline.kube import rules
from towline.kube.access import AccessTuple

_RANK = {role: place for place, role in enumerate(rules.ROLES)}
_NONE = -1


@dataclass(frozen=True, slots=True)
class Verdict:
    """What somebody may do with one request."""

    visible: bool
    """False: no right reaches any part of this cluster, so it does not exist for them."""
    allowed: bool
    rule: str
    """Which rule says so, in words for people."""
    roles: tuple[str, ...] = ()
    """Every role that reaches this request: the highest, and those that it holds."""
    where: str = ""
    """What the highest was granted on."""


UNSEEN = Verdict(False, False, "no role of yours reaches this cluster")
DISCOVERY = AccessTuple("get", path="/api", is_resource=False)
"""What everybody with any right to a cluster may ask: its verdict tells whether the cluster exists for somebody."""
_OUTSIDE = "your roles reach other namespaces of this cluster only"


def judge(rights: Rights, place: Place, access: AccessTuple) -> Verdict:
    """Judge a request: never more than what was granted, nor than what the token is limited to."""
    resource = Resource(place.org_id, place.id, place.labels)
    granted = _here(rights.granted, resource)
    limit = None if rights.limit is None else _here(rights.limit, resource)
    if not granted or limit == []:
        return UNSEEN
    rank, where = _highest(granted, access)
    if limit is not None:
        limited, narrower = _highest(limit, access)
        if limited < rank:
            rank, where = limited, narrower
    if rank == _NONE:
        return Verdict(True, False, _OUTSIDE)
    decision = rules.allows(rules.ROLES[rank], access)
    return Verdict(True, decision.allowed, decision.rule, rules.ROLES[: rank + 1], where)


def _here(rights: Iterable[Right], resource: Resource) -> list[tuple[Right, str]]:
    """Return the rights that reach a cluster, or a part of it, with the namespace that they are confined to."""
    found = []
    for right in rights:
        reach = right.reach
        if reach.kind is ScopeKind.NAMESPACE:
            if reach.namespace and reach.cluster_id in ("", resource.cluster_id):
                found.append((right, reach.namespace))
        elif reach.kind is not ScopeKind.PROJECT and reach.covers(resource):
            found.append((right, ""))
    return found


def _highest(rights: Iterable[tuple[Right, str]], access: AccessTuple) -> tuple[int, str]:
    """Return the rank of the highest role that reaches a request, and what it was granted on."""
    best, where = _NONE, ""
    for right, namespace in rights:
        rank = _RANK[right.role.value]
        if rank > best and (not namespace or rules.allows("owner", access, namespace=namespace).allowed):
            best, where = rank, _words(right, namespace)
    return best, where


def _words(right: Right, namespace: str) -> str:
    if namespace:
        return f"namespace {namespace}"
    return {ScopeKind.ORG: "the organisation", ScopeKind.SELECTOR: "clusters with its labels"}.get(
        right.reach.kind, "this cluster"
    )
