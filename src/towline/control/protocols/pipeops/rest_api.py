"""REST routes that PipeOps agents call. Thin: token, body, call, the answers that such an agent expects.

They read their bodies themselves: leniently, within limits of their own, and only when the token counts.
Source: docs/how-to/pipeops.md.
"""

from __future__ import annotations

from typing import TypeVar

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from towline.control.access.dependencies import public
from towline.control.access.throttle import throttled
from towline.control.agents.refusals import Refused
from towline.control.errors import ApiError, ErrorCode
from towline.control.protocols.pipeops.rest_agents import RestAgents, TooFast, Unknown
from towline.control.protocols.pipeops.rest_session import RestSession
from towline.wire import pipeops_rest as rest

OWN_TOKEN = public("agents of PipeOps prove themselves by a token of their own")
FRAMEWORK_BYTES = 2 * max(rest.MAX_STATUS_BYTES, rest.MAX_RESULT_BYTES)
"""The framework's own limit lies behind ours: its answer is no JSON and says less."""
CODES = {
    "bad_token": ErrorCode.UNAUTHENTICATED,
    "throttled": ErrorCode.THROTTLED,
    "unavailable": ErrorCode.UNAVAILABLE,
    "nameless": ErrorCode.BAD_REQUEST,
}
"""Refusals as errors of the API; all others forbid."""

router = APIRouter(prefix="/api/v1", include_in_schema=False)

B = TypeVar("B", bound=rest.Body)


@router.get("/health", dependencies=[public("says only that the server is there")])
async def ping() -> JSONResponse:
    """Answer the ping of an agent."""
    return JSONResponse({"status": "ok"})


@router.post("/agents/register", dependencies=[OWN_TOKEN], max_body_size=FRAMEWORK_BYTES)
async def register(request: Request) -> JSONResponse:
    """Take an agent in: at its start, and after any answer 404."""
    secret = bearer(request)
    registration = await body(request, rest.Registration, rest.MAX_SMALL_BYTES)
    try:
        session = await agents(request).register(secret, registration, request.state.peer)
    except rest.BadBody as error:
        raise ApiError(ErrorCode.BAD_REQUEST, str(error)) from error
    except (Refused, TooFast) as error:
        raise refused(error) from error
    return JSONResponse({"agent_id": registration.id, "cluster_id": session.cluster_id, "status": "registered"})


@router.post("/agents/{agent}/heartbeat", dependencies=[OWN_TOKEN], max_body_size=FRAMEWORK_BYTES)
async def heartbeat(request: Request, agent: str) -> JSONResponse:
    """Note that an agent is there. 404: it has to register."""
    session = await session_of(request, agent)
    told = await body(request, rest.Heartbeat, rest.MAX_SMALL_BYTES)
    if told.agent_id and told.agent_id != agent:
        raise ApiError(ErrorCode.BAD_REQUEST, "the heartbeat is of another agent than its address")
    session.beat(told)
    return JSONResponse({"status": "ok"})


@router.post("/agents/{agent}/status", dependencies=[OWN_TOKEN], max_body_size=FRAMEWORK_BYTES)
async def status(request: Request, agent: str) -> JSONResponse:
    """Take what an agent tells of its cluster."""
    session = await session_of(request, agent)
    figures = agents(request).figures
    try:
        told = await body(request, rest.Status, rest.MAX_STATUS_BYTES)
    except ApiError:
        figures.statuses.labels("bad").inc()
        raise
    figures.statuses.labels("changed" if session.status(told) else "unchanged").inc()
    return JSONResponse({"status": "ok"})


@router.get("/agents/{agent}/commands", dependencies=[OWN_TOKEN])
async def commands(request: Request, agent: str) -> JSONResponse:
    """Hand out the commands that wait for an agent."""
    session = await session_of(request, agent)
    found = await session.fetch()
    return JSONResponse({"commands": [rest_command(one) for one in found]})


@router.post("/agents/{agent}/commands/{command}/result", dependencies=[OWN_TOKEN], max_body_size=FRAMEWORK_BYTES)
async def result(request: Request, agent: str, command: str) -> JSONResponse:
    """Take how a command ended; a second time changes nothing."""
    session = await session_of(request, agent)
    told = await body(request, rest.Result, rest.MAX_RESULT_BYTES)
    if not await session.result(command, told):
        raise ApiError(ErrorCode.NOT_FOUND, "this agent was never given such a command")
    return JSONResponse({"status": "ok"})


# -- what they share -----------------------------------------------------------------------------


def agents(request: Request) -> RestAgents:
    found: RestAgents = request.app.state.control.protocols.rest_agents
    return found


async def session_of(request: Request, agent: str) -> RestSession:
    """Return the session of whoever asks. Raises: ApiError."""
    try:
        return await agents(request).known(bearer(request), rest.agent_id(agent), request.state.peer)
    except rest.BadBody as error:
        raise ApiError(ErrorCode.BAD_REQUEST, str(error)) from error
    except Unknown as error:
        raise ApiError(
            ErrorCode.AGENT_NOT_FOUND, "no agent of this name has registered here: register first"
        ) from error
    except (Refused, TooFast) as error:
        raise refused(error) from error


def bearer(request: Request) -> str:
    """Return the token of a request. Raises: ApiError: unauthenticated."""
    kind, _, secret = request.headers.get("authorization", "").partition(" ")
    if kind.lower() != "bearer" or not secret.strip():
        raise ApiError(ErrorCode.UNAUTHENTICATED, "an agent presents its token as `Authorization: Bearer TOKEN`")
    return secret.strip()


async def body(request: Request, kind: type[B], limit: int) -> B:
    """Read a body. Raises: ApiError: too_large, bad_request."""
    announced = request.headers.get("content-length", "")
    data = bytearray()
    if not announced.isdigit() or int(announced) <= limit:
        async for chunk in request.stream():
            data += chunk
            if len(data) > limit:
                break
    if len(data) > limit or (announced.isdigit() and int(announced) > limit):
        raise ApiError(ErrorCode.TOO_LARGE, f"the body is longer than {limit} bytes")
    try:
        return rest.decode(kind, bytes(data), limit=limit)
    except rest.BadBody as error:
        raise ApiError(ErrorCode.BAD_REQUEST, f"the body cannot be read: {error}"[:300]) from error


def refused(error: Refused | TooFast) -> ApiError:
    """Return the answer to an agent that is turned away."""
    if isinstance(error, TooFast):
        return throttled("requests of this agent", error.seconds)
    refusal = error.refusal
    if refusal.code == "throttled":
        return throttled("wrong tokens from this address", 60.0)
    return ApiError(CODES.get(refusal.code, ErrorCode.FORBIDDEN), refusal.message)


def rest_command(command: rest.Command) -> dict[str, object]:
    return {"id": command.id, "type": command.type, "payload": command.payload, "created_at": command.created_at}
