"""Our agent's Kubernetes half in place of an older agent's: run beside the control plane, over the older one's streams.

An older agent carries bytes to its API server and nothing more. What our own agent does there, following the cluster,
turning identities into impersonation, doing commands, is done here by the same code; only the way to the API server
differs. There is no local policy: the host's owner runs an agent that has none. A journal of its own keeps what was
ordered and what came of it over a kill of this process, as on any host.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import cast

import structlog

from towline.agent import files
from towline.agent.bundles import BundleStore
from towline.agent.docker.engine import Engine
from towline.agent.errors import KubernetesError
from towline.agent.identity import Store
from towline.agent.jobs.context import Host
from towline.agent.jobs.runner import Runner
from towline.agent.jobs.steps import Steps
from towline.agent.journal import Journal
from towline.agent.kubernetes.credentials import Credentials, Way
from towline.agent.kubernetes.forward import KubeServer
from towline.agent.kubernetes.inventory import KubernetesInventory
from towline.agent.kubernetes.material import Material
from towline.agent.policy import CommandRules, LocalPolicy
from towline.agent.projects.records import Records
from towline.agent.settings import AgentSettings
from towline.agent.streams.router import Server, StreamRouter
from towline.agent.uplink.delivery import Delivery
from towline.aio.clock import REAL_CLOCK, Clock
from towline.aio.sockets import Line
from towline.aio.streams import StreamError
from towline.aio.tasks import TaskOwner
from towline.tunnel.opening import IncomingStream
from towline.tunnel.session import Session
from towline.wire import link, streams

MOST_STREAMS = 512
"""Streams at once to one older agent's API server, as our own agent allows by itself."""

SERVER = "https://kubernetes.default.svc:443"
"""The name that every API server's certificate bears for those inside of its cluster."""

NOWHERE = Path("/nonexistent")
"""In place of the mounted ServiceAccount, whose namespace would be the control plane's own."""

NO_DOCKER = "unix:///nonexistent/docker.sock"
"""The engine of this host is not the older agent's."""

_POLICY = LocalPolicy(capabilities=("kubernetes",), commands=CommandRules(programs=("kubectl",)))
_log = structlog.get_logger("towline.standin")

Tell = Callable[[link.Message], Awaitable[None]]
"""Takes what an agent would send. Raises: StreamError: nobody listens any more."""


class StandIn:
    """Args: folder: keeps the journal of jobs; one for each older agent, and for one stand-in at a time. way: makes a
    line to the API server. token, authorities: read at each use of the credentials: a bearer token of the
    cluster, and PEM of who signs for its API server. tell: see above.
    """

    def __init__(
        self,
        *,
        folder: Path,
        way: Way,
        token: Callable[[], str],
        authorities: Callable[[], str],
        tell: Tell,
        clock: Clock = REAL_CLOCK,
    ) -> None:
        source = functools.partial(_material, token, authorities)
        self._credentials = Credentials(source, way=_as_way(way), clock=clock)
        self._owner = TaskOwner("stand-in")
        self._inventory = KubernetesInventory(self._credentials, lambda: _POLICY, service_account=NOWHERE, clock=clock)
        served: dict[type, Server] = {streams.Kube: KubeServer(self._credentials, lambda: _POLICY, clock=clock).serve}
        self._router = StreamRouter(served, self._owner, MOST_STREAMS)
        self._session = cast(Session, _Told(tell))
        self._tellers = (self._inventory.teller, self._inventory.usage)
        self._host = _host(folder, self._credentials, clock)
        self._delivery = Delivery(self._host.journal, self._owner)
        self._runner = Runner(self._host, self._owner, self._delivery.publish)

    def __repr__(self) -> str:
        return f"<StandIn {self._router!r}>"

    def take(self, incoming: IncomingStream) -> None:
        """Serve a stream."""
        self._router.take(incoming)

    async def start(self) -> None:
        """Begin to follow the cluster, and go on with what was ordered before. Raises: StreamError."""
        self._runner.resume()
        self._owner.spawn("inventory", self._inventory.run())
        await self._tell_again()

    async def order(self, message: link.Message) -> None:
        """Take what the control plane says to an agent; what concerns none of its jobs is ignored.

        Raises: StreamError: nobody listens any more.
        """
        match message:
            case link.Job():
                self._runner.take(message)
                await self._delivery.accepted(message.job_id)
            case link.JobCancel():
                self._runner.cancel(message.job_id)
            case link.JobStored():
                self._host.journal.mark_stored(message.job_id, self._host.clock.now().timestamp())
                self._delivery.stored(message.job_id)
            case link.Lead():
                await self._tell_again()

    async def _tell_again(self) -> None:
        for teller in self._tellers:
            teller.connected(self._session)
        await self._delivery.connected(self._session)

    def forget(self) -> None:
        """Read the credentials anew at their next use."""
        self._credentials.forget()

    async def stop(self) -> None:
        """End everything."""
        for teller in self._tellers:
            teller.disconnected()
        self._delivery.disconnected()
        await self._owner.close()
        self._host.journal.close()


class _Told:
    """What tellers see of a session."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell

    async def send(self, message: link.Message) -> None:
        await self._tell(message)


def _host(folder: Path, credentials: Credentials, clock: Clock) -> Host:
    """Return what jobs work with: a journal, and the cluster. Nothing of this host is reached by them."""
    settings = AgentSettings(state_folder=files.private_folder(folder))
    return Host(
        settings=settings,
        engine=Engine(NO_DOCKER),
        records=Records(folder / "revisions", settings.projects),
        bundles=BundleStore(folder / "bundles", settings.bundles_bytes),
        steps=Steps(folder / "runs"),
        journal=Journal(folder / "journal.sqlite"),
        identity=Store(folder),
        policy=lambda: _POLICY,
        find_compose=_no_compose,
        kubernetes=credentials,
        clock=clock,
    )


async def _no_compose() -> None:
    return None


def _material(token: Callable[[], str], authorities: Callable[[], str]) -> Material:
    return Material(server=SERVER, authorities=authorities(), token=token())


def _as_way(way: Way) -> Way:
    """Turn what can go wrong on the older agent's streams into what the agent's code knows."""

    async def dial() -> Line:
        try:
            return await way()
        except StreamError as error:
            raise KubernetesError(f"the older agent carries no stream to its API server: {error}") from error

    return dial
