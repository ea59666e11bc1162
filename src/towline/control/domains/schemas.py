"""What the domains API takes and gives."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, StringConstraints


class DomainRequest(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    name: Annotated[str, StringConstraints(min_length=3, max_length=255)]


class Record(BaseModel):
    """The DNS record that proves a domain."""

    name: str
    type: Literal["TXT"] = "TXT"
    value: str


class DomainOut(BaseModel):
    id: str
    name: str
    state: Literal["pending", "verified", "lapsed"]
    """`lapsed`: its proof has been gone for seven days; what is published stays, and no new name is taken."""
    reason: str
    record: Record
    created_at: datetime
    created_by: str
    verified_at: datetime | None
    checked_at: datetime | None
    missing_since: datetime | None
    """Since when the proof of a verified domain was not found."""
