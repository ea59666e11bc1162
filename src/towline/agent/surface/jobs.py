"""`GET /api/jobs`: what the agent does for its control plane, and how the last jobs ended. Out of the journal.

A job's payload is never told: it may hold what is meant for the host alone. Of a command its words are, with secrets
masked, and who asked; what it printed is not: that belongs to whoever ran it.
"""

from __future__ import annotations

from typing import Any

from aiohttp import web

from towline.agent.journal import Glance, Journal
from towline.agent.surface.answers import answer
from towline.agent.surface.endpoints import Endpoint, Right
from towline.agent.surface.errors import unavailable
from towline.agent.surface.requests import parts_of
from towline.commandline.masking import mask
from towline.wire import orders

MOST_JOBS = 50
"""Told at once: those to be done, and as many that ended as there is room for; more is in the control plane."""
TEXT_CHARACTERS = 300
"""Of what a job said last, and of why it failed."""
_PRINTED = ("stdout", "stderr")


async def tell(request: web.Request) -> web.StreamResponse:
    """Tell jobs at a glance."""
    parts = parts_of(request)
    if parts.journal is None:
        raise unavailable("the journal", "this agent keeps none")
    return answer({"items": glances(parts.journal), "running": parts.counts.jobs_running()})


def glances(journal: Journal) -> list[dict[str, Any]]:
    """Return jobs as they are told. Raises: StorageError."""
    return [_shown(job) for job in journal.recent(MOST_JOBS)]


def _shown(job: Glance) -> dict[str, Any]:
    result, last = job.result, job.last
    return {
        "id": job.job_id,
        "kind": job.kind,
        "project": job.project,
        "attempt": job.attempt,
        "accepted_at": job.accepted_at,
        "begun_at": job.begun_at,
        "finished_at": job.finished_at,
        "cancelled": job.cancelled,
        "outcome": result.outcome if result is not None else None,
        "code": result.code if result is not None else "",
        "error": result.error[:TEXT_CHARACTERS] if result is not None else "",
        "stage": last.stage if last is not None else "",
        "last": last.text[:TEXT_CHARACTERS] if last is not None and last.stage not in _PRINTED else "",
        **_command(job),
    }


def _command(job: Glance) -> dict[str, Any]:
    """Return what a job runs, while its order is kept."""
    if not job.command:
        return {}
    try:
        order = orders.decode(job.kind, job.command)
    except orders.BadOrder:
        return {}
    assert isinstance(order, orders.Command)
    return {"program": order.program, "arguments": mask(order.arguments), "user": order.user}


ENDPOINTS = (
    Endpoint(
        "GET", "/api/jobs", tell, Right.READ,
        "Jobs of the control plane that wait or run here, and the last ones that ended.",
        '-H "Authorization: Bearer $TOKEN" $URL/api/jobs', fields=("items", "running"),
    ),
)  # fmt: skip
