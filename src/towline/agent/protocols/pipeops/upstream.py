"""Where proxied requests go from here: to the API server, or to a service of the cluster. HTTP/1.1, one per connection.

The host's own policy is asked first, each time. Nothing of the agent's own rights is added to a request.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar
from urllib.parse import quote

from towline.agent.errors import KubernetesError, PolicyRefused
from towline.agent.kubernetes import access as local_access
from towline.agent.kubernetes.api import connect
from towline.agent.policy import KubernetesRules, LocalPolicy
from towline.agent.protocols.choosing import Means
from towline.agent.streams.kube_service import KubeServiceServer, make_context
from towline.agent.streams.refusal import Refused
from towline.aio.streams import ByteStream, StreamError
from towline.aio.transports import TransportStream
from towline.kube import access, paths
from towline.kube.errors import RequestRefused
from towline.wire import streams
from towline.wire.http1 import Framing, ResponseHead, parse_response_head
from towline.wire.http1_body import BodyReader, UntilCloseReader, body_reader
from towline.wire.http1_buffer import HeadError, ResponseBuffer
from towline.wire.http1_build import build_request_head

T = TypeVar("T")

CONNECT_TIMEOUT = 7.0
"""Seconds for TCP, and TLS where there is some: targets are near."""

API_PREFIXES = ("/api/", "/apis/", "/healthz", "/readyz", "/livez", "/version", "/openapi")
HOP_BY_HOP = frozenset(
    {
        "connection", "transfer-encoding", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailers",
        "trailer", "upgrade", "content-length", "host",
    }
)  # fmt: skip
"""Fields that are of one connection alone, or that are written anew here."""

_IN_PATH = "/:@!$&'()*+,;=~-._"
_IN_QUERY = _IN_PATH + "?%[]"


class Failed(Exception):
    """A request cannot be carried; the text is for the other side."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One request, as far as it decides where it goes."""

    method: str
    path: str
    """Decoded, as the protocol has it."""
    query: str = ""
    service: str = ""
    namespace: str = ""
    port: int = 0
    is_encrypted: bool = False
    """The target's port itself speaks TLS."""
    headers: Mapping[str, Iterable[str]] = field(default_factory=dict, repr=False)

    @property
    def target(self) -> bytes:
        """Path and query as they are sent."""
        path = quote(self.path or "/", safe=_IN_PATH)
        return (f"{path}?{quote(self.query, safe=_IN_QUERY)}" if self.query else path).encode()

    @property
    def names_service(self) -> bool:
        return bool(self.service and self.namespace and self.port)

    def value(self, name: str) -> str:
        """The first value of a header; empty without one."""
        found = (value for key, values in self.headers.items() if key.lower() == name for value in values)
        return next(iter(found), "")


@dataclass(frozen=True, slots=True)
class Far:
    """A connection to a target."""

    stream: ByteStream
    authority: bytes
    """Value of the Host field."""
    is_api: bool


def is_api_path(path: str) -> bool:
    """Whether the API server is meant when no service is named."""
    return path in ("/api", "/apis") or path.startswith(API_PREFIXES)


def gives_all(policy: LocalPolicy) -> KubernetesRules | None:
    """Return the rules when they forbid nothing of the cluster: only then raw streams and the agent's token pass."""
    try:
        rules = policy.require_kubernetes()
    except PolicyRefused:
        return None
    return rules if rules.exec and rules.secrets and not rules.read_only and "*" in rules.namespaces else None


