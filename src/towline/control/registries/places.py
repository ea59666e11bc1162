"""Where a registry's credentials may be used, and what may be written as its host. Pure rules."""

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from towline.compose import references
from towline.compose.errors import ReferenceRefused
from towline.control.access.permissions import Reach, ScopeKind

MAX_PORT = 65535


@dataclass(frozen=True, slots=True)
class Spot:
    """One project on one cluster: where a deploy wants to use a registry."""

    cluster_id: str
    project: str
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Places:
    """Limits on the use of a registry. Each that is not empty must fit."""

    cluster_ids: tuple[str, ...] = ()
    projects: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)

    def allow(self, spot: Spot) -> bool:
        """Tell whether a project there may pull with these credentials."""
        return (
            (not self.cluster_ids or spot.cluster_id in self.cluster_ids)
            and (not self.projects or spot.project in self.projects)
            and all(spot.labels.get(key) == value for key, value in self.labels.items())
        )

    def may_meet(self, reach: Reach) -> bool:
        """Tell whether somebody with this reach can have to do with the registry at all."""
        match reach.kind:
            case ScopeKind.ORG | ScopeKind.SELECTOR:
                return True
            case ScopeKind.CLUSTER:
                return not self.cluster_ids or reach.cluster_id in self.cluster_ids
            case ScopeKind.PROJECT:
                here = not reach.cluster_id or not self.cluster_ids or reach.cluster_id in self.cluster_ids
                return here and (not self.projects or reach.project in self.projects)
            case ScopeKind.NAMESPACE:
                return False

    def as_json(self) -> dict[str, Any]:
        return {"cluster_ids": list(self.cluster_ids), "projects": list(self.projects), "labels": dict(self.labels)}


def from_json(value: Mapping[str, Any]) -> Places:
    """Read what `as_json` wrote."""
    return Places(tuple(value.get("cluster_ids", ())), tuple(value.get("projects", ())), dict(value.get("labels", {})))


class HostRefused(ValueError):
    """Text that images cannot name as a registry, or that no registry lives at."""


def check_host(text: str) -> str:
    """Return the host as images name it.

    Raises: HostRefused: a scheme, a path, credentials, a bad port, or an address that only the host itself may ask.
    """
    try:
        reference = references.parse(f"{text}/a/a")
    except ReferenceRefused as error:
        raise HostRefused("write HOST or HOST:PORT, without https:// and without a path") from error
    if reference.registry != text or reference.path != "a/a":
        raise HostRefused("write HOST or HOST:PORT as images name it, e.g. registry.example or registry.example:5000")
    name, port = _split_port(text)
    if port and not 0 < int(port) <= MAX_PORT:
        raise HostRefused(f"port {port} does not exist")
    if _is_link_local(name):
        raise HostRefused("link-local addresses are refused: they belong to the host's own services")
    return text


def _split_port(text: str) -> tuple[str, str]:
    name, colon, port = text.rpartition(":")
    return (name, port) if colon and not text.endswith("]") else (text, "")


def _is_link_local(name: str) -> bool:
    try:
        address = ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None) or address
    return bool(mapped.is_link_local or mapped.is_multicast or mapped.is_unspecified)


def clusters_of(places: Sequence[Places]) -> set[str]:
    """Return every cluster that any of them names."""
    return {cluster_id for place in places for cluster_id in place.cluster_ids}
