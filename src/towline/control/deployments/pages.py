"""Pages of deployments: the list, the editor, and one deployment with its revisions, logs and terminal."""

from collections.abc import Iterable, Iterator
from typing import Annotated, Any
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Depends, Request, Response

from towline.control import forms
from towline.control.access.dependencies import Access, Permission, Resource, needs
from towline.control.clusters import api as clusters_api
from towline.control.deployments.feature import Deployments
from towline.control.deployments.samples import SAMPLE
from towline.control.deployments.schemas import (
    AdoptRequest,
    DeploymentOut,
    DeploymentPatch,
    DiffLine,
    DiffRequest,
    RedeployRequest,
    RemoveRequest,
    RevisionRequest,
    RollbackRequest,
    ScaleRequest,
    ServicesRequest,
)
from towline.control.deployments.service import Wanted
from towline.control.errors import ApiError, ErrorCode
from towline.control.jobs import pages as job_pages
from towline.control.listing import ListQuery, list_query
from towline.control.web import CSP_TERMINAL, Notice, redirect
from towline.control.web import query as with_query

router = APIRouter(include_in_schema=False)

Reader = Annotated[Access, needs(Permission.DEPLOYMENT_READ)]
Writer = Annotated[Access, needs(Permission.DEPLOYMENT_WRITE)]
Operator = Annotated[Access, needs(Permission.DEPLOYMENT_OPERATE)]
LogReader = Annotated[Access, needs(Permission.LOGS_READ)]
Shell = Annotated[Access, needs(Permission.EXEC_OPEN)]
Asked = Annotated[ListQuery, Depends(list_query)]
STATES = ("healthy", "degraded", "down", "working", "unknown")
TABS = (("overview", "", "Overview"), ("revisions", "/revisions", "Revisions"))
EVERYTHING = ListQuery(limit=500)
LOG_LINES = 1000
"""Lines of each container that the log view begins with."""
OUTCOME_TONES = {"good": "healthy", "adopted": "healthy", "failed": "down", "pending": "working"}
PLACE = "/clusters/{cluster}/deployments/{name}"


def _feature(request: Request) -> Deployments:
    feature: Deployments = request.app.state.control.deployments
    return feature


@router.get("/deployments")
async def list_page(request: Request, access: Reader, asked: Asked, state: str = "") -> Response:
    """Show every deployment with its state and the reason for it."""
    wanted = Wanted(states=(state,) if state in STATES else ())
    found = await _feature(request).service.find_many(access, asked, wanted)
    filters = {"search": asked.search, "state": state}
    page: Response = request.app.state.control.web.page(
        request, "deployments/list.html", access=access, section="deployments", page=found.model_dump(),
        filters=filters, sort=asked.sort or "name", sort_url=with_query("/deployments", dict(filters)),
        page_url=with_query("/deployments", filters | {"sort": asked.sort}),
        may={"deploy": access.rights.gives(Permission.DEPLOYMENT_WRITE)},
    )  # fmt: skip
    return page


# -- the editor --------------------------------------------------------------------------------


@router.get("/deployments/new")
async def new_page(request: Request, access: Writer, cluster: str = "", sample: str = "") -> Response:
    """Show the editor for a new project, with the sample in it when asked for."""
    form = _empty_form() | ({"compose": SAMPLE, "message": "the sample"} if sample else {})
    return await _editor(request, access, cluster, "hello" if sample else "", form, existing=False)


@router.post("/deployments/new")
async def new_post(request: Request, access: Writer) -> Response:
    """Deploy what was typed, or show what it would change."""
    form = await forms.read(request)
    return await _deploy(request, access, form.line("cluster"), form.line("name"), form, existing=False)


@router.get(f"{PLACE}/edit")
async def edit_page(request: Request, access: Writer, cluster: str, name: str) -> Response:
    """Show the editor with the newest revision."""
    deployment = await _feature(request).service.get(access, cluster, name)
    form = _empty_form() | {
        "auto_rollback": deployment.auto_rollback,
        "settle_seconds": f"{deployment.settle_seconds:g}",
    }
    secrets: list[str] = []
    if deployment.latest_revision:
        latest = await _feature(request).service.revision(access, cluster, name, deployment.latest_revision)
        form |= {"compose": latest.compose or "", "env": latest.env or "", "registries": latest.registries}
        secrets = [secret.name for secret in latest.secrets]
    return await _editor(
        request, access, deployment.cluster.name, deployment.name, form, existing=True, secrets=secrets
    )


