"""A route's options made ready for requests: what is answered at once, who has to say who he is, what is rewritten.

One per route, made at its first request and kept while the route is the same object. Moves no bytes.
"""

import hashlib
import ipaddress
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from towline.gateway.balancing import Balanced
from towline.gateway.basic_auth import BasicAuth, Busy, Verifying
from towline.gateway.error_pages import to_https
from towline.gateway.interfaces import Answer, Peer, SignIn, ToTarget, Visitor
from towline.gateway.rate_limit import RateLimiter
from towline.gateway.route_options import Network, RouteOptions
from towline.wire.http1 import RequestHead
from towline.wire.http1_build import Line

MAX_COOKIE_BYTES = 8_192
_VISIT_COOKIE = b"__Host-towline-visit-"
_COOKIE_DIGITS = 16  # tell the routes of one host apart; what a cookie opens is sealed in its value

_ASK = Answer(
    401,
    "password_wanted",
    "a name and a password are wanted",
    lines=((b"www-authenticate", b'Basic realm="Restricted", charset="UTF-8"'),),
)
_RAW = Answer(404, "route_unknown", "no HTTP is served under this name")
_DENIED = Answer(403, "address_denied", "this address may not come here")
_MAINTENANCE = Answer(503, "maintenance", "this service is being worked on")
_TOO_LARGE = Answer(413, "body_too_large", "the request body is larger than this route takes")
_NO_SIGN_IN = Answer(503, "sign_in_unavailable", "signing in is not possible at the moment")
_ANYBODY = Visitor("")


@dataclass(frozen=True, slots=True)
class _Rewrite:
    """Fields of a head to drop and lines to add; empty for most routes."""

    dropped: frozenset[bytes]
    added: bytes

    def __bool__(self) -> bool:
        return bool(self.dropped or self.added)

    def lines(self, block: bytes) -> bytes:
        """Rewrite whole field lines, each with its CRLF."""
        if not self.dropped:
            return block + self.added
        kept = [line for line in block.split(b"\r\n") if line and name_of(line) not in self.dropped]
        return b"".join([*(line + b"\r\n" for line in kept), self.added])


class RoutePolicy:
    """See the module."""

    def __init__(self, route: ToTarget, verifying: Verifying, sign_in: SignIn | None) -> None:
        options = route.options or RouteOptions()
        self.route = route
        self.options = options
        self.used_at = 0.0
        self.host = options.host.encode("ascii") or route.host
        self.balanced = route.connector if isinstance(route.connector, Balanced) else None
        self.is_plain = _asks_for_nothing(options) and self.balanced is None
        self.limiter = RateLimiter(options.rate_limit, options.rate_burst) if options.rate_limit else None
        self._allow, self._deny = _networks(options.allow), _networks(options.deny)
        self._auth = BasicAuth(options.basic_auth, verifying) if options.basic_auth else None
        self._sign_in = sign_in
        self._request = _rewrite(options.set_request_headers, options.remove_request_headers)
        self._answer = _rewrite(options.set_answer_headers, options.remove_answer_headers)
        self.sets_cookies = any(name.lower() == "set-cookie" for name, _ in options.set_answer_headers)
        self._secure_answer = self._answer
        if options.hsts:
            hsts = b"Strict-Transport-Security: max-age=%d\r\n" % options.hsts
            dropped = self._answer.dropped | {b"strict-transport-security"}
            self._secure_answer = _Rewrite(dropped, self._answer.added + hsts)

    def __repr__(self) -> str:
        return f"<RoutePolicy {self.route.name}{' plain' if self.is_plain else ''}>"

    def is_plain_for(self, peer: Peer) -> bool:
        """True when there is nothing to do but to pass the request on."""
        return self.is_plain and (peer.scheme == "https" or not self.options.https_redirect)

    def early_answer(self, head: RequestHead, peer: Peer, now: float) -> Answer | None:
        """Return what is answered without asking anybody."""
        options = self.options
        if options.is_raw:
            return _RAW
        if options.https_redirect and not peer.is_secure:
            return to_https(head, peer)
        if not self.may_come(peer.address):
            return _DENIED
        if options.maintenance:
            return _MAINTENANCE
        wait = self.limiter.wait(peer.address, now) if self.limiter is not None else 0.0
        if wait:
            return _slow_down(wait)
        if options.body_limit and head.content_length > options.body_limit:
            return _TOO_LARGE
        return None

    def may_come(self, address: str) -> bool:
        """Tell whether the route's networks let a client in."""
        if not self._allow and not self._deny:
            return True
        parsed = ipaddress.ip_address(address)
        if any(parsed in network for network in self._deny):
            return False
        return not self._allow or any(parsed in network for network in self._allow)

    def known_visitor(self, head: RequestHead) -> Visitor | None:
        """Return who it is, when nobody has to be asked for it; None when `admit` has to find out."""
        if self._auth is not None:
            name = self._auth.remembered(head.get(b"authorization"))
            return None if name is None else Visitor(name)
        if self.options.sign_in:
            return self._sign_in.recall(head, self.route) if self._sign_in is not None else None
        return _ANYBODY

    async def admit(self, head: RequestHead, peer: Peer) -> Visitor | Answer:
        """Find out who it is, or return what to answer instead."""
        if self._auth is None:
            return await self._sign_in.admit(head, peer, self.route) if self._sign_in is not None else _NO_SIGN_IN
        try:
            name = await self._auth.verify(head.get(b"authorization"), peer.address)
        except Busy as busy:
            return _slow_down(busy.retry_after)
        return _ASK if name is None else Visitor(name)

    def request_head(self, head: bytes, visitor: Visitor) -> bytes:
        """Rewrite a whole head that goes to the target."""
        if not self._request and not visitor.name:
            return head
        first, _, rest = head[:-2].partition(b"\r\n")
        block = self._request.lines(rest)
        if self._auth is not None:
            block = _without(block, b"authorization")  # the password of the gateway is none of the target's business
        if visitor.name:
            block += b"X-Forwarded-User: %s\r\n" % _plain(visitor.name)
        return b"%s\r\n%s\r\n" % (first, block)

    def answer_lines(self, block: bytes, peer: Peer) -> bytes:
        """Rewrite the field lines of an answer."""
        rewrite = self._secure_answer if peer.is_secure else self._answer
        return rewrite.lines(block) if rewrite else block


