"""Brings one link up from the agent's side, hop by hop: name, TCP, proxy, TLS, upgrade. Each hop fails with its own
error, which `towline agent doctor` shows. Trying again is `reconnect.py`'s.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from picows import WSHandshakeError

from towline.aio.clock import REAL_CLOCK, Clock
from towline.aio.sockets import speak_on
from towline.aio.tasks import TaskOwner
from towline.tunnel import trust
from towline.tunnel.errors import DnsFailed, ProtocolFailed, ProxyFailed, TcpFailed, TlsFailed, UpgradeRefused
from towline.tunnel.framing import PING_INTERVAL, LinkProtocol
from towline.tunnel.proxy import Proxy, check_reply, parse_proxy, proxy_for
from towline.tunnel.session import LinkSession
from towline.tunnel.websocket import Channel
from towline.wire import link

LINK_PATH = "/api/v1/agents/link"

TCP_TIMEOUT = 10.0
"""Seconds for each address of a name: a packet lost twice is sent again within seven."""

PROXY_TIMEOUT = 15.0
"""Seconds for the proxy's answer, which it gives when it has connected itself."""

TLS_TIMEOUT = 15.0
UPGRADE_TIMEOUT = 15.0
"""Seconds: a server that starts many links at once answers in turn."""

MAX_REFUSAL_BYTES = 2000
"""What is kept of the body of a refused upgrade, to be shown."""

