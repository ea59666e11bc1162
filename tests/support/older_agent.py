"""Our agent's side of an older protocol for tests: the real parts around it, an API server that a test fills."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.agent_host import AgentHost

from towline.agent.jobs import kinds
from towline.agent.jobs.context import JobContext
from towline.agent.jobs.outcome import Ended
from towline.agent.jobs.runner import Runner
from towline.agent.kubernetes.api import Api
from towline.agent.kubernetes.credentials import Credentials
from towline.agent.kubernetes.directory import Directory
from towline.agent.kubernetes.inventory import KubernetesInventory
from towline.agent.kubernetes.material import Material
from towline.agent.protocols import choosing, place
from towline.agent.protocols.choosing import Means
from towline.agent.protocols.keeper import Keeper
from towline.agent.routes.telling import RouteTeller
from towline.agent.settings import AgentSettings, Protocol
from towline.aio.backoff import Backoff
from towline.aio.tasks import TaskOwner

Execute = Callable[[JobContext], Awaitable[Ended]]


@dataclass
class OlderAgent:
    """One that runs."""

    host: AgentHost
    keeper: Keeper
    means: Means
    turns: list[tuple[bool, str]] = field(default_factory=list)


def no_cluster() -> Material | None:
    return None


@asynccontextmanager
async def older_agent(
    protocol: Protocol,
    server: str,
    state: Path,
    *,
    execute: Execute = kinds.execute,
    cluster: Callable[[], Material | None] = no_cluster,
) -> AsyncIterator[OlderAgent]:
    """Run our agent at an older control plane; its back-off is a tenth of the real one, and refusals cost nothing."""
    host = AgentHost(state, kubernetes=Credentials(cluster))
    where = place.settle(AgentSettings(state_folder=state, protocol=protocol, server=server))
    turns: list[tuple[bool, str]] = []
    async with TaskOwner("agent") as owner:
        said: list[Callable[[str], None]] = []
        runner = Runner(host.host, owner, lambda job_id: said[0](job_id), execute=execute)
        means = _means(host, runner, owner, Credentials(cluster))
        spoken = choosing.speak(where, means)
        said.append(spoken.job_said)
        runner.resume()
        keeper = Keeper(
            spoken.hold,
            server=server,
            changed=lambda up, why: turns.append((up, why)),
            backoff=Backoff(first=0.05, longest=1.0),
            draw=lambda: 0.0,
        )
        owner.spawn("keeper", keeper.run())
        yield OlderAgent(host, keeper, means, turns)
    await host.owner.close()
    host.host.journal.close()


def _means(host: AgentHost, runner: Runner, owner: TaskOwner, credentials: Credentials) -> Means:
    api = Api(credentials)
    return Means(
        host=host.host,
        runner=runner,
        owner=owner,
        credentials=credentials,
        api=api,
        inventory=KubernetesInventory(credentials, lambda: host.policy, api=api),
        directory=Directory(api),
        routes=RouteTeller(),
        is_private=lambda: True,
    )
