"""REST routes about Kubernetes access: what may I do here, and where are clusters reached. Thin."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request

from towline.control.access.dependencies import Access, Permission, needs
from towline.control.errors import not_found
from towline.control.kubernetes import explain
from towline.control.kubernetes.addresses import is_reachable
from towline.control.kubernetes.grants import DISCOVERY, judge
from towline.control.kubernetes.places import Place
from towline.control.kubernetes.schemas import AccessOut, CellOut, KubeconfigClusterOut, KubeconfigOut
from towline.control.kubernetes.viewpoints import viewpoint
from towline.kube.access import AccessTuple
from towline.kube.paths import PREFIX

router = APIRouter(prefix="/api/v1", tags=["kubernetes"])

Word = Annotated[str, Query(max_length=253)]


@router.get("/clusters/{cluster}/kubernetes/access")
async def explain_kubernetes_access(
    request: Request,
    access: Annotated[Access, needs(Permission.CLUSTER_READ)],
    cluster: str,
    verb: Word = "",
    resource: Annotated[str, Query(max_length=253, description="As kubectl writes it: `deployments.apps/scale`.")] = "",
    namespace: Word = "",
    name: Word = "",
    path: Annotated[str, Query(max_length=1000, description="Instead of a resource, e.g. `/metrics`.")] = "",
    user: Annotated[str, Query(max_length=64, description="Another user's rights; for who may read users.")] = "",
    role: Annotated[str, Query(max_length=16, description="A role's rights; for who may read users.")] = "",
) -> AccessOut:
    """Say what the caller may do in a cluster, and by which rule. Without a verb: a table of the usual questions."""
    control: Any = request.app.state.control
    place = await _place(control, access, cluster)
    looked = await viewpoint(control, access, place, user=user, role=role)
    if verb or resource or path:
        asked = explain.question(verb, resource, namespace=namespace, name=name, path=path)
        cells = [explain.answer(looked.rights, place, asked)]
    else:
        cells = list(explain.matrix(looked.rights, place, namespace))
    reached = judge(looked.rights, place, AccessTuple("list", "", "v1", "pods", "", namespace))
    inside, groups = looked.inside(cells[0].verdict.roles if len(cells) == 1 else reached.roles)
    answers = [CellOut.of(cell) for cell in cells]
    return AccessOut(cluster=place.name, namespace=namespace, user=inside, groups=groups, answers=answers)


@router.get("/kubernetes/kubeconfig")
async def show_kubeconfig(
    request: Request,
    access: Annotated[Access, needs(Permission.CLUSTER_READ)],
    clusters: Annotated[
        str, Query(max_length=4000, description="Names between commas; empty: all that serve it.")
    ] = "",
) -> KubeconfigOut:
    """Return what a kubeconfig needs: server addresses, the authority to trust, names. It holds no secret."""
    control: Any = request.app.state.control
    wanted = [name for name in clusters.split(",") if name]
    names = [(await _place(control, access, name)).name for name in wanted] or await control.kubernetes.served(access)
    origin, host = control.addresses().origin, control.settings.kubernetes_host
    shown = [_entry(name, origin, host) for name in names if is_reachable(name)]
    unreachable = [name for name in names if not is_reachable(name)]
    return KubeconfigOut(
        origin=origin, authority=control.tls.material.authority_pem, clusters=shown, unreachable=unreachable
    )


def _entry(name: str, origin: str, host: str) -> KubeconfigClusterOut:
    port = origin.rpartition(":")[2]
    at_host = f"https://{name}.{host}{f':{port}' if port.isdigit() else ''}" if host else ""
    return KubeconfigClusterOut(name=name, server=f"{origin}{PREFIX.decode('ascii')}{name}", host_server=at_host)


async def _place(control: Any, access: Access, cluster: str) -> Place:
    place: Place | None = await control.kubernetes.places.find(access.org_id, cluster)
    if place is None or not judge(access.rights, place, DISCOVERY).visible:
        raise not_found("cluster", cluster[:64])
    return place
