"""What runs on the Docker host: projects, containers, and the log of one container as text."""

from __future__ import annotations

from typing import Any

import msgspec
from aiohttp import web

from towline.agent.errors import DockerAway
from towline.agent.streams.log_times import BadMoment, stamp
from towline.agent.surface import container_logs
from towline.agent.surface.answers import answer
from towline.agent.surface.endpoints import Endpoint, Kind, Parameter, Right
from towline.agent.surface.errors import SurfaceError
from towline.agent.surface.kubernetes import MOST_PAGE_OBJECTS, PAGE_OBJECTS
from towline.agent.surface.live import live_of
from towline.agent.surface.log_sinks import TextSink
from towline.agent.surface.parts import Docker
from towline.agent.surface.requests import given
from towline.wire import streams

LOG_TAIL = -1
"""Lines of the past when nothing is said: all."""


def _snapshot(docker: Docker) -> tuple[Any, float]:
    """Return what runs, and how many seconds ago it was compared with the engine. Raises: DockerAway."""
    if docker.inventory.age is None:
        raise DockerAway(docker.inventory.away_reason or "the engine has not been read yet")
    return docker.inventory.snapshot(), docker.inventory.age


def _page(items: list[Any], age: float, request: web.Request) -> web.StreamResponse:
    """Answer with one page; the position is the name of the last one."""
    behind, limit = given(request, "continue"), given(request, "limit")
    fresh = sorted((each for each in items if each.name > behind), key=lambda each: each.name)
    more = len(fresh) - limit
    return answer(
        {
            "items": fresh[:limit],
            "continue": fresh[limit - 1].name if more > 0 else "",
            "remaining": max(0, more),
            "cache": {"age": round(age, 3), "state": "following", "reason": ""},
        }
    )


async def projects(request: web.Request) -> web.StreamResponse:
    """Answer with Compose projects, ours or not, and how many of their containers run."""
    found, age = _snapshot(live_of(request).docker())
    return _page([_Project.of(each, found.containers) for each in found.projects], age, request)


async def containers(request: web.Request) -> web.StreamResponse:
    """Answer with containers; of one project, or in one state, when it is asked for."""
    found, age = _snapshot(live_of(request).docker())
    project, state = given(request, "project"), given(request, "state")
    fitting = [
        each
        for each in found.containers
        if (not project or each.project == project) and (not state or each.state == state)
    ]
    return _page(fitting, age, request)


class _Project(msgspec.Struct, frozen=True):
    """A project as the surface tells it."""

    name: str
    folder: str
    managed: bool
    revision: int
    drift: tuple[str, ...]
    containers: int
    running: int
    unhealthy: int

    @classmethod
    def of(cls, project: Any, found: Any) -> _Project:
        own = [each for each in found if each.project == project.name]
        return cls(
            name=project.name,
            folder=project.folder,
            managed=project.managed,
            revision=project.revision,
            drift=project.drift,
            containers=len(own),
            running=sum(each.state == "running" for each in own),
            unhealthy=sum(each.health == "unhealthy" for each in own),
        )


async def logs(request: web.Request) -> web.StreamResponse:
    """Stream one container's log as it is."""
    live = live_of(request)
    docker, name = live.docker(), given(request, "container")
    target = streams.Logs(
        containers=(name,),
        follow=bool(given(request, "follow")),
        tail=LOG_TAIL if given(request, "tailLines") is None else given(request, "tailLines"),
        since=_moment(given(request, "since"), "since"),
        until=_moment(given(request, "until"), "until"),
        grep=given(request, "grep"),
    )
    with live.hold("logs"):
        await container_logs.check(live.parts, docker, target)
        sink = TextSink(request, with_times=given(request, "timestamps"))
        response = await sink.begin()
        await container_logs.send(live.parts, docker, target, sink)
        return response


def _moment(text: str, name: str) -> str:
    try:
        return stamp(text).decode() if text else ""
    except BadMoment as error:
        raise SurfaceError("bad_request", f"{name}: {error}") from error


_PAGING = (
    Parameter("limit", "Entries of one page.", Kind.WHOLE, PAGE_OBJECTS, least=1, most=MOST_PAGE_OBJECTS),
    Parameter("continue", "What the page before gave.", default=""),
)
_FIELDS = ("items", "continue", "remaining", "cache")

ENDPOINTS = (
    Endpoint(
        "GET",
        "/api/docker/projects",
        projects,
        Right.READ,
        "Compose projects of this host, with how many of their containers run.",
        '-H "Authorization: Bearer $TOKEN" $URL/api/docker/projects',
        parameters=_PAGING,
        fields=_FIELDS,
    ),
    Endpoint(
        "GET",
        "/api/docker/containers",
        containers,
        Right.READ,
        "Containers of this host, stopped ones too.",
        '-H "Authorization: Bearer $TOKEN" "$URL/api/docker/containers?state=running"',
        parameters=(
            Parameter("project", "Only containers of this Compose project.", default=""),
            Parameter("state", "Only containers in this state, in Docker's word.", default="", most=20),
            *_PAGING,
        ),
        fields=_FIELDS,
    ),
    Endpoint(
        "GET",
        "/api/docker/logs/{container}",
        logs,
        Right.OPERATE,
        "The log of one container as text, as it comes, through restarts of the container.",
        '-H "Authorization: Bearer $TOKEN" "$URL/api/docker/logs/$CONTAINER?tailLines=10"',
        parameters=(
            Parameter("container", "Id or name."),
            Parameter("follow", "Go on with what comes.", Kind.FLAG, False),
            Parameter("tailLines", "Lines of the past; all when left out.", Kind.WHOLE),
            Parameter("since", "Only lines behind this time (RFC 3339).", default=""),
            Parameter("until", "Only lines up to this time (RFC 3339).", default=""),
            Parameter("grep", "Only lines that hold this text.", default=""),
            Parameter("timestamps", "Put the time before each line.", Kind.FLAG, False),
        ),
        answer="text/plain",
    ),
)
