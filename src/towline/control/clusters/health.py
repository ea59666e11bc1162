"""The health of a cluster: a state and a reason, from what is known. Pure.

A colour alone helps nobody: the reason says what is wrong, since when, and in the words of who found out.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

OFFLINE_AFTER = 90.0
"""Seconds of silence: three heartbeats."""
LOW_DISK_BYTES = 512 * 1024 * 1024
"""A pull of a usual image needs more than this."""
NAMED_AT_MOST = 3
"""Containers that a reason lists by name."""


class Health(StrEnum):
    HEALTHY = "healthy"
    DEGRADED = "degraded"
    DOWN = "down"
    WORKING = "working"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Capability:
    name: str
    ready: bool
    reason: str = ""
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Known:
    """Everything that health depends on."""

    now: datetime
    connected: bool
    last_seen_at: datetime | None
    agent_state: str
    """State of the agent: active, pending, suspect, revoked; empty when there is none."""
    agent_reason: str = ""
    last_error: str = ""
    """Why the last link ended, if it ended."""
    capabilities: Sequence[Capability] = ()
    unhealthy: Sequence[str] = field(default=())
    """Names of containers that Docker calls unhealthy, restarting or dead."""
    troubles: str = ""
    """What is not well in its Kubernetes cluster, as a sentence; empty when all is."""
    disk_free_bytes: int = 0
    """0: not reported."""


@dataclass(frozen=True, slots=True)
class Verdict:
    state: Health
    reason: str


def judge(known: Known) -> Verdict:
    """Say how a cluster is; the gravest thing wins."""
    return _without_agent(known) or _away(known) or _broken(known) or Verdict(Health.HEALTHY, "")


def _without_agent(known: Known) -> Verdict | None:
    match known.agent_state:
        case "":
            return Verdict(Health.UNKNOWN, "No agent has joined yet")
        case "pending":
            return Verdict(Health.WORKING, "The agent waits for an admin to approve it")
        case "suspect":
            return Verdict(Health.DOWN, f"The agent is in quarantine: {known.agent_reason}")
        case "revoked":
            return Verdict(Health.DOWN, "The agent was revoked; join the host again or remove the cluster")
    return None


def _away(known: Known) -> Verdict | None:
    if known.connected:
        return None
    if known.last_seen_at is None:
        return Verdict(Health.WORKING, "The agent has joined and has not connected yet")
    since = clock_time(known.last_seen_at, known.now)
    why = f": {known.last_error}" if known.last_error else ""
    if (known.now - known.last_seen_at).total_seconds() < OFFLINE_AFTER:
        return Verdict(Health.WORKING, f"The link was lost at {since}{why}; the agent should be back within moments")
    return Verdict(Health.DOWN, f"No word from the agent since {since}{why}")


def _broken(known: Known) -> Verdict | None:
    serves_kubernetes = any(one.ready and one.name == "kubernetes" for one in known.capabilities)
    for capability in known.capabilities:
        # An agent in a Kubernetes cluster has no Docker, and needs none.
        if not capability.ready and capability.name == "compose" and not (serves_kubernetes or known.troubles):
            since = f" since {clock_time(capability.since, known.now)}" if capability.since else ""
            return Verdict(Health.DEGRADED, f"Docker does not answer{since}: {capability.reason or 'no reason given'}")
    for capability in known.capabilities:
        if not capability.ready and capability.name == "kubernetes" and known.troubles:
            return Verdict(Health.DEGRADED, f"Kubernetes is not served: {capability.reason or known.troubles}")
    if known.troubles:
        return Verdict(Health.DEGRADED, known.troubles)
    if known.unhealthy:
        return Verdict(Health.DEGRADED, _containers(known.unhealthy))
    if 0 < known.disk_free_bytes < LOW_DISK_BYTES:
        return Verdict(Health.DEGRADED, f"The disk is nearly full: {known.disk_free_bytes // 2**20} MiB are free")
    return None


def _containers(names: Sequence[str]) -> str:
    listed = ", ".join(sorted(names)[:NAMED_AT_MOST])
    more = f" and {len(names) - NAMED_AT_MOST} more" if len(names) > NAMED_AT_MOST else ""
    noun = "container is" if len(names) == 1 else "containers are"
    return f"{len(names)} {noun} not well: {listed}{more}"


def clock_time(moment: datetime, now: datetime) -> str:
    """Return `14:02`, with the date when it was another day; UTC."""
    return moment.strftime("%H:%M" if moment.date() == now.date() else "%Y-%m-%d %H:%M") + " UTC"
