"""What an import from InstaDeploy's database brings, and what it answers. Shapes and sizes only."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, SecretStr, StringConstraints

from towline.control.deployments.schemas import MAX_COMPOSE_CHARACTERS, MAX_ENV_CHARACTERS
from towline.control.protocols.admission import LONGEST_NAME, LONGEST_SECRET
from towline.control.protocols.instadeploy.numbers import LARGEST_NUMBER
from towline.control.protocols.tokens import SHORTEST_SECRET

MOST_ROWS = 2_000
"""Of each table in one request; larger databases come in several, and what came before is recognised."""
LOG_CHARACTERS = 4_000
"""Of one job's or deployment's logs that are kept: its end."""

Number = Annotated[int, Field(ge=1, le=LARGEST_NUMBER)]
HostName = Annotated[str, StringConstraints(min_length=1, max_length=LONGEST_NAME)]
ProjectName = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_-]{1,128}$")]
Logs = Annotated[str, StringConstraints(max_length=LOG_CHARACTERS)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class ImportedAgent(_Part):
    number: Number
    hostname: HostName
    version: Annotated[str, StringConstraints(max_length=64)] = ""


class ImportedDeployment(_Part):
    number: Number
    project: ProjectName
    hostname: HostName
    status: Literal["pending", "running", "stopped", "failed"]
    created_at: datetime
    compose: Annotated[str, Field(max_length=MAX_COMPOSE_CHARACTERS)] | None = None
    """Its `docker-compose.yml`, copied from the host: becomes revision 1."""
    env: Annotated[str, Field(max_length=MAX_ENV_CHARACTERS)] | None = None
    """The `.env` beside it."""


class ImportedJob(_Part):
    id: UUID
    project: ProjectName
    hostname: HostName
    command: Annotated[str, StringConstraints(max_length=64)]
    status: Literal["queued", "in_progress", "completed", "failed"]
    logs: Logs = ""
    error: Logs = ""
    created_at: datetime
    updated_at: datetime


class ImportRequest(_Part):
    token: SecretStr = Field(min_length=SHORTEST_SECRET, max_length=LONGEST_SECRET)
    """The token that all its agents present."""
    dry_run: bool = False
    agents: list[ImportedAgent] = Field([], max_length=MOST_ROWS)
    deployments: list[ImportedDeployment] = Field([], max_length=MOST_ROWS)
    jobs: list[ImportedJob] = Field([], max_length=MOST_ROWS)


class ImportReport(BaseModel):
    """What an import did, or would do. Names of deployments are `HOST/PROJECT`."""

    dry_run: bool
    agents_made: list[str] = []
    agents_known: list[str] = []
    deployments_made: list[str] = []
    deployments_known: list[str] = []
    without_file: list[str] = []
    """Recorded, and without anything to roll back to until they are deployed once."""
    jobs_made: int = 0
    jobs_known: int = 0
    jobs_left_out: int = 0
    """Of kinds that are no history of a deployment: STATUS, HEALTH_CHECK."""
    notes: list[str] = []
