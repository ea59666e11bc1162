"""What the deployments API takes and gives. Shapes and sizes only; rules live in the services."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, StrictBool, StrictInt, StringConstraints

from towline.control.deployments.states import State

MAX_COMPOSE_CHARACTERS = 512 * 1024
"""As compose.document: larger files are refused by it too, with the same limit."""
MAX_ENV_CHARACTERS = 64 * 1024
"""An env file is read line by line on the host; the largest seen in the wild are some 10 KiB."""
MAX_VALUE_CHARACTERS = 64 * 1024
"""One variable or secret: a certificate chain with its key is some 10 KiB."""
MAX_VARIABLES = 500
MAX_SECRETS = 100
MAX_SECRETS_CHARACTERS = 512 * 1024
"""All secrets of a revision: sealed and in base 64 they must fit one control message of 1 MiB."""
MAX_REGISTRIES = 20
MAX_REPLICAS = 100
"""Of one service on one host; Compose starts them one by one."""
MAX_NUMBER = 2**31 - 1
"""Largest number of a revision: an INTEGER of the database."""
MAX_DEPLOY_SECONDS = 6 * 3600.0
MAX_SETTLE_SECONDS = 3600.0
MAX_LABELS = 64

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
ResourceName = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9._-]{0,62}$")]
"""Compose's grammar of services, volumes and secrets."""
VariableName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,127}$")]
Value = Annotated[str, StringConstraints(max_length=MAX_VALUE_CHARACTERS)]
SecretValue = Annotated[SecretStr, Field(max_length=MAX_VALUE_CHARACTERS)]
Digest = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]
Number = Annotated[StrictInt, Field(ge=1, le=MAX_NUMBER)]
LabelValue = Annotated[str, StringConstraints(max_length=253)]
PolicyLevel = Literal["restricted", "standard", "privileged"]


class Body(BaseModel):
    """A request body: unknown fields are errors, and errors never repeat what was sent."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class DeployOptions(Body):
    """How one deploy goes; unset fields are the deployment's own settings."""

    pull: Literal["missing", "always"] = "missing"
    build: StrictBool = True
    auto_rollback: StrictBool | None = None
    settle_seconds: Annotated[float, Field(ge=0, le=MAX_SETTLE_SECONDS)] | None = None
    timeout: Annotated[float, Field(ge=10, le=MAX_DEPLOY_SECONDS)] = 600.0
    """Seconds that the work may take on the host once begun."""
    deadline_seconds: Annotated[float, Field(ge=10, le=30 * 86400.0)] | None = None
    """Seconds that it may wait for an agent that is away; unset: a day."""
    supersede: StrictBool = True
    """Waiting deploys of this project give way to this one."""


class Content(Body):
    """A Compose project as somebody wrote it: what a revision is made of."""

    compose: Annotated[str, Field(min_length=1, max_length=MAX_COMPOSE_CHARACTERS)]
    env: Annotated[str, Field(max_length=MAX_ENV_CHARACTERS)] | None = None
    bundle: Digest | None = None
    variables: dict[VariableName, Value] = Field(default_factory=dict, max_length=MAX_VARIABLES)
    secrets: dict[ResourceName, SecretValue | None] | None = Field(default=None, max_length=MAX_SECRETS)
    """Values by name; null keeps the value that the newest revision has. Leave the whole field out to keep all;
    an empty object keeps none."""
    registries: list[Name] = Field(default_factory=list, max_length=MAX_REGISTRIES)


class RevisionRequest(Content):
    message: Annotated[str, Field(max_length=2000)] = ""
    base_revision: Number | None = None
    """The newest revision that the author saw; another one is in the way: 409 `revision_moved`."""
    options: DeployOptions = Field(default_factory=DeployOptions)


class ValidateRequest(Content):
    on_host: StrictBool = False
    """Also ask `docker compose config` on the host: a job is made, and its id returned."""


class DiffRequest(Content):
    against: Number | None = None
    """Number of the revision to compare with; unset: the one that runs."""


class RollbackRequest(Body):
    revision: Number | None = None
    """Unset: the last good revision before the one that runs."""
    message: Annotated[str, Field(max_length=2000)] = ""
    timeout: Annotated[float, Field(ge=10, le=MAX_DEPLOY_SECONDS)] = 600.0


class RedeployRequest(Body):
    pull: Literal["missing", "always"] = "always"
    build: StrictBool = True
    timeout: Annotated[float, Field(ge=10, le=MAX_DEPLOY_SECONDS)] = 600.0


class ServicesRequest(Body):
    services: list[ResourceName] = Field(default_factory=list, max_length=200)
    """Empty: all services."""


