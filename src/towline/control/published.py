"""Services that the settings publish under a host name: which cluster's agent dials which address for it.

A small beginning of the gateway's routes: from the `published` setting, without rows of their own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from towline.control.errors import StartupError
from towline.control.settings import Settings
from towline.gateway.interfaces import Route

if TYPE_CHECKING:
    from towline.control.app import ControlPlane


class PublishedRoutes:
    """Finds the route of a host name. Implements `routing.Published` by `find`."""

    def __init__(self, control: ControlPlane) -> None:
        self._control = control
        self._targets = parse(control.settings)
        self._routes: dict[str, Route] = {}

    async def start(self) -> None:
        """Make the routes."""

    async def stop(self) -> None:
        """Forget them."""
        self._routes.clear()

    def find(self, host: str) -> Route | None:
        """Return the route of a host name; None for one that is not published."""
        return self._routes.get(host)


def parse(settings: Settings) -> dict[str, tuple[str, str, int]]:
    """Return host name to cluster, address and port. Raises: StartupError."""
    found = {}
    for host, target in settings.published.items():
        cluster, slash, address = target.partition("/")
        name, colon, port = address.rpartition(":")
        if not slash or not colon or not port.isdigit() or not 0 < int(port) < 65536:
            raise StartupError(f"published: {host} must name CLUSTER/ADDRESS:PORT, not {target!r}")
        found[host.lower()] = (cluster, name.strip("[]"), int(port))
    return found