@router.post(f"{PLACE}/edit")
async def edit_post(request: Request, access: Writer, cluster: str, name: str) -> Response:
    """Deploy a new revision, or show what it would change."""
    return await _deploy(request, access, cluster, name, await forms.read(request), existing=True)


async def _deploy(
    request: Request, access: Access, cluster: str, name: str, form: forms.Form, *, existing: bool
) -> Response:
    feature = _feature(request)
    notices: list[Notice] = []
    plan, problems = None, list[Any]()
    typed = _typed(form)
    try:
        asked = forms.body(RevisionRequest, **await _revision(request, access, cluster, name, form, existing=existing))
        if form.line("go") == "diff":
            content = asked.model_dump(include=set(DiffRequest.model_fields) - {"against"}, exclude_unset=True)
            plan = _plan(
                await feature.comparisons.of_request(access, cluster, name, forms.body(DiffRequest, **content))
            )
        else:
            made = await feature.revisions.create(access, cluster, name, asked, None)
            done = Notice("working", f"revision {made.revision.number} is on its way")
            return redirect(request, f"/clusters/{quote(cluster)}/deployments/{quote(name)}", done)
    except ApiError as error:
        problems = error.detail.get("problems", [])
        notices.append(Notice("error", error.message, error.hint))
    return await _editor(
        request, access, cluster, name, typed, existing=existing, notices=notices, plan=plan, problems=problems,
        secrets=[] if not existing else await _secret_names(request, access, cluster, name),
    )  # fmt: skip


async def _revision(
    request: Request, access: Access, cluster: str, name: str, form: forms.Form, *, existing: bool
) -> dict[str, Any]:
    """Return the body of the API for what was typed: what the form does not show stays as it was."""
    uploaded = form.files.get("compose_file", b"")
    fields: dict[str, Any] = {
        "compose": uploaded.decode("utf-8", "replace") if uploaded else form.text("compose"),
        "env": form.text("env") or None,
        "registries": form.all("registries"),
        "message": form.line("message"),
        "secrets": _secrets(form),
        "options": {
            "pull": "always" if form.checked("pull_always") else "missing",
            "auto_rollback": form.checked("auto_rollback"),
            "settle_seconds": form.number("settle_seconds", 10),
            "timeout": form.number("timeout", 600),
        },
    }
    if existing:
        deployment = await _feature(request).service.get(access, cluster, name)
        if deployment.latest_revision:
            latest = await _feature(request).service.revision(access, cluster, name, deployment.latest_revision)
            fields |= {"bundle": latest.bundle, "variables": latest.variable_values or {}}
    return fields


def _secrets(form: forms.Form) -> dict[str, str | None]:
    """Return secrets by name; an empty value keeps the one that is stored."""
    pairs = zip(form.all("secret_name"), form.all("secret_value"), strict=False)
    return {name.strip(): value or None for name, value in pairs if name.strip()}


async def _secret_names(request: Request, access: Access, cluster: str, name: str) -> list[str]:
    deployment = await _feature(request).service.get(access, cluster, name)
    if not deployment.latest_revision:
        return []
    latest = await _feature(request).service.revision(access, cluster, name, deployment.latest_revision)
    return [secret.name for secret in latest.secrets]


