"""The page that says what somebody may do in a cluster and by which rule: a question, and a table of the usual ones.

The rules are `explain`'s, which are the gate's. What the cluster's own RBAC says is asked of the cluster, for who is
signed in and for one question alone.
"""

import json
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
    if here.restricted and here.namespaces and not resource:
        namespace = namespace or here.namespaces[0]  # a table of what lies elsewhere would say no all over
    may_look = may_look_as_others(access)
    problem: ApiError | None = None
    try:
        looked = await viewpoint(request.app.state.control, access, here.place, user=user.strip(), role=role)
    except ApiError as error:
        if error.code is not ErrorCode.USER_NOT_FOUND:
            raise
        problem, looked, user = error, Viewpoint(access.rights, access.actor, is_own=True), ""
    cells = list(explain.matrix(looked.rights, here.place, namespace))
    asked = _asked(verb, resource.strip(), namespace)
    cell = explain.answer(looked.rights, here.place, asked) if asked is not None else None
    said = ""
    if asked is not None and cell is not None and cell.verdict.allowed and looked.is_own:
        said = await _cluster_says(request.app.state.control.kubernetes.talker, here, asked)
    reached = cell or explain.answer(looked.rights, here.place, explain.question("list", "pods", namespace=namespace))
    whose = {"user": user.strip(), "role": role}
    base = f"/clusters/{here.row.name}/access"
    page: Response = request.app.state.control.web.page(
        request, "kubernetes/access.html", rows=explain.rows(cells), reasons=explain.reasons(cells), cell=cell,
        asked=asked, said=said, verbs=explain.VERBS, sentence=explain.sentence, granted=explain.granted, looked=looked,
        inside=looked.inside(reached.verdict.roles), may_look=may_look, roles=tuple(Role), problem=problem,
        shown={"namespace": namespace, "verb": verb, "resource": resource, **whose},
        cell_url=with_query(base, {"namespace": namespace, **whose}), base=base, **here.context("access"),
    )  # fmt: skip
    return page


def _asked(verb: str, resource: str, namespace: str) -> AccessTuple | None:
    if not resource:
        return None
    if resource.startswith("/"):
        return explain.question(verb, "", path=resource)
    return explain.question(verb or "get", resource, namespace=namespace)


async def _cluster_says(talker: Talker, here: heading.Here, asked: AccessTuple) -> str:
    """Ask the cluster's own RBAC; empty when it cannot be asked now."""
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
