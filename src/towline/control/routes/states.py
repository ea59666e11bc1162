"""The states of a route and what decides between them: one table, no input and no output."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from towline.gateway.interfaces import ToTarget

Mode = Literal["automatic", "proposals", "off"]
Decision = Literal["", "automatic", "accepted", "refused"]
SOURCES = ("ingress", "httproute", "compose")
DECLARED = "declared"


class RouteState(StrEnum):
    """What becomes of requests to a route's name."""

    ACTIVE = "active"
    """They go to its target."""
    PROPOSED = "proposed"
    """Its source asks for the name; somebody has to accept it."""
    CONFLICT = "conflict"
    """Another route has the name and path already."""
    REFUSED = "refused"
    """Somebody refused it, or the name is not the organisation's."""
    LEAVING = "leaving"
    """Its source went away; it answers until the grace time is over."""


@dataclass(frozen=True, slots=True)
class Facts:
    """All that a route's state depends on, but for its rivals."""

    source: str
    decision: str
    decided_by: str
    existed: bool
    mode: str
    """Of its cluster, for what existed or for what appears."""
    is_leaving: bool
    is_gone: bool
    """The grace time is over."""
    problem: str
    """Of its host, its target, or as its agent says."""
    caution: str = ""
    """Why it must not answer before somebody has looked."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A state with its reason, and whether the route wants its name and path for itself."""

    state: RouteState
    reason: str = ""
    holds: bool = False


def judge(facts: Facts) -> Verdict:
    """Decide about a route without looking at others."""
    if facts.decision == "refused":
        return Verdict(RouteState.REFUSED, f"refused by {facts.decided_by}")
    if facts.problem:
        return Verdict(RouteState.REFUSED, facts.problem)
    if facts.source == DECLARED:
        return Verdict(RouteState.ACTIVE, holds=True)
    if facts.mode == "off":
        return Verdict(RouteState.REFUSED, "what runs on this cluster may publish nothing: its setting is `off`")
    if facts.decision == "" and (facts.caution or facts.mode == "proposals"):
        return Verdict(RouteState.PROPOSED, facts.caution or proposal_reason(facts.existed))
    if facts.is_gone:
        return Verdict(RouteState.LEAVING, "its source went away")
    if facts.is_leaving:
        return Verdict(RouteState.LEAVING, "its source went away; it answers until the grace time is over", holds=True)
    return Verdict(RouteState.ACTIVE, holds=True)


def proposal_reason(existed: bool) -> str:
    """Say why somebody has to accept a route."""
    if existed:
        return "it was there when the cluster joined: nothing becomes public by surprise"
    return "the cluster's setting is `proposals`"


@dataclass(frozen=True, slots=True)
class PortLost:
    """A port of the gateway that two routes in the table have, for as long as it takes to hear of a change."""

    port: int
    holder: ToTarget

    def reason(self, cluster_ids: Collection[str]) -> str:
        """Say it to people who may see these clusters: a route of nobody knows whom is not named."""
        name = f"the route {self.holder.name}" if self.holder.cluster_id in cluster_ids else "another route"
        return port_lost_to(name, self.port).reason


def lost_to(name: str, host: str, path: str) -> Verdict:
    """Return the verdict on a route whose name and path another one has."""
    return Verdict(RouteState.CONFLICT, f"{name} answers for {host}{path} already; first come stays")


def port_lost_to(name: str, port: int) -> Verdict:
    """Return the verdict on a route whose port another one has."""
    return Verdict(RouteState.CONFLICT, f"{name} has port {port} already; first come stays")


def host_lost(host: str) -> Verdict:
    """Return the verdict on a route whose host, one that the gateway gives out, is another organisation's."""
    return Verdict(RouteState.CONFLICT, f"another organisation has routes on {host} already; first come stays")
