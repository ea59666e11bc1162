"""An agent's streams behind a real tunnel on loopback, with the real Docker engine where a test asks for it."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.support.small_api import SmallApi
from tests.support.surface import Served, make_parts, served
from tests.support.tunnel_pair import TunnelPair, loopback_tunnel
from tests.testbed import images

from towline.agent.bundles import BundleStore
from towline.agent.docker.engine import Engine, find_host
from towline.agent.policy import LocalPolicy
from towline.agent.projects.records import Records
from towline.agent.streams.dialling import Dialler
from towline.agent.streams.exec import ExecServer
from towline.agent.streams.logs import LogServer
from towline.agent.streams.router import StreamRouter
from towline.agent.streams.transfers import Transfers
from towline.aio.tasks import TaskOwner
from towline.tunnel.session import LinkSession
from towline.wire import link, streams


@dataclass
class StreamsBed:
    """The control plane's session, and what the agent's side may be told."""

    session: LinkSession
    pair: TunnelPair
    router: StreamRouter
    bundles: BundleStore
    policy: LocalPolicy = field(default_factory=LocalPolicy)
    containers: list[tuple[link.Container, tuple[str, ...]]] = field(default_factory=list)


@pytest.fixture
async def streams_bed(tmp_path: Path) -> AsyncIterator[StreamsBed]:
    """Serve every kind of target at the agent's end."""
    async with loopback_tunnel() as pair, TaskOwner("streams") as owner:
        engine = Engine(find_host())
        bundles = BundleStore(tmp_path / "bundles", 1024 * 1024)
        dialler = Dialler(lambda: bed.policy, lambda: bed.containers)
        transfers = Transfers(bundles, Records(tmp_path / "records", tmp_path / "projects"))
        router = StreamRouter(
            {
                streams.Tcp: dialler.serve_tcp,
                streams.Service: dialler.serve_service,
                streams.Exec: ExecServer(engine, lambda: bed.policy).serve,
                streams.Logs: LogServer(engine, lambda: bed.policy).serve,
                streams.Bundle: transfers.serve_bundle,
                streams.Measure: transfers.serve_measure,
            },
            owner,
            limit=16,
        )
        bed = StreamsBed(pair.server, pair, router, bundles)
        pair.agent.on_stream = router.take
        yield bed


@pytest.fixture
def run_container(docker_engine: str) -> Iterator[Callable[..., str]]:
    """Start containers of the base image: `run_container("sh", "-c", "…", options=("-t",))` gives the id."""
    started: list[str] = []

    def run(*command: str, options: tuple[str, ...] = (), image: str = images.BASE, name: str = "") -> str:
        name = name or f"h9-{secrets.token_hex(5)}"
        started.append(name)
        return images.docker("run", "-d", "--name", name, "--stop-signal", "KILL", *options, image, *command)

    yield run
    if started:
        images.docker("rm", "-f", "-v", *started)


def compose_labels(project: str, service: str) -> tuple[str, ...]:
    """Options of `docker run` that make a container look like Compose's."""
    labels = {"com.docker.compose.project": project, "com.docker.compose.service": service}
    return tuple(word for name, value in labels.items() for word in ("--label", f"{name}={value}"))


@pytest.fixture
async def api() -> AsyncIterator[SmallApi]:
    """An API server without a cluster behind it."""
    api = SmallApi()
    await api.begin()
    yield api
    await api.end()


@pytest.fixture
async def surface(api: SmallApi, tmp_path: Path) -> AsyncIterator[Served]:
    """The surface of an agent whose cluster is that API server."""
    async with served(make_parts(tmp_path / "agent", cluster=api.material)) as one:
        yield one
