"""What all connections of one edge share: limits, collaborators, counters, pools, and the list of themselves.

Only data and the smallest helpers; who moves what is in `client`, `exchange` and `edge`.
"""

import itertools
import secrets
import time
from dataclasses import dataclass, field
from typing import Protocol

from towline.aio.tasks import TaskOwner
from towline.gateway.counters import EdgeCounters
from towline.gateway.interfaces import AccessLog, Connector, LinkAcceptor, Router
from towline.gateway.options import EdgeOptions
from towline.gateway.request_tail import RequestTail
from towline.gateway.route_figures import RouteFigures
from towline.gateway.route_policy import Policies
from towline.gateway.upstream import Pools


class Swept(Protocol):
    """A connection whose deadlines are looked at regularly."""

    def check(self, now: float) -> None:
        """End what is overdue."""

    @property
    def full_since(self) -> float:
        """The moment since which the client does not take more; 0 while it does."""

    @property
    def held_bytes(self) -> int:
        """What waits for the client."""

    def abort(self) -> None:
        """Drop the connection at once."""

    @property
    def route_id(self) -> str:
        """The id of the published route that it serves now; empty for anything else."""

    def withdraw(self) -> None:
        """End what it serves: its route was taken away."""

    @property
    def is_idle(self) -> bool:
        """True between requests."""

    @property
    def is_piped(self) -> bool:
        """True after an upgrade: it may last for days."""


@dataclass(slots=True)
class EdgeContext:
    """One per edge."""

    options: EdgeOptions
    router: Router
    api: Connector
    links: LinkAcceptor
    pools: Pools
    counters: EdgeCounters
    access_log: AccessLog | None = None
    connections: set[Swept] = field(default_factory=set)
    is_draining: bool = False
    policies: Policies = field(default_factory=Policies)
    figures: RouteFigures = field(default_factory=RouteFigures)
    tail: RequestTail = field(default_factory=RequestTail)
    decisions: TaskOwner = field(default_factory=lambda: TaskOwner("edge/decisions"))
    """Look-ups of routes that take time; one task for each request that waits."""
    _request_prefix: str = field(default_factory=lambda: secrets.token_hex(6))
    _request_numbers: "itertools.count[int]" = field(default_factory=itertools.count)

    def now(self) -> float:
        """Return a monotonic moment in seconds."""
        return time.monotonic()

    def next_request_id(self) -> str:
        """Return an id that no other request of any replica has."""
        return f"{self._request_prefix}-{next(self._request_numbers):x}"
