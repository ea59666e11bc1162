"""The editor: a new project, a new revision, what it would change, and the sample in one click."""

from collections.abc import Iterable
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Request, Response

from towline.control import forms
from towline.control.access.dependencies import Access, Permission, needs
from towline.control.deployments.feature import Deployments
from towline.control.deployments.samples import SAMPLE, SAMPLE_NAME, SAMPLE_WHY
from towline.control.deployments.schemas import DiffRequest, RevisionRequest
from towline.control.deployments.side_by_side import plan as planned
from towline.control.errors import ApiError
from towline.control.web import Notice, redirect

router = APIRouter(include_in_schema=False)

Writer = Annotated[Access, needs(Permission.DEPLOYMENT_WRITE)]
PLACE = "/clusters/{cluster}/deployments/{name}"


def _feature(request: Request) -> Deployments:
    feature: Deployments = request.app.state.control.deployments
    return feature


@router.get("/deployments/new")
async def new_page(request: Request, access: Writer, cluster: str = "", sample: str = "") -> Response:
    """Show the editor for a new project, with the sample in it when asked for."""
    form = _empty_form() | ({"compose": SAMPLE, "message": SAMPLE_WHY} if sample else {})
    return await _editor(request, access, cluster, SAMPLE_NAME if sample else "", form, existing=False)


@router.post("/deployments/sample")
async def deploy_sample(request: Request, access: Writer) -> Response:
    """Deploy the sample in one click: where an agent is connected, else where it waits for one."""
    choices = await request.app.state.control.fleet.clusters.choices(access, Permission.DEPLOYMENT_WRITE)
    if not choices:
        return redirect(request, "/fleet/join", Notice("warning", "join a host first: the sample needs one"))
    cluster = next((each.name for each in choices if each.connected), choices[0].name)
    asked = RevisionRequest(compose=SAMPLE, message=SAMPLE_WHY)
    try:
        await _feature(request).revisions.create(access, cluster, SAMPLE_NAME, asked, None)
    except ApiError as error:
        notice = Notice("error", error.message, error.hint)
        return redirect(request, f"/deployments/new?sample=1&cluster={quote(cluster)}", notice)
    notice = Notice("working", f"the sample is on its way to {cluster}")
    return redirect(request, f"/clusters/{quote(cluster)}/deployments/{SAMPLE_NAME}", notice)


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
        form |= {"base_revision": str(latest.number)}
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
            plan = planned(
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
        "base_revision": int(form.number("base_revision", 0)) or None,
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
    choices = await request.app.state.control.fleet.clusters.choices(access, Permission.DEPLOYMENT_WRITE)
    present = [each.name for each in choices if each.connected] + [each.name for each in choices]
    chosen = cluster or (present[0] if present else "")
    base = f"/clusters/{quote(cluster)}/deployments/{quote(name)}"
    page: Response = request.app.state.control.web.page(
        request, "deployments/edit.html", access=access, section="deployments", cluster=chosen, name=name, form=form,
        existing=existing, secrets=list(secrets), notices=tuple(notices), plan=plan, problems=list(problems),
        clusters=choices, registries=await _registries(request, access),
        action=f"{base}/edit" if existing else "/deployments/new",
    )  # fmt: skip
    return page


async def _registries(request: Request, access: Access) -> list[Any]:
    from towline.control.registries.api import list_registries

    return list((await list_registries(request, access)).items)


def _empty_form() -> dict[str, Any]:
    return {
        "compose": "", "env": "", "message": "", "registries": [], "auto_rollback": True, "settle_seconds": "10",
        "timeout": "600", "base_revision": "", "typed_secrets": [], "pull_always": False,
    }  # fmt: skip


def _typed(form: forms.Form) -> dict[str, Any]:
    return {
        "compose": form.text("compose"), "env": form.text("env"), "message": form.line("message"),
        "registries": form.all("registries"), "auto_rollback": form.checked("auto_rollback"),
        "settle_seconds": form.line("settle_seconds") or "10", "timeout": form.line("timeout") or "600",
        "base_revision": form.line("base_revision"), "pull_always": form.checked("pull_always"),
        "typed_secrets": [name.strip() for name in form.all("secret_name") if name.strip()],
    }  # fmt: skip
