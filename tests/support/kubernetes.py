"""Kubernetes access for tests: a served control plane with TLS, its users and tokens, and a raw client.

async with Access.begin(folder) as access:
    agent = await access.stand_in("prod")         # a link that answers as a script says, and keeps what reached it
    token = await access.token("ada", Right(Role.VIEWER))
    async with access.client() as client: …       # any bytes, over TLS
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from fastapi import FastAPI
from tests.support.control_app import ControlApp
from tests.support.edge import Raw
from tests.support.scripted_agent import Identity, ScriptedAgent, until
from tests.support.served import https, served, trusting

from towline.aio.streams import StreamError
from towline.aio.tasks import TaskOwner
from towline.control.access.actor import system_access
from towline.control.access.permissions import Right, Role
from towline.control.audit.models import AuditEvent
from towline.control.clusters import repository
from towline.control.server import Running
from towline.tunnel.opening import IncomingStream, TunnelStream
from towline.wire import link
from towline.wire.streams import Kube

OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


@dataclass(frozen=True)
class Sent:
    """One request as it came out of the tunnel."""

    target: Kube
    head: bytes

    @property
    def line(self) -> bytes:
        return self.head.partition(b"\r\n")[0]

    @property
    def fields(self) -> list[tuple[str, str]]:
        lines = self.head.decode("latin-1").rstrip("\r\n").split("\r\n")[1:]
        return [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]

    def field(self, name: str) -> str:
        return next((value for lower, value in self.fields if lower == name), "")


@dataclass
class ApiStream:
    """What an API server sees of one stream: bytes behind the head that it has read come first."""

    stream: TunnelStream
    held: bytes = b""

    async def read(self) -> bytes:
        held, self.held = self.held, b""
        return held or await self.stream.read()

    async def read_head(self) -> bytes:
        """Return the next head; empty at the end."""
        data = b""
        while b"\r\n\r\n" not in data:
            piece = await self.read()
            if not piece:
                return b""
            data += piece
        head, mark, self.held = data.partition(b"\r\n\r\n")
        return head + mark

    async def write(self, data: bytes) -> None:
        await self.stream.write(data)

    async def write_eof(self) -> None:
        await self.stream.write_eof()


Script = Callable[[ApiStream, Sent], Awaitable[None]]


async def always_ok(stream: ApiStream, sent: Sent) -> None:
    """Answer as an API server that is content with everything; a body is not read."""
    await stream.write(OK)


@dataclass
class StandIn:
    """A cluster whose agent answers streams by a script."""

    name: str
    cluster_id: str
    agent: ScriptedAgent
    owner: TaskOwner
    script: Script = always_ok
    refusal: tuple[str, str] | None = None
    sent: list[Sent] = field(default_factory=list)
    streams: int = 0

    def take(self, incoming: IncomingStream) -> None:
        assert isinstance(incoming.target, Kube)
        self.streams += 1
        if self.refusal is not None:
            incoming.refuse(*self.refusal)
            return
        self.owner.spawn("stream", self._serve(ApiStream(incoming.accept_stream()), incoming.target))

    async def _serve(self, stream: ApiStream, target: Kube) -> None:
        try:
            while head := await stream.read_head():
                sent = Sent(target, head)
                self.sent.append(sent)
                await self.script(stream, sent)
        except StreamError:
            return


@dataclass
class Access:
    """See the module."""

    running: Running
    app: ControlApp
    owner: TaskOwner
    agents: list[ScriptedAgent] = field(default_factory=list)

    @classmethod
    @asynccontextmanager
    async def begin(cls, folder: Path, database_url: str = "", **changes: Any) -> AsyncIterator[Access]:
        url = database_url or f"sqlite:///{folder / 'towline.sqlite'}"
        async with served(url, folder, **changes) as running, TaskOwner("stand-ins") as owner:
            app = ControlApp(running.control, cast(FastAPI, None), running.control.settings)
            access = cls(running, app, owner)
            try:
                yield access
            finally:
                for agent in access.agents:
                    await agent.stop()

    @property
    def port(self) -> int:
        return self.running.port

    @property
    def trust(self) -> ssl.SSLContext:
        return trusting(self.running)

    async def join_token(self, cluster: str) -> str:
        """A token that an agent joins with, as a cluster of this name."""
        admin = await self.token(f"joiner-{cluster}", Right(Role.ADMIN))
        async with https(self.running, headers={"authorization": f"Bearer {admin}"}) as client:
            answer = await client.post("/api/v1/join-tokens", json={"cluster_name": cluster})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["token"])

    async def stand_in(self, name: str, *, connect: bool = True) -> StandIn:
        """A cluster of this name with a stand-in for agent and API server."""
        identity = Identity()
        async with https(self.running) as client:
            answer = await identity.enrol(client, await self.join_token(name), hostname=name, kind="kubernetes")
        assert answer.status_code == 200, answer.text
        agent = ScriptedAgent(identity)
        agent.capabilities = (link.Capability(name="kubernetes", ready=True, version="1.36"),)
        made = StandIn(name, identity.cluster_id, agent, self.owner)
        agent.on_stream = made.take
        self.agents.append(agent)
        if connect:
            await agent.connect(f"http://127.0.0.1:{self.port}")
            await until(lambda: self.running.control.fleet.links.of_cluster(identity.cluster_id))
        return made

    async def token(self, name: str, *rights: Right) -> str:
        """A new user with these rights, and a token of theirs."""
        return await self.app.token(name, *rights)

    async def label(self, cluster_id: str, **labels: str) -> None:
        await self.running.control.fleet.clusters.change(system_access("test"), cluster_id, labels=labels)

    async def client(self, **options: Any) -> Raw:
        """A connection that speaks any bytes over TLS."""
        return await Raw.connect(self.port, **{"ssl": self.trust, "server_hostname": "localhost", **options})

    async def plain_client(self) -> Raw:
        """A connection without TLS, which loopback may use: its sides end one by one."""
        return await Raw.connect(self.port)

    async def ask(self, data: bytes, **options: Any) -> Answer:
        """Send bytes on a new connection, and read one answer."""
        async with await self.client(**options) as client:
            await client.send(data)
            return Answer(*await client.answer())

    async def get(self, path: str, token: str = "", *fields: str, host: str = "localhost") -> Answer:
        """Ask by GET."""
        return await self.ask(request("GET", path, token, *fields, host=host), server_hostname=host)

    async def events(self, action: str = "") -> list[AuditEvent]:
        """Audit events of requests to clusters so far, oldest first."""
        rows = [row for row in await self.app.rows(AuditEvent) if row.action.startswith("kubernetes.")]
        return [row for row in sorted(rows, key=lambda row: row.seq) if not action or row.action == action]

    async def event(self, action: str, count: int = 1) -> AuditEvent:
        """Wait for an audit event: they are written in batches."""
        found: list[AuditEvent] = []
        async with asyncio.timeout(10):
            while len(found) < count:
                found = await self.events(action)
                await asyncio.sleep(0.02)
        return found[count - 1]

    async def rename(self, cluster_id: str) -> str:
        async with self.running.control.db.read() as tx:
            return (await repository.names(tx, [cluster_id]))[cluster_id]


@dataclass(frozen=True)
class Answer:
    """One answer, read whole."""

    status: int
    fields: dict[str, str]
    body: bytes

    @property
    def says(self) -> dict[str, Any]:
        """The Status object."""
        made: dict[str, Any] = json.loads(self.body)
        return made

    def is_status(self, code: int) -> bool:
        """True for an error as kubectl wants it: a Status, the same words as a warning, nothing to retry after."""
        said = self.says
        whole = (self.status, said["kind"], said["apiVersion"], said["status"], said["code"])
        assert whole == (code, "Status", "v1", "Failure", code), (self.status, self.body)
        assert said["reason"]
        assert said["message"]
        assert self.fields["warning"].startswith('299 - "'), self.fields
        assert "retry-after" not in self.fields
        assert "www-authenticate" not in self.fields
        assert "location" not in self.fields
        return True


def request(method: str, path: str, token: str = "", *fields: str, host: str = "localhost", body: bytes = b"") -> bytes:
    """Bytes of a request."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", *fields]
    if token:
        lines.append(f"Authorization: Bearer {token}")
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + body