class ScaleRequest(Body):
    services: dict[ResourceName, Annotated[StrictInt, Field(ge=0, le=MAX_REPLICAS)]] = Field(
        min_length=1, max_length=200
    )


class RemoveRequest(Body):
    volumes: StrictBool | Annotated[list[ResourceName], Field(max_length=200)] = False
    """Data goes only when asked for: true for every volume of the project, or the names of some."""


class AdoptRequest(Body):
    message: Annotated[str, Field(max_length=2000)] = ""


class DeploymentPatch(Body):
    auto_rollback: StrictBool | None = None
    settle_seconds: Annotated[float, Field(ge=0, le=MAX_SETTLE_SECONDS)] | None = None
    keep_revisions: Annotated[StrictInt, Field(ge=1, le=1000)] | None = None
    policy_level: PolicyLevel | None = None
    labels: (
        dict[Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9._/-]{0,62}$")], LabelValue] | None
    ) = Field(default=None, max_length=MAX_LABELS)
    prune_interval_seconds: Annotated[float, Field(ge=0, le=365 * 86400.0)] | None = None
    """Seconds between scheduled prunings; 0 switches them off."""


class ClusterRef(BaseModel):
    id: str
    name: str


class Replicas(BaseModel):
    running: int
    wanted: int


class ServiceOut(BaseModel):
    name: str
    image: str
    state: State
    replicas: Replicas
    health: str
    reason: str
    ports: list[str]


class DeploymentOut(BaseModel):
    id: str
    name: str
    cluster: ClusterRef
    state: State
    reason: str
    state_since: datetime
    revision: int
    """Number of the revision that runs; 0: none of ours."""
    desired_revision: int
    last_good_revision: int
    latest_revision: int
    drift: list[str]
    services: list[ServiceOut]
    job_id: str | None
    labels: dict[str, str]
    auto_rollback: bool
    settle_seconds: float
    keep_revisions: int
    policy_level: PolicyLevel
    prune_interval_seconds: float
    pruned_at: datetime | None
    scales: dict[str, int]
    folder: str
    removed_at: datetime | None
    created_at: datetime
    updated_at: datetime


class SecretRef(BaseModel):
    """A secret as it may be shown: never its value."""

    name: str
    version: int


class RevisionOut(BaseModel):
    id: str
    number: int
    message: str
    author: str
    source: Literal["deploy", "adopt", "import"]
    outcome: Literal["pending", "good", "failed", "superseded", "cancelled", "adopted"]
    error: str
    code: str
    failing: list[dict[str, Any]]
    rolled_back_to: int | None
    images: dict[str, str]
    base_revision: int
    bundle: str | None
    variables: list[str]
    secrets: list[SecretRef]
    registries: list[str]
    job_id: str | None
    has_content: bool
    """False once retention has dropped the files of an old failed revision."""
    created_at: datetime
    finished_at: datetime | None


class RevisionDetail(RevisionOut):
    compose: str | None
    env: str | None
    variable_values: dict[str, str] | None
    """Env file and values of variables are for those who may deploy; null for others."""


class Problem(BaseModel):
    """One thing that is wrong with a Compose project, with its place from 1; 0: the whole file."""

    message: str
    line: int = 0
    column: int = 0
    path: str = ""
    hint: str = ""
    rule: str = ""
    """Word for the policy's rule that it breaks; empty when it is no matter of policy."""
    severity: Literal["error", "warning"] = "error"


class ValidateOut(BaseModel):
    valid: bool
    problems: list[Problem]
    needed_variables: list[str]
    job: dict[str, Any] | None = None


class ServiceChangeOut(BaseModel):
    name: str
    change: Literal["added", "removed", "recreated", "scaled", "unchanged"]
    reasons: list[str]


class DiffLine(BaseModel):
    sign: Literal[" ", "+", "-", "@"]
    """`@`: a gap of unchanged lines."""
    text: str
    old: int
    new: int
    """Line numbers from 1; 0 where there is none."""


class DiffOut(BaseModel):
    """What a deploy would change. Names only, never the value of a variable or a secret."""

    against: int
    """Number of the revision compared with; 0: there is none yet."""
    services: list[ServiceChangeOut]
    volumes_added: list[str]
    volumes_removed: list[str]
    networks_added: list[str]
    networks_removed: list[str]
    variables: list[str]
    secrets: list[str]
    files: list[str]
    lines: list[DiffLine]
    changes_containers: bool


class JobAnswer(BaseModel):
    job: dict[str, Any]


class RevisionAnswer(BaseModel):
    revision: RevisionOut
    job: dict[str, Any]
