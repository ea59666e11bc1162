"""Pages of jobs: the list and one job with its progress. Also what a deployment's page shows of its newest job."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response

from towline.control import forms
from towline.control.access.dependencies import Access, Permission, Resource, needs
from towline.control.jobs import api
from towline.control.jobs.follow import show_event
from towline.control.jobs.states import ENDED, JobState
from towline.control.listing import ListQuery, list_query
from towline.control.web import query as with_query

router = APIRouter(include_in_schema=False)

Reader = Annotated[Access, needs(Permission.JOB_READ)]
Canceller = Annotated[Access, needs(Permission.JOB_CANCEL)]
TONES = {
    JobState.QUEUED: "working", JobState.WAITING: "unknown", JobState.SENT: "working", JobState.RUNNING: "working",
    JobState.CANCELLING: "working", JobState.SUCCEEDED: "healthy", JobState.FAILED: "down",
    JobState.CANCELLED: "degraded", JobState.SUPERSEDED: "unknown", JobState.EXPIRED: "down",
}  # fmt: skip
TITLES = {
    "compose.deploy": "Deploy", "compose.validate": "Validate", "compose.stop": "Stop", "compose.start": "Start",
    "compose.restart": "Restart", "compose.scale": "Scale", "compose.remove": "Remove", "compose.prune": "Prune",
    "compose.adopt": "Adopt", "command.run": "Command on",
}  # fmt: skip
EVENTS_SHOWN = 2000
"""Events in the page itself; the script goes on behind them."""


@router.get("/jobs")
async def list_page(
    request: Request, access: Reader, asked: Annotated[ListQuery, Depends(list_query)], state: str = ""
) -> Response:
    """Show what agents were asked to do, the newest first."""
    wanted = [state] if state in set(JobState) else []
    found = await api.list_jobs(request, access, asked, state=wanted)
    shown = found.model_dump()
    shown["items"] = [described(item) for item in shown["items"]]
    page: Response = request.app.state.control.web.page(
        request, "jobs/list.html", access=access, section="jobs", page=shown, filters={"state": state},
        states=[each.value for each in JobState], page_url=with_query("/jobs", {"state": state}),
        tabs=tabs(access), tab="jobs",
    )  # fmt: skip
    return page


def tabs(access: Access) -> list[tuple[str, str, str]]:
    """Return the pages of what agents were asked to do, as far as somebody has use for them."""
    found = [("jobs", "/jobs", "Jobs"), ("runs", "/commands", "Commands")]
    runs = access.rights.gives(Permission.COMMAND_RUN)
    return [*found, ("saved", "/commands/saved", "Saved commands")] if runs else found


@router.get("/jobs/{job}")
async def job_page(request: Request, access: Reader, job: str) -> Response:
    """Show one job with its progress."""
    found = described((await api.get_job(request, access, job)).model_dump())
    here = Resource(access.org_id, found["cluster"]["id"], project=found["project"])
    events = await _events(request, access, found["id"])
    page: Response = request.app.state.control.web.page(
        request, "jobs/job.html", access=access, section="jobs", job=found, events=events,
        may={"cancel": access.may(Permission.JOB_CANCEL, here), "logs": access.may(Permission.LOGS_READ, here)},
    )  # fmt: skip
    return page


@router.post("/jobs/{job}/cancel")
async def cancel(request: Request, access: Canceller, job: str) -> Response:
    """Cancel a job."""
    return await forms.act(
        request, f"/jobs/{job}", "the job is being cancelled", lambda: api.cancel_job(request, access, job)
    )


async def latest_of(
    request: Request, access: Access, deployment_id: str, active_id: str | None
) -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
    """Return the active job of a deployment, else its newest one, with its events."""
    if active_id:
        found = (await api.get_job(request, access, active_id)).model_dump()
    else:
        newest = await api.list_jobs(request, access, ListQuery(limit=1), deployment=deployment_id)
        if not newest.items:
            return None, []
        found = newest.items[0].model_dump()
    return described(found), await _events(request, access, found["id"])


def described(job: dict[str, Any]) -> dict[str, Any]:
    """Add to a job's JSON what templates need: a title, a tone, and what failed."""
    detail = job["detail"] or {}
    revision = f" revision {detail['revision']} of" if detail.get("revision") else ""
    name = job["deployment"]["name"] if job["deployment"] else job["cluster"]["name"]
    return job | {
        "title": f"{TITLES.get(job['kind'], job['kind'])}{revision} {name}",
        "tone": TONES.get(JobState(job["state"]), "unknown"),
        "open": JobState(job["state"]) not in ENDED,
        "failing": detail.get("failing") or [],
        "rolled_back_to": detail.get("rolled_back_to"),
    }


async def _events(request: Request, access: Access, job_id: str) -> list[dict[str, Any]]:
    control = request.app.state.control
    async with control.db.read() as tx:
        row, _ = await control.fleet.jobs.find(tx, access, job_id)
        shows = await control.fleet.jobs.reader(tx, access, row)
        return [
            show_event(event) for event in await control.fleet.jobs.events(tx, job_id, 0, EVENTS_SHOWN) if shows(event)
        ]
