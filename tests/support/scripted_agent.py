"""A small agent for tests of the control plane: it speaks the real link over a real socket, and does as it is told.

async with link_listener(app.control) as url:
    agent = await enrolled(app, token)
    await agent.connect(url)
    job = await agent.next(link.Job)
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import httpx
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from tests.support.control_app import ControlApp
from tests.support.tunnel_pair import Handover

from towline.aio.tasks import TaskOwner
from towline.control.agents import keys
from towline.control.app import ControlPlane
from towline.tunnel.dial import Endpoint, Route, dial
from towline.tunnel.errors import Closed
from towline.tunnel.handshake import enter
from towline.tunnel.opening import IncomingStream
from towline.tunnel.session import LinkSession
from towline.wire import link, tokens

WAIT = 10.0
"""Seconds that a test waits for something that should come at once."""

M = TypeVar("M", bound=link.Message)


@asynccontextmanager
async def link_listener(control: ControlPlane) -> AsyncIterator[str]:
    """Listen on loopback for agent links, as the edge does. Gives the URL to dial."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Handover(control.fleet.acceptor), "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for one in control.fleet.links:
            one.session.close()
        await asyncio.sleep(0)


@dataclass
class Identity:
    """What an agent keeps on its disk."""

    identity_key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)
    sealing_key: X25519PrivateKey = field(default_factory=X25519PrivateKey.generate)
    agent_id: str = ""
    key_id: str = ""
    cluster_id: str = ""
    generation: int = 1

    @property
    def public_key(self) -> bytes:
        return self.identity_key.public_key().public_bytes_raw()

    def copy(self) -> Identity:
        """A copied state folder."""
        return Identity(
            self.identity_key, self.sealing_key, self.agent_id, self.key_id, self.cluster_id, self.generation
        )

    async def application(
        self, client: httpx.AsyncClient, token: str, *, hostname: str = "web-1", **changes: Any
    ) -> dict[str, Any]:
        """The body of an enrolment, signed."""
        challenge = (await client.post("/api/v1/agents/enrol/challenge", json={})).json()
        sealing = self.sealing_key.public_key().public_bytes_raw()
        text = link.enrol_text(
            origin=challenge["origin"],
            token_id=tokens.public_id(token),
            keys_sha256=keys.keys_sha256(self.public_key, sealing),
            nonce=challenge["nonce"],
        )
        body = {
            "token": token,
            "public_key": keys.pack(self.public_key),
            "sealing_key": keys.pack(sealing),
            "instance_id": secrets.token_hex(8),
            "hostname": hostname,
            "version": "0.0.0",
            "kind": "docker",
            "nonce": challenge["nonce"],
            "signature": keys.pack(self.identity_key.sign(text)),
        }
        return body | changes

    async def enrol(self, client: httpx.AsyncClient, token: str, **changes: Any) -> httpx.Response:
        """Enrol, and keep what the answer says."""
        body = await self.application(client, token, **changes)
        answer = await client.post("/api/v1/agents/enrol", json=body)
        if answer.is_success:
            made = answer.json()
            self.agent_id, self.key_id, self.cluster_id = made["agent_id"], made["key_id"], made["cluster_id"]
            self.generation = made["generation"]
        return answer