_CERTIFICATE_NOT_YET_VALID, _CERTIFICATE_EXPIRED = 9, 10
"""OpenSSL's verify codes, where the clock of this machine is the first suspect."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A server that an agent may dial."""

    scheme: str
    host: str
    port: int
    path: str = LINK_PATH

    @classmethod
    def parse(cls, url: str) -> Endpoint:
        """Parse a server's URL, e.g. `https://towline.example:8443`. Raises: ValueError: it is none."""
        parts = urlsplit(url)
        if parts.scheme not in ("https", "http") or not parts.hostname or parts.username is not None:
            raise ValueError(f"not the URL of a server: {parts.scheme}://{parts.hostname or ''}")
        port = parts.port or (443 if parts.scheme == "https" else 80)
        return cls(parts.scheme, parts.hostname, port, parts.path.rstrip("/") + LINK_PATH)

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}"

    @property
    def is_secure(self) -> bool:
        return self.scheme == "https"

    @property
    def authority(self) -> str:
        """The Host header: the default port is left out."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.is_secure else 80) else f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Route:
    """How to reach servers: whom to believe and which proxy to pass.

    `proxy`: the URL of one; empty: what the environment names. `environment`: of the process, or empty for none.
    """

    anchors: trust.TrustAnchors = field(default_factory=trust.TrustAnchors)
    proxy: str = field(default="", repr=False)
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    user_agent: str = "towline-agent"

    def proxy_to(self, endpoint: Endpoint) -> Proxy | None:
        """Raises: ProxyFailed: the URL of the proxy is wrong."""
        if self.proxy:
            return parse_proxy(self.proxy)
        return proxy_for(endpoint.scheme, endpoint.host, endpoint.port, self.environment)


@dataclass(slots=True)
class Steps:
    """What a dial has learned on its way, for `towline agent doctor`; filled in as it goes."""

    addresses: list[str] = field(default_factory=list)
    connected_to: str = ""
    proxy: str = ""
    chain: list[str] = field(default_factory=list)
    tls: str = ""
    upgraded: bool = False


async def dial(
    endpoint: Endpoint,
    route: Route,
    *,
    owner: TaskOwner,
    clock: Clock = REAL_CLOCK,
    ping_interval: float = PING_INTERVAL,
    steps: Steps | None = None,
) -> LinkSession:
    """Open a link as far as the WebSocket; the handshake comes next (`handshake.enter`).

    Raises: LinkDown: one of its kinds per hop.
    """
    channel = Channel(clock=clock, ping_interval=ping_interval)
    session = LinkSession(channel, owner=owner, is_agent=True, remote_address=str(endpoint), clock=clock)
    headers = {"Sec-WebSocket-Protocol": link.PROTOCOL, "User-Agent": route.user_agent}
    await open_channel(endpoint, route, channel, headers, subprotocol=link.PROTOCOL, clock=clock, steps=steps)
    return session


async def open_channel(
    endpoint: Endpoint,
    route: Route,
    channel: Channel,
    headers: Mapping[str, str],
    *,
    subprotocol: str | None = None,
    context: ssl.SSLContext | None = None,
    max_message_bytes: int = link.MAX_MESSAGE_BYTES,
    clock: Clock = REAL_CLOCK,
    steps: Steps | None = None,
) -> None:
    """Open the WebSocket of a channel, whatever is spoken on it. Attach to the channel before.

    Args: subprotocol: what the server must have chosen; None for none. context: instead of the route's own.
    max_message_bytes: of one frame. Raises: LinkDown: one of its kinds per hop.
    """
    steps = steps if steps is not None else Steps()
    if endpoint.is_secure and context is None:
        context = await _context(endpoint, route, steps)
    protocol = LinkProtocol(
        is_client=True,
        host=endpoint.authority,
        path=endpoint.path,
        factory=lambda: channel,
        headers=dict(headers),
        max_frame_bytes=max_message_bytes,
        clock=clock,
    )
    channel.protocol = protocol
    sock = await _connected_socket(endpoint, route, steps)
    transport = await _secured(endpoint, sock, context if endpoint.is_secure else None, lambda: protocol)
    try:
        await _upgraded(protocol, endpoint, subprotocol)
    except BaseException:
        transport.abort()
        raise
    steps.upgraded = True


async def look_at_chain(endpoint: Endpoint, route: Route) -> list[bytes]:
    """Return the DER of the certificates that a server offers, without believing any of them.

    Raises: LinkDown.
    """
    sock = await _connected_socket(endpoint, route, Steps())
    transport = await _secured(endpoint, sock, trust.looking_context(), asyncio.Protocol)
    chain = trust.offered_chain(transport.get_extra_info("ssl_object"))
    transport.abort()
    return chain


async def trusted_context(endpoint: Endpoint, route: Route) -> ssl.SSLContext:
    """Make the context for any connection to a server, the CLI's and enrolment's included. Raises: LinkDown."""
    return await _context(endpoint, route, Steps())


async def _context(endpoint: Endpoint, route: Route, steps: Steps) -> ssl.SSLContext:
    chain = await look_at_chain(endpoint, route) if route.anchors.needs_chain else None
    steps.chain = [trust.describe(der) for der in chain or []]
    try:
        return route.anchors.context(chain)
    except trust.PinMismatch as error:
        raise TlsFailed(
            f"{endpoint} offers no certificate with the pinned fingerprint",
            chain=tuple(trust.describe(der) for der in error.chain),
            hint="either this is not your server, or its authority was replaced: copy the join line again",
        ) from error
    except (OSError, ssl.SSLError) as error:
        raise TlsFailed(f"the file of authorities {route.anchors.ca_file} cannot be used: {error}") from error


async def _connected_socket(endpoint: Endpoint, route: Route, steps: Steps) -> socket.socket:
    proxy = route.proxy_to(endpoint)
    host, port = (proxy.host, proxy.port) if proxy else (endpoint.host, endpoint.port)
    sock = await _tcp(host, port, steps)
    if proxy is None:
        return sock
    steps.proxy = str(proxy)
    try:
        async with asyncio.timeout(PROXY_TIMEOUT):
            await _pass_proxy(sock, proxy, endpoint)
    except TimeoutError as error:
        sock.close()
        raise ProxyFailed(f"the proxy {proxy} did not answer within {PROXY_TIMEOUT:g} seconds") from error
    except OSError as error:
        sock.close()
        raise ProxyFailed(f"the proxy {proxy} closed the connection: {error}") from error
    except BaseException:
        sock.close()
        raise
    return sock


async def _tcp(host: str, port: int, steps: Steps) -> socket.socket:
    """Connect to the first address of a name that answers."""
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        hint = "check the name, and the resolver of this machine"
        raise DnsFailed(f"{host} cannot be resolved: {error}", hint=hint) from error
    steps.addresses = [str(address[0]) for *_, address in found]
    failures = []
    for family, kind, number, _, address in found:
        sock = socket.socket(family, kind, number)
        sock.setblocking(False)
        try:
            async with asyncio.timeout(TCP_TIMEOUT):
                await loop.sock_connect(sock, address)
        except (OSError, TimeoutError) as error:
            sock.close()
            reason = error.strerror if isinstance(error, OSError) and error.strerror else "no answer"
            failures.append(f"{address[0]} port {port}: {reason}")
        except BaseException:
            sock.close()
            raise
        else:
            steps.connected_to = str(address[0])
            return sock
    raise TcpFailed("; ".join(failures), hint="is the server running, and does a firewall let this machine out?")


async def _pass_proxy(sock: socket.socket, proxy: Proxy, endpoint: Endpoint) -> None:
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(sock, proxy.connect_request(endpoint.host, endpoint.port))
    reply = b""
    while (rest := check_reply(reply, proxy)) is None:
        chunk = await loop.sock_recv(sock, 4096)
        if not chunk:
            raise ProxyFailed(f"the proxy {proxy} closed the connection without an answer")
        reply += chunk
    if rest:
        raise ProxyFailed(f"the proxy {proxy} sent data before it was asked")


async def _secured(
    endpoint: Endpoint, sock: socket.socket, context: ssl.SSLContext | None, factory: Callable[[], asyncio.BaseProtocol]
) -> asyncio.Transport:
    """Put TLS, when there is some, and a protocol on a connected socket."""
    arguments = {"server_hostname": endpoint.host, "ssl_handshake_timeout": TLS_TIMEOUT} if context else {}
    try:
        transport, _ = await speak_on(sock, factory, ssl=context, **arguments)
    except ssl.SSLCertVerificationError as error:
        raise TlsFailed(_verification_message(endpoint, error), hint=_verification_hint(error)) from error
    except ssl.SSLError as error:
        hint = "the port may speak plain HTTP" if "WRONG_VERSION_NUMBER" in str(error) else ""
        raise TlsFailed(f"no TLS with {endpoint}: {error.reason or error}", hint=hint) from error
    except (OSError, TimeoutError) as error:
        raise TlsFailed(f"{endpoint} closed the connection during the TLS handshake: {error}") from error
    return transport


def _verification_message(endpoint: Endpoint, error: ssl.SSLCertVerificationError) -> str:
    return f"the certificate of {endpoint} is not accepted: {error.verify_message}"


def _verification_hint(error: ssl.SSLCertVerificationError) -> str:
    if error.verify_code in (_CERTIFICATE_NOT_YET_VALID, _CERTIFICATE_EXPIRED):
        return "check the clock of this machine first, then the certificate"
    return "is the authority the right one? `towline agent doctor` shows the chain that the server offers"


async def _upgraded(protocol: LinkProtocol, endpoint: Endpoint, subprotocol: str | None) -> None:
    try:
        async with asyncio.timeout(UPGRADE_TIMEOUT):
            await protocol.wait_until_handshake_complete()
    except WSHandshakeError as error:
        raise _refusal(endpoint, error) from error
    except TimeoutError as error:
        raise ProtocolFailed(f"{endpoint} did not answer the upgrade within {UPGRADE_TIMEOUT:g} seconds") from error
    if protocol.listener is None or protocol.transport.response is None:
        raise ProtocolFailed(f"{endpoint} closed the connection instead of answering the upgrade")
    if protocol.transport.response.headers.get("sec-websocket-protocol") != subprotocol:
        raise ProtocolFailed(f"{endpoint} does not speak {subprotocol or 'plain WebSocket messages'}")


def _refusal(endpoint: Endpoint, error: WSHandshakeError) -> UpgradeRefused:
    if error.response is None:
        return UpgradeRefused(f"{endpoint} does not answer in HTTP: {error}")
    body = (error.raw_body or b"")[:MAX_REFUSAL_BYTES].decode("utf-8", "replace")
    text = "".join(c for c in body if c.isprintable() or c == "\n").strip()
    status = int(error.response.status)
    hint = "a proxy in between may not pass WebSockets" if status in (200, 400, 404, 502) else ""
    first_line = text.splitlines()[0][:200] if text else "no reason given"
    return UpgradeRefused(f"{endpoint} answered {status}: {first_line}", status=status, body=text, hint=hint)
