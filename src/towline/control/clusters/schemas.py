"""What the API of clusters takes and gives."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from towline.control.clusters.selectors import MAX_LABELS

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
Text = Annotated[str, StringConstraints(max_length=500, pattern=r"^[^\x00]*$")]
Label = Annotated[str, StringConstraints(max_length=63)]
Labels = Annotated[dict[Label, Label], Field(max_length=MAX_LABELS)]


class ClusterPatch(BaseModel):
    """Changes of a cluster; what is absent stays."""

    model_config = ConfigDict(extra="forbid")

    name: Name | None = None
    labels: Labels | None = None
    """Replaces all labels."""
    description: Text | None = None


class CapabilityOut(BaseModel):
    name: str
    ready: bool
    version: str = ""
    reason: str = ""
    since: datetime | None = None


class HealthOut(BaseModel):
    state: str
    reason: str
    since: datetime


class RoundTrips(BaseModel):
    min: float
    median: float
    max: float


class LinkOut(BaseModel):
    connected: bool
    rtt_ms: RoundTrips | None
    reconnects: int
    connected_since: datetime | None
    last_error: str
    address: str
    clock_offset: float
    """Seconds that the agent's clock is ahead; 0 while away."""


class AgentOut(BaseModel):
    id: str
    state: str
    state_reason: str
    state_since: datetime
    version: str
    hostname: str
    connected: bool
    last_seen_at: datetime | None
    address: str
    instance_id: str
    epoch: int
    generation: int
    max_instances: int
    """How many may be connected at once: 1 on a host; replicas and surge in a cluster."""
    instances: list[str]
    """Names of those that are, where there may be several."""
    rivals: list[dict[str, Any]]
    created_at: datetime


class ClusterOut(BaseModel):
    id: str
    name: str
    description: str
    labels: dict[str, str]
    capabilities: list[CapabilityOut]
    health: HealthOut
    last_seen_at: datetime | None
    facts: dict[str, Any]
    facts_at: datetime | None
    heartbeat: dict[str, Any]
    link: LinkOut
    agents: list[AgentOut]
    projects_count: int
    containers_count: int
    created_at: datetime
    created_by: str


class ContainerOut(BaseModel):
    id: str
    name: str
    project: str
    service: str
    image: str
    state: str
    health: str
    detail: dict[str, Any]


class ProjectOut(BaseModel):
    name: str
    folder: str
    managed: bool
    revision: int
    revision_id: str
    drift: list[str]
    config_files: list[str]
