"""What the API of identity takes and gives. Secrets are taken as `SecretStr`, so that no repr or log shows them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, StringConstraints

from towline.control.access import repository
from towline.control.access.models import ApiToken, Grant, Session, User
from towline.control.access.permissions import Reach, Right, Role, ScopeKind

NAME = r"^[a-z0-9][a-z0-9_-]{0,62}$"
USERNAME = r"^[a-z0-9][a-z0-9_.@-]{0,62}$"
LABEL_KEY = r"^[a-z0-9]([a-z0-9_./-]{0,61}[a-z0-9])?$"
LABEL_VALUE = r"^[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$|^$"
PASSWORD_CHARACTERS = 1024
LONGEST_TOKEN_SECONDS = 10 * 365 * 86400

Name = Annotated[str, StringConstraints(pattern=NAME)]
Username = Annotated[str, StringConstraints(pattern=USERNAME)]
Label = Annotated[str, StringConstraints(pattern=LABEL_KEY, max_length=63)]
LabelValue = Annotated[str, StringConstraints(pattern=LABEL_VALUE, max_length=63)]
Secret = Annotated[SecretStr, Field(max_length=PASSWORD_CHARACTERS)]
Title = Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]+$")]
"""A line of text for people."""


class Body(BaseModel):
    """Base of every request body: unknown fields are errors, and values are not turned into other types."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)


class SetupIn(Body):
    token: Secret
    username: Username
    password: Secret


class LoginIn(Body):
    username: Annotated[str, Field(max_length=128)]
    password: Secret
    client: Literal["browser", "cli"] = "browser"
    name: Title = "cli"
    """What the token of a CLI is called in the list of tokens."""


class UserRef(BaseModel):
    id: str
    username: str


class OrgRef(BaseModel):
    id: str
    name: str


class TokenLoginOut(BaseModel):
    token: str
    expires_at: datetime
    user: UserRef


class SessionLoginOut(BaseModel):
    user: UserRef
    expires_at: datetime


class ScopeIn(Body):
    """Where a role holds. `cluster` is a name or an id; without one, a project or namespace counts on any cluster."""

    kind: Annotated[ScopeKind, Field(strict=False)] = ScopeKind.ORG
    selector: Annotated[dict[Label, LabelValue], Field(max_length=20)] = Field(default_factory=dict)
    cluster: Annotated[str, Field(max_length=80)] = ""
    project: Name | Literal[""] = ""
    namespace: Name | Literal[""] = ""


class RightOut(BaseModel):
    role: Role
    scope: dict[str, Any]


class WhoamiOut(BaseModel):
    user: UserRef | None
    org: OrgRef
    roles: list[RightOut]
    permissions: list[str]
    via: Literal["token", "session"]


class TokenIn(Body):
    name: Title
    kind: Literal["user", "service"] = "user"
    role: Annotated[Role, Field(strict=False)] | None = None
    scope: ScopeIn | None = None
    expires_in: Annotated[float, Field(strict=False, gt=0, le=LONGEST_TOKEN_SECONDS, allow_inf_nan=False)] | None = None
    """Seconds; without it the server's `token_lifetime`."""


class TokenOut(BaseModel):
    id: str
    name: str
    kind: str
    user_id: str
    role: str
    scope: dict[str, Any]
    created_at: datetime
    expires_at: datetime | None
    used_at: datetime | None


class NewTokenOut(TokenOut):
    token: str
    """Shown once."""


class SessionOut(BaseModel):
    id: str
    address: str
    browser: str
    created_at: datetime
    used_at: datetime
    expires_at: datetime
    current: bool


class TicketOut(BaseModel):
    ticket: str
    expires_at: datetime


class UserIn(Body):
    username: Username
    password: Secret
    role: Annotated[Role, Field(strict=False)] | None = None
    """A role on the whole organisation; narrower ones are granted afterwards."""


class UserPatch(Body):
    active: bool


class PasswordIn(Body):
    password: Secret
    current: Secret | None = None
    """The password before, needed for one's own."""


class UserOut(BaseModel):
    id: str
    username: str
    active: bool
    created_at: datetime
    last_login_at: datetime | None
    grants: list[GrantOut]


class GrantIn(Body):
    user: Annotated[str, Field(max_length=80)] = ""
    token: Annotated[str, Field(max_length=80)] = ""
    role: Annotated[Role, Field(strict=False)]
    scope: ScopeIn = Field(default_factory=ScopeIn)


class GrantOut(BaseModel):
    id: str
    subject_kind: str
    subject_id: str
    role: str
    scope: dict[str, Any]
    created_at: datetime


class OrgPatch(Body):
    name: Title


def grant_out(row: Grant) -> GrantOut:
    scope = repository.reach_from(row.reach).as_json()
    return GrantOut(
        id=row.id, subject_kind=row.subject_kind, subject_id=row.subject_id, role=row.role, scope=scope,
        created_at=row.created_at,
    )  # fmt: skip


def token_out(row: ApiToken) -> TokenOut:
    return TokenOut(
        id=row.id, name=row.name, kind=row.kind, user_id=row.user_id, role=row.limit_role, scope=row.limit_reach,
        created_at=row.created_at, expires_at=row.expires_at, used_at=row.used_at,
    )  # fmt: skip


def session_out(row: Session, current: str) -> SessionOut:
    return SessionOut(
        id=row.id, address=row.address, browser=row.browser, created_at=row.created_at, used_at=row.used_at,
        expires_at=row.expires_at, current=row.id == current,
    )  # fmt: skip


def user_out(row: User, grants: list[GrantOut]) -> UserOut:
    return UserOut(
        id=row.id, username=row.username, active=row.active, created_at=row.created_at,
        last_login_at=row.last_login_at, grants=grants,
    )  # fmt: skip


def right_out(right: Right) -> RightOut:
    return RightOut(role=right.role, scope=right.reach.as_json())


def reach_of(scope: ScopeIn, cluster_id: str) -> Reach:
    """Return the reach of a scope whose cluster was found. Raises: ValueError: what its kind needs is missing."""
    needed = {
        ScopeKind.ORG: True,
        ScopeKind.SELECTOR: bool(scope.selector),
        ScopeKind.CLUSTER: bool(cluster_id),
        ScopeKind.PROJECT: bool(scope.project),
        ScopeKind.NAMESPACE: bool(scope.namespace),
    }
    if not needed[scope.kind]:
        raise ValueError(f"a scope of kind {scope.kind.value} needs {scope.kind.value}")
    project = scope.project if scope.kind is ScopeKind.PROJECT else ""
    namespace = scope.namespace if scope.kind is ScopeKind.NAMESPACE else ""
    inside = scope.kind in (ScopeKind.CLUSTER, ScopeKind.PROJECT, ScopeKind.NAMESPACE)
    selector = tuple(sorted(scope.selector.items())) if scope.kind is ScopeKind.SELECTOR else ()
    return Reach(scope.kind, selector, cluster_id if inside else "", project, namespace)


UserOut.model_rebuild()
