"""What the API of recordings takes and gives."""

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from towline.control.recordings.policy import Mode, OnLoss, OnUnreadable

Namespace = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
Minutes = Annotated[int, Field(ge=1, le=10_080)]
Days = Annotated[int, Field(ge=1, le=3650)]


class RecordingOut(BaseModel):
    id: str
    title: str
    cluster_id: str
    cluster: str
    kind: str
    action: str
    namespace: str
    project: str
    target: str
    """The pod, or the service or container on a Docker host."""
    container: str
    command: str
    tty: bool
    keys: bool
    """Whether what was typed is in it."""
    user: str
    address: str
    request_id: str
    began_at: datetime
    ended_at: datetime | None
    expires_at: datetime
    state: str
    """running, whole, partial or broken."""
    reason: str
    seconds: float
    columns: int
    rows: int
    shown_bytes: int
    dropped_bytes: int
    stored_bytes: int
    exit: str


class PolicyRules(BaseModel):
    """A cluster's own rules; what is absent or null follows the settings of the server."""

    model_config = ConfigDict(extra="forbid")

    mode: Mode | None = None
    namespaces: Annotated[list[Namespace], Field(max_length=200)] | None = None
    on_loss: OnLoss | None = None
    on_unreadable: OnUnreadable | None = None
    keys: bool | None = None
    minutes: Minutes | None = None
    keep_days: Days | None = None


class PolicyNow(BaseModel):
    """Rules as they hold."""

    mode: Mode
    namespaces: list[str]
    on_loss: OnLoss
    on_unreadable: OnUnreadable
    keys: bool
    minutes: int
    keep_days: int


class PolicyOut(BaseModel):
    cluster: str
    own: PolicyRules
    now: PolicyNow
