"""From an HTTPRoute of the Gateway API to claims. Pure.

Host, path, headers and redirects to HTTPS are what the gateway can do; what else a rule asks for is told as notes, and
a rule that would mean something else without it makes no route. Source: gateway-api.sigs.k8s.io, "HTTPRoute".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from towline.agent.routes.ingress import PROTECTED_SERVICES, WHOLE
from towline.agent.routes.parents import inherited_hosts
from towline.agent.routes.refs import clean_host, is_host, ref
from towline.kube import traffic
from towline.wire.link import RouteClaim
from towline.wire.streams import KubeService

PathType = Literal["exact", "prefix"]
NOTHING = KubeService(namespace="", name="", port="")
_UNITS = (("ms", 0.001), ("s", 1.0), ("m", 60.0), ("h", 3600.0))


@dataclass(slots=True)
class _Told:
    """What the filters and timeouts of a rule come to."""

    options: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    caution: str = ""
    problem: str = ""
    only_redirects: bool = False
    """It sends plain requests to HTTPS, which the gateway does by itself: there is nothing to claim."""


def claims(route: traffic.HttpRoute, gateways: Mapping[str, traffic.Gateway]) -> tuple[RouteClaim, ...]:
    """Return what a route claims, each host and path once; of two that say the same the first stays.

    Args: gateways: by `NAMESPACE/NAME`: a route without hosts has those of the listeners that it attaches to.
    """
    found: dict[str, RouteClaim] = {}
    named = tuple(dict.fromkeys(clean_host(host) for host in route.spec.hostnames or ()))
    hosts = named or inherited_hosts(route, gateways) or ("",)
    for number, rule in enumerate(route.spec.rules or ()):
        told = _told(rule)
        if told.only_redirects:
            continue
        for index, match in enumerate(rule.matches or (traffic.RouteMatch(),)):
            for host in hosts:
                claim = _claim(route, rule, match, host, told, f"{number}.{index}")
                found.setdefault(claim.ref, claim)
    return tuple(found.values())


def _claim(
    route: traffic.HttpRoute, rule: traffic.RouteRule, match: traffic.RouteMatch, host: str, told: _Told, at: str
) -> RouteClaim:
    metadata = route.metadata
    path, path_type, unmatched = _path(match)
    target, also, notes, problem = _backends(rule, metadata.namespace)
    name = ref("httproute", metadata.namespace, metadata.name, host, path_type, path)
    if host and not is_host(host):
        problem = f"{host[:100]!r} is not a host name"
    return RouteClaim(
        ref=f"{name}#{at}" if unmatched else name,
        source="httproute",
        host=host,
        path=path,
        path_type=path_type,
        target=target,
        also=also,
        options=dict(told.options),
        notes=(*told.notes, *notes),
        caution=told.caution,
        problem=unmatched or told.problem or problem,
    )


def _path(match: traffic.RouteMatch) -> tuple[str, PathType, str]:
    """Return path, kind and what of the match cannot be held: a route without it would take other requests."""
    more = [
        word
        for word, asked in (("headers", match.headers), ("query", match.query_params), ("method", match.method))
        if asked
    ]
    problem = f"it matches by {' and '.join(more)}, and the gateway matches host and path alone" if more else ""
    value = match.path.value or WHOLE
    if match.path.type == "Exact":
        return value, "exact", problem
    if match.path.type == "RegularExpression":
        return value, "prefix", f"the path {value[:100]} is a regular expression"
    return value.rstrip("/") or WHOLE, "prefix", problem


# -- backends --------------------------------------------------------------------------------------


def _backends(
    rule: traffic.RouteRule, namespace: str
) -> tuple[KubeService, tuple[KubeService, ...], tuple[str, ...], str]:
    """Return the target, further ones, notes and what is wrong. Equal weights share; else the heaviest takes all."""
    weighed = [(one, 1 if one.weight is None else one.weight) for one in rule.backend_refs or ()]
    taking = [(one, weight) for one, weight in weighed if weight > 0]
    if not taking:
        return NOTHING, (), (), "no backend takes its requests"
    for one, _ in taking:
        if problem := _backend_problem(one, namespace):
            return _service(taking[0][0], namespace), (), (), problem
    notes = ["filters of a single backend are not applied"] if any(one.filters for one, _ in taking) else []
    weights = {weight for _, weight in taking}
    if len(weights) == 1:
        first, *rest = (_service(one, namespace) for one, _ in taking)
        return first, tuple(rest), tuple(notes), ""
    heaviest = max(taking, key=lambda one: one[1])[0]
    shares = ", ".join(f"{one.name} {weight}" for one, weight in taking)
    notes.append(f"shares are not kept ({shares[:200]}): all requests go to {heaviest.name}")
    return _service(heaviest, namespace), (), tuple(notes), ""


def _backend_problem(one: traffic.BackendReference, namespace: str) -> str:
    if one.group or one.kind != "Service":
        return f"its backend {one.name[:100]} is a {one.kind[:60]}, not a service"
    if one.namespace and one.namespace != namespace:
        return f"its backend is in the namespace {one.namespace[:63]}: a route leads to its own namespace alone"
    if (namespace, one.name) in PROTECTED_SERVICES:
        return "the API server is never published"
    return "" if one.port else f"its backend {one.name[:100]} names no port"


def _service(one: traffic.BackendReference, namespace: str) -> KubeService:
    return KubeService(namespace=namespace, name=one.name, port=str(one.port or ""))


# -- filters ---------------------------------------------------------------------------------------


def _told(rule: traffic.RouteRule) -> _Told:
    told = _Told()
    for one in rule.filters or ():
        _apply(one, told)
    if rule.timeouts is not None:
        _time(rule.timeouts, told)
    told.only_redirects = told.only_redirects and not rule.backend_refs
    return told


def _apply(one: traffic.Filter, told: _Told) -> None:
    match one.type:
        case "RequestHeaderModifier":
            _change_headers(one.request_header_modifier, "request", told)
        case "ResponseHeaderModifier":
            _change_headers(one.response_header_modifier, "answer", told)
        case "RequestRedirect":
            _redirect(one.request_redirect or traffic.Redirect(), told)
        case "URLRewrite":
            _rewrite(one.url_rewrite or traffic.Rewrite(), told)
        case "RequestMirror" | "CORS":
            told.notes.append(f"the filter {one.type} is not applied")
        case _:
            told.notes.append(f"the filter {one.type[:60]} is not applied")
            told.caution = f"the filter {one.type[:60]} may protect it, and nothing here does what it says"


def _change_headers(change: traffic.HeaderChange | None, side: str, told: _Told) -> None:
    if change is None:
        return
    added = tuple(change.add or ())
    lines = [f"{header.name}: {header.value}" for header in (*(change.set or ()), *added)]
    if lines:
        told.options[f"set_{side}_headers"] = "\n".join(lines)
    if change.remove:
        told.options[f"remove_{side}_headers"] = ",".join(change.remove)
    if added:
        told.notes.append(f"headers to add to the {side} are set: {', '.join(one.name for one in added)[:200]}")


def _redirect(redirect: traffic.Redirect, told: _Told) -> None:
    only_scheme = redirect.hostname is None and redirect.path is None and redirect.port in (None, 443)
    if redirect.scheme == "https" and only_scheme:
        told.only_redirects = True
    else:
        told.problem = "it redirects, which the gateway does to HTTPS alone"


def _rewrite(rewrite: traffic.Rewrite, told: _Told) -> None:
    if rewrite.hostname:
        told.options["host"] = rewrite.hostname
    if rewrite.path is not None:
        told.problem = "it rewrites the path, which the gateway passes as it is"


def _time(timeouts: traffic.Timeouts, told: _Told) -> None:
    text = timeouts.request or timeouts.backend_request or ""
    seconds = _seconds(text)
    if seconds is not None:
        told.options["request_timeout"] = f"{seconds:g}"
    elif text:
        told.notes.append(f"the timeout {text[:20]} is not applied")


def _seconds(text: str) -> float | None:
    """Read a duration of the Gateway API, e.g. `1m30s`; None for none."""
    total, rest = 0.0, text
    for number, unit in _parts(rest):
        if unit is None:
            return None
        total += number * unit
    return total if text else None


def _parts(text: str) -> Iterator[tuple[float, float | None]]:
    while text:
        digits = text[: len(text) - len(text.lstrip("0123456789"))]
        text = text[len(digits) :]
        unit = next(((word, value) for word, value in _UNITS if text.startswith(word)), None)
        if not digits or unit is None:
            yield 0.0, None
            return
        text = text[len(unit[0]) :]
        yield float(digits), unit[1]
