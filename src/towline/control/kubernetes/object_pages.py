"""Pages of one object of a cluster: a pod with logs, terminal and YAML; workloads with their pods. All of it is asked
of the cluster as who is signed in. What changes something is in `actions`."""

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Path, Query, Request, Response, WebSocket

from towline.aio.streams import StreamError
from towline.control.access.dependencies import Access, Permission, needs
from towline.control.errors import ApiError, ErrorCode, not_found
from towline.control.kubernetes import heading, pod_rows, shells, views
from towline.control.kubernetes.kinds import KINDS, NAME, POD_METRICS, PODS, Kind, page_of
from towline.control.kubernetes.pod_logs import LogStream, Wanted
from towline.control.kubernetes.talking import ClusterSaid, Talker
from towline.control.streams import sockets
from towline.control.usage import pages as usage_pages
from towline.control.usage.views import RANGES
from towline.control.web import CSP_TERMINAL
from towline.wire.streams import BadFrame

router = APIRouter(include_in_schema=False)

Reader = Annotated[Access, needs(Permission.CLUSTER_READ)]
LogReader = Annotated[Access, needs(Permission.LOGS_READ)]
ShellUser = Annotated[Access, needs(Permission.EXEC_OPEN)]
Word = Annotated[str, Path(max_length=253, pattern=NAME)]
Resource = Annotated[str, Path(max_length=63, pattern=r"^[a-z]+$")]
Names = Annotated[list[str], Query(max_length=32)]
ContainerName = Annotated[str, Query(max_length=63, pattern=rf"{NAME}|^$")]
PLACE = "/clusters/{cluster}/kubernetes/{namespace}/{resource}/{name}"
POD = "/clusters/{cluster}/kubernetes/{namespace}/pods/{name}"
LOG_LINES = 1000
"""Lines of each container that the log view begins with."""
NAMED = 3
"""Pods that the line of a workload's state names."""
SINCE = {"10m": 600, "1h": 3600, "24h": 86400}


def talker_of(request: Request | WebSocket) -> Talker:
    talker: Talker = request.app.state.control.kubernetes.talker
    return talker


def kind_of(resource: str) -> Kind:
    """Return a kind that has a page. Raises: ApiError: not_found."""
    kind = KINDS.get(resource)
    if kind is None:
        raise not_found("kind", resource[:63])
    return kind


@router.get(PLACE)
async def object_page(
    request: Request, access: Reader, cluster: str, namespace: Word, resource: Resource, name: Word
) -> Response:
    """Show one object: its state and why, its containers or pods, conditions and events."""
    here, kind = await heading.here(request, access, cluster), kind_of(resource)
    talker = talker_of(request)
    found, told, used = await asyncio.gather(
        talker.get(access, here.row.name, kind.path(namespace, name)),
        _events(here, talker, kind, namespace, name),
        _usage(here, talker, kind, namespace, name),
    )
    pods = await _pods(here, talker, namespace, found) if kind.has_pods else None
    head = object_head(here, kind, namespace, name, found, "overview", reason=_reason(pods or ()))
    template = "kubernetes/pod.html" if kind is PODS else "kubernetes/object.html"
    charts = None
    if kind is PODS:
        charts = await usage_pages.charts_of(
            request, access, cluster, "pod", namespace=namespace, name=name, about=f"the pod {name}"
        )
    page: Response = request.app.state.control.web.page(
        request, template, containers=views.containers(found), conditions=views.conditions(found.get("status") or {}),
        events=told, usage=used, facts=views.facts(found), pods=pods,
        object_labels=found["metadata"].get("labels") or {}, charts=charts, ranges=RANGES,
        data=sorted((found.get("data") or {}).items()), created_at=found["metadata"].get("creationTimestamp"), **head,
    )  # fmt: skip
    return page


