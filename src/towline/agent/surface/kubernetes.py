"""What runs in the cluster, out of the watched cache, and the log of one pod as text. The rest is `proxy.py`'s."""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import re
from typing import Any
from urllib.parse import urlencode

import msgspec
from aiohttp import web

from towline.agent.errors import AgentError
from towline.agent.streams.log_times import BadMoment, stamp
from towline.agent.surface import cluster
from towline.agent.surface.answers import HEADERS, answer
from towline.agent.surface.cluster import Row, Sort
from towline.agent.surface.endpoints import Endpoint, Kind, Parameter, Right
from towline.agent.surface.errors import SurfaceError, bad_parameter
from towline.agent.surface.lasting import while_allowed
from towline.agent.surface.live import Live, live_of
from towline.agent.surface.passage import Ask
from towline.agent.surface.requests import caller_of, given
from towline.agent.surface.selectors import BadSelector, Selector, parse
from towline.agent.surface.shelf import Shelf
from towline.agent.surface.usage import Usage
from towline.wire import kube_inventory

PAGE_OBJECTS = 500
"""Of one answer unless it says otherwise, as kubectl asks for."""
MOST_PAGE_OBJECTS = 5000
"""Of one answer: some 4 MiB of pods."""
SLOW_SECONDS = 60.0
"""That a client has to take a piece of a log; the API server waits as long, so nothing gathers here."""

_NAME = re.compile(r"[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?")
_SPAN = re.compile(r"([0-9]{1,9})([smhd]?)")
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


# -- lists ---------------------------------------------------------------------------------------


async def nodes(request: web.Request) -> web.StreamResponse:
    """Answer with nodes; what they use, and how many pods they run, comes from the agent's inventory."""
    live = live_of(request)
    return await _list(request, cluster.NODES, lambda row: _node(live, row))


async def pods(request: web.Request) -> web.StreamResponse:
    """Answer with pods; what they use is known while something measures."""
    usage = live_of(request).usage
    if usage is not None:
        with contextlib.suppress(AgentError):  # the list itself tells what forbids it
            usage.use()
    return await _list(request, cluster.PODS, lambda row: _pod(usage, row))


async def namespaces(request: web.Request) -> web.StreamResponse:
    return await _list(request, cluster.NAMESPACES)


async def deployments(request: web.Request) -> web.StreamResponse:
    return await _list(request, cluster.DEPLOYMENTS)


async def services(request: web.Request) -> web.StreamResponse:
    return await _list(request, cluster.SERVICES)


def _as_shown(row: Row) -> Any:
    return msgspec.Raw(row.shown)


def _pod(usage: Usage | None, row: Row) -> Any:
    """Put what a pod uses behind what is encoded already."""
    used = usage.of_pod(row.key) if usage is not None else None
    return msgspec.Raw(b'%s,"usage":%s}' % (row.shown[:-1], msgspec.json.encode(used)))


def _node(live: Live, row: Row) -> Any:
    kubernetes = live.parts.kubernetes
    known = kubernetes.inventory.teller.book.get("nodes", row.name) if kubernetes is not None else None
    told, running = (known.usage, known.pods) if isinstance(known, kube_inventory.Node) else (None, None)
    sampled = live.usage.sample.nodes if live.usage is not None else {}
    used = sampled.get(row.name) if sampled else told if told is not None and told.memory_bytes else None
    shown = {"cpu": used.cpu, "memory_bytes": used.memory_bytes} if used is not None else None
    return {**msgspec.json.decode(row.shown), "usage": shown, "pods": running}


async def usage(request: web.Request) -> web.StreamResponse:
    """Answer with what everything uses, or with why that is unknown."""
    sample = await live_of(request).used().current()
    chosen = given(request, "namespace")
    pods = [(key.partition("/"), used) for key, used in sample.pods.items()]
    return answer(
        {
            "state": sample.state,
            "reason": sample.reason,
            "at": sample.at or None,
            "nodes": [{"name": name, **msgspec.structs.asdict(used)} for name, used in sample.nodes.items()],
            "pods": [
                {"namespace": namespace, "name": name, **msgspec.structs.asdict(used)}
                for (namespace, _, name), used in pods
                if chosen in ("", namespace)
            ],
        }
    )


async def _list(request: web.Request, sort: Sort[Any], shown: Any = _as_shown) -> web.StreamResponse:
    try:
        selector = parse(given(request, "labelSelector"))
    except BadSelector as error:
        raise bad_parameter("labelSelector", f"cannot be read: {error}") from error
    behind = _position(given(request, "continue"))
    shelf = await live_of(request).followed().shelf(sort)
    return answer(_page(shelf, request, selector, behind, shown))


def _page(shelf: Shelf, request: web.Request, selector: Selector, behind: str, shown: Any) -> dict[str, Any]:
    namespace = given(request, "namespace") if shelf.sort.is_namespaced else ""
    rows, last, more = shelf.page(namespace=namespace, selector=selector, behind=behind, limit=given(request, "limit"))
    fresh = shelf.freshness
    return {
        "items": [shown(row) for row in rows],
        "continue": base64.urlsafe_b64encode(last.encode()).decode() if last else "",
        "remaining": more,
        "cache": {
            "age": fresh.age, "state": fresh.state, "reason": fresh.reason, "namespaces": fresh.namespaces,
        },
    }  # fmt: skip


