"""Opening a stream on somebody's behalf: who asks, what the agent's refusals mean to them, and its record.

Every stream has an id that stands in the log of both ends; terminals and forwards are put on record when they open
and when they end.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from towline.aio.streams import Broken, EndedThere, StreamError
from towline.control.access.actor import Access, AccessLost
from towline.control.access.permissions import Permission, Resource
from towline.control.clusters.models import Cluster
from towline.control.errors import ApiError, ErrorCode
from towline.control.ids import new_id
from towline.control.logging import get_logger
from towline.control.recordings.recorder import Recorder
from towline.tunnel.errors import TargetRefused, TunnelClosed
from towline.tunnel.opening import TunnelStream
from towline.wire import streams
from towline.wire.yamux_model import TooManyStreams

if TYPE_CHECKING:
    from towline.control.fleet import Fleet

_log = get_logger("streams")

REFUSALS: Mapping[str, ErrorCode] = {
    "not_found": ErrorCode.CONTAINER_NOT_FOUND,
    "timeout": ErrorCode.AGENT_TIMEOUT,
    "unsupported": ErrorCode.AGENT_UNSUPPORTED,
}
"""Refusals of agents that have a code of their own; all others are `agent_refused`."""


@dataclass(slots=True)
class Opened:
    """A stream that is open, and what is known of it when it ends."""

    id: str
    stream: TunnelStream
    up_bytes: int = 0
    down_bytes: int = 0
    detail: dict[str, Any] = field(default_factory=dict)
    """More for the record of its end."""
    recorder: Recorder | None = None
    """Of a terminal whose cluster records them."""


@dataclass(frozen=True, slots=True)
class Request:
    """What somebody wants to open."""

    access: Access
    permission: Permission
    resource: Resource
    cluster: Cluster
    kind: str
    """forward, exec, logs."""
    target: streams.Target
    detail: Mapping[str, Any] = field(default_factory=dict)
    """For the record of its opening: address, container, argv. Never what travels in it."""
    recorded: bool = True
    recorder: Recorder | None = None
    """What is shown is recorded as well; it ends with the stream."""


def actor_of(access: Access) -> streams.Actor:
    """Return who the agent is told that it is for."""
    return streams.Actor(user=access.actor.username, request_id=access.actor.request_id)


@contextmanager
def refused(cluster: str) -> Iterator[None]:
    """Translate what opening a stream can raise into what a caller is told."""
    try:
        yield
    except TargetRefused as error:
        code = REFUSALS.get(error.code, ErrorCode.AGENT_REFUSED)
        detail = {"reason": error.code}
        raise ApiError(code, error.reason or f"the agent of {cluster} refused", detail=detail) from error
    except TunnelClosed as error:
        raise ApiError(ErrorCode.AGENT_AWAY, f"the link of {cluster} was lost", hint="try again") from error
    except TooManyStreams as error:
        raise ApiError(ErrorCode.THROTTLED, f"too many streams of {cluster} are open") from error
    except (Broken, EndedThere) as error:
        raise ApiError(ErrorCode.AGENT_REFUSED, error.reason or f"the agent of {cluster} ended the stream") from error
    except TimeoutError as error:
        raise ApiError(ErrorCode.AGENT_TIMEOUT, f"the agent of {cluster} did not answer in time") from error


@asynccontextmanager
async def opened(fleet: Fleet, request: Request) -> AsyncIterator[Opened]:
    """Open a stream, watch the right to it, and put its opening and its end on record.

    Raises: ApiError: agent_away, agent_refused, agent_timeout, container_not_found, throttled; AccessLost.
    """
    one = fleet.links.for_stream(request.cluster.id)
    if one is None:
        raise await fleet.clusters.away(request.cluster.id)
    async with request.access.watch(request.permission, request.resource):
        try:
            with refused(request.cluster.name):
                stream = await one.session.open_stream(request.target)
        except ApiError as error:
            await _record(fleet, request, "open", "refused", error.message, {})
            raise
        found = Opened(new_id("evt"), stream, recorder=request.recorder)
        meter = fleet.streams.begin(request.kind)
        log = _log.bind(stream=found.id, kind=request.kind, agent=one.agent_id, cluster=request.cluster.id)
        log.info("stream open", tunnel_stream=stream.transport.get_extra_info("stream_id"))
        reason = ""
        try:
            await _record(fleet, request, "open", "done", "", {"stream": found.id} | _recording(request))
            yield found
        except AccessLost as error:
            reason = error.message
            raise
        except StreamError as error:
            reason = error.reason
            raise
        finally:
            stream.abort(reason or "closed")
            seconds = meter.end(found.up_bytes, found.down_bytes)
            log.info("stream closed", seconds=round(seconds, 1), up=found.up_bytes, down=found.down_bytes, why=reason)
            detail = {"stream": found.id, "seconds": round(seconds, 1), "up_bytes": found.up_bytes}
            fleet.streams.record_soon(
                _record(fleet, request, "end", "done", reason, detail | {"down_bytes": found.down_bytes} | found.detail)
            )


def _recording(request: Request) -> dict[str, str]:
    return {} if request.recorder is None else {"recording": request.recorder.id}


async def _record(
    fleet: Fleet, request: Request, verb: str, result: Any, reason: str, detail: Mapping[str, Any]
) -> None:
    if not request.recorded:
        return
    await fleet.audit.record(
        fleet.db,
        request.access.actor,
        action=f"{request.kind}.{verb}",
        target_kind="cluster",
        target_id=request.cluster.id,
        target_name=request.cluster.name,
        cluster_id=request.cluster.id,
        result=result,
        reason=reason,
        detail={**request.detail, **detail},
    )
