"""The page that says what somebody may do in a cluster and by which rule: a question, and a table of the usual ones.

The rules are `explain`'s, which are the gate's. What the cluster's own RBAC says is asked of the cluster, for who is
signed in and for one question alone.
"""

import json
import shlex
from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from towline.control.access.dependencies import Access, Permission, needs
from towline.control.access.permissions import Role
from towline.control.errors import ApiError, ErrorCode
from towline.control.kubernetes import explain, heading
from towline.control.kubernetes.kinds import NAME
from towline.control.kubernetes.talking import JSON, Question, Talker
from towline.control.kubernetes.viewpoints import Viewpoint, may_look_as_others, viewpoint
from towline.control.web import query as with_query
from towline.kube.access import AccessTuple

router = APIRouter(include_in_schema=False)

Reader = Annotated[Access, needs(Permission.CLUSTER_READ)]
Namespace = Annotated[str, Query(max_length=63, pattern=rf"{NAME}|^$")]
Verb = Annotated[str, Query(max_length=32, pattern=r"^[a-z]*$")]
What = Annotated[str, Query(max_length=253, pattern=r"^[ -~]*$")]
Who = Annotated[str, Query(max_length=64)]
REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


@router.get("/clusters/{cluster}/access")
async def access_page(
    request: Request, access: Reader, cluster: str, namespace: Namespace = "", verb: Verb = "", resource: What = "",
    user: Who = "", role: Who = "",
) -> Response:  # fmt: skip
    """Show what one may do in a namespace or in all of them, and answer one question."""
    here = await heading.here(request, access, cluster)
    resource, user = resource.strip(), user.strip()
    if here.restricted and here.namespaces and not resource:
        namespace = namespace or here.namespaces[0]  # a table of what lies elsewhere would say no all over
    looked, problem = await _looked(request, here, user, role)
    asked = explain.question(verb, resource, namespace=namespace) if resource else None
    cell = explain.answer(looked.rights, here.place, asked) if asked is not None else None
    said = await _cluster_says(request, here, asked) if asked and cell and _is_let_pass(cell, looked) else ""
    shown = {"namespace": namespace, "verb": verb, "resource": resource, "user": user, "role": role}
    page: Response = request.app.state.control.web.page(
        request, "kubernetes/access.html", asked=asked, cell=cell, said=said, looked=looked, problem=problem,
        shown=shown, command=_command(here.row.name, shown), may_look=may_look_as_others(access), roles=tuple(Role),
        sentence=explain.sentence, granted=explain.granted, **_table(here, looked, cell, shown),
        **here.context("access"),
    )  # fmt: skip
    return page


async def _looked(request: Request, here: heading.Here, user: str, role: str) -> tuple[Viewpoint, ApiError | None]:
    """Return whose rights are shown; one's own, and why, when there is no such user."""
    try:
        return await viewpoint(request.app.state.control, here.access, here.place, user=user, role=role), None
    except ApiError as error:
        if error.code is not ErrorCode.USER_NOT_FOUND:
            raise
        return Viewpoint(here.access.rights, here.access.actor, is_own=True), error


def _is_let_pass(cell: explain.Cell, looked: Viewpoint) -> bool:
    """The cluster can be asked as who is signed in alone, and is asked only about what would reach it."""
    return cell.verdict.allowed and looked.is_own


def _table(
    here: heading.Here, looked: Viewpoint, cell: explain.Cell | None, shown: Mapping[str, str]
) -> dict[str, Any]:
    """Return the usual questions with their answers, and who one is inside the cluster."""
    namespace, base = shown["namespace"], f"/clusters/{here.row.name}/access"
    cells = list(explain.matrix(looked.rights, here.place, namespace))
    reached = cell or explain.answer(looked.rights, here.place, explain.question("list", "pods", namespace=namespace))
    kept = {name: shown[name] for name in ("namespace", "user", "role")}
    return {
        "rows": explain.rows(cells), "reasons": explain.reasons(cells), "verbs": explain.VERBS, "base": base,
        "inside": looked.inside(reached.verdict.roles), "cell_url": with_query(base, kept),
    }  # fmt: skip


def _command(cluster: str, shown: Mapping[str, str]) -> str:
    """Return the command that says the same, safe to be pasted whatever an address held."""
    asked = shown if shown["resource"] else {**shown, "verb": ""}
    options = [word for name, value in asked.items() if value for word in (f"--{name}", value)]
    return shlex.join(["towline", "kube", "access", cluster, *options])


async def _cluster_says(request: Request, here: heading.Here, asked: AccessTuple) -> str:
    """Ask the cluster's own RBAC; empty when it cannot be asked now."""
    talker: Talker = request.app.state.control.kubernetes.talker
    if asked.is_resource:
        named = {"verb": asked.verb, "group": asked.group, "resource": asked.resource}
        spec: Any = {"resourceAttributes": named | {"subresource": asked.subresource, "namespace": asked.namespace}}
    else:
        spec = {"nonResourceAttributes": {"verb": asked.verb, "path": asked.path}}
    body = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": spec}
    question = Question(REVIEWS, "POST", json.dumps(body).encode(), JSON)
    try:
        status = (await talker.ask(here.access, here.row.name, question)).get("status") or {}
    except ApiError:
        return ""
    reason = str(status.get("reason") or "")[:500]
    if status.get("allowed"):
        return f"The cluster's own rules allow it too{f': {reason}' if reason else ''}."
    return f"The cluster's own rules refuse it: {reason or 'nothing in its RBAC grants it to you'}."
