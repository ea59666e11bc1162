"""From a service, its endpoints or a pod, and a port by number or name, to addresses to dial. Pure.

Every refusal says in words what is there instead. Source: the Kubernetes documentation on services, "Headless services"
and "Services without selectors".
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from towline.agent.streams.refusal import Refused
from towline.kube import traffic

MOST_NAMED = 10
"""Ports that a refusal names."""
Place = tuple[str, int]
TCP = "TCP"


@dataclass(frozen=True, slots=True)
class External:
    """A service that stands for a name outside of the cluster."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Headless:
    """A service without an address of its own: its endpoints are dialled, by the name of its port."""

    port: traffic.ServicePort


def of_service(service: traffic.Service, word: str) -> Place | External | Headless:
    """Return where a port of a service is reached. Raises: Refused."""
    spec = service.spec
    name = f"service {service.metadata.namespace}/{service.metadata.name}"
    if spec.type == "ExternalName":
        return External(spec.external_name, _external_port(spec, name, word))
    port = _service_port(spec, name, word)
    if spec.cluster_ip in ("", "None"):
        return Headless(port)
    return spec.cluster_ip, port.port


def of_slices(slices: Sequence[traffic.EndpointSlice], port: traffic.ServicePort, name: str) -> list[Place]:
    """Return the ready endpoints of a headless service's port. Raises: Refused: there are none."""
    found: list[Place] = []
    for one in slices:
        number = _slice_port(one, port)
        if not number or one.address_type == "FQDN":
            continue
        for endpoint in one.endpoints or ():
            if endpoint.conditions.ready is not False:
                found += [(address, number) for address in endpoint.addresses or () if is_dialable(address)]
    if not found:
        raise Refused("unreachable", f"{name} has no ready endpoints")
    return found


def of_pod(pod: traffic.Pod, word: str) -> Place:
    """Return where a port of a pod is reached; any number is one, a name must be a container's. Raises: Refused."""
    name = f"pod {pod.metadata.namespace}/{pod.metadata.name}"
    if pod.status.phase not in ("Running", "") or not pod.status.pod_ip:
        raise Refused("unreachable", f"{name} does not run: it is {pod.status.phase or 'without an address'}")
    number = as_number(word)
    if not number:
        containers = (*(pod.spec.containers or ()), *(pod.spec.init_containers or ()))
        ports = [port for one in containers for port in one.ports or () if port.protocol == TCP]
        number = next((port.container_port for port in ports if port.name == word), 0)
        if not number:
            raise _no_port(name, word, (f"{port.name or port.container_port}" for port in ports))
    if not is_dialable(pod.status.pod_ip):
        raise Refused("forbidden", f"{name} has an address that is never dialled")
    return pod.status.pod_ip, number


def as_number(word: str) -> int:
    """Return a port's number; 0 for what is none."""
    if not (word.isascii() and word.isdigit() and len(word) <= 5):
        return 0
    number = int(word)
    return number if number < 65536 else 0


def is_dialable(address: str) -> bool:
    """Endpoints may be written by hand: this machine and link-local addresses are never meant by one."""
    try:
        known = ipaddress.ip_address(address)
    except ValueError:
        return False
    return not (known.is_loopback or known.is_link_local or known.is_multicast or known.is_unspecified)


def _service_port(spec: traffic.ServiceSpec, name: str, word: str) -> traffic.ServicePort:
    ports = [port for port in spec.ports or () if port.protocol == TCP]
    number = as_number(word)
    found = next((port for port in ports if (port.port == number if number else port.name == word)), None)
    if found is None:
        listed = (f"{port.port}" + (f" ({port.name})" if port.name else "") for port in ports)
        raise _no_port(name, word, listed)
    return found


def _external_port(spec: traffic.ServiceSpec, name: str, word: str) -> int:
    """A service that stands for a name needs no ports of its own."""
    return as_number(word) or _service_port(spec, name, word).port


def _slice_port(one: traffic.EndpointSlice, port: traffic.ServicePort) -> int:
    """Slices know ports by the service's names for them, with the number that their own pods use."""
    return next((each.port or 0 for each in one.ports or () if (each.name or "") == port.name), 0)


def _no_port(name: str, word: str, there: Iterable[str]) -> Refused:
    listed = list(there)
    shown = ", ".join(listed[:MOST_NAMED]) or "none"
    return Refused("not_found", f"{name} has no TCP port {word[:63]!r}; it has {shown}")
