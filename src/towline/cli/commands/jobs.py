"""`jobs`: what agents were asked to do, and how it went."""

from enum import StrEnum
from typing import Annotated, Any

import typer

from towline.cli.client import quoted
from towline.cli.follow import check
from towline.cli.follow import follow as follow_job
from towline.cli.options import Output, client
from towline.cli.output import Column, Format, ago, done, show_facts, show_list, state

app = typer.Typer(help="Jobs: what agents were asked to do.", invoke_without_command=True)


class JobState(StrEnum):
    """How far a job is."""

    QUEUED = "queued"
    WAITING = "waiting"
    SENT = "sent"
    RUNNING = "running"
    CANCELLING = "cancelling"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SUPERSEDED = "superseded"
    EXPIRED = "expired"


JobId = Annotated[str, typer.Argument(help="Id of a job.", metavar="JOB")]


def register(root: typer.Typer) -> None:
    root.add_typer(app, name="jobs")


@app.callback()
def _list(
    context: typer.Context,
    cluster: Annotated[str, typer.Option(help="Only of this cluster.")] = "",
    wanted: Annotated[JobState | None, typer.Option("--state", help="Only in this state.")] = None,
    most: Annotated[int, typer.Option("--limit", min=1, max=10_000, help="At most so many.")] = 50,
    output: Output = Format.TABLE,
) -> None:
    """List jobs, the newest first."""
    if context.invoked_subcommand:
        return
    with client() as api:
        items = api.items("jobs", most=most, cluster=cluster, state=wanted)
        none = "no such job" if cluster or wanted else "no jobs yet; a deploy makes one"
        show_list(items, output, COLUMNS, empty=none)


@app.command("show")
def show_one(job: JobId, output: Output = Format.TABLE) -> None:
    """Show one job and its events."""
    with client() as api:
        found = api.get(f"jobs/{quoted(job)}")
        events = api.get(f"jobs/{quoted(job)}/events")
    facts = [
        ("job", found["id"]), ("kind", found["kind"]), ("on", _where(found)), ("state", state(found["state"])),
        ("stage", found.get("stage")), ("error", found.get("error")), ("attempt", found.get("attempt")),
        ("by", found.get("created_by")), ("created", ago(found["created_at"])),
        ("finished", ago(found["finished_at"]) if found.get("finished_at") else ""),
    ]  # fmt: skip
    show_facts(found | {"events": _events(events)}, output, facts)
    for event in _events(events) if output is Format.TABLE else ():
        if not event["stage"]:  # how it ended stands above
            continue
        service = f"{event['service']}: " if event.get("service") else ""
        done(f"  {event['stage']:<12} {service}{event['text']}")


@app.command()
def follow(job: JobId, after: Annotated[int, typer.Option(help="Skip events up to this number.")] = 0) -> None:
    """Follow a job to its end; the exit code tells how it ended."""
    with client() as api:
        check(follow_job(api, quoted(job), after=after))


@app.command()
def cancel(job: JobId) -> None:
    """Ask for a job to be cancelled."""
    with client() as api:
        answer = api.post(f"jobs/{quoted(job)}/cancel")
    done(f"job {job} is {(answer or {}).get('state', 'cancelling')}")


def _events(answer: Any) -> list[dict[str, Any]]:
    return list(answer["items"]) if isinstance(answer, dict) else list(answer)


def _where(job: dict[str, Any]) -> str:
    deployment = job.get("deployment")
    return f"{job['cluster']['name']}/{deployment['name']}" if deployment else str(job["cluster"]["name"])


COLUMNS: list[Column] = [
    ("JOB", lambda job: job["id"]),
    ("KIND", lambda job: job["kind"]),
    ("ON", _where),
    ("STATE", lambda job: state(job["state"], job.get("error") or "")),
    ("BY", lambda job: job.get("created_by")),
    ("CREATED", lambda job: ago(job["created_at"])),
]
