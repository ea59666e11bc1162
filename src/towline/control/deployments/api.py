"""REST routes of deployments. Thin: permission, call, shape. Every action answers 202 with its job."""

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Path, Query, Request

from towline.control.access.dependencies import Access, Permission, needs
from towline.control.deployments.feature import Deployments
from towline.control.deployments.schemas import (
    MAX_NUMBER,
    AdoptRequest,
    DeploymentOut,
    DeploymentPatch,
    DiffOut,
    DiffRequest,
    JobAnswer,
    RedeployRequest,
    RemoveRequest,
    RevisionAnswer,
    RevisionDetail,
    RevisionOut,
    RevisionRequest,
    RollbackRequest,
    ScaleRequest,
    ServicesRequest,
    ValidateOut,
    ValidateRequest,
)
from towline.control.deployments.service import Wanted
from towline.control.deployments.states import State
from towline.control.deployments.views import revision_out
from towline.control.idempotency import IdempotencyKey
from towline.control.listing import ListQuery, Page, list_query

router = APIRouter(prefix="/api/v1", tags=["deployments"])

CanRead = Annotated[Access, needs(Permission.DEPLOYMENT_READ)]
CanWrite = Annotated[Access, needs(Permission.DEPLOYMENT_WRITE)]
CanOperate = Annotated[Access, needs(Permission.DEPLOYMENT_OPERATE)]
Cluster = Annotated[str, Path(max_length=64, description="Name or id of the cluster.")]
Name = Annotated[str, Path(max_length=64, description="Name or id of the deployment.")]
Number = Annotated[int, Path(ge=1, le=MAX_NUMBER)]
Asked = Annotated[ListQuery, Depends(list_query)]
PerhapsRollback = Annotated[RollbackRequest, Body(default_factory=RollbackRequest)]
PerhapsRedeploy = Annotated[RedeployRequest, Body(default_factory=RedeployRequest)]
PerhapsAdopt = Annotated[AdoptRequest, Body(default_factory=AdoptRequest)]
PerhapsServices = Annotated[ServicesRequest, Body(default_factory=ServicesRequest)]
PerhapsRemove = Annotated[RemoveRequest, Body(default_factory=RemoveRequest)]
"""Bodies that may be left out."""
PLACE = "/clusters/{cluster}/deployments/{name}"


def _deployments(request: Request) -> Deployments:
    feature: Deployments = request.app.state.control.deployments
    return feature


Feature = Annotated[Deployments, Depends(_deployments)]


@router.get("/deployments")
async def list_deployments(
    feature: Feature,
    access: CanRead,
    asked: Asked,
    cluster: Annotated[str, Query(max_length=64, description="Name or id of a cluster.")] = "",
    state: Annotated[list[State], Query()] = [],  # noqa: B006 - FastAPI copies defaults
    removed: Annotated[bool, Query(description="Show those that were removed instead.")] = False,
) -> Page[DeploymentOut]:
    """List the deployments that the caller may see."""
    return await feature.service.find_many(access, asked, Wanted(cluster, tuple(state), removed))


@router.get(PLACE)
async def get_deployment(feature: Feature, access: CanRead, cluster: Cluster, name: Name) -> DeploymentOut:
    """Show a deployment with its services as they are now."""
    return await feature.service.get(access, cluster, name)


@router.patch(PLACE)
async def change_deployment(
    feature: Feature, access: CanWrite, cluster: Cluster, name: Name, body: DeploymentPatch
) -> DeploymentOut:
    """Change settings. The policy level needs the right to manage the cluster."""
    return await feature.service.change(access, cluster, name, body)


@router.post(f"{PLACE}/revisions", status_code=202)
async def create_revision(
    feature: Feature,
    access: CanWrite,
    cluster: Cluster,
    name: Name,
    body: RevisionRequest,
    idempotency_key: IdempotencyKey = None,
) -> RevisionAnswer:
    """Store a new revision and deploy it. The deployment is made when it does not exist."""
    made = await feature.revisions.create(access, cluster, name, body, idempotency_key)
    return RevisionAnswer(revision=revision_out(made.revision), job=dict(made.job))


@router.post(f"{PLACE}/validate")
async def validate(
    feature: Feature, access: CanWrite, cluster: Cluster, name: Name, body: ValidateRequest
) -> ValidateOut:
    """Say what is wrong with a project, with line and column. `on_host` asks `docker compose config` there, too."""
    return await feature.validation.validate(access, cluster, name, body)


@router.post(f"{PLACE}/diff")
async def diff(feature: Feature, access: CanWrite, cluster: Cluster, name: Name, body: DiffRequest) -> DiffOut:
    """Say what deploying a project would change, and why."""
    return await feature.comparisons.of_request(access, cluster, name, body)


@router.get(f"{PLACE}/revisions")
async def list_revisions(
    feature: Feature, access: CanRead, cluster: Cluster, name: Name, asked: Asked
) -> Page[RevisionOut]:
    """List the revisions of a deployment, newest first."""
    return await feature.service.revisions(access, cluster, name, asked)


