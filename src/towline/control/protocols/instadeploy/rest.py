"""InstaDeploy's REST API, as its documentation has it: on a host name or a listener of its own. Thin.

It asks for a token of ours like every other API. `instadeploy_open` answers without one, on a loopback listener alone,
and there only to what is no browser's doing.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING, Annotated, Any
from uuid import uuid4

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse

from towline import __version__
from towline.control.access.actor import Access, Actor
from towline.control.access.dependencies import DECLARATION, Permission, public, undeclared_routes
from towline.control.access.permissions import Right, Rights, Role
from towline.control.errors import ApiError, ErrorCode, StartupError
from towline.control.protocols.instadeploy.numbers import LARGEST_NUMBER
from towline.control.protocols.instadeploy.rest_service import Refused, RestService, status_of
from towline.wire import instadeploy

if TYPE_CHECKING:
    from towline.control.app import ControlPlane

LONGEST_BASE64 = instadeploy.MAX_COMPOSE_BYTES * 4 // 3 + 1024
"""Characters of a Compose file in base64, with room for line ends."""

OPEN_USER = "instadeploy-open"
"""Whom audit and revisions name where nobody signs in."""

_OPEN_RIGHTS = Rights((Right(Role.DEPLOYER),))

router = APIRouter()


def needs_or_open(permission: Permission) -> Any:
    """Declare that a handler needs a permission; an open listener gives those of a deployer to whoever is local."""
    from fastapi import Depends

    async def authorise(connection: HTTPConnection) -> Access:
        state = connection.app.state
        if state.open and "authorization" not in connection.headers:
            return _open_access(connection)
        access: Access = await state.control.access.authenticate(connection)
        if not access.rights.gives(permission):
            raise Refused(403, f"you do not have the permission {permission.value}")
        return access

    setattr(authorise, DECLARATION, f"needs {permission.value}")
    return Depends(authorise)


def _open_access(connection: HTTPConnection) -> Access:
    """Raises: Refused: it came from elsewhere, or a browser's page sent it."""
    host = connection.url.hostname or ""
    if not _is_loopback(connection.state.peer) or not (host == "localhost" or _is_loopback(host)):
        raise Refused(403, "this listener answers its own machine alone; send a token")
    if "origin" in connection.headers or "sec-fetch-site" in connection.headers:
        raise Refused(403, "pages of browsers may not use this listener")
    control: ControlPlane = connection.app.state.control
    actor = Actor("system", control.default_org, username=OPEN_USER, address=connection.state.peer)
    return Access(actor, _OPEN_RIGHTS)


def _is_loopback(text: str) -> bool:
    try:
        return ip_address(text.strip("[]")).is_loopback
    except ValueError:
        return False


class _Body(BaseModel):
    model_config = ConfigDict(hide_input_in_errors=True)


AgentNumber = Annotated[int, Field(ge=1, le=LARGEST_NUMBER)]
ProjectName = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_-]{1,128}$")]


class DeployRequest(_Body):
    project_name: ProjectName
    compose_file_base64: Annotated[str, StringConstraints(min_length=1, max_length=LONGEST_BASE64)]
    agent_id: AgentNumber | None = None


class StopRequest(_Body):
    agent_id: AgentNumber | None = None


def _service(request: Request) -> RestService:
    service: RestService = request.app.state.service
    return service


@router.get("/", dependencies=[public("says only that it runs, as the older system does")])
async def root() -> dict[str, str]:
    """Say that it runs."""
    return {"service": "Towline", "version": __version__, "status": "running"}


@router.get("/health")
async def health(request: Request, access: Annotated[Access, needs_or_open(Permission.CLUSTER_READ)]) -> dict[str, Any]:
    """Count the agents that are connected."""
    hosts = await _service(request).hosts(access)
    return {"status": "healthy", "connected_agents": sum(host.online for host in hosts)}


@router.get("/agents")
async def list_agents(
    request: Request, access: Annotated[Access, needs_or_open(Permission.CLUSTER_READ)]
) -> dict[str, Any]:
    """List the hosts that run Compose."""
    hosts = await _service(request).hosts(access)
    return {"agents": [host.shown() for host in hosts], "total": len(hosts)}


@router.post("/deploy")
async def deploy(
    request: Request, access: Annotated[Access, needs_or_open(Permission.DEPLOYMENT_WRITE)], body: DeployRequest
) -> dict[str, Any]:
    """Deploy a Compose file, on the first agent that is online unless one is named."""
    job, number = await _service(request).deploy(access, body.project_name, body.compose_file_base64, body.agent_id)
    message = f"Deployment of '{body.project_name}' queued"
    return {"job_id": job, "deployment_id": number, "status": "queued", "message": message}


@router.post("/projects/{project_name}/stop")
async def stop(
    request: Request,
    access: Annotated[Access, needs_or_open(Permission.DEPLOYMENT_OPERATE)],
    project_name: ProjectName,
    body: StopRequest | None = None,
) -> dict[str, Any]:
    """Stop a project."""
    job = await _service(request).stop(access, project_name, body.agent_id if body else None)
    return {"job_id": job, "status": "queued", "message": f"Stop of '{project_name}' queued"}


@router.get("/projects/{project_name}/status")
async def status(
    request: Request,
    access: Annotated[Access, needs_or_open(Permission.DEPLOYMENT_READ)],
    project_name: ProjectName,
    agent_id: AgentNumber | None = None,
) -> dict[str, Any]:
    """Show what is known of a project. Its agent was asked half a minute ago at most: no job is made for it."""
    logs = await _service(request).status(access, project_name, agent_id)
    return {"job_id": str(uuid4()), "status": "queued", "logs": logs}


def create(control: ControlPlane, kind: type[FastAPI] = FastAPI, *, open: bool = False) -> FastAPI:
    """Build the application. Args: kind: one with our guard where nothing else is before it."""
    if undeclared := undeclared_routes(router.routes):
        raise StartupError(f"routes without a declared permission: {', '.join(undeclared)}")
    app = kind(title="InstaDeploy's API, served by Towline", version=__version__, redirect_slashes=False)
    app.state.control, app.state.open, app.state.service = control, open, RestService(control)
    app.include_router(router)
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(ApiError, _api_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    return app


async def _refused(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Refused)
    return JSONResponse({"detail": error.detail}, error.status)


async def _api_error(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ApiError)
    headers = {"www-authenticate": 'Bearer realm="towline"'} if error.code is ErrorCode.UNAUTHENTICATED else None
    return JSONResponse({"detail": error.message}, status_of(error), headers)


async def _invalid(_request: Request, error: Exception) -> JSONResponse:
    """Say which field is wrong; what was sent may be a secret, so it is left out."""
    assert isinstance(error, RequestValidationError)
    found = [{"loc": each["loc"], "msg": each["msg"], "type": each["type"]} for each in error.errors()[:20]]
    return JSONResponse({"detail": found}, 422)
