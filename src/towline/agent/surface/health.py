"""Health of the agent: for probes, open to all who can connect and brief; in detail for those who may read.

Keys are those that users of the PipeOps agent know, filled with what is the case, and more.
"""

from __future__ import annotations

import socket
from datetime import UTC
from typing import Any

from aiohttp import web

import towline
from towline.agent.errors import AgentError
from towline.agent.surface import build, control_plane, dependencies, features, process
from towline.agent.surface.answers import answer
from towline.agent.surface.dependencies import Dependency, State, moment
from towline.agent.surface.endpoints import Endpoint, Right
from towline.agent.surface.linkstate import Standing
from towline.agent.surface.parts import Parts
from towline.agent.surface.requests import caller_of, parts_of, statistics_of

CONNECTION_KEYS = ("timestamp", "version", "connected", "registered", "connection_state")
MEGABYTE = 1_000_000


async def health(request: web.Request) -> web.StreamResponse:
    """Say that the event loop turns: that this is answered at all is the proof."""
    return answer({"status": "healthy", **_connection(parts_of(request))})


async def ready(request: web.Request) -> web.StreamResponse:
    """Answer 200 when everything that is required here is up, else 503. Reasons are for those who may read."""
    parts = parts_of(request)
    found = dependencies.all_of(parts)
    is_ready = all(each.is_ready for each in found)
    shown = [_check(each, caller_of(request).right) for each in found]
    why = "; ".join(f"{each.name} is {each.state}" for each in found if not each.is_ready)
    value = {
        "status": "ready" if is_ready else "not ready",
        "mode": "standalone" if parts.link.view.standing is Standing.STANDALONE else "managed",
        **_connection(parts),
        **_link_health(parts),
        "healthy": is_ready,
        "reason": why,
        "note": "reasons are shown with a local token",
        "checks": shown,
    }
    return answer(value, 200 if is_ready else 503)


async def version(request: web.Request) -> web.StreamResponse:
    """Name the release."""
    return answer({**build.release(), "timestamp": _now(parts_of(request))})


async def detailed(request: web.Request) -> web.StreamResponse:
    """Tell how everything stands."""
    parts = parts_of(request)
    found = {each.name: each for each in dependencies.all_of(parts)}
    numbers, live = process.measure(), statistics_of(request).live
    value = {
        "status": "healthy" if all(each.is_ready for each in found.values()) else "degraded",
        "timestamp": _now(parts),
        "agent": _agent(parts),
        "tunnel": _tunnel(parts, found["control_plane"]),
        "connectivity": {name: each.state.value for name, each in found.items()},
        "dependencies": [each.shown() for each in found.values()],
        "features": features.switches(parts),
        "runtime": {
            "memory_mb": round(numbers.resident_bytes / MEGABYTE, 1),
            "goroutines": numbers.tasks,
            "tasks": numbers.tasks,
            "threads": numbers.threads,
            "gc_cycles": numbers.collections,
            "open_files": numbers.open_files,
        },
        "connections": {
            "http": statistics_of(request).running,
            "websocket": live["websocket"],
            "events": live["events"],
            "logs": live["logs"],
            "streams": parts.counts.streams_open(),
        },
        "connection_health": {**_link_health(parts), "healthy": found["control_plane"].state is not State.DOWN},
        "jobs_running": parts.counts.jobs_running(),
        "uptime": _uptime(parts),
    }
    return answer(value)


def _check(each: Dependency, right: Right) -> dict[str, Any]:
    brief = {"name": each.name, "state": each.state.value, "required": each.required, "ok": each.is_ready}
    return brief if right is Right.OPEN else {**brief, "since": moment(each.since), "reason": each.reason}


def _connection(parts: Parts) -> dict[str, Any]:
    view = parts.link.view
    return {
        "timestamp": _now(parts),
        "version": towline.__version__,
        "connected": view.standing is Standing.CONNECTED,
        "registered": parts.store.exists(),
        "connection_state": view.standing.value,
    }


def _link_health(parts: Parts) -> dict[str, Any]:
    """Tell how the link to the control plane does; a standalone agent has none, and that is no success."""
    session, status = parts.session(), parts.counts.status()
    silent = parts.clock.monotonic() - session.last_message_at if session is not None else None
    heard = parts.clock.now().timestamp() - silent if silent is not None else 0.0
    if silent is None and parts.silence is not None and parts.silence.has_heard:
        silent, heard = parts.silence.seconds, parts.silence.since
    return {
        "connected": session is not None,
        "registered": parts.store.exists(),
        "last_heartbeat": moment(heard),
        "time_since_heartbeat": None if silent is None else round(silent, 3),
        "consecutive_failures": status.hangs,
        "reconnects": status.reconnects,
    }


def _agent(parts: Parts) -> dict[str, Any]:
    agent_id = cluster = ""
    if parts.store.exists():
        try:
            identity = parts.store.current
            agent_id, cluster = identity.agent_id, identity.cluster_name
        except AgentError:
            cluster = "the identity cannot be read"
    return {
        "version": towline.__version__,
        "uptime": _uptime(parts),
        "start_time": parts.started_at.isoformat(timespec="seconds"),
        "agent_id": agent_id,
        "cluster": cluster,
        "host": socket.gethostname(),
    }


def _tunnel(parts: Parts, plane: Dependency) -> dict[str, Any]:
    session = parts.session()
    told = control_plane.shown(parts)
    return {
        "state": parts.link.view.standing.value,
        "server": plane.address,
        "since": moment(plane.since),
        "last_error": plane.last_error,
        "last_error_code": told["code"],
        "hint": told["hint"],
        "attempts": told["attempts"],
        "next_attempt_at": moment(told["next_attempt_at"]),
        "silent_since": moment(told["silent_since"]),
        "alert": told["alert"],
        "connects": parts.counts.status().connects,
        "round_trip_ms": round(session.rtt * 1000, 3) if session is not None else None,
        "streams": parts.counts.streams_open(),
        "routes": parts.counts.routes(),
    }


def _uptime(parts: Parts) -> float:
    return round((parts.clock.now() - parts.started_at).total_seconds(), 3)


def _now(parts: Parts) -> str:
    return parts.clock.now().astimezone(UTC).isoformat(timespec="milliseconds")


ENDPOINTS = (
    Endpoint(
        "GET", "/health", health, Right.OPEN, "Whether the agent's loop turns; for liveness probes.",
        "$URL/health", fields=("status", *CONNECTION_KEYS),
    ),
    Endpoint(
        "GET", "/ready", ready, Right.OPEN,
        "Whether everything that this agent requires is up, a check each; 503 when not. For readiness probes.",
        "$URL/ready", fields=("status", "mode", "checks", "healthy", "reason", "note", *CONNECTION_KEYS),
    ),
    Endpoint(
        "GET", "/version", version, Right.READ, "Which release runs.",
        '-H "Authorization: Bearer $TOKEN" $URL/version',
        fields=("version", "git_commit", "build_date", "python_version", "go_version", "full_version", "timestamp"),
    ),
    Endpoint(
        "GET", "/api/health/detailed", detailed, Right.READ,
        "How each dependency stands, since when and with which last error, beside the agent's own state.",
        '-H "Authorization: Bearer $TOKEN" $URL/api/health/detailed',
        fields=(
            "agent", "tunnel", "connectivity", "dependencies", "features", "runtime", "connections",
            "connection_health", "uptime",
        ),
    ),
)  # fmt: skip
