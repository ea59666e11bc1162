"""What deployments need of other features. Small ports, so that each side can be read and tested alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from towline.control.access.actor import Actor
from towline.control.access.permissions import MatchesSelector, Resource
from towline.control.db import Transaction
from towline.control.deployments.states import Activity, Place
from towline.control.jobs.work import Submission
from towline.wire import link


@dataclass(frozen=True, slots=True)
class ClusterView:
    """A cluster as deployments see it."""

    id: str
    org_id: str
    name: str
    connected: bool
    labels: Mapping[str, str] = field(default_factory=dict)
    last_seen_at: datetime | None = None
    compose_problem: str = ""
    """Why Docker or Compose does not work there; empty when it does, or when nobody knows yet."""

    def resource(self, project: str = "") -> Resource:
        """Return what permissions are asked for."""
        return Resource(self.org_id, cluster_id=self.id, labels=self.labels, project=project)

    def place(self) -> Place:
        return Place(self.name, self.connected, self.last_seen_at, self.compose_problem)


@dataclass(frozen=True, slots=True)
class Inventory:
    """What the agent saw last of one project."""

    project: link.Project | None = None
    containers: Sequence[link.Container] = ()


class Fleet(Protocol):
    """Clusters and what runs on them."""

    async def find(self, tx: Transaction, org_id: str, name: str) -> ClusterView | None:
        """Find a cluster by name or id."""

    async def views(self, tx: Transaction, cluster_ids: Sequence[str]) -> Mapping[str, ClusterView]:
        """Return clusters by id; those that are gone are absent."""

    async def inventory(
        self, tx: Transaction, wanted: Sequence[tuple[str, str]]
    ) -> Mapping[tuple[str, str], Inventory]:
        """Return what runs, by cluster id and project."""

    def matches_selector(self, cluster_id: Any) -> MatchesSelector:
        """Return what builds the condition that the cluster in a column carries some labels."""


@dataclass(frozen=True, slots=True)
class Queued:
    """A job that is now in the queue."""

    id: str
    shown: Mapping[str, Any]
    """Its JSON, as the jobs API shows it."""


class Queue(Protocol):
    """Jobs."""

    async def submit(self, tx: Transaction, actor: Actor, submission: Submission) -> Queued:
        """Put a job into the queue, in the caller's transaction. Those that give way to it are ended in it, too."""

    async def activities(self, tx: Transaction, deployment_ids: Sequence[str]) -> Mapping[str, Activity]:
        """Return the job that works on each deployment, or the first that waits to."""

    async def show(self, tx: Transaction, job_id: str) -> Mapping[str, Any]:
        """Return the JSON of a job."""


class Agents(Protocol):
    """The way to the agent of a cluster."""

    async def sealing_key(self, cluster_id: str) -> tuple[str, bytes]:
        """Return the agent's id and the X25519 key that seals for it. Raises: ApiError: agent_away."""

    async def hand_bundle(self, cluster_id: str, org_id: str, digest: str) -> None:
        """See to it that the agent has a bundle. Raises: ApiError: the agent is away or refuses it."""
