"""Which code speaks which older protocol. Modules are imported when one is chosen: other agents stay small."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from towline.agent.jobs import kinds
from towline.agent.jobs.context import Host, JobContext
from towline.agent.jobs.outcome import Ended
from towline.agent.jobs.runner import Runner
from towline.agent.protocols.keeper import Changed, Keeper, Up
from towline.agent.protocols.place import Place
from towline.aio.tasks import TaskOwner

if TYPE_CHECKING:
    from towline.agent.kubernetes.api import Api
    from towline.agent.kubernetes.credentials import Credentials
    from towline.agent.kubernetes.directory import Directory
    from towline.agent.kubernetes.inventory import KubernetesInventory
    from towline.agent.routes.telling import RouteTeller


class Spoken(Protocol):
    """One protocol at work."""

    async def hold(self, up: Up) -> str:
        """Have one connection, for a `Keeper`."""

    def job_said(self, job_id: str) -> None:
        """A job has something new to tell."""


@dataclass(frozen=True, slots=True)
class Means:
    """What of the agent a protocol may use."""

    host: Host
    runner: Runner
    owner: TaskOwner
    credentials: Credentials
    api: Api
    inventory: KubernetesInventory
    directory: Directory
    routes: RouteTeller
    is_private: Callable[[], bool | None]


def execute_for(protocol: str) -> Callable[[JobContext], Awaitable[Ended]]:
    """Return what does the jobs of a protocol."""
    if protocol == "instadeploy":
        from towline.agent.protocols.instadeploy import work

        return work.execute
    return kinds.execute


def speak(place: Place, means: Means) -> Spoken:
    """Make what speaks the protocol that the settings name."""
    if place.settings.protocol == "instadeploy":
        from towline.agent.protocols.instadeploy.uplink import Uplink

        return Uplink(place, means.host, means.runner, means.owner)
    if place.settings.protocol == "pipeops-rest":
        from towline.agent.protocols.pipeops import rest

        return rest.Uplink(place, means)
    if place.settings.protocol == "pipeops-ws":
        from towline.agent.protocols.pipeops import uplink

        return uplink.Uplink(place, means)
    raise ValueError(f"{place.settings.protocol} is not spoken here")


def keep(spoken: Spoken, place: Place, means: Means, changed: Changed) -> Keeper:
    """Make what keeps its connection up."""
    server = str(place.endpoint("/"))
    return Keeper(spoken.hold, server=server, changed=changed, clock=means.host.clock)
