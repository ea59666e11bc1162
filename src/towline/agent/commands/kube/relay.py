"""The API server as the host's `kubectl` sees it: a TLS port of loopback for the time of one command.

Who connects needs a token that is made for this command and known to its process alone. Each request is held against
the plan and the local policy as those that the agent makes itself; then it goes on as whoever asked. The agent's own
credentials never leave the agent.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hmac
import os
import secrets
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from towline.agent.commands.cluster import Cluster
from towline.agent.commands.ending import NotAnnounced
from towline.agent.errors import KubernetesError, PolicyRefused
from towline.agent.kubernetes import gate
from towline.agent.kubernetes.conversation import Conversation, Denied, Moved, Passed, State
from towline.aio.streams import CHUNK_BYTES, ByteStream, StreamError
from towline.aio.tasks import TaskOwner
from towline.kube.errors import RequestRefused
from towline.wire.http1 import HeadError, RequestHead

LOOPBACK = "127.0.0.1"
MOST_CONNECTIONS = 16
"""Of one command: kubectl asks for a few pieces of discovery side by side, and keeps one connection for a watch."""
LIFETIME = timedelta(days=2)
"""Of the certificate: longer than the longest command."""
_SKEW = timedelta(hours=1)
_ENDS = (StreamError, OSError, HeadError)
"""How a connection ends that one side cut, or that held what is no HTTP."""


@dataclass
class Relay:
    """One that listens; see `relaying`."""

    cluster: Cluster
    token: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    port: int = 0
    authority: bytes = field(default=b"", repr=False)
    """PEM of the certificate that it shows."""
    refused: PolicyRefused | NotAnnounced | None = None
    """The first request that may not be made, with why."""
    trouble: str = ""
    """Why the API server cannot be reached."""
    _open: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass one connection's requests on, until a side has enough."""
        self._open += 1
        try:
            if self._open <= MOST_CONNECTIONS:
                await self._pass(reader, writer)
        except KubernetesError as error:
            self.trouble = str(error)
        finally:
            self._open -= 1
            writer.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        stream, server = await self.cluster.dial()
        judge = self.cluster.gate(server)
        conversation = Conversation(functools.partial(self._judge, judge), judge.not_taken, server.origins)
        line = _Line(conversation, reader, writer, stream)
        try:
            async with TaskOwner("relay") as owner:
                ways = {owner.spawn("there", line.there()), owner.spawn("back", line.back())}
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stream.abort("done")

    def _judge(self, judge: gate.Gate, head: RequestHead) -> Passed | Denied:
        shown = head.get(b"authorization") or b""
        if not hmac.compare_digest(shown, b"Bearer " + self.token.encode()):
            return self._deny(head, 401, "this port serves one command alone")
        try:
            found = self.cluster.judge(head.method.decode("ascii"), head.target.decode("ascii"))
        except (PolicyRefused, NotAnnounced) as error:
            self.refused = self.refused or error
            return self._deny(head, 403, str(error))
        except (RequestRefused, UnicodeDecodeError):
            return judge.judge(head)  # which refuses it, too, and says why
        passed = judge.judge(head)
        if isinstance(passed, Passed):
            if passed.is_upgrade:
                return self._deny(head, 403, "commands upgrade nothing")
            self.cluster.note(found)
        return passed

    def _deny(self, head: RequestHead, code: int, reason: str) -> Denied:
        return Denied(functools.partial(gate.answer, code, reason, head.path, head.method == b"HEAD"))


@dataclass(frozen=True, slots=True)
class _Line:
    """One connection: kubectl's side and the API server's, with the conversation between them."""

    conversation: Conversation
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    stream: ByteStream

    async def there(self) -> None:
        """Pass requests on until a side has enough."""
        with contextlib.suppress(*_ENDS):
            await self._there()

    async def back(self) -> None:
        """Pass answers on until a side has enough."""
        with contextlib.suppress(*_ENDS):
            await self._back()

    async def _there(self) -> None:
        while data := await self.reader.read(CHUNK_BYTES):
            if await self._move(self.conversation.from_opener(data)):
                return

    async def _back(self) -> None:
        while data := await self.stream.read():
            if await self._move(self.conversation.from_api(data)):
                return

    async def _move(self, moved: Moved) -> bool:
        """Write what passes. Returns: whether that was the last."""
        if moved.to_api:
            await self.stream.write(moved.to_api)
        if moved.to_opener:
            self.writer.write(moved.to_opener)
            await self.writer.drain()
        return self.conversation.state is State.ENDING


@asynccontextmanager
async def relaying(cluster: Cluster) -> AsyncIterator[Relay]:
    """Listen on a free port of loopback while the block runs. Raises: OSError."""
    relay = Relay(cluster)
    context, relay.authority = await asyncio.to_thread(_make_context)
    async with TaskOwner("relay") as owner:

        def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            owner.spawn("connection", relay.serve(reader, writer))

        server = await asyncio.start_server(take, LOOPBACK, 0, ssl=context)
        relay.port = server.sockets[0].getsockname()[1]
        try:
            yield relay
        finally:
            server.close()


def _make_context() -> tuple[ssl.SSLContext, bytes]:
    """Return what the server shows, and the certificate that its client trusts."""
    key = ec.generate_private_key(ec.SECP256R1())
    name, now = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "towline command")]), datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + LIFETIME)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address(LOOPBACK))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    shown = certificate.public_bytes(serialization.Encoding.PEM)
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    _load(context, shown + secret)
    return context, shown


def _load(context: ssl.SSLContext, pair: bytes) -> None:
    """Give the context its pair through memory: OpenSSL reads files alone."""
    descriptor = os.memfd_create("towline-command", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, pair)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)
