"""What people do to one object from its page: restart, scale, delete, and YAML by server-side apply.

Each is one request to the cluster's API as who is signed in, so that the gate decides and records. Of an apply the
conflicts are shown with their owners; to take a field from somebody is a choice of its own.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
import yaml
from fastapi import APIRouter, Request, Response

from towline.control import forms
from towline.control.access.dependencies import Access, Permission, needs
from towline.control.errors import ApiError, ErrorCode
from towline.control.kubernetes import heading, views
from towline.control.kubernetes.kinds import Kind
from towline.control.kubernetes.object_pages import PLACE, Resource, Word, kind_of, object_head, talker_of
from towline.control.kubernetes.talking import ClusterSaid, Question
from towline.control.web import Notice, redirect

router = APIRouter(include_in_schema=False)

Reader = Annotated[Access, needs(Permission.CLUSTER_READ)]
MANAGER = "towline"
"""Who owns the fields that were applied here, in managedFields."""
RESTARTED_AT = "kubectl.kubernetes.io/restartedAt"
"""The annotation by which kubectl restarts a workload, so that its history reads the same."""
MOST_REPLICAS = 10_000
MOST_YAML_CHARACTERS = 1024 * 1024
"""etcd keeps 1.5 MiB of an object."""
MERGE, STRATEGIC, APPLY = (
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
)
_OWNER = re.compile(r'conflict with "(?P<manager>[^"]*)"(?P<more>.*)', re.DOTALL)


@router.post(f"{PLACE}/restart")
async def restart(
    request: Request, access: Reader, cluster: str, namespace: Word, resource: Resource, name: Word
) -> Response:
    """Replace the pods of a workload one after the other."""
    here, kind = await heading.here(request, access, cluster), kind_of(resource)
    if not kind.restarts:
        raise ApiError(ErrorCode.INVALID, f"a {kind.kind} cannot be restarted")
    noted = {RESTARTED_AT: datetime.now(UTC).isoformat(timespec="seconds")}
    body = {"spec": {"template": {"metadata": {"annotations": noted}}}}
    target = kind.path(namespace, name, fieldManager=MANAGER)
    question = Question(target, "PATCH", msgspec.json.encode(body), STRATEGIC)
    url = _url(here, kind, namespace, name)
    talker = talker_of(request)
    return await forms.act(request, url, f"{name} restarts", lambda: talker.ask(access, here.row.name, question))


@router.post(f"{PLACE}/scale")
async def scale(
    request: Request, access: Reader, cluster: str, namespace: Word, resource: Resource, name: Word
) -> Response:
    """Set how many pods a workload has."""
    here, kind = await heading.here(request, access, cluster), kind_of(resource)
    if not kind.scales:
        raise ApiError(ErrorCode.INVALID, f"a {kind.kind} cannot be scaled")
    form = await forms.read(request)
    wanted = form.line("replicas")
    url = _url(here, kind, namespace, name)
    if not wanted.isdigit() or int(wanted) > MOST_REPLICAS:
        return redirect(request, url, Notice("error", f"a number from 0 to {MOST_REPLICAS:,} is needed"))
    body = msgspec.json.encode({"spec": {"replicas": int(wanted)}})
    question = Question(kind.path(namespace, name, "scale", fieldManager=MANAGER), "PATCH", body, MERGE)
    talker = talker_of(request)
    return await forms.act(
        request, url, f"{name} is scaled to {int(wanted)}", lambda: talker.ask(access, here.row.name, question)
    )


@router.post(f"{PLACE}/delete")
async def delete(
    request: Request, access: Reader, cluster: str, namespace: Word, resource: Resource, name: Word
) -> Response:
    """Delete an object whose name was typed."""
    here, kind = await heading.here(request, access, cluster), kind_of(resource)
    form = await forms.read(request)
    url = _url(here, kind, namespace, name)
    if form.line("confirm") != name:
        return redirect(request, url, Notice("error", f"type {name} to delete it"))
    body = msgspec.json.encode({"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"})
    question = Question(kind.path(namespace, name), "DELETE", body, "application/json")
    try:
        await talker_of(request).ask(access, here.row.name, question)
    except ApiError as error:
        return redirect(request, url, Notice("error", error.message, error.hint))
    listed = "pods" if kind.resource == "pods" else "workloads"
    place = f"/clusters/{here.row.name}/{listed}?namespace={namespace}"
    return redirect(request, place, Notice("done", f"{kind.kind} {name} is being deleted"))


# -- YAML --------------------------------------------------------------------------------------


@router.get(f"{PLACE}/yaml")
async def yaml_page(
    request: Request, access: Reader, cluster: str, namespace: Word, resource: Resource, name: Word
) -> Response:
    """Show an object as YAML, to be edited by who may."""
    here, kind = await heading.here(request, access, cluster), kind_of(resource)
    found = await talker_of(request).get(access, here.row.name, kind.path(namespace, name))
    return _yaml_page(request, here, kind, namespace, name, found)


def _yaml_page(
    request: Request, here: heading.Here, kind: Kind, namespace: str, name: str, found: Any, **more: Any
) -> Response:
    shown: dict[str, Any] = {
        "text": views.editable(found), "problem": None, "conflicts": [], "checked": None,
        "status_text": views.status_yaml(found), **object_head(here, kind, namespace, name, found, "yaml"), **more,
    }  # fmt: skip
    page: Response = request.app.state.control.web.page(request, "kubernetes/yaml.html", **shown)
    return page


@router.post(f"{PLACE}/yaml")
async def apply(
    request: Request, access: Reader, cluster: str, namespace: Word, resource: Resource, name: Word
) -> Response:
    """Apply what was typed, or only ask what would become of it; what was typed is kept until it is applied."""
    here, kind = await heading.here(request, access, cluster), kind_of(resource)
    here.require(kind.asked("patch", namespace, name))
    form = await forms.read(request)
    text, dry = form.text("yaml"), form.line("go") == "check"
    talker = talker_of(request)
    found = await talker.get(access, here.row.name, kind.path(namespace, name))
    shown: dict[str, Any] = {"text": text}
    try:
        body = checked(text, kind, namespace, name)
        force = "true" if form.checked("force") else "false"
        query = {"fieldManager": MANAGER, "force": force, "fieldValidation": "Strict"}
        query |= {"dryRun": "All"} if dry else {}
        question = Question(kind.path(namespace, name, **query), "PATCH", body, APPLY)
        made = await talker.ask(access, here.row.name, question)
    except ClusterSaid as error:
        shown |= {"problem": error, "conflicts": conflicts(error.said)}
    except ApiError as error:
        shown["problem"] = error
    else:
        if not dry:
            return redirect(request, _url(here, kind, namespace, name), Notice("done", f"{name} was applied"))
        shown["checked"] = views.differences(views.editable(found), views.editable(made))
    return _yaml_page(request, here, kind, namespace, name, found, **shown)


def checked(text: str, kind: Kind, namespace: str, name: str) -> bytes:
    """Return the body of an apply. Raises: ApiError: it is no YAML, or of another object than the page's."""
    if len(text) > MOST_YAML_CHARACTERS:
        raise ApiError(ErrorCode.TOO_LARGE, "an object cannot be larger than 1 MiB")
    try:
        wanted = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark is not None else ""
        raise ApiError(ErrorCode.INVALID, f"{where}{getattr(error, 'problem', None) or 'this is no YAML'}") from error
    if not isinstance(wanted, dict) or not isinstance(wanted.get("metadata"), dict):
        raise ApiError(ErrorCode.INVALID, "an object with apiVersion, kind and metadata is needed")
    metadata = wanted["metadata"]
    here = (kind.kind, name, namespace)
    if (wanted.get("kind"), metadata.get("name"), metadata.get("namespace", namespace)) != here:
        raise ApiError(ErrorCode.INVALID, f"kind, name and namespace must stay {kind.kind} {name} in {namespace}")
    metadata.pop("managedFields", None)
    wanted.pop("status", None)
    return msgspec.json.encode(wanted, enc_hook=str)


def conflicts(status: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return who else owns what an apply would change: field, owner, and how."""
    found = []
    for cause in (status.get("details") or {}).get("causes") or ():
        if cause.get("reason") != "FieldManagerConflict":
            continue
        match = _OWNER.match(str(cause.get("message", "")))
        owner, more = (match["manager"], match["more"].strip()) if match else (str(cause.get("message")), "")
        found.append({"field": str(cause.get("field", "")), "owner": owner, "how": more})
    return found


def _url(here: heading.Here, kind: Kind, namespace: str, name: str) -> str:
    return f"/clusters/{here.row.name}/kubernetes/{namespace}/{kind.resource}/{name}"
