"""`GET /api/commands`: commands that run here and those that ran, and the jobs of the control plane."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aiohttp import web

from towline.agent.journal import Entry
from towline.agent.surface.answers import answer
from towline.agent.surface.endpoints import Endpoint, Right
from towline.agent.surface.live import live_of
from towline.agent.surface.parts import Parts
from towline.agent.surface.requests import caller_of, parts_of
from towline.commandline.masking import mask
from towline.wire import orders

MOST_JOBS = 50
"""Jobs that are listed, the newest."""


async def listed(request: web.Request) -> web.StreamResponse:
    """List both."""
    parts = parts_of(request)
    commands = live_of(request).commands.listed(caller_of(request).right)
    return answer({"commands": commands, "jobs": [_job(each) for each in _newest(parts)]})


def _newest(parts: Parts) -> Sequence[Entry]:
    return parts.journal.newest(MOST_JOBS) if parts.journal is not None else ()


def _job(entry: Entry) -> dict[str, Any]:
    told: dict[str, Any] = {
        "id": entry.job_id,
        "kind": entry.kind,
        "project": entry.project,
        "state": entry.state,
        "accepted_at": entry.accepted_at,
        "begun_at": entry.begun_at,
        **_command(entry),
    }
    if entry.result is None:
        return told
    result = entry.result
    return {
        **told,
        "ended_at": result.finished_at,
        "outcome": result.outcome,
        "code": result.code,
        "error": result.error,
    }


def _command(entry: Entry) -> dict[str, Any]:
    """Return what a job runs, while its order is kept."""
    if entry.kind != "command.run" or not entry.payload:
        return {}
    try:
        order = orders.decode(entry.kind, entry.payload)
    except orders.BadOrder:
        return {}
    assert isinstance(order, orders.Command)
    return {"program": order.program, "arguments": mask(order.arguments), "user": order.user}


ENDPOINTS = (
    Endpoint(
        "GET",
        "/api/commands",
        listed,
        Right.READ,
        "Commands that run or ran here, the newest first, and the jobs of the control plane.",
        '-H "Authorization: Bearer $TOKEN" $URL/api/commands',
        fields=("commands", "jobs"),
    ),
)