async def _events(
    here: heading.Here, talker: Talker, kind: Kind, namespace: str, name: str
) -> list[dict[str, Any]] | None:
    """Return an object's events; None when the user may not read them."""
    asked = Kind("events", "Event")
    selector = f"involvedObject.kind={kind.kind},involvedObject.name={name}"
    try:
        found = await talker.get(here.access, here.row.name, asked.path(namespace, fieldSelector=selector, limit=200))
    except ClusterSaid:
        return None
    return views.events(found)


async def _usage(
    here: heading.Here, talker: Talker, kind: Kind, namespace: str, name: str
) -> dict[str, tuple[float, float]]:
    """Return what the containers of a pod use; nothing where nobody measures, or the user may not see it."""
    if kind is not PODS or not here.measured:
        return {}
    try:
        return views.usage(await talker.get(here.access, here.row.name, POD_METRICS.path(namespace, name)))
    except ClusterSaid:
        return {}


async def _pods(here: heading.Here, talker: Talker, namespace: str, found: Any) -> list[pod_rows.Row] | None:
    selector = views.selector(found)
    if not selector:
        return []
    try:
        target = PODS.path(namespace, labelSelector=selector, limit=100)
        table = await talker.get(here.access, here.row.name, target, pod_rows.TABLE)
    except ClusterSaid:
        return None
    columns = pod_rows.columns_of(table)
    return [pod_rows.row_of(row, columns) for row in table.get("rows") or ()]


def _reason(pods: Sequence[pod_rows.Row]) -> str:
    """Say of a workload's pods which are not well."""
    unwell = [f"{row.name}: {row.status}" for row in pods if row.tone in ("down", "degraded")]
    more = f"; and {len(unwell) - NAMED} more" if len(unwell) > NAMED else ""
    return "; ".join(unwell[:NAMED]) + more


def object_head(
    here: heading.Here, kind: Kind, namespace: str, name: str, found: Any, tab: str, *, reason: str = ""
) -> dict[str, Any]:
    """Return what stands above every page of an object, and what may be done with it."""
    state = views.pod_state(found, here.moment) if kind is PODS else views.workload_state(found, reason)
    base = f"/clusters/{here.row.name}/kubernetes/{namespace}/{kind.resource}/{name}"
    owned_by = views.owner(found)
    may = may_do(here, kind, namespace, name)
    words = [("overview", "", "Overview")]
    words += [("logs", "/logs", "Logs")] if kind is PODS and may["logs"] else []
    words += [("terminal", "/terminal", "Terminal")] if kind is PODS and may["exec"] else []
    words += [("yaml", "/yaml", "YAML")]
    counts = views.replicas(found)
    context = here.context("pods" if kind is PODS else "workloads")
    return context | {
        "kind": kind, "namespace": namespace, "name": name, "state": state, "base": base, "may": may,
        "object_tab": tab, "object_tabs": [(key, base + path, word) for key, path, word in words],
        "owner": (*owned_by, page_of(here.row.name, owned_by[0], namespace, owned_by[1])), "page_of": page_of,
        "replicas": counts[0] if counts else 0,
    }  # fmt: skip


def may_do(here: heading.Here, kind: Kind, namespace: str, name: str) -> dict[str, bool]:
    """Return which actions the gate would let pass."""

    def may(verb: str, subresource: str = "") -> bool:
        return here.may(kind.asked(verb, namespace, name, subresource))

    return {
        "logs": kind is PODS and may("get", "log"),
        "exec": kind is PODS and may("create", "exec"),
        "edit": may("patch"),
        "restart": kind.restarts and may("patch"),
        "scale": kind.scales and may("patch", "scale"),
        "delete": may("delete"),
        "publish": kind.resource == "services" and here.may_publish(namespace),
    }


# -- logs --------------------------------------------------------------------------------------


