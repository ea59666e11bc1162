"""What the publish form offers: services of a host's inventory, and those that a Kubernetes cluster has now.

Asked as who is signed in, and anew each time. A cluster that is away leaves its reason; a target can always be typed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from fastapi import Request

from towline.control.access.dependencies import Access
from towline.control.clusters import api as clusters_api
from towline.control.errors import ApiError, ErrorCode
from towline.control.kubernetes import heading
from towline.control.kubernetes.kinds import KINDS
from towline.control.listing import LARGEST_LIMIT, ListQuery

MOST_OFFERS = 500
"""Choices of one form: more are found by typing."""
MOST_NAMESPACES = 10
"""Asked one by one, for who sees some namespaces alone."""
_INNER_PORT = re.compile(r"(\d+)/tcp$")


@dataclass(frozen=True, slots=True)
class Offer:
    """One thing to publish. A target that ends in a colon wants its port typed."""

    to: str
    words: str


@dataclass(slots=True)
class Offers:
    """What one cluster has, by namespace or project, and why something may be missing."""

    groups: dict[str, list[Offer]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    is_cut: bool = False

    def has(self, to: str) -> bool:
        return any(offer.to == to for group in self.groups.values() for offer in group)

    def best(self, to: str) -> str:
        """Return a target with the first port that is known of it, when it came without one."""
        known = (offer.to for group in self.groups.values() for offer in group if offer.to.startswith(to))
        return next(known, to) if to.endswith(":") else to

    def add(self, group: str, offers: Iterable[Offer]) -> None:
        for offer in offers:
            if sum(len(some) for some in self.groups.values()) >= MOST_OFFERS:
                self.is_cut = True
                return
            self.groups.setdefault(group, []).append(offer)


async def of_cluster(request: Request, access: Access, cluster: str) -> Offers:
    """Return what a cluster has to publish."""
    found = Offers()
    for ask in (_compose, _kubernetes):
        try:
            await ask(request, access, cluster, found)
        except ApiError as error:
            hidden = error.code is ErrorCode.CLUSTER_NOT_FOUND
            found.problems.append("What runs there is not shown to you" if hidden else error.message)
    return found


async def _compose(request: Request, access: Access, cluster: str, found: Offers) -> None:
    """Add the Compose services that run on a host, with the ports that their containers name."""
    page = await clusters_api.list_containers(request, access, cluster, ListQuery(limit=LARGEST_LIMIT))
    services: dict[tuple[str, str], set[int]] = {}
    for container in page.items:
        if container.project and container.service:
            ports = services.setdefault((container.project, container.service), set())
            ports.update(inner_ports(container.detail.get("ports") or ()))
    for (project, service), ports in sorted(services.items(), key=lambda one: (one[0][0], not one[1], one[0][1])):
        found.add(f"Compose project {project}", _of_service(project, service, sorted(ports)))
    found.is_cut = found.is_cut or page.next_cursor is not None


def _of_service(project: str, service: str, ports: list[int]) -> list[Offer]:
    base = f"compose/{project}/{service}:"
    if not ports:
        return [Offer(base, f"{service} (type its port)")]
    return [Offer(f"{base}{port}", f"{service}, port {port}") for port in ports]


def inner_ports(texts: Iterable[str]) -> list[int]:
    """Return the TCP ports inside a container, from `0.0.0.0:8080->80/tcp` or `80/tcp`."""
    return [int(match[1]) for text in texts if (match := _INNER_PORT.search(text))]


async def _kubernetes(request: Request, access: Access, cluster: str, found: Offers) -> None:
    """Add the services that a Kubernetes cluster has, as far as the user may list them there."""
    try:
        here = await heading.here(request, access, cluster)
    except ApiError:
        return  # none of Kubernetes, or none that the user sees
    talker = request.app.state.control.kubernetes.talker
    kind = KINDS["services"]
    for namespace in here.namespaces[:MOST_NAMESPACES] if here.restricted else ("",):
        listed = await talker.get(access, here.row.name, kind.path(namespace, limit=MOST_OFFERS))
        for one in listed.get("items") or ():
            found.add(f"Namespace {one['metadata'].get('namespace', '')}", of_object(one))
        found.is_cut = found.is_cut or bool((listed.get("metadata") or {}).get("continue"))


def of_object(service: Any) -> list[Offer]:
    """Return what a Kubernetes service offers: each of its TCP ports."""
    metadata, spec = service["metadata"], service.get("spec") or {}
    if spec.get("type") == "ExternalName":
        return []
    name, base = metadata["name"], f"service/{metadata.get('namespace', '')}/{metadata['name']}:"
    ports = [one for one in spec.get("ports") or () if one.get("protocol", "TCP") == "TCP"]
    return [Offer(f"{base}{one['port']}", f"{name}, port {_port_words(one)}") for one in ports]


def _port_words(port: Any) -> str:
    return f"{port['port']} ({port['name']})" if port.get("name") else str(port["port"])
