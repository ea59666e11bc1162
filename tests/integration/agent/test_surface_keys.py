"""Every key of the bodies that users of the PipeOps agent know is in ours, at its place and of its kind.

Source: PipeOpsHQ/pipeops-k8-agent 90d1e8e5, internal/server.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.surface import Served, make_parts, served

from towline.agent.surface import catalogue

STATE = {"connected": bool, "registered": bool, "connection_state": str}
TOLD = {
    "/health": {"status": str, "timestamp": str, "version": str, **STATE},
    "/ready": {
        "status": str, "mode": str, "note": str, **STATE, "healthy": bool, "last_heartbeat": (str, type(None)),
        "time_since_heartbeat": (float, type(None)), "consecutive_failures": int, "reason": str,
    },
    "/version": {
        "version": str, "git_commit": str, "build_date": str, "go_version": str, "full_version": str, "timestamp": str,
    },
    "/api/health/detailed": {
        "agent": {"version": str, "uptime": float, "start_time": str, "agent_id": str},
        "tunnel": {}, "connectivity": {}, "features": {},
        "runtime": {"memory_mb": float, "goroutines": int, "gc_cycles": int},
        "connection_health": {"connected": bool, "healthy": bool},
    },
    "/api/status/features": {"features": {}},
    "/api/status/connectivity": {"connectivity": {}},
    "/api/metrics/runtime": {"memory": {}, "gc": {}, "runtime": {}, "uptime": float},
}  # fmt: skip
"""By path: keys and kinds; a mapping holds those of its own."""
PATHS = ("/metrics", "/ws", "/api/realtime/events", "/api/realtime/logs")
"""That answer with something else than one JSON object."""


@pytest.fixture
async def surface(tmp_path: Path) -> AsyncIterator[Served]:
    async with served(make_parts(tmp_path / "agent")) as one:
        yield one


@pytest.mark.parametrize("path", TOLD)
async def test_every_key_is_there_and_of_its_kind(surface: Served, path: str) -> None:
    _, found = await surface.get(path)

    assert list(_missing(found, TOLD[path], path)) == []


def _missing(found: Any, wanted: dict[str, Any], place: str) -> Any:
    for key, kind in wanted.items():
        here = f"{place} {key}"
        if key not in found:
            yield f"{here} is missing"
        elif isinstance(kind, dict):
            if isinstance(found[key], dict):
                yield from _missing(found[key], kind, here)
            else:
                yield f"{here} is no mapping"
        elif not isinstance(found[key], kind):
            yield f"{here} is {found[key]!r}"


def test_every_path_is_served() -> None:
    served_paths = {endpoint.path for endpoint in catalogue.ENDPOINTS}

    assert served_paths >= {*TOLD, *PATHS}
