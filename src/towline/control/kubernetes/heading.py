"""What stands above every page of a Kubernetes cluster: its state, how old what is shown is, and the tabs.

Also what the signed-in user may do here, so that no page offers what the gate would refuse.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from starlette.requests import HTTPConnection

from towline.control.access.dependencies import Access, Permission
from towline.control.access.permissions import Resource
from towline.control.clusters.models import Cluster
from towline.control.errors import ApiError, ErrorCode, not_found
from towline.control.kubernetes import words
from towline.control.kubernetes.grants import DISCOVERY, judge
from towline.control.kubernetes.inventory import Freshness, KubernetesInventory
from towline.control.kubernetes.places import Place
from towline.control.kubernetes.service import KubernetesAccess
from towline.kube.access import AccessTuple


@dataclass(frozen=True, slots=True)
class Here:
    """A cluster, and who looks at it."""

    access: Access
    place: Place
    row: Cluster
    fresh: Freshness
    restricted: bool
    namespaces: tuple[str, ...]
    measured: bool = False
    """True where a metrics server tells what nodes and pods use."""
    moment: float = 0.0
    """When the page was asked for, in seconds since the epoch."""

    def may(self, asked: AccessTuple) -> bool:
        """Tell whether the gate would let a request pass."""
        return judge(self.access.rights, self.place, asked).allowed

    def require(self, asked: AccessTuple) -> None:
        """Go on only with what the gate would let pass. Raises: ApiError: forbidden."""
        verdict = judge(self.access.rights, self.place, asked)
        if not verdict.allowed:
            link = {"page": words.explained_at(self.place.name, asked), "page_title": "See what you may do here"}
            raise ApiError(ErrorCode.FORBIDDEN, words.forbidden(self.place.name, asked, verdict.rule), detail=link)

    def may_publish(self, namespace: str = "") -> bool:
        """Tell whether the user may publish services here, or of one namespace."""
        place = Resource(self.place.org_id, self.place.id, dict(self.place.labels), namespace=namespace)
        return self.access.may(Permission.ROUTE_WRITE, place)

    def context(self, tab: str) -> dict[str, Any]:
        """Return what every template of these pages needs."""
        return {
            "section": "fleet", "cluster": self.row, "labels": dict(self.place.labels), "fresh": self.fresh,
            "tab": tab, "tabs": tabs(self.row.name, self._manages(), restricted=self.restricted),
            "restricted": self.restricted, "namespaces": self.namespaces, "access": self.access,
            "may_publish": self.may_publish(), "may_run": self.access.rights.gives(Permission.COMMAND_RUN),
        }  # fmt: skip

    def _manages(self) -> bool:
        place = Resource(self.place.org_id, self.place.id, dict(self.place.labels))
        return self.access.may(Permission.CLUSTER_MANAGE, place)


def tabs(name: str, manages: bool, *, restricted: bool = False) -> list[tuple[str, str, str]]:
    """Return the tabs of a Kubernetes cluster."""
    keys = ["overview", "workloads", "pods", *([] if restricted else ["nodes"]), "usage", "events", "routes", "access"]
    keys += ["settings"] if manages else []
    base = f"/clusters/{name}"
    return [(key, base if key == "overview" else f"{base}/{key}", key.capitalize()) for key in keys]


def is_kubernetes(capabilities: Iterable[Any]) -> bool:
    """Tell whether a cluster serves Kubernetes, from what its agents announced."""
    return any(_name(one) == "kubernetes" for one in capabilities)


def serves_compose(capabilities: Iterable[Any]) -> bool:
    """Tell whether a cluster runs Compose projects as well."""
    found = list(capabilities)
    return not is_kubernetes(found) or any(_name(one) == "compose" and _ready(one) for one in found)


async def here(request: HTTPConnection, access: Access, cluster: str) -> Here:
    """Return a cluster that the user may see some part of. Raises: ApiError: cluster_not_found."""
    kubernetes: KubernetesAccess = request.app.state.control.kubernetes
    inventory: KubernetesInventory = request.app.state.control.kube_inventory
    place = await kubernetes.places.find(access.org_id, cluster)
    if place is None or not judge(access.rights, place, DISCOVERY).visible:
        raise not_found("cluster", cluster[:64])
    found = await inventory.about(access, cluster)
    if not is_kubernetes(found.row.capabilities) and found.freshness.state == "unknown":
        raise ApiError(ErrorCode.NOT_FOUND, f"the agent of {cluster} serves no Kubernetes")
    moment = request.app.state.control.clock.now().timestamp()
    return Here(access, place, found.row, found.freshness, found.restricted, found.namespaces, found.measured, moment)


def _name(one: Any) -> str:
    return str(one.get("name", "") if isinstance(one, dict) else one.name)


def _ready(one: Any) -> bool:
    return bool(one.get("ready") if isinstance(one, dict) else one.ready)
