"""Pages of deployments: the list, the editor, and one deployment with its revisions, logs and terminal."""

from dataclasses import replace
from typing import Annotated, Any
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Depends, Request, Response

from towline.control import forms
from towline.control.access.dependencies import Access, Permission, needs
from towline.control.deployments.feature import Deployments
from towline.control.deployments.schemas import (
    AdoptRequest,
    DeploymentOut,
    DeploymentPatch,
    RedeployRequest,
    RemoveRequest,
    RollbackRequest,
    ScaleRequest,
    ServicesRequest,
)
from towline.control.deployments.service import Wanted
from towline.control.deployments.side_by_side import plan as planned
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
    plan = planned(diff)
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
    where = f"/api/v1/clusters/{deployment.cluster.id}/logs"
    parameters = [("project", deployment.name), ("tail", "-1" if since else str(LOG_LINES))]
    parameters += [("service", service)] if service else []
    parameters += [("since", since)] if since else []
    page: Response = request.app.state.control.web.page(
        request, "deployments/logs.html", access=access, section="deployments", since=since, service=service,
        logs_url=f"{where}?{urlencode([*parameters, ('follow', '1')])}", plain_url=f"{where}?{urlencode(parameters)}",
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
    here = await _feature(request).service.resource(access, deployment.cluster.id, deployment.name)
    may = {
        "deploy": access.may(Permission.DEPLOYMENT_WRITE, here),
        "operate": access.may(Permission.DEPLOYMENT_OPERATE, here),
        "cancel": access.may(Permission.JOB_CANCEL, here),
        "logs": access.may(Permission.LOGS_READ, here),
        "exec": access.may(Permission.EXEC_OPEN, here),
        "publish": access.may(Permission.ROUTE_WRITE, here),
        "cluster": access.may(Permission.CLUSTER_READ, replace(here, project="")),
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
        "place": f"{deployment.cluster.name}/{deployment.name}",
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
