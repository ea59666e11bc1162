"""REST routes of identity: setting up, signing in and out, who one is, one's sessions, tokens and tickets."""

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from sqlalchemy import select

from towline.control.access import repository, setup
from towline.control.access.accounts import SignedIn
from towline.control.access.actor import Actor, system_actor
from towline.control.access.dependencies import Access, Permission, Resource, Right, Role, needs, public
from towline.control.access.models import ApiToken, Organisation
from towline.control.access.permissions import Rights, ScopeKind
from towline.control.access.schemas import (
    LoginIn,
    NewTokenOut,
    OrgPatch,
    OrgRef,
    ScopeIn,
    SessionLoginOut,
    SessionOut,
    SetupIn,
    TicketOut,
    TokenIn,
    TokenLoginOut,
    TokenOut,
    UserRef,
    WhoamiOut,
    reach_of,
    right_out,
    session_out,
    token_out,
)  # fmt: skip
from towline.control.access.service import COOKIE, PLAIN_COOKIE
from towline.control.access.throttle import source_key
from towline.control.errors import ApiError, ErrorCode
from towline.control.listing import ListQuery, Page, contains, fetch, list_query, page

router = APIRouter(prefix="/api/v1", tags=["access"])

Self = Annotated[Access, needs(Permission.SELF)]
Query = Annotated[ListQuery, Depends(list_query)]
CLI_TOKEN_LIFETIME = timedelta(days=30)
"""A person signs in again monthly; programs get tokens of their own."""


@router.post("/setup", status_code=201, dependencies=[public("proves itself by the setup token")])
async def set_up(body: SetupIn, request: Request, response: Response) -> SessionLoginOut:
    """Make the first user, with the one-time token of a new server, and sign them in."""
    control = request.app.state.control
    access = control.access
    access.login_addresses.check(source_key(request.state.peer), "attempts to set up from your address")
    stored = await control.accounts.passwords.hash(body.password.get_secret_value())
    async with control.db.begin() as tx:
        await setup.redeem(control, tx, body.token.get_secret_value())
        actor = system_actor("setup")
        user = await control.accounts.add_user(tx, actor, body.username, stored, (Role.OWNER,))
        signed_in = await control.accounts.open_session(
            tx, user, address=request.state.peer, browser=_browser(request), request_id=request.state.request_id
        )
    return set_cookie(request, response, signed_in)


@router.post("/login", dependencies=[public("proves itself by a password")])
async def login(body: LoginIn, request: Request, response: Response) -> SessionLoginOut | TokenLoginOut:
    """Sign in: a browser gets a session cookie, a CLI a token of its own."""
    control = request.app.state.control
    password = body.password.get_secret_value()
    about = {"address": request.state.peer, "request_id": request.state.request_id}
    if body.client == "browser":
        signed_in = await control.accounts.login(body.username, password, browser=_browser(request), **about)
        return set_cookie(request, response, signed_in)
    user = await control.accounts.check_password(body.username, password, **about)
    async with control.db.read() as tx:
        rights = Rights(await repository.rights_of(tx, user.org_id, "user", user.id))
    actor = Actor("user", user.org_id, user.id, user.username, request.state.peer, request_id=request.state.request_id)
    made = await control.accounts.create_token(
        Access(actor, rights), body.name, kind="user", right=None, lifetime=CLI_TOKEN_LIFETIME
    )
    who = UserRef(id=user.id, username=user.username)
    return TokenLoginOut(token=made.secret, expires_at=made.token.expires_at, user=who)


@router.post("/logout", status_code=204)
async def log_out(request: Request, response: Response, access: Self) -> None:
    """End the session, or revoke the token, that the request was made with."""
    accounts = request.app.state.control.accounts
    if access.actor.session_id:
        await accounts.end_session(access, access.actor.session_id)
    else:
        await accounts.revoke_token(access, access.actor.token_id)
    for name in (COOKIE, PLAIN_COOKIE):
        response.delete_cookie(name, path="/", secure=name == COOKIE, httponly=True, samesite="lax")


@router.get("/whoami")
async def whoami(access: Self) -> WhoamiOut:
    """Say who the caller is and what they may do."""
    actor = access.actor
    shown = access.rights.limit if access.rights.limit is not None else access.rights.granted
    return WhoamiOut(
        user=UserRef(id=actor.user_id, username=actor.username) if actor.user_id else None,
        org=OrgRef(id=access.org_id, name=access.org_name),
        roles=[right_out(right) for right in shown],
        permissions=[permission.value for permission in access.rights.permissions()],
        via="token" if actor.token_id else "session",
    )


@router.get("/org")
async def show_org(access: Self) -> OrgRef:
    """Show the organisation of the caller."""
    return OrgRef(id=access.org_id, name=access.org_name)


