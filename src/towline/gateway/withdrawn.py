"""Ends what is open of routes that were taken away: raw connections, WebSockets, long answers. Decides no more."""

from collections.abc import Callable, Collection

import structlog

from towline.gateway.context import Swept

_log = structlog.get_logger("towline.edge")

INTERVAL = 4.0
"""Seconds between two looks. A route has to be missing at both: one that changes its name is missing for a moment."""


class Withdrawn:
    """Args: is_served: tells whether a route's id still answers for its name."""

    def __init__(self, is_served: Callable[[str], bool]) -> None:
        self._is_served = is_served
        self._looked_at = 0.0
        self._missing: frozenset[str] = frozenset()

    def __repr__(self) -> str:
        return f"<Withdrawn {len(self._missing)} missing>"

    def look(self, connections: Collection[Swept], now: float) -> None:
        """End connections of routes that were missing at the last look already; most calls come too early to look."""
        if now - self._looked_at < INTERVAL:
            return
        self._looked_at = now
        ids = {connection.route_id for connection in connections} - {""}
        missing = frozenset(route_id for route_id in ids if not self._is_served(route_id))
        gone, self._missing = missing & self._missing, missing
        for connection in connections if gone else ():
            if connection.route_id in gone:
                _withdraw(connection)


def _withdraw(connection: Swept) -> None:
    try:
        connection.withdraw()
    except Exception:
        _log.exception("a connection could not be ended in good order", connection=repr(connection))
        connection.abort()