class Policies:
    """The policies of the routes that are asked for. Args: sign_in: None where nobody can sign in."""

    FORGET_AFTER = 600.0
    """Seconds without a request after which a policy is dropped, its rate limits with it."""

    def __init__(self, sign_in: SignIn | None = None) -> None:
        self._sign_in = sign_in
        self._verifying = Verifying()
        self._by_route: dict[str, RoutePolicy] = {}
        self.on_made: Callable[[RoutePolicy], None] | None = None
        """Told about each policy that is new: health checks begin."""

    def __repr__(self) -> str:
        return f"<Policies {len(self._by_route)}>"

    def of(self, route: ToTarget) -> RoutePolicy:
        """Return the policy of a route that has options."""
        found = self._by_route.get(route.id or route.name)
        if found is not None and found.route is route:
            return found
        return self._make(route, found)

    def is_current(self, policy: RoutePolicy) -> bool:
        """True while requests are treated by this policy."""
        return self._by_route.get(policy.route.id or policy.route.name) is policy

    def forget(self, route_id: str) -> None:
        """Drop the policy of a route that is gone."""
        self._by_route.pop(route_id, None)

    def _make(self, route: ToTarget, before: RoutePolicy | None) -> RoutePolicy:
        made = RoutePolicy(route, self._verifying, self._sign_in)
        if before is not None and _same_rate(made.options, before.options):
            made.limiter = before.limiter  # a change of something else gives nobody new tokens
        self._by_route[route.id or route.name] = made
        if self.on_made is not None:
            self.on_made(made)
        return made

    def sweep(self, now: float) -> None:
        """Forget what nobody asked for lately."""
        for key, policy in list(self._by_route.items()):
            if policy.used_at == 0.0:
                policy.used_at = now
            elif now - policy.used_at > self.FORGET_AFTER:
                del self._by_route[key]


def visit_cookie(route_id: str) -> bytes:
    """Return the name of the cookie that signs a visitor in to one route of a host; no target ever sees it."""
    return _VISIT_COOKIE + hashlib.sha256(route_id.encode()).hexdigest()[:_COOKIE_DIGITS].encode("ascii")


def cookie_of(head: RequestHead, name: bytes) -> bytes | None:
    """Return the value of a cookie; None when it is absent, or sent twice, which no browser does with this prefix."""
    found = [content for key, content in _cookies(head) if key == name]
    return found[0] if len(found) == 1 else None


def cookie_names(head: RequestHead) -> list[bytes]:
    """Return the names of the cookies that a request brings, as they come."""
    return [name for name, _ in _cookies(head)]


def _cookies(head: RequestHead) -> Iterator[tuple[bytes, bytes]]:
    for lower, _, value in head.fields:
        if lower == b"cookie" and len(value) <= MAX_COOKIE_BYTES:
            for pair in value.split(b";"):
                name, _, content = pair.strip().partition(b"=")
                yield name, content


def _asks_for_nothing(options: RouteOptions) -> bool:
    """True when only what is looked at elsewhere differs from the defaults."""
    return replace(options, https_redirect=True, sample=None, balance="round_robin") == RouteOptions()


def name_of(line: bytes) -> bytes:
    """Return the lower-case name of a field line."""
    return line.partition(b":")[0].lower()


def _networks(texts: Iterable[str]) -> tuple[Network, ...]:
    return tuple(ipaddress.ip_network(text) for text in texts)


def _rewrite(added: Iterable[tuple[str, str]], removed: Iterable[str]) -> _Rewrite:
    pairs: Mapping[str, str] = dict(added)
    names = {name.lower().encode("ascii") for name in (*pairs, *removed)}
    lines = [b"%s: %s\r\n" % (name.encode("ascii"), value.encode("latin-1")) for name, value in pairs.items()]
    return _Rewrite(frozenset(names), b"".join(lines))


def _same_rate(one: RouteOptions, other: RouteOptions) -> bool:
    return (one.rate_limit, one.rate_burst) == (other.rate_limit, other.rate_burst)


def _slow_down(seconds: float) -> Answer:
    lines: tuple[Line, ...] = ((b"retry-after", b"%d" % max(1, -int(-seconds // 1))),)
    return Answer(429, "rate_limited", "too many requests from this address", lines=lines)


def _without(block: bytes, name: bytes) -> bytes:
    return _Rewrite(frozenset({name}), b"").lines(block)


def _plain(name: str) -> bytes:
    """Return a name as a field value; what does not fit into one is percent-encoded."""
    return b"".join(
        byte.to_bytes() if 0x21 <= byte <= 0x7E and byte != 0x25 else b"%%%02X" % byte for byte in name.encode()
    )
