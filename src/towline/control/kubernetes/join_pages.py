"""The join dialog's page for Kubernetes: a few choices, then the manifest beside `kubectl`. Rules are the API's."""

from typing import Annotated, Any

from fastapi import APIRouter, Request, Response

from towline.control import forms
from towline.control.access.dependencies import Access, Permission, needs
from towline.control.agents import api as agents_api
from towline.control.kubernetes import manifest_api
from towline.control.kubernetes.manifest_api import ManifestRequest
from towline.control.kubernetes.manifests import default_image
from towline.control.web import Notice

router = APIRouter(include_in_schema=False)

Joiner = Annotated[Access, needs(Permission.JOIN_TOKEN_MANAGE)]
PROFILES = (
    ("default", "Default: everybody with the rights of their own role"),
    ("read-only", "Read-only: everybody may only look"),
    ("namespaced", "Namespaced: nothing outside of the namespaces below"),
    ("broad", "Broad: the agent may also deploy by itself"),
)
KEPT = ("cluster_name", "labels", "profile", "namespaces", "image", "replicas")
HOUR = 3600


@router.get("/fleet/join/kubernetes")
async def join_kubernetes_page(request: Request, access: Joiner) -> Response:
    """Ask what the cluster is called and how its agent shall run."""
    form = dict.fromkeys(KEPT, "") | {"profile": "default", "image": default_image(), "replicas": "1"}
    return _page(request, access, form)


@router.post("/fleet/join/kubernetes")
async def make_manifest(request: Request, access: Joiner) -> Response:
    """Make a manifest and show it, this once, with a place that waits for the agent."""
    form = await forms.read(request)
    notices: list[Notice] = []
    made = token = None
    async with forms.noticed(notices):
        asked = forms.body(
            ManifestRequest, profile=form.line("profile") or "default", image=form.line("image"),
            replicas=int(form.number("replicas", 1)), namespaces=form.line("namespaces").replace(",", " ").split(),
            inventory=form.checked("inventory"), labels=forms.labels(form.line("labels")),
            ttl=form.number("ttl", HOUR), approval_required=form.checked("approval"),
        )  # fmt: skip
        made = await manifest_api.make(request, access, form.line("cluster_name"), asked)
        token = await agents_api.get_join_token(request, access, made.token.row.id)
    return _page(request, access, {name: form.line(name) for name in KEPT}, made, token, tuple(notices))


def _page(
    request: Request,
    access: Access,
    form: dict[str, str],
    made: Any = None,
    token: Any = None,
    notices: tuple[Notice, ...] = (),
) -> Response:
    page: Response = request.app.state.control.web.page(
        request, "clusters/join_kubernetes.html", access=access, section="fleet", form=form, profiles=PROFILES,
        made=made, token=token, notices=notices, arrived=None, pasted=pasted(made.text) if made else "",
    )  # fmt: skip
    if made is not None:
        page.headers["cache-control"] = "no-store"
    return page


def pasted(manifest: str) -> str:
    """Return what is pasted into a shell: kubectl with the manifest as its input, whatever the manifest holds."""
    return f"kubectl apply -f - <<'TOWLINE'\n{manifest}TOWLINE\n"
