"""The Gateways that an HTTPRoute attaches to, and the host names that it inherits from their listeners. Pure.

Source: gateway-api.sigs.k8s.io, "HTTPRoute", `hostnames` and `parentRefs`; "Gateway", `listeners` and `allowedRoutes`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from towline.agent.routes.refs import clean_host
from towline.kube import traffic

PROTOCOLS = frozenset({"HTTP", "HTTPS"})
"""Of the listeners that take HTTPRoutes."""


def inherited_hosts(route: traffic.HttpRoute, gateways: Mapping[str, traffic.Gateway]) -> tuple[str, ...]:
    """Return the hosts of the listeners that a route attaches to; none when no listener names one.

    Args: gateways: by `NAMESPACE/NAME`.
    """
    hosts = (clean_host(listener.hostname) for listener in _listeners(route, gateways))
    return tuple(dict.fromkeys(host for host in hosts if host))


def _listeners(route: traffic.HttpRoute, gateways: Mapping[str, traffic.Gateway]) -> Iterator[traffic.GatewayListener]:
    own = route.metadata.namespace
    for parent in route.spec.parent_refs or ():
        if (parent.group, parent.kind) != (traffic.GATEWAY_API, "Gateway"):
            continue
        namespace = parent.namespace or own
        found = gateways.get(f"{namespace}/{parent.name}")
        for listener in (found.spec.listeners or ()) if found is not None else ():
            if _is_meant(parent, listener) and _takes(listener, is_same=namespace == own):
                yield listener


def _is_meant(parent: traffic.ParentReference, listener: traffic.GatewayListener) -> bool:
    return parent.section_name in ("", listener.name) and parent.port in (None, listener.port)


def _takes(listener: traffic.GatewayListener, *, is_same: bool) -> bool:
    """Tell whether a listener takes HTTPRoutes of a namespace. One that chooses by labels is not known to."""
    allowed = listener.allowed_routes
    kinds = {(one.group, one.kind) for one in allowed.kinds or ()}
    if listener.protocol not in PROTOCOLS or (kinds and (traffic.GATEWAY_API, "HTTPRoute") not in kinds):
        return False
    return allowed.namespaces.origin == "All" or (allowed.namespaces.origin == "Same" and is_same)
