"""WebSockets and long answers through a cluster's tunnel: forward, exec, logs; and the events of the pages."""

from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response, WebSocket
from fastapi.responses import StreamingResponse

from towline.aio.streams import EndedThere, StreamError
from towline.control.access.actor import AccessLost
from towline.control.access.dependencies import Access, Permission, Resource, needs
from towline.control.answers import CLOSE_REFUSED as CLOSE_FORBIDDEN
from towline.control.errors import ApiError, ErrorCode
from towline.control.fleet import Fleet
from towline.control.jobs.follow import EVENT_STREAM
from towline.control.recordings import terminals
from towline.control.recordings.policy import Session
from towline.control.streams import events, opening, places, sockets
from towline.control.streams.answer import LogResponse
from towline.control.streams.lines import LineWriter
from towline.control.streams.moments import moment
from towline.control.streams.shell import talk
from towline.wire import streams

router = APIRouter(prefix="/api/v1", tags=["streams"])

CanForward = Annotated[Access, needs(Permission.FORWARD_OPEN)]
CanExec = Annotated[Access, needs(Permission.EXEC_OPEN)]
CanReadLogs = Annotated[Access, needs(Permission.LOGS_READ)]
LOG_FRAMES = "application/vnd.towline.logs"
NDJSON = "application/x-ndjson"
MOST_NAMES = 64
"""Services, containers and cursors of one log stream."""
MOST_ARGUMENTS = 256

Name = Annotated[str, Query(max_length=255)]
Names = Annotated[list[str], Query(max_length=MOST_NAMES)]


def _fleet(connection: Request | WebSocket) -> Fleet:
    fleet: Fleet = connection.app.state.control.fleet
    return fleet


@router.websocket("/clusters/{cluster}/forward")
async def forward(
    websocket: WebSocket,
    access: CanForward,
    cluster: str,
    host: Annotated[str, Query(min_length=1, max_length=253, pattern=r"^[A-Za-z0-9._:%-]+$")],
    port: Annotated[int, Query(ge=1, le=65535)],
) -> None:
    """Carry a TCP connection to an address that the cluster's host can reach and its policy allows."""
    fleet = _fleet(websocket)
    async with fleet.db.read() as tx:
        row, resource = await fleet.clusters.require(tx, access, cluster, Permission.FORWARD_OPEN)
    target = streams.Tcp(host=host, port=port, actor=opening.actor_of(access))
    wanted = opening.Request(
        access, Permission.FORWARD_OPEN, resource, row, "forward", target, {"host": host, "port": port}
    )
    await _serve(websocket, fleet, wanted, _carry)


@router.websocket("/clusters/{cluster}/exec")
async def exec_in_container(
    websocket: WebSocket,
    access: CanExec,
    cluster: str,
    container: Name = "",
    project: Name = "",
    service: Name = "",
    tty: bool = False,
    columns: Annotated[int, Query(ge=1, le=10_000)] = 80,
    rows: Annotated[int, Query(ge=1, le=10_000)] = 24,
    arg: Annotated[list[str], Query(max_length=MOST_ARGUMENTS)] = [],  # noqa: B006
    user: Name = "",
    workdir: Annotated[str, Query(max_length=4096)] = "",
) -> None:
    """Run a command, or the best shell there is, in a container: one frame in each binary message."""
    fleet = _fleet(websocket)
    row, resource, found = await places.container(
        fleet, access, Permission.EXEC_OPEN, cluster, name=container, project=project, service=service
    )
    target = streams.Exec(
        container=found,
        argv=tuple(arg),
        tty=tty,
        user=user,
        workdir=workdir,
        columns=columns,
        rows=rows,
        actor=opening.actor_of(access),
    )
    detail = {"container": found, "project": resource.project, "service": service, "argv": arg, "user": user}
    wanted = opening.Request(access, Permission.EXEC_OPEN, resource, row, "exec", target, detail | {"tty": tty})
    session = Session(
        "docker", row.id, row.name, project=resource.project, target=service or container or found, container=found,
        argv=arg or ["the best shell there is"], tty=tty, columns=columns, rows=rows,
    )  # fmt: skip
    async with terminals.recorded(websocket.app.state.control.recordings, session, wanted) as request:
        await _serve(websocket, fleet, request, talk)