@router.get(f"{POD}/logs")
async def logs_page(
    request: Request, access: Reader, cluster: str, namespace: Word, name: Word, container: ContainerName = "",
    previous: bool = False, since: str = "",
) -> Response:  # fmt: skip
    """Show the log of a pod: of one container or of all of them, of now or of before the last restart."""
    here = await heading.here(request, access, cluster)
    here.require(PODS.asked("get", namespace, name, "log"))
    found = await talker_of(request).get(access, here.row.name, PODS.path(namespace, name))
    all_of_them = views.containers(found)
    shown = [one["name"] for one in all_of_them if container in ("", one["name"])]
    head = object_head(here, PODS, namespace, name, found, "logs")
    parameters = [*(("container", one) for one in shown), ("tail", str(LOG_LINES))]
    parameters += [("since", since)] if since in SINCE else []
    parameters += [("previous", "1")] if previous else [("follow", "1")]
    page: Response = request.app.state.control.web.page(
        request, "kubernetes/logs.html", containers=all_of_them, container=container, previous=previous, since=since,
        logs_url=f"{head['base']}/log-stream?{urlencode(parameters)}", **head,
    )  # fmt: skip
    return page


@router.get(f"{POD}/log-stream")
async def log_stream(
    request: Request, access: LogReader, cluster: str, namespace: Word, name: Word,
    container: Names = [],  # noqa: B006
    follow: bool = False, previous: bool = False, tail: Annotated[int, Query(ge=-1, le=1_000_000)] = LOG_LINES,
    since: str = "", cursor: Names = [],  # noqa: B006
) -> Response:  # fmt: skip
    """Stream the log of containers as frames."""
    here = await heading.here(request, access, cluster)
    here.require(PODS.asked("get", namespace, name, "log"))
    if not container:
        raise ApiError(ErrorCode.INVALID, "name a container")
    cursors = dict(pair.split("=", 1) for pair in cursor if "=" in pair)
    wanted = Wanted(namespace, name, container, follow, previous, tail, SINCE.get(since, 0), cursors)
    return LogStream(talker_of(request), access, here.row.name, wanted)


# -- terminal ----------------------------------------------------------------------------------


@router.get(f"{POD}/terminal")
async def terminal_page(
    request: Request, access: Reader, cluster: str, namespace: Word, name: Word, container: ContainerName = ""
) -> Response:
    """Show a terminal in a running container."""
    here = await heading.here(request, access, cluster)
    here.require(PODS.asked("create", namespace, name, "exec"))
    found = await talker_of(request).get(access, here.row.name, PODS.path(namespace, name))
    up = [one for one in views.containers(found) if one["running"]]
    running = [one["name"] for one in sorted(up, key=lambda one: one["tone"] != "healthy")]
    chosen = container if container in running else (running[0] if running else "")
    head = object_head(here, PODS, namespace, name, found, "terminal")
    page: Response = request.app.state.control.web.page(
        request, "kubernetes/terminal.html", running=running, chosen=chosen, csp=CSP_TERMINAL,
        exec_url=f"{head['base']}/shell?{urlencode({'container': chosen})}", **head,
    )  # fmt: skip
    return page


@router.websocket(f"{POD}/shell")
async def shell(
    websocket: WebSocket, access: ShellUser, cluster: str, namespace: Word, name: Word, container: ContainerName = "",
    columns: Annotated[int, Query(ge=1, le=10_000)] = 80, rows: Annotated[int, Query(ge=1, le=10_000)] = 24,
) -> None:  # fmt: skip
    """Run the best shell there is in a container: one frame in each binary message."""
    here = await heading.here(websocket, access, cluster)
    here.require(PODS.asked("create", namespace, name, "exec"))
    wanted = shells.Shell(namespace, name, container, columns=columns, rows=rows)
    await websocket.accept()
    try:
        async with shells.opened(talker_of(websocket), access, here.row.name, wanted) as channels:
            await shells.talk(sockets.SocketStream(websocket), channels, wanted)
    except ApiError as error:
        await sockets.close(websocket, sockets.CLOSE_REFUSED, error.message)
    except StreamError as error:
        await sockets.close(websocket, sockets.CLOSE_GONE, error.reason or "the stream broke")
    except BadFrame as error:
        await sockets.close(websocket, sockets.CLOSE_BAD, str(error))
    else:
        await sockets.close(websocket, sockets.CLOSE_OK)
