"""`GET /api/realtime/logs`: one event stream out of the logs of many pods, or of many containers of a Docker host."""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from towline.agent.errors import AgentError
from towline.agent.surface import container_logs
from towline.agent.surface.endpoints import Endpoint, Kind, Parameter, Right
from towline.agent.surface.errors import SurfaceError, bad_parameter, translated
from towline.agent.surface.events import EventStream
from towline.agent.surface.live import Live, live_of
from towline.agent.surface.log_sinks import EventSink, LogSink
from towline.agent.surface.pod_logs import PodLogs, PodsWanted
from towline.agent.surface.requests import caller_of, given
from towline.agent.surface.selectors import BadSelector, parse
from towline.wire import streams

MOST_TAIL = 100_000
"""Lines of the past of each container; who wants more reads its log as text."""
TAIL = 10
"""Lines of the past when nothing is said, as `kubectl logs --selector`."""

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,252}")
_OF_PODS = ("namespace", "selector", "pod")
_OF_CONTAINERS = ("project", "service")


@dataclass(frozen=True, slots=True)
class Subscription:
    """Logs that may be read: `run` sends them until the client is gone."""

    run: Callable[[LogSink], Coroutine[Any, Any, None]]


async def subscribe(live: Live, right: Right, asked: Mapping[str, Any]) -> Subscription:
    """Check what is asked for. Raises: AgentError: it cannot be had."""
    for name in ("namespace", "pod", "project", "service", "container"):
        if asked[name] and _NAME.fullmatch(asked[name]) is None:
            raise bad_parameter(name, "is not a name")
    of_pods, of_containers = any(asked[name] for name in _OF_PODS), any(asked[name] for name in _OF_CONTAINERS)
    if of_pods and of_containers:
        raise SurfaceError("bad_request", "pods and containers of a Docker host do not go into one stream")
    if of_pods:
        return await _of_pods(live, right, asked)
    if of_containers or asked["container"]:
        return await _of_containers(live, asked)
    raise SurfaceError("bad_request", "name a namespace, a selector or a pod; or a project or a container of Docker")


async def _of_pods(live: Live, right: Right, asked: Mapping[str, Any]) -> Subscription:
    try:
        selector = parse(asked["selector"])
    except BadSelector as error:
        raise bad_parameter("selector", f"cannot be read: {error}") from error
    wanted = PodsWanted(
        namespace=asked["namespace"],
        selector=selector,
        pod=asked["pod"],
        container=asked["container"],
        tail=asked["tail"],
        grep=asked["grep"],
    )
    cache, passage = live.followed(), live.passage()

    pods = PodLogs(cache, passage, wanted, right, clock=live.parts.clock)
    await pods.check()
    return Subscription(pods.run)


async def _of_containers(live: Live, asked: Mapping[str, Any]) -> Subscription:
    docker = live.docker()
    target = streams.Logs(
        project=asked["project"],
        services=(asked["service"],) if asked["service"] else (),
        containers=(asked["container"],) if asked["container"] else (),
        follow=True,
        tail=asked["tail"],
        grep=asked["grep"],
    )
    if asked["service"] and not asked["project"]:
        raise SurfaceError("bad_request", "a service is named with its project")
    await container_logs.check(live.parts, docker, target)

    async def run(sink: LogSink) -> None:
        await container_logs.send(live.parts, docker, target, sink)

    return Subscription(run)


async def logs(request: web.Request) -> web.StreamResponse:
    """Stream lines for as long as the client listens."""
    live = live_of(request)
    asked = {parameter.name: given(request, parameter.name) for parameter in PARAMETERS}
    with live.hold("logs"):
        subscription = await subscribe(live, caller_of(request).right, asked)
        stream = EventStream(request, "logs")
        begun = await stream.begin()
        reason = "the log has ended"
        try:
            await stream.while_beating(subscription.run(EventSink(stream)))
        except AgentError as error:
            reason = translated(error).message
        await stream.tell("ended", {"reason": reason})
        return begun


PARAMETERS = (
    Parameter("namespace", "Pods of this namespace.", default="", most=63),
    Parameter("selector", "Pods with these labels, those that come later too.", default=""),
    Parameter("pod", "The pod of this name.", default="", most=253),
    Parameter("project", "Containers of this Compose project.", default="", most=253),
    Parameter("service", "Containers of this service of the project.", default="", most=253),
    Parameter("container", "One container of each pod; or a container of Docker, by name or id.", default="", most=253),
    Parameter("tail", "Lines of the past of each container; -1: all.", Kind.WHOLE, TAIL, least=-1, most=MOST_TAIL),
    Parameter("grep", "Only lines that hold this text.", default=""),
)

ENDPOINTS = (
    Endpoint(
        "GET",
        "/api/realtime/logs",
        logs,
        Right.OPERATE,
        "Server-sent events `log`, one for each line of many pods or containers; `source` tells what becomes of them.",
        '-N --max-time 2 -H "Authorization: Bearer $TOKEN" "$URL/api/realtime/logs?namespace=$NAMESPACE"',
        parameters=PARAMETERS,
        takes_ticket=True,
        answer="text/event-stream",
    ),
)
