"""Follow a job to its end: progress lines, a bar for transfers on a terminal, and the exit code of its outcome."""

import json
from typing import Any

from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn
from rich.text import Text

from towline.cli.client import Client
from towline.cli.errors import AWAY, FAILED, CliError
from towline.cli.output import Format, done, err, printable, show

ENDED = {"succeeded", "failed", "cancelled", "superseded", "expired"}
LEVEL_STYLES = {"error": "red", "warning": "yellow"}


def finish(client: Client, answer: dict[str, Any], format: Format, *, wait: bool) -> None:
    """Print what an action answered, and follow its job when asked to.

    Raises: CliError: the job did not succeed.
    """
    job = answer["job"]
    if not wait:
        show(
            answer, format, lambda: done(f"job {job['id']} is queued; follow it with: towline jobs follow {job['id']}")
        )
        return
    ended = follow(client, job["id"])
    show(ended, format, lambda: None)
    check(ended)


def follow(client: Client, job_id: str, *, after: int = 0) -> dict[str, Any]:
    """Print a job's events until it ends, and return the job. Ctrl-C leaves the job running."""
    try:
        with Reporter() as reporter:
            for event in client.events(f"jobs/{job_id}/events", after=after, follow=1):
                if event.kind == "progress":
                    reporter.progress(json.loads(event.data))
                elif event.kind == "state":
                    reporter.state(json.loads(event.data))
                elif event.kind == "end":
                    break
    except KeyboardInterrupt:
        raise CliError(
            "stopped following; the job goes on",
            hint=f"follow it with `towline jobs follow {job_id}`, end it with `towline jobs cancel {job_id}`",
            code=130,
        ) from None
    ended: dict[str, Any] = client.get(f"jobs/{job_id}")
    return ended


def check(job: dict[str, Any]) -> None:
    """Raise what a job's end means for the exit code."""
    if job["state"] == "succeeded":
        done(_summary(job))
        return
    if job["state"] not in ENDED:
        raise CliError(f"job {job['id']} is still {job['state']}", hint=f"towline jobs follow {job['id']}", code=AWAY)
    code = AWAY if job["state"] == "expired" else FAILED
    raise CliError(job.get("error") or f"the job was {job['state']}", hint=_next_step(job), code=code)


def _summary(job: dict[str, Any]) -> str:
    where = job.get("deployment") or {}
    name = f"{job['cluster']['name']}/{where['name']}" if where else job["cluster"]["name"]
    return f"{name}: {job['kind'].removeprefix('compose.')} succeeded"


def _next_step(job: dict[str, Any]) -> str:
    back = (job.get("detail") or {}).get("rolled_back_to")
    if back:
        return f"revision {back} was put back and runs"
    where = job.get("deployment") or {}
    return f"see its logs: towline logs {job['cluster']['name']}/{where['name']}" if where else ""


class Reporter:
    """Prints progress on stderr: plain lines, and one bar a transfer where stderr is a terminal."""

    def __init__(self) -> None:
        self._bars: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._last_state = ""

    def __enter__(self) -> "Reporter":
        if err.is_terminal:
            columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
            self._bars = Progress(*columns, console=err, transient=True)
            self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bars:
            self._bars.stop()

    def progress(self, event: dict[str, Any]) -> None:
        """Show one event of the job."""
        if event.get("total"):
            self._transfer(event)
            return
        service = f"{event['service']}: " if event.get("service") else ""
        line = Text(f"{event['stage']:<12} ", style="bright_black")
        line.append(printable(f"{service}{event['text']}"), style=LEVEL_STYLES.get(event.get("level", ""), ""))
        err.print(line)

    def state(self, job: dict[str, Any]) -> None:
        """Say when the job waits for something."""
        state, reason = job.get("state", ""), job.get("error") or ""
        if state != self._last_state and state in {"waiting", "queued"}:
            err.print(Text(f"{state:<12} {printable(reason)}".rstrip(), style="yellow"))
        self._last_state = state

    def _transfer(self, event: dict[str, Any]) -> None:
        if not self._bars:
            return
        name = event.get("service") or event["text"]
        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task(printable(name), total=event["total"])
        self._bars.update(self._tasks[name], completed=event["current"], total=event["total"])
