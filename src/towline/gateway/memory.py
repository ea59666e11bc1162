"""Keeps what slow readers hold within one number for the whole edge, and gives memory back when many have left."""

from collections.abc import Collection
from typing import Protocol

from towline.aio.malloc import give_back

GIVE_BACK_CONNECTIONS = 200
"""So many fewer connections than at the last peak are worth the milliseconds that giving memory back takes."""
GIVE_BACK_INTERVAL = 15.0
"""Seconds between two of them."""


class Reader(Protocol):
    """A client connection, as far as memory goes."""

    @property
    def full_since(self) -> float:
        """The moment since which the client does not take more; 0 while it does."""

    @property
    def held_bytes(self) -> int:
        """What waits for this client, on both sides of the edge."""

    def abort(self) -> None:
        """Drop the connection at once."""


def shed(connections: Collection[Reader], limit: int) -> int:
    """Drop those that have been full for longest until all together hold at most the limit; return how many."""
    full = [connection for connection in connections if connection.full_since]
    held = {connection: connection.held_bytes for connection in full}
    total, dropped = sum(held.values()), 0
    if total <= limit:
        return 0
    for connection in sorted(full, key=lambda each: each.full_since):
        connection.abort()
        total -= held[connection]
        dropped += 1
        if total <= limit:
            break
    return dropped


class Returns:
    """Notices that many connections have ended."""

    def __init__(self) -> None:
        self._peak = 0
        self._not_before = 0.0

    def __repr__(self) -> str:
        return f"<Returns peak={self._peak}>"

    def look(self, connections: int, now: float) -> None:
        """Give memory back when it is worth it."""
        self._peak = max(self._peak, connections)
        if self._peak - connections >= GIVE_BACK_CONNECTIONS and now >= self._not_before:
            self._peak, self._not_before = connections, now + GIVE_BACK_INTERVAL
            give_back()
