"""What one may give to others, and whose things one may touch: never more than one holds. Pure rules."""

from __future__ import annotations

from towline.control.access.actor import Access
from towline.control.access.permissions import ROLE_ORDER, Permission, Reach, Resource, Right, ScopeKind
from towline.control.errors import ApiError, ErrorCode


def own_or(access: Access, user_id: str, permission: Permission, missing: ApiError) -> None:
    """Go on with one's own, or with the permission for all of the organisation. Raises: ApiError: `missing`."""
    if not user_id or user_id != access.actor.user_id:
        if access.may(permission, Resource(access.org_id)):
            return
        raise missing


def may_give(access: Access | None, right: Right) -> None:
    """Nobody gives, or takes, a right that is more than what they hold. None: our own set-up."""
    if access is None or any(_contains(held, right) for held in access.rights.granted if _within_limit(access, right)):
        return
    raise ApiError(
        ErrorCode.FORBIDDEN,
        f"the role {right.role.value} there is more than you hold yourself",
        hint="ask somebody who holds it",
    )


def _within_limit(access: Access, right: Right) -> bool:
    return access.rights.limit is None or any(_contains(limit, right) for limit in access.rights.limit)


def _contains(held: Right, given: Right) -> bool:
    enough = ROLE_ORDER.index(held.role) >= ROLE_ORDER.index(given.role)
    return enough and reach_contains(held.reach, given.reach)


def reach_contains(outer: Reach, inner: Reach) -> bool:
    """Tell whether everything that `inner` covers is covered by `outer`, going by what they name."""
    if outer.kind is ScopeKind.ORG or outer == inner:
        return True
    if outer.kind is ScopeKind.SELECTOR and inner.kind is ScopeKind.SELECTOR:
        return bool(outer.selector) and set(outer.selector) <= set(inner.selector)
    if outer.kind is ScopeKind.CLUSTER:
        return bool(outer.cluster_id) and inner.kind is not ScopeKind.SELECTOR and inner.cluster_id == outer.cluster_id
    if outer.kind is inner.kind and not outer.cluster_id:
        return outer.project == inner.project and outer.namespace == inner.namespace
    return False
