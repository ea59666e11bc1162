"""Whose rights somebody looks at: their own, and for who may read users those of another user or of a role."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from towline.control.access.actor import Access, Actor
from towline.control.access.permissions import Permission, Reach, Resource, Right, Rights, Role, ScopeKind
from towline.control.errors import ApiError, ErrorCode
from towline.control.kubernetes.identity import groups_of, user_of
from towline.control.kubernetes.places import Place

if TYPE_CHECKING:
    from towline.control.app import ControlPlane


@dataclass(frozen=True, slots=True)
class Viewpoint:
    """Rights, and who holds them."""

    rights: Rights
    actor: Actor | None
    """None for a role that nobody in particular holds."""
    is_own: bool = False
    is_active: bool = True
    """False for a user who was disabled: nothing is let through for them, whatever they were granted."""

    def inside(self, roles: tuple[str, ...]) -> tuple[str, list[str]]:
        """Return the user and groups of a request inside the cluster; nobody when no role reaches it."""
        if not roles:
            return "", []
        return user_of(self.actor) if self.actor is not None else "", list(groups_of(roles))


def may_look_as_others(access: Access) -> bool:
    """Tell whether somebody may see what others may do."""
    return access.may(Permission.USER_READ, Resource(access.org_id))


async def viewpoint(
    control: ControlPlane, access: Access, place: Place, *, user: str = "", role: str = ""
) -> Viewpoint:
    """Return whose rights to look at. Raises: ApiError: forbidden, user_not_found, invalid."""
    if user and role:
        raise ApiError(ErrorCode.INVALID, "look as a user or as a role, not as both")
    if not user and not role:
        return Viewpoint(access.rights, access.actor, is_own=True)
    access.require_org(Permission.USER_READ)
    if role:
        return Viewpoint(Rights((Right(_role(role), Reach(ScopeKind.CLUSTER, cluster_id=place.id)),)), None)
    row, rights = await control.accounts.rights_of(access, user)
    return Viewpoint(rights, Actor("user", access.org_id, row.id, row.username), is_active=row.active)


def _role(word: str) -> Role:
    try:
        return Role(word)
    except ValueError:
        raise ApiError(ErrorCode.INVALID, f"there is no role {word[:32]!r}", hint=f"one of {', '.join(Role)}") from None
