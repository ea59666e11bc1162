"""Routes as pages say them: the state with its light, and the lights of the way. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import quote

from towline.control.routes.schemas import Light, RouteOut, TargetOut
from towline.gateway.route_figures import BOUNDS, RouteFigure

Tone = Literal["healthy", "degraded", "down", "working", "unknown"]

SOURCES = {"declared": "Declared here", "ingress": "Ingress", "httproute": "HTTPRoute", "compose": "Compose label"}
STATES = {
    "active": "Live",
    "proposed": "Proposed",
    "conflict": "Conflict",
    "refused": "Refused",
    "leaving": "Leaving",
}
LIGHTS = {
    "route": "Route",
    "name": "Name leads here",
    "certificate": "Certificate",
    "agent": "Agent is connected",
    "target": "Target answers",
}
TONES: dict[str, Tone] = {"ok": "healthy", "failed": "down", "unknown": "unknown"}
LIGHT_WORDS = {"ok": "OK", "failed": "Failed", "unknown": "Not tested"}
TLS_OF_TARGET = Light(
    name="certificate", state="ok", reason="none is ordered: the target itself ends whatever TLS reaches it"
)


def ends_tls_itself(options: Mapping[str, Any]) -> bool:
    """Tell whether a route passes connections on as they are, so that no certificate of ours is ever shown."""
    return bool(options.get("tls_passthrough") or options.get("tcp_port"))


TAKEN = frozenset({"new", "accept"})
"""Addresses below `/routes` that are no route's; one that is called so is shown by its id."""


def page_of(route: RouteOut) -> str:
    """Return the address of a route's page."""
    return f"/routes/{quote(route.id if route.name in TAKEN else route.name)}"


@dataclass(frozen=True, slots=True)
class Said:
    """A state: its light, its word, and the reason when it is not well."""

    tone: Tone
    word: str
    reason: str = ""


def state(route: RouteOut) -> Said:
    """Return what becomes of requests to a route, in words."""
    if not route.enabled:
        return Said("unknown", "Off", "it is switched off: its name answers 404")
    word = STATES.get(route.state, route.state.capitalize())
    match route.state:
        case "active":
            return _active(route.targets)
        case "conflict":
            return Said("down", word, route.reason)
        case "leaving":
            return Said("degraded", word, route.reason)
        case "refused" if route.decision != "refused":
            return Said("down", word, route.reason)
    return Said("unknown", word, route.reason)


def _active(targets: Sequence[TargetOut]) -> Said:
    away = [target.cluster.name for target in targets if not target.connected]
    if not away:
        return Said("healthy", STATES["active"])
    reason = f"no agent of {' or '.join(away)} is connected"
    return Said("down", "Away", reason) if len(away) == len(targets) else Said("degraded", "Degraded", reason)


@dataclass(frozen=True, slots=True)
class Lamp:
    """One light of the way to a target."""

    key: str
    title: str
    said: Said
    seconds: float = 0.0


def lamps(lights: Sequence[Light]) -> list[Lamp]:
    """Return tested lights as a page shows them."""
    several = len({light.cluster for light in lights if light.cluster}) > 1
    return [
        Lamp(
            f"{light.name}-{light.cluster}" if light.cluster else light.name,
            LIGHTS.get(light.name, light.name) + (f" ({light.cluster})" if several and light.cluster else ""),
            Said(TONES[light.state], LIGHT_WORDS[light.state], light.reason),
            light.seconds,
        )
        for light in lights
    ]


def untested(route: RouteOut) -> list[Light]:
    """Return the lights before anything was tested: what is known anyway."""
    later = "the test tells"
    good = route.enabled and route.state in ("active", "leaving")
    reason = route.reason or ("it answers for its name" if good else state(route).reason)
    lights = [Light(name="route", state="ok" if good else "failed", reason=reason)]
    if route.host:
        lights.append(Light(name="name", state="unknown", reason=later))
        certificate = Light(name="certificate", state="unknown", reason=later)
        lights.append(TLS_OF_TARGET if ends_tls_itself(route.options) else certificate)
    for target in route.targets:
        name = target.cluster.name
        if target.connected:
            agent = Light(name="agent", cluster=name, state="ok", reason="connected")
        else:
            agent = Light(name="agent", cluster=name, state="failed", reason=f"no agent of {name} is connected")
        lights += [agent, Light(name="target", cluster=name, state="unknown", reason=later)]
    return lights


CLASSES = {2: "2xx answered", 3: "3xx sent on", 4: "4xx refused", 5: "5xx failed", 1: "1xx upgraded", 0: "Not answered"}
TALLEST = 36.0
"""Units of the highest bar."""


@dataclass(frozen=True, slots=True)
class Bar:
    """How many answers took so long."""

    words: str
    count: int
    height: float


@dataclass(frozen=True, slots=True)
class Figures:
    """What happened on a route since this server started."""

    total: int
    open: int
    classes: tuple[tuple[int, str, int], ...]
    median: str
    most: str
    received_bytes: int
    sent_bytes: int
    bars: tuple[Bar, ...]


def figures(found: RouteFigure | None) -> Figures | None:
    """Return a route's figures in words; None when nobody asked for anything yet."""
    if found is None or not (found.statuses.total() or found.open):
        return None
    highest = max(found.buckets) or 1
    names = [*(f"up to {_short(bound)}" for bound in BOUNDS), f"over {_short(BOUNDS[-1])}"]
    return Figures(
        total=found.statuses.total(),
        open=found.open,
        classes=tuple((one, words, found.statuses[one]) for one, words in CLASSES.items() if found.statuses[one]),
        median=within(found.buckets, 0.5),
        most=within(found.buckets, 0.95),
        received_bytes=found.received_bytes,
        sent_bytes=found.sent_bytes,
        bars=tuple(
            Bar(name, count, round(TALLEST * count / highest, 1))
            for name, count in zip(names, found.buckets, strict=True)
        ),
    )


def within(buckets: Sequence[int], share: float) -> str:
    """Return the bound that a share of the answers kept, as a histogram knows it."""
    wanted, seen = share * sum(buckets), 0
    for bound, count in zip(BOUNDS, buckets, strict=False):
        seen += count
        if seen and seen >= wanted:
            return f"within {_short(bound)}"
    return f"over {_short(BOUNDS[-1])}" if sum(buckets) else ""


def _short(seconds: float) -> str:
    return f"{seconds * 1000:g} ms" if seconds < 1 else f"{seconds:g} s"
