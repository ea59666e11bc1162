"""REST routes that PipeOps agents call beside their socket, and the switch for the tokens that they register.

The agents accept exactly the statuses given here. Thin: who calls, what it says, call, status.
"""

from typing import Annotated, Any, TypeVar

import msgspec
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict

from towline.control.access.dependencies import Access, Permission, needs, public
from towline.control.errors import ApiError, ErrorCode
from towline.control.protocols.admission import Recognised
from towline.control.protocols.pipeops.routes import Routes
from towline.control.protocols.pipeops.websocket import PipeOpsAgents
from towline.wire import lenient
from towline.wire import pipeops_routes as rest

router = APIRouter(prefix="/api/v1", tags=["older agents"])

OLDER_AGENT = "proved by the token of a PipeOps agent"
MAX_BODY_BYTES = 4 * 1024 * 1024
"""Of one call: a full list of 5,000 routes with their annotations."""

CanRead = Annotated[Access, needs(Permission.CLUSTER_READ)]
CanManage = Annotated[Access, needs(Permission.CLUSTER_MANAGE)]
S = TypeVar("S", bound=msgspec.Struct)


class RegisteredToken(BaseModel):
    """Whether the token that a cluster's PipeOps agent registered may be used to speak to its API server."""

    model_config = ConfigDict(extra="forbid")
    allowed: bool


class RegisteredTokenOut(RegisteredToken):
    registered: bool
    """The agent has registered one; its text is never shown."""


@router.get("/clusters/{cluster}/registered-token")
async def get_registered_token(request: Request, access: CanRead, cluster: str) -> RegisteredTokenOut:
    """Show whether the token that a PipeOps agent registered may be used."""
    found = await _agents(request).tokens.look(access, cluster)
    return RegisteredTokenOut(allowed=found.allowed, registered=found.registered)


@router.put("/clusters/{cluster}/registered-token")
async def set_registered_token(
    request: Request, access: CanManage, cluster: str, body: RegisteredToken
) -> RegisteredTokenOut:
    """Allow or forbid to use the token that a PipeOps agent registered."""
    found = await _agents(request).tokens.allow(access, cluster, body.allowed)
    return RegisteredTokenOut(allowed=found.allowed, registered=found.registered)


@router.post("/gateway/routes/sync", dependencies=[public(OLDER_AGENT)])
async def sync_routes(request: Request) -> dict[str, bool]:
    """Take every ingress of a PipeOps agent's cluster."""
    routes, known = await _caller(request)
    await routes.sync(known, await _read(request, rest.SYNC_INGRESSES), request.state.peer)
    return {"success": True}


@router.post("/gateway/routes/register", dependencies=[public(OLDER_AGENT)])
async def register_route(request: Request) -> dict[str, bool]:
    """Take one path of an ingress that came or changed."""
    routes, known = await _caller(request)
    await routes.register(known, await _read(request, rest.REGISTER_ROUTE), request.state.peer)
    return {"success": True}


@router.post("/gateway/routes/unregister", dependencies=[public(OLDER_AGENT)])
async def unregister_route(request: Request) -> dict[str, bool]:
    """Take the end of an ingress."""
    routes, known = await _caller(request)
    await routes.unregister(known, await _read(request, rest.UNREGISTER_ROUTE), request.state.peer)
    return {"success": True}


@router.get("/clusters/agent/{cluster_id}/tunnels", dependencies=[public(OLDER_AGENT)])
async def list_tunnels(request: Request, cluster_id: str) -> list[dict[str, Any]]:
    """List the tunnels that a PipeOps agent registered."""
    routes, known = await _caller(request)
    return [msgspec.to_builtins(one) for one in await routes.tunnels(known, cluster_id)]


@router.post("/clusters/agent/{cluster_id}/tunnels", status_code=201, dependencies=[public(OLDER_AGENT)])
async def register_tunnel(request: Request, cluster_id: str) -> dict[str, Any]:
    """Take one listener of a Gateway."""
    routes, known = await _caller(request)
    found = await routes.keep(known, cluster_id, (await _read(request, rest.TUNNEL),))
    if found.rejected:
        raise ApiError(ErrorCode.INVALID, f"the tunnel is not taken: {found.rejected[0].reason}")
    told: dict[str, Any] = msgspec.to_builtins(found.accepted[0])
    return told


@router.post("/clusters/agent/{cluster_id}/tunnels/sync", dependencies=[public(OLDER_AGENT)])
async def sync_tunnels(request: Request, cluster_id: str) -> dict[str, Any]:
    """Take every listener of the Gateways of a PipeOps agent's cluster."""
    routes, known = await _caller(request)
    listing = await _read(request, rest.SYNC_TUNNELS)
    told: dict[str, Any] = msgspec.to_builtins(await routes.keep(known, cluster_id, listing.tunnels, whole=True))
    return told


@router.delete("/clusters/agent/{cluster_id}/tunnels/{tunnel_id}", status_code=204, dependencies=[public(OLDER_AGENT)])
async def unregister_tunnel(request: Request, cluster_id: str, tunnel_id: str) -> Response:
    """Take the end of a Gateway's listener."""
    routes, known = await _caller(request)
    await routes.drop(known, cluster_id, tunnel_id)
    return Response(status_code=204)


def _agents(request: Request) -> PipeOpsAgents:
    agents: PipeOpsAgents = request.app.state.control.protocols.pipeops
    return agents


async def _caller(request: Request) -> tuple[Routes, Recognised]:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    routes = _agents(request).routes
    known = await routes.caller(token.strip() if scheme.lower() == "bearer" else "", request.state.peer)
    return routes, known


async def _read(request: Request, reader: lenient.Reader[S]) -> S:
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_BODY_BYTES:
            raise ApiError(ErrorCode.TOO_LARGE, f"the body is larger than {MAX_BODY_BYTES} bytes")
    try:
        return reader.read(bytes(body))
    except lenient.Unfit as error:
        raise ApiError(ErrorCode.INVALID, f"the body cannot be read: {error}") from error
