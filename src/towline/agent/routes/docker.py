"""From the host's containers to claims: which of them count, and what their labels need besides."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from towline.agent.docker import containers
from towline.agent.docker.containers import Inspected
from towline.agent.policy import LocalPolicy
from towline.agent.routes import compose
from towline.agent.routes.telling import RouteTeller

MAKER = "compose"
COUNTED = frozenset({"running", "paused", "restarting"})
"""States of containers whose labels count: a service that begins anew again and again keeps its name."""


class ComposeRoutes:
    """Keeps the claims of Compose services in a teller's book."""

    def __init__(self, teller: RouteTeller, policy: Callable[[], LocalPolicy]) -> None:
        self._teller = teller
        self._policy = policy
        teller.expect("compose")

    def seen(self, found: Iterable[Inspected]) -> None:
        """These are all containers of the host. One that stops or is made anew keeps its names for a grace time."""
        labelled = list(_labelled(found))
        if labelled and not self._policy().may_claim("compose"):
            labelled = []
        self._teller.book.put(MAKER, compose.claims(labelled), softly=True)
        self._teller.has_read("compose")

    def away(self) -> None:
        """There is no engine to look at: what was seen of it last stays."""
        self._teller.left("compose")


def _labelled(found: Iterable[Inspected]) -> Iterator[compose.Labelled]:
    for one in found:
        labels = one.labels
        project, service = labels.get(containers.PROJECT_LABEL, ""), labels.get(containers.SERVICE_LABEL, "")
        is_run = labels.get(containers.ONE_OFF_LABEL, "").lower() == "true"
        if project and service and not is_run and one.state.status in COUNTED and compose.has_routes(labels):
            yield compose.Labelled(project, service, labels, tuple(sorted(_tcp_ports(one))))


def _tcp_ports(one: Inspected) -> Iterator[int]:
    for word in one.network_settings.ports or ():
        number, _, protocol = word.partition("/")
        if protocol == "tcp" and number.isdigit():
            yield int(number)
