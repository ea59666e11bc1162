"""What the edge needs from others, and the words it shares with them.

The control plane implements `Router` and `LinkAcceptor`; a tunnel, a TCP address or a Unix socket is a `Connector`.
No behaviour lives here.
"""

import asyncio
import enum
import ssl
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Protocol

from towline.gateway.errors import UpstreamError
from towline.gateway.route_options import RouteOptions
from towline.wire.client_hello import ClientHello
from towline.wire.http1 import RequestHead, ResponseHead
from towline.wire.http1_build import Line


@dataclass(frozen=True, slots=True)
class Peer:
    """Who sent a request, after trusted proxies were believed and nobody else.

    `via` is the other end of the socket; it differs from `address` only behind a trusted proxy. `port` is 0 when a
    proxy did not say it.
    """

    address: str
    port: int
    scheme: str
    via: str
    trusted_proxy: bool = False
    lines: bytes = field(init=False, repr=False, compare=False)
    """What upstreams are told about the client: made once per connection, sent with each request."""
    forwarded: bytes = field(init=False, repr=False, compare=False)
    """The same for published targets, up to the host of `Forwarded` (RFC 7239), which ends the lines."""

    def __post_init__(self) -> None:
        lines = f"X-Forwarded-For: {self.address}\r\nX-Forwarded-Proto: {self.scheme}\r\n"
        node = f'"[{self.address}]"' if ":" in self.address else self.address
        more = f"X-Real-IP: {self.address}\r\nForwarded: for={node};proto={self.scheme};host="
        object.__setattr__(self, "lines", lines.encode("ascii"))
        object.__setattr__(self, "forwarded", (lines + more).encode("ascii"))

    @property
    def is_secure(self) -> bool:
        """True when the browser's own connection is HTTPS."""
        return self.scheme == "https"


class RouteKind(enum.Enum):
    """Where requests go, as metrics and the access log name it."""

    API = "api"
    LINK = "link"
    TARGET = "target"
    KUBERNETES = "kubernetes"
    EDGE = "edge"

    __hash__ = object.__hash__  # members are single objects; the default hashes a string in Python for each request


class ConnectorProtocol(Protocol):
    """The callbacks of `asyncio.Protocol`, and one for a connection that never came about."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None: ...
    def data_received(self, data: bytes) -> None: ...
    def eof_received(self) -> bool | None: ...
    def connection_lost(self, exc: Exception | None) -> None: ...
    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...

    def connection_failed(self, error: UpstreamError) -> None:
        """No connection was made; no other callback follows."""


class Connector(Protocol):
    """Makes connections to one target. Shared by all requests to it, and without state of a request."""

    def connect(self, protocol: ConnectorProtocol, first_bytes: bytes) -> None:
        """Begin a connection and return at once.

        `first_bytes` have been handed to the transport when `connection_made` is called. Exactly one of
        `connection_made` and `connection_failed` is called, perhaps before this returns.
        """


@dataclass(frozen=True, slots=True)
class ToApi:
    """Send the request to the API and the dashboard."""


class Detour:
    """A route that is neither forwarded nor answered at once."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class ToLink(Detour):
    """Give the whole connection to the acceptor of agent links."""


@dataclass(frozen=True, slots=True)
class ToTarget:
    """Send the request to a published target.

    A router makes one of these per route and returns the same object for each request: idle connections are pooled
    by `connector`. `name` is what logs and metrics call the route. `host` replaces the Host that the target sees.
    `options` of None: nothing besides passing requests on; a route with several targets has some. `id` is the route's
    own, under which its figures and its limits are kept; `cluster_id` is the cluster that `sign_in` asks a role on.
    """

    name: str
    connector: Connector
    host: bytes | None = None
    options: RouteOptions | None = None
    id: str = ""
    cluster_id: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """Let the edge answer by itself. `code` is the stable word of the error."""

    status: int
    code: str
    message: str
    body: bytes | None = None
    content_type: bytes = b"application/json"
    lines: tuple[Line, ...] = ()
    """Further header fields."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a request through `ToCluster` ended. Status 0: without an answer."""

    status: int
    outcome: str
    """As in `AccessRecord`."""
    detail: str
    received_bytes: int
    sent_bytes: int
    seconds: float


class Tap(Protocol):
    """Reads along what passes after a 101. It changes nothing but what it says itself, and never waits."""

    def opening(self) -> bytes:
        """Return what the client gets right behind the head of the 101, before anything of the upstream's."""

    def announced(self, data: bytes) -> bytes:
        """Return bytes of the upstream's as the client gets them: as they are, or with one sentence in between."""

    def up(self, data: bytes) -> None:
        """These bytes of the client's were sent on."""

    def down(self, data: bytes) -> None:
        """These bytes of the upstream's were sent on."""


