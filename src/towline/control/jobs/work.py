"""What other features say and hear about jobs: a submission, a handler per kind, and how a job ended. Values only."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from towline.control.access.actor import Access
from towline.control.db import Transaction
from towline.control.jobs.models import Job
from towline.wire import link, orders

DEFAULT_TIMEOUT = 600.0
"""Seconds that work may take on the host unless its kind says otherwise."""
DEFAULT_DEADLINE = 86400.0
"""Seconds that work waits for an agent that is away: a host that comes back tomorrow still gets it."""


@dataclass(frozen=True, slots=True)
class Submission:
    """One job to be.

    `serial_key`: jobs with the same one run one after another; `project/CLUSTER_ID/NAME` for a Compose project.
    `payload`: what the handler needs to make the order; no secrets. `supersede`: jobs of the same kind and serial key
    that nobody has begun give way.
    """

    cluster_id: str
    kind: str
    payload: Mapping[str, Any] = field(default_factory=dict)
    serial_key: str = ""
    deployment_id: str | None = None
    project: str = ""
    idem_key: str | None = None
    timeout: float = DEFAULT_TIMEOUT
    deadline_seconds: float = DEFAULT_DEADLINE
    supersede: bool = False


@dataclass(frozen=True, slots=True)
class Submitted:
    """A job in the queue, and those that gave way to it. `repeated`: the key was known, the first job is returned."""

    job: Job
    superseded: tuple[str, ...] = ()
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class JobEnd:
    """How a job ended, from whichever side: the agent's result, or the queue's own decision."""

    state: str
    """succeeded, failed, cancelled, superseded, expired."""
    error: str = ""
    code: str = ""
    detail: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_success(self) -> bool:
        return self.state == "succeeded"


class JobHandler(Protocol):
    """What the feature that a kind of job belongs to does for it."""

    async def prepare(self, job: Job) -> Mapping[str, Any]:
        """Make the payload of the order, when it is about to be sent: secrets are sealed for the agent here.

        Raises: ApiError: agent_away or unavailable put the job back into the queue; any other one ends it.
        """

    async def progressed(self, tx: Transaction, job: Job, events: Sequence[link.JobEvent]) -> None:
        """Take part in the transaction that stores new progress."""

    async def finished(self, tx: Transaction, job: Job, end: JobEnd) -> None:
        """Take part in the transaction that ends the job."""


@runtime_checkable
class KeepsBack(Protocol):
    """A handler of results that hold what nobody may store or show with the job."""

    def kept_detail(self, kind: str, detail: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return what of a result's detail is stored; `finished` still gets all of it."""


@runtime_checkable
class Discreet(Protocol):
    """A handler of jobs whose output not everybody may read who may see the job."""

    def kept_error(self, end: JobEnd) -> str:
        """Return what of an error is stored and shown with the job; `finished` still gets all of it."""

    async def may_read(self, tx: Transaction, access: Access, job: Job) -> bool:
        """Tell whether somebody may see what the job printed."""


OUTPUT_STAGES = frozenset({orders.STDOUT, orders.STDERR})
"""Events that hold what a program printed."""
