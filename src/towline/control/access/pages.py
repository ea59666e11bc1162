"""Pages of identity: setting up, signing in and out, users and tokens, one's own settings. Rules are the API's."""

from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from towline import __version__
from towline.control import forms
from towline.control.access import api, origins, repository, users_api
from towline.control.access.dependencies import Access, Permission, Resource, needs, public
from towline.control.access.schemas import GrantIn, LoginIn, PasswordIn, SetupIn, TokenIn, UserIn
from towline.control.errors import ApiError
from towline.control.listing import ListQuery
from towline.control.web import Notice, redirect

router = APIRouter(include_in_schema=False)

Self = Annotated[Access, needs(Permission.SELF)]
Manager = Annotated[Access, needs(Permission.USER_MANAGE)]
Joiner = Annotated[Access, needs(Permission.JOIN_TOKEN_MANAGE)]
ROLES = (
    ("viewer", "sees"),
    ("operator", "also reads logs, opens shells, restarts"),
    ("deployer", "also deploys"),
    ("admin", "also manages clusters, users and tokens"),
    ("owner", "also the organisation"),
)
EVERYTHING = ListQuery(limit=500)


@router.get("/", dependencies=[public("sends everybody to the right page")])
async def root(request: Request) -> Response:
    """Send a new server's visitor to its set-up, everybody else to the fleet."""
    async with request.app.state.control.db.read() as tx:
        ready = await repository.has_users(tx)
    return RedirectResponse("/fleet" if ready else "/setup", status_code=303)


@router.get("/setup", dependencies=[public("the form asks for the setup token")])
async def setup_page(request: Request) -> Response:
    """Show the form that makes the first user."""
    async with request.app.state.control.db.read() as tx:
        if await repository.has_users(tx):
            return RedirectResponse("/signin", status_code=303)
    page: Response = request.app.state.control.web.page(request, "access/setup.html", form={"username": ""})
    return page


@router.post("/setup", dependencies=[public("proves itself by the setup token")])
async def setup_post(request: Request) -> Response:
    """Make the first user and sign them in."""
    origins.check(request, request.app.state.control.settings)
    form = await forms.read(request)
    response = RedirectResponse("/fleet", status_code=303)
    fields = {name: form.line(name) for name in ("token", "username")} | {"password": form.text("password")}
    return await _enter(
        request,
        response,
        "access/setup.html",
        fields,
        lambda: api.set_up(forms.body(SetupIn, **fields), request, response),
    )


@router.get("/signin", dependencies=[public("the form asks for a password")])
async def signin_page(request: Request, next: str = "/fleet") -> Response:
    """Show the sign-in form."""
    page: Response = request.app.state.control.web.page(
        request, "access/signin.html", form={"username": ""}, next=forms.local_path(next)
    )
    return page


@router.post("/signin", dependencies=[public("proves itself by a password")])
async def signin_post(request: Request) -> Response:
    """Sign in and go where the visitor wanted to."""
    origins.check(request, request.app.state.control.settings)
    form = await forms.read(request)
    target = forms.local_path(form.line("next"))
    response = RedirectResponse(target, status_code=303)
    fields = {"username": form.line("username"), "password": form.text("password")}
    return await _enter(
        request,
        response,
        "access/signin.html",
        fields,
        lambda: api.login(forms.body(LoginIn, **fields), request, response),
        next=target,
    )


async def _enter(
    request: Request, response: Response, template: str, fields: dict[str, str], action: Any, **context: Any
) -> Response:
    """Run what sets the session's cookie on `response`; on failure show the form again without the secrets."""
    notices: list[Notice] = []
    try:
        await action()
    except ApiError as error:
        notices.append(Notice("error", error.message, error.hint))
        form = {"username": fields["username"]}
        page: Response = request.app.state.control.web.page(
            request, template, form=form, notices=notices, status=error.status, **context
        )
        return page
    return response


