"""What the API of commands takes and gives."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from towline.control.commands.parameters import LONGEST_VALUE, MOST_PARAMETERS, NAME
from towline.control.commands.states import RunState, TargetState
from towline.wire.orders import (
    MAX_ARGUMENT_BYTES,
    MAX_ARGUMENTS,
    MAX_OUTPUT_BYTES,
    MAX_STDIN_BYTES,
    OUTPUT_BYTES,
    Program,
)

MOST_TARGETS = 1000
"""Clusters of one run: as many as the fleet's pages are built for."""
DEFAULT_TIMEOUT = 120.0
LONGEST_TIMEOUT = 86400.0
"""Seconds. What takes longer than a day on one cluster is no command."""
DEFAULT_PATIENCE = 60.0
"""Seconds that an agent may be away: a restart of it, or of its host's network."""
LONGEST_PATIENCE = 7 * 86400.0
_STRICT = ConfigDict(extra="forbid")

Argument = Annotated[str, StringConstraints(max_length=MAX_ARGUMENT_BYTES, pattern=r"^[^\x00]*$")]
Arguments = Annotated[list[Argument], Field(max_length=MAX_ARGUMENTS)]
SavedName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
Namespace = Annotated[str, StringConstraints(pattern=r"^([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)?$")]
Project = Annotated[str, StringConstraints(pattern=r"^([a-z0-9][a-z0-9_-]{0,62})?$")]
Selector = Annotated[str, StringConstraints(max_length=1024)]
Text = Annotated[str, StringConstraints(max_length=500, pattern=r"^[^\x00]*$")]
Parameter = Annotated[str, StringConstraints(pattern=f"^{NAME}$")]
Value = Annotated[str, StringConstraints(max_length=LONGEST_VALUE, pattern=r"^[^\x00]*$")]
Values = Annotated[dict[Parameter, Value], Field(max_length=MOST_PARAMETERS)]
ClusterWord = Annotated[str, StringConstraints(min_length=1, max_length=64)]


class Where(BaseModel):
    """Which clusters a command is for: named ones, or all with some labels."""

    model_config = _STRICT

    clusters: Annotated[list[ClusterWord], Field(max_length=MOST_TARGETS)] = Field(default_factory=list)
    """Names or ids."""
    selector: Selector | None = None
    """Labels like `env=prod,tier!=db`. Empty: every cluster that serves the program."""


class What(Where):
    """A command: written out, or a saved one with values."""

    program: Program | None = None
    arguments: Arguments = Field(default_factory=list)
    """Without the program's name."""
    stdin: Annotated[str, StringConstraints(max_length=MAX_STDIN_BYTES)] = ""
    """A manifest, for `-f -`."""
    namespace: Namespace = ""
    """For kubectl; empty: `default`."""
    project: Project = ""
    """The Compose project, for compose."""
    saved: SavedName | None = None
    values: Values = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_of_both(self) -> "What":
        if bool(self.saved) == bool(self.program):
            raise ValueError("name a program, or a saved command")
        if self.saved and self.arguments:
            raise ValueError("a saved command has its arguments; give values for its parameters")
        return self


class RunIn(What):
    """A command to run now."""

    wave: Annotated[int, Field(ge=0, le=MOST_TARGETS)] = 0
    """Targets at once: the next ones begin when these have ended. 0: all at once."""
    stop_on_failure: bool = False
    """After a target that failed, no further one begins."""
    timeout: Annotated[float, Field(ge=1, le=LONGEST_TIMEOUT)] = DEFAULT_TIMEOUT
    """Seconds on each target."""
    patience: Annotated[float, Field(ge=1, le=LONGEST_PATIENCE)] = DEFAULT_PATIENCE
    """Seconds that a target whose agent is away is waited for."""
    output_bytes: Annotated[int, Field(ge=1024, le=MAX_OUTPUT_BYTES)] = OUTPUT_BYTES
    """Output that is kept of each target."""


class ChosenOut(BaseModel):
    """A cluster that a command would run on."""

    id: str
    name: str
    connected: bool
    allowed: bool
    reason: str
    """Why it would not run there; empty when it would."""


class PreviewOut(BaseModel):
    """What would run where, and with which words. Nothing was run."""

    program: Program
    arguments: list[str]
    """With secrets masked."""
    verb: str
    writes: bool
    targets: list[ChosenOut]


class TargetOut(BaseModel):
    position: int
    cluster_id: str
    cluster: str
    wave: int
    state: TargetState
    job_id: str
    """Empty until its turn came."""
    error: str
    code: str
    exit_code: int | None
    stdout_bytes: int
    stderr_bytes: int
    truncated: bool
    """More was printed than was kept."""
    answer: str
    """Equal answers have an equal one."""
    ended_at: datetime | None


class RunOut(BaseModel):
    """A run, without its targets."""

    id: str
    state: RunState
    program: Program
    arguments: list[str]
    """With secrets masked."""
    stdin_bytes: int
    writes: bool
    namespace: str
    project: str
    saved: str
    selector: str
    wave: int
    stop_on_failure: bool
    timeout: float
    patience: float
    created_by: str
    created_at: datetime
    cancelled_by: str
    ended_at: datetime | None
    counts: dict[str, int]
    """Targets by state: those that the caller may see."""


class RunWithTargets(RunOut):
    targets: list[TargetOut]


class GroupOut(BaseModel):
    """Targets that gave the very same answer."""

    targets: list[str]
    state: TargetState
    exit_code: int | None
    error: str
    code: str
    stdout: str
    stderr: str
    truncated: bool
    hidden: bool
    """The caller may not run this there, so what it printed is not shown."""


class ResultsOut(BaseModel):
    state: RunState
    groups: list[GroupOut]
    """The most common answer first, what did not succeed last."""


class SavedIn(BaseModel):
    """A command under a name. `{{name}}` in an argument is a parameter."""

    model_config = _STRICT

    name: SavedName
    program: Program
    arguments: Annotated[Arguments, Field(min_length=1)]
    description: Text = ""
    defaults: Values = Field(default_factory=dict)
    namespace: Namespace = ""
    project: Project = ""
    selector: Selector = ""
    """Where it runs unless targets are named."""


class SavedPatch(BaseModel):
    """Changes of a saved command; what is absent stays."""

    model_config = _STRICT

    name: SavedName | None = None
    arguments: Annotated[Arguments, Field(min_length=1)] | None = None
    description: Text | None = None
    defaults: Values | None = None
    namespace: Namespace | None = None
    project: Project | None = None
    selector: Selector | None = None


class SavedOut(BaseModel):
    id: str
    name: str
    program: Program
    arguments: list[str]
    parameters: list[str]
    description: str
    defaults: dict[str, str]
    namespace: str
    project: str
    selector: str
    created_by: str
    created_at: datetime
    updated_at: datetime


RunWord = Literal["", "running", "cancelling", "succeeded", "failed", "cancelled"]