async def _serve(websocket: WebSocket, fleet: Fleet, wanted: opening.Request, speak: Any) -> None:
    """Accept the WebSocket, open the stream, and close with what a program can act on."""
    if not fleet.links.is_connected(wanted.cluster.id):
        raise await fleet.clusters.away(wanted.cluster.id)
    await websocket.accept()
    try:
        async with opening.opened(fleet, wanted) as open_stream:
            await speak(sockets.SocketStream(websocket), open_stream)
    except AccessLost as error:
        await sockets.close(websocket, CLOSE_FORBIDDEN, error.message)
    except ApiError as error:
        await sockets.close(websocket, _close_code(error), error.message)
    except EndedThere as error:
        await sockets.close(websocket, sockets.CLOSE_GONE, error.reason)
    except StreamError as error:
        await sockets.close(websocket, sockets.CLOSE_GONE, error.reason or "the stream broke")
    except streams.BadFrame as error:
        await sockets.close(websocket, sockets.CLOSE_BAD, str(error))
    else:
        await sockets.close(websocket, sockets.CLOSE_OK)


def _close_code(error: ApiError) -> int:
    if error.code is ErrorCode.AGENT_AWAY:
        return sockets.CLOSE_GONE
    forbidden = error.detail.get("reason") == "forbidden"  # by the host's own policy
    return CLOSE_FORBIDDEN if forbidden else sockets.CLOSE_REFUSED


async def _carry(socket: sockets.SocketStream, open_stream: opening.Opened) -> None:
    try:
        await sockets.carry(socket, open_stream.stream)
    finally:
        open_stream.up_bytes, open_stream.down_bytes = socket.received_bytes, socket.sent_bytes


@router.get(
    "/clusters/{cluster}/logs",
    response_class=StreamingResponse,
    responses={200: {"content": {LOG_FRAMES: {}, NDJSON: {}}}},
)
async def logs(
    request: Request,
    access: CanReadLogs,
    cluster: str,
    project: Name = "",
    service: Names = [],  # noqa: B006
    container: Names = [],  # noqa: B006
    follow: bool = False,
    tail: Annotated[int, Query(ge=-1, le=1_000_000, description="Lines per container from the end; -1: all.")] = -1,
    since: Annotated[str, Query(max_length=64, description="RFC 3339, or 30s, 10m, 2h, 3d ago.")] = "",
    until: Annotated[str, Query(max_length=64)] = "",
    grep: Annotated[str, Query(max_length=500, description="Plain text that a line must hold.")] = "",
    cursor: Annotated[
        list[str], Query(max_length=MOST_NAMES, description="`CONTAINER=TIMESTAMP/COUNT`: go on behind that line.")
    ] = [],  # noqa: B006
) -> Response:
    """Read or follow the logs of a project's services, or of containers: frames, or JSON lines when asked for."""
    fleet = _fleet(request)
    row, resource, ids = await _log_place(fleet, access, cluster, project, container)
    now = fleet.clock.now()
    target = streams.Logs(
        project=project,
        services=tuple(service),
        containers=ids,
        follow=follow,
        tail=tail,
        since=moment(since, now),
        until=moment(until, now),
        grep=grep,
        cursors=_cursors(cursor),
        actor=opening.actor_of(access),
    )
    wanted = opening.Request(
        access, Permission.LOGS_READ, resource, row, "logs", target, {"project": project}, recorded=False
    )
    as_lines = NDJSON in request.headers.get("accept", "")
    return LogResponse(fleet, wanted, NDJSON if as_lines else LOG_FRAMES, LineWriter() if as_lines else None)


async def _log_place(
    fleet: Fleet, access: Access, cluster: str, project: str, names: list[str]
) -> tuple[Any, Resource, tuple[str, ...]]:
    if bool(project) == bool(names):
        raise ApiError(ErrorCode.INVALID, "name a project, or containers")
    if project:
        row, resource = await places.project(fleet, access, Permission.LOGS_READ, cluster, project)
        return row, resource, ()
    found = [
        await places.container(fleet, access, Permission.LOGS_READ, cluster, name=name, project="", service="")
        for name in names
    ]
    return found[0][0], found[0][1], tuple(container_id for _, _, container_id in found)


def _cursors(pairs: list[str]) -> dict[str, str]:
    found = {}
    for pair in pairs:
        container, equals, place = pair.partition("=")
        if not equals or len(pair) > 200:
            raise ApiError(ErrorCode.INVALID, "a cursor is CONTAINER=TIMESTAMP/COUNT")
        found[container] = place
    return found


@router.get("/events", response_class=StreamingResponse, responses={200: {"content": {EVENT_STREAM: {}}}})
async def page_events(
    request: Request,
    access: Annotated[Access, needs(Permission.SELF, throttled=False)],
    after: Annotated[str, Query(max_length=40)] = "",
    last_event_id: Annotated[str, Header(max_length=40)] = "",
) -> StreamingResponse:
    """Hint at every change that the caller may see, so that a page can ask again: ids only, never data.

    `after` is where a page or an earlier connection stood: what came since comes first, or one `resync`.
    """
    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    control = request.app.state.control
    return StreamingResponse(
        events.hints(control, access, last_event_id or after), media_type=EVENT_STREAM, headers=headers
    )