@router.post("/signout")
async def signout(request: Request, access: Self) -> Response:
    """End this session."""
    response = RedirectResponse("/signin", status_code=303)
    await api.log_out(request, response, access)
    return response


# -- users and tokens


@router.get("/access")
async def access_page(request: Request, access: Self, tab: str = "users") -> Response:
    """Show users, one's tokens, or join tokens."""
    return await _access_page(request, access, tab)


async def _access_page(
    request: Request, access: Access, tab: str, secret: dict[str, str] | None = None, notices: tuple[Notice, ...] = ()
) -> Response:
    here = Resource(access.org_id)
    may = {
        "users": access.may(Permission.USER_MANAGE, here),
        "join": access.may(Permission.JOIN_TOKEN_MANAGE, here),
    }
    reads = access.may(Permission.USER_READ, here)
    tabs = [
        *([("users", "Users")] if reads else []),
        ("tokens", "API tokens"),
        *([("join", "Join tokens")] if may["join"] else []),
    ]
    tab = tab if tab in dict(tabs) else tabs[0][0]
    lists: dict[str, Any] = {"users": [], "tokens": [], "join_tokens": []}
    if tab == "users":
        found = await users_api.list_users(request, access, EVERYTHING)
        lists["users"] = await _users(request, [user.model_dump() for user in found.items])
    elif tab == "tokens":
        lists["tokens"] = (await api.list_tokens(request, access, EVERYTHING)).items
    else:
        from towline.control.agents.api import list_join_tokens

        lists["join_tokens"] = (await list_join_tokens(request, access, EVERYTHING)).items
    page: Response = request.app.state.control.web.page(
        request, "access/access.html", access=access, section="access", tab=tab, tabs=tabs, may=may, roles=ROLES,
        secret=secret, notices=notices, **lists,
    )  # fmt: skip
    return page


@router.post("/access/users")
async def add_user(request: Request, access: Manager) -> Response:
    """Add a user with one role."""
    form = await forms.read(request)

    async def action() -> None:
        place = forms.scope(form.line("place"))
        asked = forms.body(UserIn, username=form.line("username"), password=form.text("password"))
        made = await users_api.create_user(asked, request, access)
        await users_api.create_grant(GrantIn(user=made.id, role=_role(form), scope=place), request, access)

    return await forms.act(request, "/access?tab=users", f"{form.line('username')} may sign in now", action)


@router.get("/access/users/{user}")
async def user_page(request: Request, access: Manager, user: str) -> Response:
    """Show one user's roles and what can be done."""
    found = await users_api.show_user(user, request, access)
    page: Response = request.app.state.control.web.page(
        request, "access/user.html", access=access, section="access", user=found, roles=ROLES
    )
    return page


@router.post("/access/users/{user}/grants")
async def add_grant(request: Request, access: Manager, user: str) -> Response:
    """Give a role."""
    form = await forms.read(request)

    async def action() -> None:
        place = forms.scope(form.line("place"))
        await users_api.create_grant(GrantIn(user=user, role=_role(form), scope=place), request, access)

    return await forms.act(request, "/access?tab=users", f"the role {form.line('role')} was given", action)


@router.post("/access/users/{user}/password")
async def reset_password(request: Request, access: Manager, user: str) -> Response:
    """Set another user's password."""
    form = await forms.read(request)

    async def action() -> None:
        await users_api.set_password(user, forms.body(PasswordIn, password=form.text("password")), request, access)

    return await forms.act(request, f"/access/users/{user}", "the password was set", action)


@router.post("/access/users/{user}/remove")
async def remove_user(request: Request, access: Manager, user: str) -> Response:
    """Remove a user whose name was typed."""
    form = await forms.read(request)
    found = await users_api.show_user(user, request, access)
    if form.line("confirm") != found.username:
        return redirect(request, f"/access/users/{user}", Notice("error", f"type {found.username} to remove it"))
    done = f"{found.username} was removed"
    return await forms.act(request, "/access?tab=users", done, lambda: users_api.delete_user(user, request, access))


