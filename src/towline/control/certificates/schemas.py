"""What the certificates API takes and gives. A key goes in and never comes out."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr

MAX_PEM_CHARACTERS = 256 * 1024
"""Ten certificates with a hundred names each stay under it."""
MAX_KEY_CHARACTERS = 32 * 1024

Pem = Annotated[str, Field(min_length=1, max_length=MAX_PEM_CHARACTERS)]
Key = Annotated[SecretStr, Field(min_length=1, max_length=MAX_KEY_CHARACTERS)]
RevocationReason = Literal["unspecified", "key_compromise", "superseded", "cessation"]


class CertificateOut(BaseModel):
    id: str
    name: str
    source: str
    state: str
    reason: str
    wanted: bool
    """A route, or the server itself, needs it."""
    served: bool
    names: list[str]
    issuer: str
    fingerprint: str
    begins_at: datetime | None
    ends_at: datetime | None
    days_left: int | None
    renew_at: datetime | None
    next_try_at: datetime | None
    attempts: int
    challenge: str
    is_ending: bool
    """Past three quarters of its life: the renewal has failed so far."""
    revoked_at: datetime | None
    created_at: datetime
    updated_at: datetime


class UploadRequest(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    chain: Pem
    key: Key


class UploadOut(BaseModel):
    certificate: CertificateOut
    notes: list[str]


class RenewRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")

    force: bool = False
    """Ask even where a look from here says that the authority would not reach us."""


class RevokeRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")

    reason: RevocationReason = "unspecified"


class AuthorityOut(BaseModel):
    """The server's own authority, for development."""

    pem: str
    fingerprint: str
