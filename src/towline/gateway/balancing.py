"""Several targets behind one route: which of them gets the next request, and which are left alone for a while.

Decides only. Requests report what became of them; `health` asks by itself when the route names a path for it.
"""

from collections.abc import Collection
from dataclasses import dataclass, field

from towline.gateway.errors import UpstreamAway
from towline.gateway.interfaces import Connector, ConnectorProtocol

FAIL_TIMEOUT = 5.0
"""Seconds that a target is left alone after no connection to it came about; half of nginx's, because another one is
tried at once and the first request after it only finds out."""


@dataclass(slots=True, eq=False)
class Member:
    """One target. `name` is for logs and pages. Args: is_ready: asked at each choice; quick."""

    name: str
    connector: Connector
    cluster_id: str = ""
    open: int = field(default=0, init=False)
    """Requests that are with it now."""
    is_healthy: bool = field(default=True, init=False)
    """The last word of the health check."""
    avoided_until: float = field(default=0.0, init=False)

    @property
    def is_ready(self) -> bool:
        """False while nobody could even be asked: no agent of its cluster is connected."""
        ready = getattr(self.connector, "is_ready", None)
        return True if ready is None else bool(ready)

    def failed(self, now: float) -> None:
        """No connection came about."""
        self.avoided_until = now + FAIL_TIMEOUT

    def answered(self) -> None:
        """It answered a request, whatever it said."""
        self.avoided_until = 0.0


class Balanced:
    """A connector over several targets; `balance` as in the route's options."""

    def __init__(self, members: Collection[Member], balance: str = "round_robin") -> None:
        if not members:
            raise ValueError("a route needs a target")
        self.members = tuple(members)
        self._least = balance == "least_connections"
        self._turn = 0

    def __repr__(self) -> str:
        return f"<Balanced {', '.join(member.name for member in self.members)}>"

    @property
    def is_ready(self) -> bool:
        """True when some target could be asked."""
        return any(member.is_ready for member in self.members)

    def choose(self, now: float, tried: Collection[Member] = ()) -> Member | None:
        """Return the target of the next request; None when none is left.

        Healthy ones that did not fail lately go first; when there is none, any that can be asked at all: a health
        check that is wrong must not take a service away.
        """
        ready = [member for member in self.members if member not in tried and member.is_ready]
        good = [member for member in ready if member.is_healthy and member.avoided_until <= now]
        found = good or ready
        if not found:
            return None
        self._turn += 1
        if self._least:
            fewest = min(member.open for member in found)
            found = [member for member in found if member.open == fewest]
        return found[self._turn % len(found)]

    def connect(self, protocol: ConnectorProtocol, first_bytes: bytes) -> None:
        """Connect to the next target: for raw streams, which have no request to send elsewhere."""
        member = self.choose(0.0)
        if member is None:
            error = UpstreamAway("no target of this route can be asked")
            error.refusal = "away"
            protocol.connection_failed(error)
            return
        member.connector.connect(protocol, first_bytes)