class ScriptedAgent:
    """One running instance of an identity."""

    def __init__(self, identity: Identity) -> None:
        self.identity = identity
        self.instance_id = secrets.token_hex(8)
        self.capabilities: tuple[link.Capability, ...] = (
            link.Capability(name="compose", ready=True, version="2.40.3"),
        )
        self.welcome: link.Welcome | None = None
        self.session: LinkSession | None = None
        self.owner = TaskOwner("scripted-agent")
        self.closed: asyncio.Future[Closed] | None = None
        self.stores_generation = True
        self.on_stream: Callable[[IncomingStream], None] | None = None
        self._got: list[link.Message] = []
        self._arrived = asyncio.Condition()

    async def __aenter__(self) -> ScriptedAgent:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @property
    def epoch(self) -> int:
        assert self.welcome is not None
        return self.welcome.epoch

    async def hello(self, challenge: link.Challenge) -> link.Hello:
        identity = self.identity
        text = link.connect_text(
            origin=challenge.origin,
            nonce=challenge.nonce,
            agent_id=identity.agent_id,
            key_id=identity.key_id,
            instance_id=self.instance_id,
            generation=identity.generation,
        )
        return link.Hello(
            agent_id=identity.agent_id,
            key_id=identity.key_id,
            instance_id=self.instance_id,
            generation=identity.generation,
            signature=keys.pack(identity.identity_key.sign(text)),
            version="0.0.0",
            capabilities=self.capabilities,
        )

    async def welcomed(self, welcome: link.Welcome) -> None:
        if not self.stores_generation:
            raise ConnectionAbortedError("the power failed before the generation was written")
        self.identity.generation = welcome.generation

    async def connect(self, url: str, *, jobs: link.JobsHeld | None = None) -> link.Welcome:
        """Bring the link up and say what an agent says first. Raises: RefusedThere, ProtocolFailed."""
        session = await dial(Endpoint.parse(url), Route(), owner=self.owner)
        session.on_stream = self.on_stream
        self.welcome = await enter(session, self)
        self.session = session
        self.closed = asyncio.get_running_loop().create_future()
        session.on_close(self._ended)
        session.start(self._handle)
        await session.send(link.Facts(hostname="web-1", system="Debian", cpus=2))
        await session.send(link.Inventory(full=True))
        await session.send(jobs or link.JobsHeld())
        return self.welcome

    async def send(self, message: link.Message) -> None:
        assert self.session is not None
        await self.session.send(message)

    async def next(self, kind: type[M]) -> M:
        """Take the oldest message of a type that was not taken yet; waits for it."""
        async with asyncio.timeout(WAIT), self._arrived:
            await self._arrived.wait_for(lambda: any(isinstance(one, kind) for one in self._got))
            found = next(one for one in self._got if isinstance(one, kind))
            self._got.remove(found)
            assert isinstance(found, kind)
            return found

    def received(self, kind: type[M]) -> list[M]:
        """Messages of a type that came and were not taken."""
        return [one for one in self._got if isinstance(one, kind)]

    async def synced(self) -> None:
        """Wait until the server has handled everything that was sent before."""
        await self.send(link.Heartbeat(sent_at=0.0))
        await self.next(link.HeartbeatAck)

    async def ended(self) -> Closed:
        """Wait for the end of the link."""
        assert self.closed is not None
        async with asyncio.timeout(WAIT):
            return await asyncio.shield(self.closed)

    def cut(self) -> None:
        """Drop the connection without a word."""
        assert self.session is not None
        self.session.abort("cut by the test")

    async def stop(self) -> None:
        if self.session is not None and self.session.closed is None:
            self.session.close()
            with contextlib.suppress(TimeoutError):
                await self.ended()
        await self.owner.close()

    async def _handle(self, message: link.Message) -> None:
        async with self._arrived:
            self._got.append(message)
            self._arrived.notify_all()

    def _ended(self, closed: Closed) -> None:
        if self.closed is not None and not self.closed.done():
            self.closed.set_result(closed)


async def join_token(app: ControlApp, **wanted: Any) -> dict[str, Any]:
    """A join token made by an administrator."""
    from towline.control.access.permissions import Role

    if not hasattr(app, "joiner"):
        app.joiner = await app.user("joiner", Role.ADMIN)
    answer = await app.joiner.post("/api/v1/join-tokens", json=wanted)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def enrolled(app: ControlApp, *, hostname: str = "web-1", **wanted: Any) -> ScriptedAgent:
    """A fresh agent with an identity of its own, not connected yet."""
    token = await join_token(app, **wanted)
    identity = Identity()
    answer = await identity.enrol(app.client(), token["token"], hostname=hostname)
    assert answer.status_code == 200, answer.text
    return ScriptedAgent(identity)


async def until(condition: Callable[[], Any], wait: float = WAIT) -> None:
    """Wait until something that no event announces is true: looks again in each turn of the event loop."""
    async with asyncio.timeout(wait):
        while not condition():
            await asyncio.sleep(0.01)