@router.post("/access/grants/{grant_id}/remove")
async def remove_grant(request: Request, access: Manager, grant_id: str) -> Response:
    """Take a role back."""
    return await forms.act(
        request,
        "/access?tab=users",
        "the role was taken back",
        lambda: users_api.revoke_grant(grant_id, request, access),
    )


@router.post("/access/tokens")
async def make_token(request: Request, access: Self) -> Response:
    """Make a token and show it, this once: in the answer to the post, never in an address."""
    form = await forms.read(request)
    secret, notices = None, list[Notice]()
    async with forms.noticed(notices):
        fields: dict[str, Any] = {"name": form.line("name"), "expires_in": form.number("days", 90) * 86400}
        if form.line("role"):
            fields["role"] = form.line("role")
        made = await api.create_token(forms.body(TokenIn, **fields), request, access)
        secret = {"name": made.name, "token": made.token}
    return await _access_page(request, access, "tokens", secret, tuple(notices))


@router.post("/access/tokens/{token_id}/revoke")
async def revoke_token(request: Request, access: Self, token_id: str) -> Response:
    """Revoke a token."""
    return await forms.act(
        request, "/access?tab=tokens", "the token was revoked", lambda: api.revoke_token(token_id, request, access)
    )


@router.post("/access/join-tokens/{token_id}/revoke")
async def revoke_join_token(request: Request, access: Joiner, token_id: str) -> Response:
    """Revoke a join token."""
    from towline.control.agents.api import revoke_join_token as revoke

    return await forms.act(
        request, "/access?tab=join", "the join token was revoked", lambda: revoke(request, access, token_id)
    )


# -- one's own settings


@router.get("/settings")
async def settings_page(request: Request, access: Self) -> Response:
    """Show appearance, password and sessions."""
    control = request.app.state.control
    sessions = (await api.list_sessions(request, access)).items
    page: Response = control.web.page(
        request, "access/settings.html", access=access, section="settings", sessions=sessions, version=__version__,
        fingerprint=control.fingerprint,
    )  # fmt: skip
    return page


@router.post("/settings/password")
async def change_password(request: Request, access: Self) -> Response:
    """Change one's own password."""
    form = await forms.read(request)

    async def action() -> None:
        asked = forms.body(PasswordIn, password=form.text("password"), current=form.text("current"))
        await users_api.set_password(access.actor.user_id, asked, request, access)

    return await forms.act(request, "/settings", "your password was changed", action)


@router.post("/settings/sessions/{session_id}/end")
async def end_session(request: Request, access: Self, session_id: str) -> Response:
    """End another session of one's own."""
    return await forms.act(
        request, "/settings", "the session has ended", lambda: api.end_session(session_id, request, access)
    )


def _role(form: forms.Form) -> Any:
    return forms.body(GrantIn, role=form.line("role")).role


async def _users(request: Request, users: list[dict[str, Any]]) -> list[dict[str, Any]]:
    grants = [grant for user in users for grant in user["grants"]]
    wanted = sorted({grant["scope"].get("cluster_id") or "" for grant in grants} - {""})
    names = await request.app.state.control.fleet.clusters.names(wanted) if wanted else {}
    for grant in grants:
        cluster_id = grant["scope"].get("cluster_id") or ""
        grant["place"] = place_words(grant["scope"] | {"cluster_id": names.get(cluster_id, cluster_id)})
    return users


def place_words(scope: dict[str, Any]) -> str:
    """Say where a role holds; the cluster by its name."""
    kind = scope.get("kind")
    if kind == "selector":
        return "clusters with " + ",".join(f"{key}={value}" for key, value in scope["selector"].items())
    inside = f" on {scope['cluster_id']}" if scope.get("cluster_id") else ""
    if kind == "project":
        return f"project {scope['project']}{inside}"
    return f"cluster {scope['cluster_id']}" if kind == "cluster" else "everything"
