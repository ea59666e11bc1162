"""Plain counters of the edge; the control plane shows them to Prometheus. Adding one is a line, never a lock."""

from collections import Counter
from dataclasses import dataclass, field

from towline.gateway.interfaces import RouteKind


@dataclass(slots=True)
class EdgeCounters:
    """Totals since the start, but for the `open_` ones, which go up and down."""

    open_connections: int = 0
    connections: int = 0
    requests: Counter[tuple[RouteKind, int]] = field(default_factory=Counter)
    """By kind and status class (2 for 2xx); 0 for a request that ended without an answer."""
    received_bytes: int = 0
    sent_bytes: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    """Heads, bodies and connections that were turned away, by the code of the error."""
    handshake_failures: int = 0
    upgrades: int = 0
    links: int = 0
    clients_gone: int = 0
    upstream_connections: int = 0
    upstream_reuses: int = 0
    upstream_failures: int = 0
    retries: int = 0
    dropped_identities: int = 0
    """Requests that carried headers which only Towline may set."""
    shed: int = 0
    """Slow readers that were cut off because all of them together held too much memory."""
    accept_pauses: int = 0
    """Times that accepting stopped because the process ran out of file descriptors or memory."""