class Upstream:
    """Opens connections to targets. `services` says where those of the cluster are."""

    def __init__(self, means: Means) -> None:
        self._means = means
        self._services = KubeServiceServer(means.directory, means.host.policy)

    async def reach(self, asked: Asked) -> Far:
        """Connect to where a request goes. Raises: Failed."""
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                return await self._reach(asked)
        except TimeoutError as error:
            raise Failed(f"the target did not answer within {CONNECT_TIMEOUT:g} s") from error
        except (Refused, PolicyRefused, KubernetesError, RequestRefused, OSError, StreamError) as error:
            raise Failed(str(error) or type(error).__name__) from error

    async def _reach(self, asked: Asked) -> Far:
        if not asked.names_service:
            if is_api_path(asked.path):
                self._judge(asked)
                return await self.api()
            asked = self._by_host(asked)
        target = streams.KubeService(namespace=asked.namespace, name=asked.service, port=str(asked.port))
        stream = await self.service(target, is_encrypted=asked.is_encrypted)
        own = f"{asked.service}.{asked.namespace}.svc:{asked.port}"
        named = asked.value("host") or asked.value("x-forwarded-host") or own
        return Far(stream, named.encode("ascii", "replace"), is_api=False)

    def _judge(self, asked: Asked) -> None:
        """Raises: PolicyRefused: the host's owner does not let it pass. RequestRefused: its path means two things."""
        rules = self._means.host.policy().require_kubernetes()
        path, _, query = asked.target.partition(b"?")
        reason = local_access.forbidden(
            rules, access.derive(asked.method.encode("ascii", "replace"), paths.check_path(path), query)
        )
        if reason:
            raise PolicyRefused(reason)

    def _by_host(self, asked: Asked) -> Asked:
        """Find the service of a request that names none: by the host names that ingresses of this cluster claim."""
        host = (asked.value("host") or asked.value("x-forwarded-host")).partition(":")[0].lower()
        for claim in self._means.routes.book.claims:
            if host and claim.host == host and isinstance(claim.target, streams.KubeService):
                found = claim.target
                if found.port.isdigit():
                    return Asked(asked.method, asked.path, asked.query, found.name, found.namespace, int(found.port),
                                 found.tls, asked.headers)  # fmt: skip
        raise Failed("the request names no service, and its host is not one of this cluster's ingresses")

    def own_authorization(self) -> str:
        """Return what the agent itself proves to the API server, where the control plane may have it; or nothing."""
        if gives_all(self._means.host.policy()) is None:
            return ""
        try:
            found = self._means.credentials.current().authorization
        except KubernetesError:
            return ""
        return found.decode("latin-1") if found is not None else ""

    async def api(self) -> Far:
        """Connect to the API server. Raises: Refused, KubernetesError."""
        server = self._means.credentials.current()
        by_certificate = server.tls is not None and server.authorization is None
        if by_certificate and gives_all(self._means.host.policy()) is None:
            # Whatever a request named, the connection itself would have the agent's own rights.
            raise Refused("forbidden", "the agent's own certificate opens the API server, and the policy limits it")
        return Far(await connect(server), server.authority, is_api=True)

    async def service(self, target: streams.KubeService, *, is_encrypted: bool = False) -> TransportStream:
        """Connect to a service. Raises: Refused, PolicyRefused, KubernetesError, OSError."""
        failures: list[OSError] = []
        loop = asyncio.get_running_loop()
        for address, port in await self._services.find(target):
            try:
                context = make_context() if is_encrypted else None
                name = target.name if is_encrypted else None
                made = loop.create_connection(TransportStream, address, port, ssl=context, server_hostname=name)
                return (await made)[1]
            except OSError as error:
                failures.append(error)
        raise failures[0] if failures else Refused("not_found", f"service {target.name} has no endpoints")


@dataclass(slots=True)
class Reply:
    """An answer whose head has arrived."""

    head: ResponseHead
    stream: ByteStream
    _body: BodyReader
    _first: list[bytes]

    @property
    def status(self) -> int:
        return self.head.status

    @property
    def headers(self) -> dict[str, tuple[str, ...]]:
        """The fields as Go names them, those of the connection left out."""
        found: dict[str, list[str]] = {}
        for _, name, value in self.head.fields:
            text = name.decode("latin-1")
            if text.lower() not in HOP_BY_HOP - {"content-length"} or self.status == 101:
                canonical = "-".join(part.capitalize() for part in text.split("-"))
                found.setdefault(canonical, []).append(value.decode("latin-1"))
        return {name: tuple(values) for name, values in found.items()}

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield the body as it arrives. Raises: Failed: it was cut."""
        for piece in self._first:
            yield piece
        try:
            while not self._body.is_done:
                data = await self.stream.read()
                if not data:
                    if isinstance(self._body, UntilCloseReader):
                        return
                    raise Failed("the target closed the connection in the middle of its answer")
                for piece in self._body.feed(data):
                    yield piece
        except (StreamError, HeadError) as error:
            raise Failed(f"the answer was cut: {error}") from error

    def taken(self) -> bytes:
        """What came behind the head of an answer 101."""
        return b"".join(self._first)


def head_of(asked: Asked, far: Far, more: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return the head of the request as it is sent. Raises: Failed: it cannot be said in HTTP."""
    lines = [(b"Host", far.authority)]
    for name, values in asked.headers.items():
        if name.lower() not in HOP_BY_HOP:
            lines += [(name.encode("latin-1", "replace"), value.encode("latin-1", "replace")) for value in values]
    if asked.is_encrypted and not asked.value("x-forwarded-proto"):
        lines.append((b"X-Forwarded-Proto", b"https"))
    try:
        return build_request_head(asked.method.encode("ascii"), asked.target, [*lines, *more])
    except (ValueError, UnicodeEncodeError) as error:
        raise Failed(f"the request cannot be sent: {error}") from error


async def read_reply(asked: Asked, far: Far) -> Reply:
    """Wait for the head of the answer. Raises: Failed."""
    buffer = ResponseBuffer()
    try:
        while True:
            while (raw := buffer.cut()) is None:
                data = await far.stream.read()
                if not data:
                    raise Failed("the target closed the connection instead of answering")
                buffer.feed(data)
            head = parse_response_head(raw)
            if head.status >= 200 or head.status == 101:
                break
        rest = buffer.take() if len(buffer) else b""
        if head.status == 101:
            return Reply(head, far.stream, body_reader(Framing.NONE), [rest] if rest else [])
        body = body_reader(head.framing_for(asked.method.encode()), head.content_length or 0)
        return Reply(head, far.stream, body, body.feed(rest) if rest else [])
    except (StreamError, HeadError) as error:
        raise Failed(f"no answer: {error}") from error