async def _editor(
    request: Request, access: Access, cluster: str, name: str, form: dict[str, Any], *, existing: bool,
    secrets: Iterable[str] = (), notices: Iterable[Notice] = (), plan: Any = None, problems: Iterable[Any] = (),
) -> Response:  # fmt: skip
    clusters = (await clusters_api.list_clusters(request, access, EVERYTHING, "", [])).items
    writable = [
        each
        for each in clusters
        if access.may(Permission.DEPLOYMENT_WRITE, Resource(access.org_id, each.id, each.labels, name))
    ]
    chosen = cluster or (writable[0].name if writable else "")
    base = f"/clusters/{quote(cluster)}/deployments/{quote(name)}"
    page: Response = request.app.state.control.web.page(
        request, "deployments/edit.html", access=access, section="deployments", cluster=chosen, name=name, form=form,
        existing=existing, secrets=list(secrets), notices=tuple(notices), plan=plan, problems=list(problems),
        clusters=[{"name": each.name, "away": not each.link.connected} for each in writable],
        registries=await _registries(request, access), action=f"{base}/edit" if existing else "/deployments/new",
    )  # fmt: skip
    return page


async def _registries(request: Request, access: Access) -> list[Any]:
    from towline.control.registries.api import list_registries

    return list((await list_registries(request, access)).items)


def _empty_form() -> dict[str, Any]:
    return {
        "compose": "", "env": "", "message": "", "registries": [], "auto_rollback": True, "settle_seconds": "10",
        "timeout": "600",
    }  # fmt: skip


def _typed(form: forms.Form) -> dict[str, Any]:
    return {
        "compose": form.text("compose"), "env": form.text("env"), "message": form.line("message"),
        "registries": form.all("registries"), "auto_rollback": form.checked("auto_rollback"),
        "settle_seconds": form.line("settle_seconds") or "10", "timeout": form.line("timeout") or "600",
    }  # fmt: skip


# -- one deployment ----------------------------------------------------------------------------


@router.get(PLACE)
async def overview_page(request: Request, access: Reader, cluster: str, name: str) -> Response:
    """Show services, the newest job with its progress, and drift."""
    deployment = await _feature(request).service.get(access, cluster, name)
    job, events = await job_pages.latest_of(request, access, deployment.id, deployment.job_id)
    head = await _head(request, access, deployment, "overview")
    page: Response = request.app.state.control.web.page(
        request, "deployments/overview.html", access=access, section="deployments", job=job, events=events, **head
    )
    return page


@router.get(f"{PLACE}/revisions")
async def revisions_page(request: Request, access: Reader, cluster: str, name: str, asked: Asked) -> Response:
    """Show the history, the newest first."""
    deployment = await _feature(request).service.get(access, cluster, name)
    found = await _feature(request).service.revisions(access, cluster, name, asked)
    shown = found.model_dump()
    for revision in shown["items"]:
        revision["tone"] = OUTCOME_TONES.get(revision["outcome"], "unknown")
    head = await _head(request, access, deployment, "revisions")
    page: Response = request.app.state.control.web.page(
        request, "deployments/revisions.html", access=access, section="deployments", page=shown,
        page_url=with_query(f"{head['base_path']}/revisions", {}), **head,
    )  # fmt: skip
    return page


@router.get(f"{PLACE}/revisions/{{number}}")
async def revision_page(
    request: Request, access: Reader, cluster: str, name: str, number: int, against: int | None = None
) -> Response:
    """Show one revision and what it changed."""
    deployment = await _feature(request).service.get(access, cluster, name)
    found = (await _feature(request).service.revision(access, cluster, name, number)).model_dump()
    diff = await _feature(request).comparisons.of_revisions(access, cluster, name, number, against)
    found["tone"] = OUTCOME_TONES.get(found["outcome"], "unknown")
    found["secrets"] = [secret["name"] for secret in found["secrets"]]
    plan = _plan(diff)
    head = await _head(request, access, deployment, "revisions")
    page: Response = request.app.state.control.web.page(
        request, "deployments/revision.html", access=access, section="deployments", revision=found,
        against=diff.against, services=plan["services"], blocks=plan["blocks"], **head,
    )  # fmt: skip
    return page


@router.get(f"{PLACE}/logs")
async def logs_page(
    request: Request, access: LogReader, cluster: str, name: str, service: str = "", since: str = ""
) -> Response:
    """Show the live log."""
    deployment = await _feature(request).service.get(access, cluster, name)
    parameters = [("project", deployment.name), ("follow", "1"), ("tail", "-1" if since else str(LOG_LINES))]
    parameters += [("service", service)] if service else []
    parameters += [("since", since)] if since else []
    page: Response = request.app.state.control.web.page(
        request, "deployments/logs.html", access=access, section="deployments", since=since,
        logs_url=f"/api/v1/clusters/{deployment.cluster.id}/logs?{urlencode(parameters)}",
        **await _head(request, access, deployment, "logs"),
    )  # fmt: skip
    return page