@router.get(f"{PLACE}/revisions/{{number}}")
async def get_revision(
    feature: Feature, access: CanRead, cluster: Cluster, name: Name, number: Number
) -> RevisionDetail:
    """Show a revision. Env file and values of variables are shown to those who may deploy; secrets to nobody."""
    return await feature.service.revision(access, cluster, name, number)


@router.get(f"{PLACE}/revisions/{{number}}/diff")
async def diff_revisions(
    feature: Feature,
    access: CanRead,
    cluster: Cluster,
    name: Name,
    number: Number,
    against: Annotated[int | None, Query(ge=1, le=MAX_NUMBER)] = None,
) -> DiffOut:
    """Say what a revision changed, against the one before it or a named one."""
    return await feature.comparisons.of_revisions(access, cluster, name, number, against)


@router.post(f"{PLACE}/rollback", status_code=202)
async def rollback(
    feature: Feature,
    access: CanWrite,
    cluster: Cluster,
    name: Name,
    body: PerhapsRollback,
    idempotency_key: IdempotencyKey = None,
) -> RevisionAnswer:
    """Deploy an old revision with the images it ran; without a number the last good one before the one that runs."""
    made = await feature.revisions.rollback(access, cluster, name, body, idempotency_key)
    return RevisionAnswer(revision=revision_out(made.revision), job=dict(made.job))


@router.post(f"{PLACE}/redeploy", status_code=202)
async def redeploy(
    feature: Feature,
    access: CanWrite,
    cluster: Cluster,
    name: Name,
    body: PerhapsRedeploy,
    idempotency_key: IdempotencyKey = None,
) -> RevisionAnswer:
    """Deploy the same revision again with fresh images."""
    made = await feature.revisions.redeploy(access, cluster, name, body, idempotency_key)
    return RevisionAnswer(revision=revision_out(made.revision), job=dict(made.job))


@router.post(f"{PLACE}/adopt", status_code=202)
async def adopt(
    feature: Feature,
    access: CanWrite,
    cluster: Cluster,
    name: Name,
    body: PerhapsAdopt,
    idempotency_key: IdempotencyKey = None,
) -> RevisionAnswer:
    """Take over a project that runs on the host already. No container is touched."""
    made = await feature.revisions.adopt(access, cluster, name, body, idempotency_key)
    return RevisionAnswer(revision=revision_out(made.revision), job=dict(made.job))


@router.post(f"{PLACE}/stop", status_code=202)
async def stop(
    feature: Feature,
    access: CanOperate,
    cluster: Cluster,
    name: Name,
    body: PerhapsServices,
    idempotency_key: IdempotencyKey = None,
) -> JobAnswer:
    """Stop services; all of them when none is named."""
    return _job(await feature.service.operate(access, cluster, name, "stop", body, idempotency_key))


@router.post(f"{PLACE}/start", status_code=202)
async def start(
    feature: Feature,
    access: CanOperate,
    cluster: Cluster,
    name: Name,
    body: PerhapsServices,
    idempotency_key: IdempotencyKey = None,
) -> JobAnswer:
    """Start services; all of them when none is named."""
    return _job(await feature.service.operate(access, cluster, name, "start", body, idempotency_key))


@router.post(f"{PLACE}/restart", status_code=202)
async def restart(
    feature: Feature,
    access: CanOperate,
    cluster: Cluster,
    name: Name,
    body: PerhapsServices,
    idempotency_key: IdempotencyKey = None,
) -> JobAnswer:
    """Restart services; all of them when none is named."""
    return _job(await feature.service.operate(access, cluster, name, "restart", body, idempotency_key))


@router.post(f"{PLACE}/scale", status_code=202)
async def scale(
    feature: Feature,
    access: CanWrite,
    cluster: Cluster,
    name: Name,
    body: ScaleRequest,
    idempotency_key: IdempotencyKey = None,
) -> JobAnswer:
    """Set how many containers services have; it holds until a revision names another number."""
    return _job(await feature.service.scale(access, cluster, name, body, idempotency_key))


@router.post(f"{PLACE}/remove", status_code=202)
async def remove(
    feature: Feature,
    access: CanWrite,
    cluster: Cluster,
    name: Name,
    body: PerhapsRemove,
    idempotency_key: IdempotencyKey = None,
) -> JobAnswer:
    """Take a project off its host. Volumes stay unless they are asked for."""
    return _job(await feature.service.remove(access, cluster, name, body, idempotency_key))


@router.post(f"{PLACE}/prune", status_code=202)
async def prune(
    feature: Feature, access: CanWrite, cluster: Cluster, name: Name, idempotency_key: IdempotencyKey = None
) -> JobAnswer:
    """Delete images of old revisions, sparing those of the last good ones."""
    return _job(await feature.service.prune(access, cluster, name, idempotency_key))


def _job(shown: Mapping[str, Any]) -> JobAnswer:
    return JobAnswer(job=dict(shown))
