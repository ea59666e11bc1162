"""Why an agent is turned away: one clear message for each reason, the same on both sides. Pure.

The agent prints the message; the audit log and the cluster's page show it; the metric counts the code.
"""

from collections import Counter
from dataclasses import dataclass

from towline.wire import link

SUSPECT_PAUSE = 30.0
"""Seconds before a quarantined agent asks again, so that it is back soon after it was re-admitted."""
BUSY_PAUSE = 2.0
"""Seconds before an agent asks again when the database did not answer."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a refused agent is told. `final`: it must not come back."""

    code: str
    message: str
    close_code: int = link.CLOSE_UNAUTHENTICATED
    final: bool = False
    pause: float = 0.0


class Refused(Exception):
    """Raised where an agent is turned away."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


counts: Counter[str] = Counter()
"""Refusals of this process by code, for the metrics."""


def unknown_agent(agent_id: str) -> Refusal:
    return Refusal(
        "unknown_agent",
        f"This server does not know the agent {agent_id}: it belongs to another server, or the server was restored "
        "from a backup that is older than the agent. Join the host again with a new token.",
        pause=SUSPECT_PAUSE,
    )


UNKNOWN_KEY = Refusal(
    "unknown_key",
    "The agent signs with a key that was never registered for it. Join the host again with a new token.",
    pause=SUSPECT_PAUSE,
)
EXPIRED_KEY = Refusal(
    "expired_key",
    "The agent signs with a key that was replaced. Start it with its present state folder, or join the host again.",
    pause=SUSPECT_PAUSE,
)
BAD_SIGNATURE = Refusal(
    "bad_signature",
    "The signature of the agent does not fit. Its key, or the address that it believes it talks to, is wrong.",
)
PROTOCOL = Refusal(
    "protocol",
    "The agent and the server have no version of the link in common. Upgrade the older one of the two.",
    close_code=link.CLOSE_BAD_MESSAGE,
    pause=SUSPECT_PAUSE,
)
UNAVAILABLE = Refusal(
    "unavailable",
    "The server cannot ask its database now. The agent comes back by itself.",
    close_code=link.CLOSE_DRAINING,
    pause=BUSY_PAUSE,
)
REVOKED = Refusal(
    "revoked", "This agent was revoked by an administrator and stops.", close_code=link.CLOSE_FINAL, final=True
)
REMOVED = Refusal(
    "removed",
    "The cluster of this agent was removed by an administrator; the agent stops. Projects on the host keep running.",
    close_code=link.CLOSE_FINAL,
    final=True,
)
DUEL = "two machines take the link from each other with one copied identity"


def suspect_instance(reason: str) -> Refusal:
    return Refusal(
        "suspect",
        f"This instance of the agent is in quarantine: {reason}. Delete its pod; its successor is let in.",
        pause=SUSPECT_PAUSE,
    )


def crowded(most: int) -> Refusal:
    return Refusal(
        "crowded",
        f"All {most} declared instances of this agent are connected. Are there more replicas than its manifest "
        "declares? Generate one with the right number, or look for who else holds its key.",
        pause=SUSPECT_PAUSE,
    )


def suspect(reason: str) -> Refusal:
    return Refusal(
        "suspect",
        f"This agent is in quarantine: {reason}. An administrator can re-admit it on the cluster's page.",
        pause=SUSPECT_PAUSE,
    )