@router.get(f"{PLACE}/terminal")
async def terminal_page(request: Request, access: Shell, cluster: str, name: str, service: str = "") -> Response:
    """Show a terminal in a running container."""
    deployment = await _feature(request).service.get(access, cluster, name)
    running = [each.name for each in deployment.services if each.replicas.running]
    chosen = service if service in running else (running[0] if running else "")
    parameters = urlencode([("project", deployment.name), ("service", chosen)])
    page: Response = request.app.state.control.web.page(
        request, "deployments/terminal.html", access=access, section="deployments", services=running, service=chosen,
        exec_url=f"/api/v1/clusters/{deployment.cluster.id}/exec?{parameters}", csp=CSP_TERMINAL,
        **await _head(request, access, deployment, "terminal"),
    )  # fmt: skip
    return page


@router.get(f"{PLACE}/settings")
async def settings_page(request: Request, access: Writer, cluster: str, name: str) -> Response:
    """Show how deploys of this project go, its scale, and its removal."""
    deployment = await _feature(request).service.get(access, cluster, name)
    page: Response = request.app.state.control.web.page(
        request, "deployments/settings.html", access=access, section="deployments", settings=deployment,
        **await _head(request, access, deployment, "settings"),
    )  # fmt: skip
    return page


async def _head(request: Request, access: Access, deployment: DeploymentOut, tab: str) -> dict[str, Any]:
    cluster = await clusters_api.get_cluster(request, access, deployment.cluster.id)
    here = Resource(access.org_id, cluster.id, cluster.labels, deployment.name)
    may = {
        "deploy": access.may(Permission.DEPLOYMENT_WRITE, here),
        "operate": access.may(Permission.DEPLOYMENT_OPERATE, here),
        "cancel": access.may(Permission.JOB_CANCEL, here),
        "logs": access.may(Permission.LOGS_READ, here),
        "exec": access.may(Permission.EXEC_OPEN, here),
    }
    tabs = [
        *TABS,
        *([("logs", "/logs", "Logs")] if may["logs"] else []),
        *([("terminal", "/terminal", "Terminal")] if may["exec"] else []),
        *([("settings", "/settings", "Settings")] if may["deploy"] else []),
    ]
    return {
        "deployment": deployment, "may": may, "tabs": tabs, "tab": tab,
        "base_path": f"/clusters/{deployment.cluster.name}/deployments/{deployment.name}",
        "previous": await _previous(request, access, deployment),
        "stopped": bool(deployment.services) and not any(each.replicas.running for each in deployment.services),
    }  # fmt: skip


async def _previous(request: Request, access: Access, deployment: DeploymentOut) -> int:
    """Return the last good revision before the one that runs; 0 when there is none."""
    found = await _feature(request).service.revisions(access, deployment.cluster.id, deployment.name, EVERYTHING)
    good = [each.number for each in found.items if each.outcome in {"good", "adopted"}]
    return max((number for number in good if number < (deployment.revision or 1 << 30)), default=0)


# -- actions -----------------------------------------------------------------------------------


@router.post(f"{PLACE}/act")
async def act(request: Request, access: Operator, cluster: str, name: str) -> Response:
    """Stop, start, restart, redeploy or roll back. The service checks the permission that each needs."""
    form = await forms.read(request)
    word = form.line("action")
    feature = _feature(request)
    target = f"/clusters/{quote(cluster)}/deployments/{quote(name)}"

    async def action() -> None:
        if word in {"stop", "start", "restart"}:
            await feature.service.operate(access, cluster, name, word, ServicesRequest(), None)
        elif word == "redeploy":
            await feature.revisions.redeploy(access, cluster, name, RedeployRequest(), None)
        elif word == "rollback":
            number = int(form.number("revision", 0)) or None
            await feature.revisions.rollback(access, cluster, name, RollbackRequest(revision=number), None)
        else:
            raise ApiError(ErrorCode.INVALID, f"there is no action {word!r}")

    return await forms.act(request, target, f"{word} is on its way", action)


