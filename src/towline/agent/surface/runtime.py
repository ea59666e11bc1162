"""`GET /api/metrics/runtime`: the agent's process and its own requests, as JSON."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from towline.agent.surface import process
from towline.agent.surface.answers import answer
from towline.agent.surface.endpoints import Endpoint, Right
from towline.agent.surface.parts import Parts
from towline.agent.surface.process import LoopLag
from towline.agent.surface.requests import parts_of, statistics_of
from towline.agent.surface.statistics import Statistics

LAG: web.AppKey[LoopLag] = web.AppKey("lag", LoopLag)


async def start(app: web.Application, parts: Parts) -> None:
    """Begin to look at the loop."""
    app[LAG] = lag = LoopLag(parts.clock)
    parts.owner.spawn("loop lag", lag.run())


async def tell(request: web.Request) -> web.StreamResponse:
    """Measure now."""
    parts, numbers, lag = parts_of(request), process.measure(), request.app[LAG]
    uptime = (parts.clock.now() - parts.started_at).total_seconds()
    busy = numbers.cpu_user_seconds + numbers.cpu_system_seconds
    value = {
        "memory": {"resident_bytes": numbers.resident_bytes, "virtual_bytes": numbers.virtual_bytes},
        "cpu": {
            "user_seconds": round(numbers.cpu_user_seconds, 3),
            "system_seconds": round(numbers.cpu_system_seconds, 3),
            "percent_since_start": round(100 * busy / uptime, 2) if uptime > 0 else 0.0,
        },
        "gc": {"cycles": numbers.collections, "collected": numbers.collected},
        "runtime": {
            "tasks": numbers.tasks,
            "goroutines": numbers.tasks,
            "threads": numbers.threads,
            "open_files": numbers.open_files,
            "loop_lag_seconds": round(lag.last, 6),
            "loop_lag_most_seconds": round(lag.most, 6),
        },
        "http": _http(statistics_of(request)),
        "connections": _connections(statistics_of(request)),
        "uptime": round(uptime, 3),
    }
    return answer(value)


def _http(seen: Statistics) -> dict[str, Any]:
    return {
        "requests": seen.total,
        "failed": seen.failed,
        "running": seen.running,
        "mean_seconds": round(seen.seconds / seen.total, 6) if seen.total else 0.0,
        "by_path": [
            {"method": method, "path": path, "status": status, "count": count}
            for (method, path, status), count in sorted(seen.requests.items())
        ],
    }


def _connections(seen: Statistics) -> dict[str, Any]:
    kinds = ("websocket", "events", "logs")
    return {kind: {"open": seen.live[kind], "begun": seen.began[kind], "cut": seen.cut[kind]} for kind in kinds}


ENDPOINTS = (
    Endpoint(
        "GET", "/api/metrics/runtime", tell, Right.READ,
        "Memory, processor, tasks, loop lag, and counts of local requests and connections.",
        '-H "Authorization: Bearer $TOKEN" $URL/api/metrics/runtime',
        fields=("memory", "cpu", "gc", "runtime", "http", "connections", "uptime"),
    ),
)  # fmt: skip