class Witness(Protocol):
    """Reads along in a pipe, so that the client can be told in its own protocol that the other side has gone."""

    def from_client(self, data: bytes) -> None:
        """Bytes that the client sent."""

    def from_target(self, data: bytes) -> None:
        """Bytes that go to the client."""

    def last_words(self, why: str) -> bytes:
        """Return what the client gets behind all of them; empty when nothing may follow, or nothing is left to say."""


class Treatment(Protocol):
    """How one request through `ToCluster` is dealt with. Made for this request alone."""

    def upstream_head(self, head: RequestHead, request_id: str) -> bytes:
        """Return the whole head to send upstream, framed as the client framed its body."""

    def answer_lines(self, answer: ResponseHead) -> bytes:
        """Return the field lines of an answer that travel on, but for those about framing and connection.

        Called for interim answers too. Raises: HeadError: the client must not see this answer.
        """

    def tap(self) -> Tap | None:
        """Return who reads along, after `answer_lines` of a 101."""

    def witness(self, answer: ResponseHead) -> Witness | None:
        """Return who reads along after this 101, where the end of the connection alone would look like success."""

    def begin(self, cut: Callable[[str, str], None]) -> None:
        """The request goes out now. `cut(code, why)` ends it at any time: with an error, or by breaking it off."""

    def end(self, ended: Ended) -> None:
        """It is over, whichever way. Called once, and only after `begin`."""


@dataclass(frozen=True, slots=True)
class ToCluster:
    """Send the request to a cluster's API, treated as its own `treatment` says. Only a `Later` leads here.

    Connections are pooled by `connector`: one for each identity that a request can have.
    """

    name: str
    connector: Connector
    treatment: Treatment


@dataclass(frozen=True, slots=True)
class Later(Detour):
    """A route that somebody has to look up first. The client's body waits; a client that goes cancels the look-up.

    `decide(head, peer, request_id)` returns the route, or something to wait for. `refusal(head, status, code, message,
    error)` words every error of this request: in the shape its clients read, with nothing they may not know.
    """

    decide: Callable[[RequestHead, Peer, str], "Decided | Coroutine[Any, Any, Decided]"]
    refusal: "Callable[[RequestHead, int, str, str, UpstreamError | None], Answer]"


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who comes to a published route; the target reads the name in X-Forwarded-User. Empty: anybody."""

    name: str


class SignIn(Protocol):
    """Lets the platform's users in to routes with `sign_in`."""

    def recall(self, head: RequestHead, route: ToTarget) -> Visitor | None:
        """Return the visitor of a request that needs no look-up. Quick, no waiting."""

    async def admit(self, head: RequestHead, peer: Peer, route: ToTarget) -> Visitor | Answer:
        """Find out who it is, or answer: by a redirect to where one signs in, or by a refusal."""


Decided = Answer | ToCluster
Route = ToApi | ToLink | ToTarget | Answer | Later


class Router(Protocol):
    """Decides where each request goes. Called once per request, on the hot path: no I/O, no waiting."""

    def route(self, head: RequestHead, peer: Peer) -> Route:
        """Return the route of one request; its head has passed every check of framing and grammar."""


class LinkAcceptor(Protocol):
    """Takes over the connections of agents."""

    def accept(self, transport: asyncio.Transport, head_bytes: bytes, peer: Peer) -> None:
        """Own the transport from now on.

        `head_bytes` are the request head as it arrived, followed by whatever the client sent behind it. The acceptor
        sets its own protocol before it returns; the edge forgets the connection.
        """


@dataclass(frozen=True, slots=True)
class AccessRecord:
    """One finished request, for the access log. Holds no query, no header and no body."""

    request_id: str
    peer: Peer
    method: str
    host: str
    path: str
    kind: RouteKind
    route: str
    status: int
    received_bytes: int
    sent_bytes: int
    seconds: float
    outcome: str
    """`done`, or why it ended otherwise: `client_gone`, `upstream_lost`, `upgraded`, or the code of an error."""
    detail: str = ""
    """What the target or its agent said, for operators; a client never reads it, because it may name addresses."""
    dropped_identity: bool = False
    """The client tried to send headers that only Towline may set, such as Impersonate-User."""


AccessLog = Callable[[AccessRecord], None]
TlsProvider = Callable[[], ssl.SSLContext]
"""Asked for each connection, so that a renewed certificate is used at once."""


class HelloReader(Protocol):
    """Looks at what a client asks for before TLS begins. Not asked while nobody needs to know."""

    @property
    def wants_hello(self) -> bool:
        """True while a ClientHello may lead elsewhere: reading it costs every connection some microseconds."""

    def choose(self, hello: ClientHello) -> ssl.SSLContext | ToTarget | None:
        """Return the context of this connection, or the route that it is passed through to; None: the usual context."""
