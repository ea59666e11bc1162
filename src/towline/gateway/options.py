"""Every limit of the edge in one typed object, with its reason. Tests make them small; settings may change some."""

import ipaddress
from dataclasses import dataclass, field

from towline.gateway.route_options import DEFAULT_REQUEST_TIMEOUT
from towline.wire.http1 import HeadLimits

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeOptions:
    """Limits of one edge; times in seconds."""

    trusted_proxies: tuple[Network, ...] = ()
    """Peers whose X-Forwarded-* are believed and who may speak plain HTTP."""

    plain_from_loopback: bool = True
    """Plain HTTP is served when both ends of a connection are loopback addresses: nobody can listen in."""

    plain_for_everybody: bool = False
    """Plain HTTP is served to anybody: on the port that only answers challenges and redirects."""

    first_byte_timeout: float = 5.0
    """Until a new connection shows whether it speaks TLS; a scanner that stays silent holds a socket no longer."""

    handshake_timeout: float = 5.0
    """For the TLS handshake: a few round trips on the worst link."""

    header_timeout: float = 10.0
    """From the first byte of a request head (or the accept) to its last: slow senders hold no connection (F51)."""

    keep_alive_timeout: float = 75.0
    """Idle between requests; above the 60 s at which common balancers close theirs, so that they close first."""

    body_window: float = 10.0
    """A request body must bring `body_min_rate` on average in each window of this length."""

    body_min_rate: float = 1024.0
    """Bytes per second; slower than any modem, faster than a slow-body attack."""

    half_close_timeout: float = 1.5
    """After a client ended its side: an answer that makes no progress for this long is given up, so that the upstream
    of a client that has gone is cancelled within 2 s."""

    linger_timeout: float = 1.0
    """How long unread input is thrown away after a refusal, so that a reset does not overtake the answer."""

    sweep_interval: float = 0.25
    """How often deadlines are looked at; one pass over all connections costs less than a timer for each request."""

    connections_per_address: int = 100
    """From one IPv4 address or IPv6 /64; trusted proxies are not counted."""

    max_connections: int = 16_384
    """In all: memory and file descriptors of a small host."""

    write_high_bytes: int = 64 * 1024
    """Unsent bytes of one connection at which its source is paused: two frames of a stream. What a slow reader costs on
    top is one window of a stream (256 KiB), or one read of a socket."""

    max_held_bytes: int = 512 * 1024 * 1024
    """What all slow readers of this edge may hold together; beyond it those that wait longest are cut off."""

    answer_timeout: float = DEFAULT_REQUEST_TIMEOUT
    """Until a published target answers, without a byte either way; routes with options have their own."""

    pipeline_bytes: int = 64 * 1024
    """Bytes of further requests kept while one is answered."""

    pool_idle_timeout: float = 4.0
    """Idle connections to a target; below the 5 s of Node.js, the shortest common keep-alive."""

    api_idle_timeout: float = 60.0
    """Idle connections to our own API, which keeps them for longer than this."""

    pool_idle_connections: int = 256
    """Idle connections kept per target: more than a busy target has requests at a time, as each one above it would
    open a stream and a connection anew."""

    max_interim_answers: int = 16
    """1xx answers to one request before the upstream counts as broken."""

    log_good_targets: bool = True
    """Record also what published services answered well. Such a record costs a fifth of the request itself."""

    cookie_zone: bytes = b""
    """Domain, lower-case, that no target may set a cookie for, nor for one above it: strangers' services are below it.
    Empty: none."""

    head_limits: HeadLimits = field(default_factory=HeadLimits)

    def is_trusted(self, address: str) -> bool:
        """True when the address is one of the trusted proxies."""
        if not self.trusted_proxies:
            return False
        parsed = ipaddress.ip_address(address)
        return any(parsed in network for network in self.trusted_proxies)
