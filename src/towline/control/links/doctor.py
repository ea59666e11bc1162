"""What the server sees of a cluster's link, as a list of checks; what only the host can see is the agent's doctor.

Pure: rows and the live link in, checks out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from towline.control.agents.models import Agent
from towline.control.agents.states import AgentState
from towline.control.clusters.health import OFFLINE_AFTER, clock_time
from towline.control.clusters.models import Cluster
from towline.control.links.door import CLOCK_TOLERANCE
from towline.control.links.registry import Link

SLOW_MS = 1000.0
"""A round trip that makes a terminal unpleasant."""
MANY_RECONNECTS = 10


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at. `reason` says what was found; when not ok, also what to do."""

    name: str
    ok: bool
    reason: str


def examine(row: Cluster, agents: Sequence[Agent], one: Link | None, now: datetime) -> list[Check]:
    """Look at everything that the server knows of a link."""
    agent = agents[-1] if agents else None
    checks = [_identity(agent)]
    if agent is None or agent.state in (AgentState.REVOKED, AgentState.REMOVED):
        return checks
    checks.append(_connection(row, one, now))
    if one is not None:
        checks += [_round_trip(one), _clock(one), _steadiness(row)]
    elif row.link_last_error:
        checks.append(Check("last link", False, f"it ended: {row.link_last_error}"))
    return checks


def _identity(agent: Agent | None) -> Check:
    if agent is None:
        return Check("agent", False, "No agent has joined: make a join token and paste its line on the host")
    match agent.state:
        case AgentState.PENDING:
            return Check("agent", False, "The agent waits for approval")
        case AgentState.SUSPECT:
            return Check(
                "agent", False, f"The agent is in quarantine: {agent.state_reason}. Re-admit it when it is yours"
            )
        case AgentState.REVOKED | AgentState.REMOVED:
            return Check("agent", False, f"The agent is {agent.state} ({agent.state_reason}): join the host again")
    return Check("agent", True, f"{agent.id} on {agent.hostname or 'a host without a name'}, release {agent.version}")


def _connection(row: Cluster, one: Link | None, now: datetime) -> Check:
    if one is not None:
        since = clock_time(one.connected_at, now)
        return Check("link", True, f"connected since {since} from {one.session.remote_address}, epoch {one.epoch}")
    if row.last_seen_at is None:
        return Check(
            "link", False, "The agent enrolled and never connected: run `towline agent doctor` on the host; a proxy "
            "that does not pass WebSockets is the usual cause",
        )  # fmt: skip
    seen = clock_time(row.last_seen_at, now)
    if (now - row.last_seen_at).total_seconds() < OFFLINE_AFTER:
        return Check("link", False, f"Lost at {seen}; agents come back within a minute")
    return Check(
        "link", False, f"No word since {seen}: is the host up, is the agent's service running, does its network "
        "still reach this server? `towline agent doctor` on the host tells which",
    )  # fmt: skip


def _round_trip(one: Link) -> Check:
    times = one.rtt_ms()
    if times is None:
        return Check("round trip", True, "not measured yet")
    text = f"{times['median']:.1f} ms, between {times['min']:.1f} and {times['max']:.1f}"
    return Check("round trip", times["median"] < SLOW_MS, text)


def _clock(one: Link) -> Check:
    ahead = one.clock_offset
    if abs(ahead) <= CLOCK_TOLERANCE:
        return Check("clock", True, "agrees with the server's")
    way = "ahead of" if ahead > 0 else "behind"
    return Check("clock", False, f"the host's clock is {abs(ahead):.0f} s {way} the server's: set up NTP on it")


def _steadiness(row: Cluster) -> Check:
    count = row.link_reconnects
    if count < MANY_RECONNECTS:
        return Check("steadiness", True, f"{count} reconnects since the agent started")
    why = f"; the last link ended: {row.link_last_error}" if row.link_last_error else ""
    return Check("steadiness", False, f"{count} reconnects since the agent started{why}")
