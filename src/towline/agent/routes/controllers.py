"""Ingress controllers: how they are found, which class is theirs, and whether they are in the public's reach. Pure.

A controller is found by the Service that its charts make. Whoever names his differently is served all the same: his
ingresses lead to their backends then, and what that leaves out is told as notes.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from towline.kube import traffic

ADDRESS_TIMEOUT = 120.0
"""Seconds that a load balancer has to get an address; clouds take one, rarely two minutes."""
HTTP_NAMES, HTTP_PORT = ("http", "web", "kong-proxy"), 80
HTTPS_NAMES, HTTPS_PORT = ("https", "websecure", "kong-proxy-tls"), 443
DEFAULT_CLASS = "ingressclass.kubernetes.io/is-default-class"
OLD_CLASS = "kubernetes.io/ingress.class"
OWN_CLASS = "towline.dev/gateway"
"""Controller of classes that mean the gateway itself: their ingresses always lead to their backends."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One product."""

    word: str
    classes: tuple[str, ...]
    """What its IngressClasses name as their controller."""
    services: tuple[str, ...]
    """Names of its Service in the usual charts."""
    labels: tuple[str, ...]
    """Values of `app.kubernetes.io/name` on that Service."""
    takes_classless: bool = False
    """It serves ingresses that name no class."""


KINDS = (
    Kind(
        "nginx",
        ("k8s.io/ingress-nginx", "rke2.cattle.io/ingress-nginx-controller"),
        ("ingress-nginx-controller", "rke2-ingress-nginx-controller", "nginx-ingress-controller"),
        ("ingress-nginx", "rke2-ingress-nginx"),
    ),
    Kind("traefik", ("traefik.io/ingress-controller",), ("traefik",), ("traefik",), takes_classless=True),
    Kind("haproxy", ("haproxy.org/ingress-controller",), (), ("kubernetes-ingress",), takes_classless=True),
    Kind("haproxy-ingress", ("haproxy-ingress.github.io/controller",), ("haproxy-ingress",), ("haproxy-ingress",)),
    Kind("nginx-inc", ("nginx.org/ingress-controller",), ("nginx-ingress",), ("nginx-ingress",)),
    Kind("kong", ("ingress-controllers.konghq.com/kong",), ("kong-proxy", "kong-gateway-proxy"), ("kong",)),
    Kind("contour", ("projectcontour.io/ingress-controller",), ("envoy", "contour-envoy"), ("contour",)),
    Kind("istio", ("istio.io/ingress-controller",), ("istio-ingressgateway",), ("istio-ingressgateway",)),
    Kind("cilium", ("cilium.io/ingress-controller",), ("cilium-ingress",), ()),
    Kind("apisix", ("apisix.apache.org/apisix-ingress",), ("apisix-gateway",), ("apisix",)),
)


@dataclass(frozen=True, slots=True)
class Controller:
    """A controller that runs in this cluster, by its Service."""

    kind: Kind
    namespace: str
    name: str
    http_port: int
    """0: none."""
    https_port: int
    type: str
    addresses: tuple[str, ...] = ()
    """Of its load balancer."""

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Choice:
    """Who serves an ingress: a controller, or the gateway itself, and then why."""

    controller: Controller | None = None
    note: str = ""


def recognise(service: traffic.Service) -> Controller | None:
    """Return the controller whose Service this is; None for another service.

    The Services of admission webhooks have the same labels and no plain HTTP port, as controllers have.
    """
    kind = _kind(service.metadata)
    spec = service.spec
    if kind is None or spec.type == "ExternalName" or spec.cluster_ip in ("", "None"):
        return None
    ports = [port for port in spec.ports or () if port.protocol == "TCP"]
    http, https = _port(ports, HTTP_NAMES, HTTP_PORT), _port(ports, HTTPS_NAMES, HTTPS_PORT)
    if not http:
        return None
    given = service.status.load_balancer.ingress or ()
    addresses = tuple(word for one in given for word in (one.hostname, one.ip) if word)
    return Controller(kind, service.metadata.namespace, service.metadata.name, http, https, spec.type, addresses)


def _kind(metadata: traffic.NamedMetadata) -> Kind | None:
    label = metadata.labels.app_name if metadata.labels is not None else ""
    named = (kind for kind in KINDS if metadata.name in kind.services)
    labelled = (kind for kind in KINDS if label and label in kind.labels)
    return next(named, None) or next(labelled, None)


def _port(ports: Sequence[traffic.ServicePort], names: Iterable[str], number: int) -> int:
    named = next((port.port for port in ports if port.name in names), 0)
    return named or next((port.port for port in ports if port.port == number), 0)


# -- which controller serves an ingress ------------------------------------------------------------


def choose(
    ingress: traffic.Ingress, classes: Mapping[str, traffic.IngressClass], controllers: Sequence[Controller]
) -> Choice:
    """Find who serves an ingress: by its class, by the default class, else a controller that asks for none."""
    named = ingress.spec.ingress_class_name or (ingress.metadata.annotations or {}).get(OLD_CLASS, "")
    known = classes.get(named) if named else _default(classes)
    if known is not None:
        return _of_class(known, controllers)
    if named:
        return _of_word(named, controllers)
    taking = next((one for one in controllers if one.kind.takes_classless), None)
    if taking is None and controllers:
        return Choice(note=f"it names no class, so that {controllers[0].kind.word} does not serve it")
    return Choice(taking)


def _default(classes: Mapping[str, traffic.IngressClass]) -> traffic.IngressClass | None:
    marked = (one for one in classes.values() if (one.metadata.annotations or {}).get(DEFAULT_CLASS) == "true")
    return min(marked, key=lambda one: one.metadata.name, default=None)


def _of_class(known: traffic.IngressClass, controllers: Sequence[Controller]) -> Choice:
    word = known.spec.controller
    if word == OWN_CLASS:
        return Choice()
    found = next((one for one in controllers if word in one.kind.classes), None)
    if found is not None:
        return Choice(found)
    return Choice(note=f"no running controller {word} was found for its class {known.metadata.name}")


def _of_word(named: str, controllers: Sequence[Controller]) -> Choice:
    """A class without an object: the old annotation, which names products."""
    found = next((one for one in controllers if named == one.kind.word), None)
    return Choice(found) if found is not None else Choice(note=f"there is no ingress class {named}")


# -- public or private -----------------------------------------------------------------------------


def is_private(controllers: Iterable[Controller], waiting: Mapping[str, float]) -> bool | None:
    """Tell whether the public cannot reach any controller by itself; None while a load balancer gets its address.

    Args: waiting: seconds that each controller has been seen without an address, by its key.
    """
    balanced = [one for one in controllers if one.type == "LoadBalancer"]
    if any(_is_public(address) for one in balanced for address in one.addresses):
        return False
    pending = (one for one in balanced if not one.addresses)
    return None if any(waiting.get(one.key, 0.0) < ADDRESS_TIMEOUT for one in pending) else True


def _is_public(address: str) -> bool:
    """A name is a cloud's; an address counts when the whole Internet may route it."""
    try:
        return ipaddress.ip_address(address).is_global
    except ValueError:
        return address.lower() not in ("localhost", "") and "." in address