@router.patch("/org")
async def rename_org(
    body: OrgPatch, request: Request, access: Annotated[Access, needs(Permission.ORG_MANAGE)]
) -> OrgRef:
    """Rename the organisation."""
    control = request.app.state.control
    access.require_org(Permission.ORG_MANAGE)
    async with control.db.begin() as tx:
        org = await tx.get(Organisation, access.org_id)
        before, org.name = org.name, body.name
        await control.audit.record(
            tx, access.actor, action="org.rename", target_kind="org", target_id=org.id, target_name=body.name,
            detail={"before": before},
        )  # fmt: skip
        control.access.changed(tx, org_id=org.id)
    return OrgRef(id=access.org_id, name=body.name)


# -- sessions


@router.get("/sessions")
async def list_sessions(request: Request, access: Self) -> Page[SessionOut]:
    """List one's own live sessions."""
    rows = await request.app.state.control.accounts.sessions(access)
    return Page(items=[session_out(row, access.actor.session_id) for row in rows], total=len(rows))


@router.delete("/sessions/{session_id}", status_code=204)
async def end_session(session_id: str, request: Request, access: Self) -> None:
    """End a session; its streams end within seconds."""
    await request.app.state.control.accounts.end_session(access, session_id)


# -- tokens and tickets


@router.get("/tokens")
async def list_tokens(request: Request, access: Self, query: Query) -> Page[TokenOut]:
    """List one's own live tokens; those of everybody for an administrator."""
    rows = select(ApiToken).where(ApiToken.org_id == access.org_id, ApiToken.revoked_at.is_(None))
    if not access.may(Permission.TOKEN_MANAGE, Resource(access.org_id)):
        rows = rows.where(ApiToken.user_id == access.actor.user_id, ApiToken.user_id != "")
    if query.search:
        rows = rows.where(contains(ApiToken.name, query.search))
    sorts = {"created_at": ApiToken.created_at, "name": ApiToken.name}
    async with request.app.state.control.db.read() as tx:
        return page(await fetch(tx, rows, query, sorts=sorts, default="-created_at", key=ApiToken.id), token_out)


@router.post("/tokens", status_code=201)
async def create_token(body: TokenIn, request: Request, access: Self) -> NewTokenOut:
    """Make a token. Its secret is in this answer and nowhere else."""
    lifetime = None if body.expires_in is None else timedelta(seconds=body.expires_in)
    right = None
    if body.role is not None:
        right = await right_of(request, access, body.role, body.scope or ScopeIn())
    elif body.scope is not None or body.kind == "service":
        raise ApiError(ErrorCode.INVALID, "role: is missing", hint="a scope, and a service token, need a role")
    made = await request.app.state.control.accounts.create_token(
        access, body.name, kind=body.kind, right=right, lifetime=lifetime
    )
    return NewTokenOut(**token_out(made.token).model_dump(), token=made.secret)


@router.delete("/tokens/{token_id}", status_code=204)
async def revoke_token(token_id: str, request: Request, access: Self) -> None:
    """Revoke a token; its streams end within seconds."""
    await request.app.state.control.accounts.revoke_token(access, token_id)


@router.post("/tickets", status_code=201)
async def create_ticket(request: Request, access: Self) -> TicketOut:
    """Make a ticket that opens one WebSocket within 30 s, for clients that cannot set headers."""
    ticket, expires_at = await request.app.state.control.accounts.ticket(access)
    return TicketOut(ticket=ticket, expires_at=expires_at)


# -- shared with other routes of identity


async def right_of(request: Request, access: Access, role: Role, scope: ScopeIn) -> Right:
    """Return the right that a body describes; its cluster must be one that the caller sees."""
    cluster_id = ""
    if scope.cluster and scope.kind is not ScopeKind.ORG:
        cluster_id = await request.app.state.control.accounts.cluster_id(access, scope.cluster)
    try:
        return Right(role, reach_of(scope, cluster_id))
    except ValueError as error:
        raise ApiError(ErrorCode.INVALID, f"scope: {error}") from error


def set_cookie(request: Request, response: Response, signed_in: SignedIn) -> SessionLoginOut:
    """Hand the session's secret to the browser. `X-Forwarded-Proto` is the edge's own word."""
    secure = request.headers.get("x-forwarded-proto", request.url.scheme) == "https"
    response.set_cookie(
        COOKIE if secure else PLAIN_COOKIE, signed_in.secret, path="/", secure=secure, httponly=True, samesite="lax"
    )
    who = UserRef(id=signed_in.user.id, username=signed_in.user.username)
    return SessionLoginOut(user=who, expires_at=signed_in.expires_at)


def _browser(request: Request) -> str:
    return request.headers.get("user-agent", "")
