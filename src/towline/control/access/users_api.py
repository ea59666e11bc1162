"""REST routes about other people: users and grants. For administrators; a user sees themselves."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from sqlalchemy import select

from towline.control.access.api import right_of
from towline.control.access.dependencies import Access, Permission, needs
from towline.control.access.models import Grant, User
from towline.control.access.schemas import (
    GrantIn,
    GrantOut,
    PasswordIn,
    UserIn,
    UserOut,
    UserPatch,
    grant_out,
    user_out,
)  # fmt: skip
from towline.control.db import Transaction
from towline.control.errors import ApiError, ErrorCode
from towline.control.listing import ListQuery, Page, contains, fetch, list_query, page

router = APIRouter(prefix="/api/v1", tags=["users"])

Self = Annotated[Access, needs(Permission.SELF)]
Reader = Annotated[Access, needs(Permission.USER_READ)]
Manager = Annotated[Access, needs(Permission.USER_MANAGE)]
Query = Annotated[ListQuery, Depends(list_query)]


@router.get("/users")
async def list_users(request: Request, access: Reader, query: Query) -> Page[UserOut]:
    """List the users of the organisation with their grants."""
    rows = select(User).where(User.org_id == access.org_id)
    if query.search:
        rows = rows.where(contains(User.username, query.search))
    sorts = {"username": User.username, "created_at": User.created_at}
    async with request.app.state.control.db.read() as tx:
        found = await fetch(tx, rows, query, sorts=sorts, default="username", key=User.id)
        grants = await _grants(tx, access.org_id, [user.id for user in found.rows])
    return page(found, lambda user: user_out(user, grants.get(user.id, [])))


@router.post("/users", status_code=201)
async def create_user(body: UserIn, request: Request, access: Manager) -> UserOut:
    """Add a user, with a role on the whole organisation if one is named."""
    access.require_org(Permission.USER_MANAGE)
    roles = () if body.role is None else (body.role,)
    password = body.password.get_secret_value()
    control = request.app.state.control
    user = await control.accounts.create_user(access.actor, body.username, password, roles=roles, access=access)
    return await _shown(request, access, user)


@router.get("/users/{user}")
async def show_user(user: str, request: Request, access: Self) -> UserOut:
    """Show a user by name or id."""
    return await _shown(request, access, await request.app.state.control.accounts.user(access, user))


@router.patch("/users/{user}")
async def change_user(user: str, body: UserPatch, request: Request, access: Manager) -> UserOut:
    """Let a user in, or shut them out."""
    return await _shown(request, access, await request.app.state.control.accounts.set_active(access, user, body.active))


@router.delete("/users/{user}", status_code=204)
async def delete_user(user: str, request: Request, access: Manager) -> None:
    """Remove a user with all sessions, tokens and grants."""
    await request.app.state.control.accounts.delete_user(access, user)


@router.put("/users/{user}/password", status_code=204)
async def set_password(user: str, body: PasswordIn, request: Request, access: Self) -> None:
    """Change one's own password, or, as an administrator, another's."""
    current = None if body.current is None else body.current.get_secret_value()
    await request.app.state.control.accounts.set_password(access, user, body.password.get_secret_value(), current)


@router.get("/grants")
async def list_grants(request: Request, access: Reader, query: Query) -> Page[GrantOut]:
    """List who holds which role where."""
    access.require_org(Permission.USER_READ)
    rows = select(Grant).where(Grant.org_id == access.org_id)
    async with request.app.state.control.db.read() as tx:
        found = await fetch(
            tx,
            rows,
            query,
            sorts={"created_at": Grant.created_at, "role": Grant.role},
            default="created_at",
            key=Grant.id,
        )
    return page(found, grant_out)


@router.post("/grants", status_code=201)
async def create_grant(body: GrantIn, request: Request, access: Manager) -> GrantOut:
    """Give a role to a user or a service token."""
    if bool(body.user) == bool(body.token):
        raise ApiError(ErrorCode.INVALID, "name either user or token")
    right = await right_of(request, access, body.role, body.scope)
    kind = "user" if body.user else "token"
    return grant_out(await request.app.state.control.accounts.grant(access, kind, body.user or body.token, right))


@router.delete("/grants/{grant_id}", status_code=204)
async def revoke_grant(grant_id: str, request: Request, access: Manager) -> None:
    """Take a role back."""
    await request.app.state.control.accounts.revoke_grant(access, grant_id)


async def _shown(request: Request, access: Access, user: User) -> UserOut:
    async with request.app.state.control.db.read() as tx:
        grants = await _grants(tx, access.org_id, [user.id])
    return user_out(user, grants.get(user.id, []))


async def _grants(tx: Transaction, org_id: str, users: list[str]) -> dict[str, list[GrantOut]]:
    query = select(Grant).where(Grant.org_id == org_id, Grant.subject_kind == "user", Grant.subject_id.in_(users))
    shown: dict[str, list[GrantOut]] = {}
    for grant in (await tx.scalars(query.order_by(Grant.created_at))).all():
        shown.setdefault(grant.subject_id, []).append(grant_out(grant))
    return shown
