"""Who acts, and what they may: the two values that every service takes. No FastAPI, no queries."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Literal

from towline.control.access.permissions import SYSTEM_RIGHTS, Permission, Resource, Rights, Scope
from towline.control.errors import ApiError, ErrorCode, not_found
from towline.control.ids import DEFAULT_ORG

ActorKind = Literal["user", "session", "token", "agent", "system", "nobody"]


@dataclass(frozen=True, slots=True)
class Actor:
    """Who did something, as the audit log remembers them."""

    kind: ActorKind
    org_id: str
    user_id: str = ""
    username: str = ""
    """For people. A service token shows its own name, an agent its cluster's."""
    address: str = ""
    token_id: str = ""
    session_id: str = ""
    request_id: str = ""


def system_actor(name: str, org_id: str = DEFAULT_ORG) -> Actor:
    """Return the actor of one of our own loops."""
    return Actor(kind="system", org_id=org_id, username=name)


class AccessLost(ApiError):
    """The right to a long stream ended while it ran."""

    def __init__(self) -> None:
        super().__init__(ErrorCode.FORBIDDEN, "access to this stream was withdrawn")


Watcher = Callable[["Access", Permission, Resource], AbstractAsyncContextManager[None]]


@dataclass(frozen=True, slots=True)
class Access:
    """An actor and their rights, for one request."""

    actor: Actor
    rights: Rights
    watcher: Watcher | None = field(default=None, repr=False, compare=False)
    csrf_token: str = field(default="", repr=False, compare=False)
    """For the forms of a page; empty without a session."""
    org_name: str = field(default="", compare=False)

    @property
    def org_id(self) -> str:
        return self.actor.org_id

    def may(self, permission: Permission, resource: Resource) -> bool:
        """Tell whether the actor holds a permission for a resource of their own organisation."""
        return resource.org_id == self.actor.org_id and self.rights.allows(permission, resource)

    def require(self, permission: Permission, resource: Resource, *, missing: ApiError | None = None) -> None:
        """Go on only with the permission.

        Args: missing: what to raise when the actor may not even see the resource, e.g. `not_found("cluster", name)`.
        Raises: ApiError: forbidden, or `missing`.
        """
        if self.may(permission, resource):
            return
        if resource.org_id != self.actor.org_id or not self.rights.sees(resource):
            raise missing or not_found("resource", resource.project or resource.cluster_id)
        raise forbidden(permission)

    def require_org(self, permission: Permission) -> None:
        """Go on only with the permission for the whole organisation. Raises: ApiError: forbidden."""
        if not self.may(permission, Resource(self.org_id)):
            raise forbidden(permission)

    def scope(self, permission: Permission) -> Scope:
        """Return the filter for a list."""
        return self.rights.scope(permission)

    def watch(self, permission: Permission, resource: Resource) -> AbstractAsyncContextManager[None]:
        """Guard a long stream: the block is cancelled soon after the right is gone, and raises AccessLost.

        Looked at on each `access` hint and every 10 s, so that a dead bus costs no more than that.
        """
        assert self.watcher is not None, "this access was not made for a request"
        return self.watcher(self, permission, resource)


def system_access(name: str, org_id: str = DEFAULT_ORG) -> Access:
    """Return the access of one of our own loops: everything in one organisation."""
    return Access(system_actor(name, org_id), SYSTEM_RIGHTS)


def forbidden(permission: Permission) -> ApiError:
    """Return the error that names what is missing."""
    return ApiError(
        ErrorCode.FORBIDDEN,
        f"you do not have the permission {permission.value} here",
        hint="ask an administrator for a role that holds it",
        detail={"permission": permission.value},
    )