def _position(token: str) -> str:
    """Raises: SurfaceError: it is none of our tokens."""
    try:
        return base64.b64decode(token, altchars=b"-_", validate=True).decode()
    except (binascii.Error, UnicodeDecodeError, ValueError) as error:
        raise bad_parameter("continue", "is not what an answer gave") from error


# -- the log of one pod --------------------------------------------------------------------------


async def logs(request: web.Request) -> web.StreamResponse:
    """Stream one pod's log as it is."""
    live, follow = live_of(request), bool(given(request, "follow"))
    ask = Ask("GET", _target(request), caller_of(request).right, accept="*/*")
    passage = live.passage()
    with live.hold("logs"):
        async with passage.ask(ask) as found:
            if found.head.status != 200:
                raise await passage.read_refusal(found)
            response = web.StreamResponse(headers={**HEADERS, "Content-Type": "text/plain; charset=utf-8"})
            await response.prepare(request)
            copying = _copy(found.pieces(), response)
            await (while_allowed(lambda: passage.judge(ask), copying) if follow else copying)
            return response


async def _copy(pieces: Any, response: web.StreamResponse) -> None:
    async for piece in pieces:
        async with asyncio.timeout(SLOW_SECONDS):
            await response.write(piece)


def _target(request: web.Request) -> str:
    names = {name: given(request, name) for name in ("namespace", "pod", "container")}
    for name, value in names.items():
        if value and _NAME.fullmatch(value) is None:
            raise bad_parameter(name, "is not a name of Kubernetes")
    asked: dict[str, str] = {"container": names["container"]} if names["container"] else {}
    for flag in ("follow", "previous", "timestamps"):
        if given(request, flag):
            asked[flag] = "true"
    if (lines := given(request, "tailLines")) is not None:
        asked["tailLines"] = str(lines)
    asked |= since(given(request, "since"))
    path = f"/api/v1/namespaces/{names['namespace']}/pods/{names['pod']}/log"
    return f"{path}?{urlencode(asked)}" if asked else path


def since(text: str) -> dict[str, str]:
    """Return the API server's parameter for a moment, or for a span up to now. Raises: SurfaceError."""
    if not text:
        return {}
    if (match := _SPAN.fullmatch(text)) is not None:
        return {"sinceSeconds": str(max(1, int(match[1]) * _SECONDS[match[2]]))}
    try:
        return {"sinceTime": stamp(text).decode()}
    except BadMoment as error:
        raise SurfaceError(
            "bad_request", f"since must be a time (RFC 3339) or a span such as 90s, 10m, 2h: {error}"
        ) from error


# -- what there is -------------------------------------------------------------------------------

SELECTOR = Parameter("labelSelector", "Labels that an object must have, as kubectl takes them.", default="")
_PAGING = (
    SELECTOR,
    Parameter("limit", "Objects of one page.", Kind.WHOLE, PAGE_OBJECTS, least=1, most=MOST_PAGE_OBJECTS),
    Parameter("continue", "What the page before gave.", default=""),
)
NAMESPACE = Parameter("namespace", "Only objects of this namespace.", default="", most=63)


def _listing(path: str, handler: Any, summary: str, *parameters: Parameter) -> Endpoint:
    return Endpoint(
        "GET",
        path,
        handler,
        Right.READ,
        summary,
        f'-H "Authorization: Bearer $TOKEN" $URL{path}',
        parameters=(*parameters, *_PAGING),
        fields=("items", "continue", "remaining", "cache"),
    )


ENDPOINTS = (
    _listing("/api/k8s/nodes", nodes, "Nodes with conditions, capacity and, where it is measured, use."),
    _listing(
        "/api/k8s/pods",
        pods,
        "Pods with phase, health and its reason, containers, restarts and, where it is measured, use.",
        NAMESPACE,
    ),
    Endpoint(
        "GET",
        "/api/k8s/usage",
        usage,
        Right.READ,
        "What nodes and pods use of CPU (cores) and memory, where the cluster measures it; else why it is unknown.",
        '-H "Authorization: Bearer $TOKEN" $URL/api/k8s/usage',
        parameters=(NAMESPACE,),
        fields=("state", "reason", "at", "nodes", "pods"),
    ),
    _listing("/api/k8s/namespaces", namespaces, "Namespaces."),
    _listing("/api/k8s/deployments", deployments, "Deployments and how far they are.", NAMESPACE),
    _listing("/api/k8s/services", services, "Services with addresses and ports.", NAMESPACE),
    Endpoint(
        "GET",
        "/api/k8s/logs/{namespace}/{pod}",
        logs,
        Right.OPERATE,
        "The log of one pod as text, as it comes.",
        '-H "Authorization: Bearer $TOKEN" "$URL/api/k8s/logs/$NAMESPACE/$POD?tailLines=10"',
        parameters=(
            Parameter("namespace", "The pod's namespace."),
            Parameter("pod", "The pod's name."),
            Parameter("container", "One of the pod's; may be left out when there is one.", default="", most=63),
            Parameter("follow", "Go on with what comes.", Kind.FLAG, False),
            Parameter("tailLines", "Lines of the past; all when left out.", Kind.WHOLE),
            Parameter("since", "A time (RFC 3339), or a span such as `10m`.", default=""),
            Parameter("previous", "The log of the container's run before this one.", Kind.FLAG, False),
            Parameter("timestamps", "Put the time before each line.", Kind.FLAG, False),
        ),
        answer="text/plain",
    ),
)
