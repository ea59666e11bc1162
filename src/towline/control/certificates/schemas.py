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
    name: str
    source: str
    """`acme`, `upload`, or `local`: signed by the server's own authority when it is asked for."""
    state: str
    wanted: bool
    """A route, or the server itself, needs it."""
    served: bool
    names: list[str]
    reason: str = ""
    id: str = ""
    """Empty for a local one."""
    issuer: str = ""
    fingerprint: str = ""
    begins_at: datetime | None = None
    ends_at: datetime | None = None
    days_left: int | None = None
    renew_at: datetime | None = None
    next_try_at: datetime | None = None
    attempts: int = 0
    challenge: str = ""
    is_ending: bool = False
    """Past three quarters of its life: the renewal has failed so far."""
    budget: str = ""
    """How often the authority may still be asked; only of one that is looked at by itself."""
    revoked_at: datetime | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None


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