@router.post(f"{PLACE}/adopt")
async def adopt(request: Request, access: Writer, cluster: str, name: str) -> Response:
    """Take over a project that runs on the host already."""
    target = f"/clusters/{quote(cluster)}/deployments/{quote(name)}"
    body = AdoptRequest()
    return await forms.act(
        request, target, f"{name} is being adopted; nothing restarts",
        lambda: _feature(request).revisions.adopt(access, cluster, name, body, None),
    )  # fmt: skip


@router.post(f"{PLACE}/settings")
async def save_settings(request: Request, access: Writer, cluster: str, name: str) -> Response:
    """Save how deploys go."""
    form = await forms.read(request)

    async def action() -> None:
        patch = forms.body(
            DeploymentPatch, auto_rollback=form.checked("auto_rollback"),
            settle_seconds=form.number("settle_seconds", 10), keep_revisions=int(form.number("keep_revisions", 5)),
        )  # fmt: skip
        await _feature(request).service.change(access, cluster, name, patch)

    return await forms.act(request, f"/clusters/{quote(cluster)}/deployments/{quote(name)}/settings", "saved", action)


@router.post(f"{PLACE}/scale")
async def scale(request: Request, access: Writer, cluster: str, name: str) -> Response:
    """Set how many containers services have."""
    form = await forms.read(request)
    counts = {key.removeprefix("scale-"): int(form.number(key, 1)) for key in form.names() if key.startswith("scale-")}

    async def action() -> None:
        await _feature(request).service.scale(access, cluster, name, forms.body(ScaleRequest, services=counts), None)

    return await forms.act(request, f"/clusters/{quote(cluster)}/deployments/{quote(name)}", "scaling", action)


@router.post(f"{PLACE}/remove")
async def remove(request: Request, access: Writer, cluster: str, name: str) -> Response:
    """Take a project off its host when its name was typed."""
    form = await forms.read(request)
    base = f"/clusters/{quote(cluster)}/deployments/{quote(name)}"
    if form.line("confirm") != name:
        return redirect(request, f"{base}/settings", Notice("error", f"type {name} to remove it"))
    body = RemoveRequest(volumes=form.checked("volumes"))
    return await forms.act(
        request, base, f"{name} is being removed",
        lambda: _feature(request).service.remove(access, cluster, name, body, None),
    )  # fmt: skip


# -- diffs -------------------------------------------------------------------------------------


def _plan(diff: Any) -> dict[str, Any]:
    changed = [each.model_dump() for each in diff.services if each.change != "unchanged"]
    return {"services": changed, "blocks": list(side_by_side(diff.lines)), "violations": []}


def side_by_side(lines: Iterable[DiffLine]) -> Iterator[dict[str, Any]]:
    """Group diff lines into rows of old and new; a run of removed lines stands beside the run that replaced it."""
    rows: list[dict[str, Any]] = []
    removed: list[DiffLine] = []
    added: list[DiffLine] = []

    def flush() -> None:
        for index in range(max(len(removed), len(added))):
            old = removed[index] if index < len(removed) else None
            new = added[index] if index < len(added) else None
            kind = "change" if old and new else "remove" if old else "add"
            rows.append(_row(kind, old, new))
        removed.clear()
        added.clear()

    for line in lines:
        if line.sign == "-":
            removed.append(line)
            continue
        if line.sign == "+":
            added.append(line)
            continue
        flush()
        if line.sign == "@":
            yield {"rows": rows, "folded": ""}
            rows = []
            yield {"rows": [], "folded": line.text or "unchanged"}
        else:
            rows.append(_row("same", line, line))
    flush()
    if rows:
        yield {"rows": rows, "folded": ""}


def _row(kind: str, old: DiffLine | None, new: DiffLine | None) -> dict[str, Any]:
    return {
        "kind": kind, "old": old.text if old else None, "new": new.text if new else None,
        "old_no": old.old if old else 0, "new_no": new.new if new else 0,
    }  # fmt: skip
