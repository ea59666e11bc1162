"""Follow a job to its end: progress lines, a bar for transfers on a terminal, and the exit code of its outcome."""

import json
import time
from typing import Any

from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn
from rich.text import Text

from towline.cli.client import Client
from towline.cli.errors import AWAY, FAILED, CliError
from towline.cli.output import Format, done, err, printable, show
from towline.cli.sse import ServerEvent

ENDED = {"succeeded", "failed", "cancelled", "superseded", "expired"}
INTERRUPTED = 130
"""Exit code of a program that Ctrl-C ended, as shells have it."""
WAITING = "its host is away; the job begins when it comes back"
RECONNECT_LIMIT = 120.0
"""Seconds that a broken connection to the server is tried again before following ends: longer than a restart takes."""
RECONNECT_PAUSE = 1.0
LEVEL_STYLES = {"error": "red", "warning": "yellow"}


def finish(client: Client, answer: dict[str, Any], format: Format, *, wait: bool, word: str = "") -> None:
    """Print what an action answered, and follow its job when asked to.

    Args: word: what people call the action, when the job's kind does not say it.
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
    check(ended, word)


def follow(client: Client, job_id: str, *, after: int = 0) -> dict[str, Any]:
    """Print a job's events until it ends, and return the job.

    A connection that breaks is made again, and goes on behind the last event. Ctrl-C leaves the job running.
    """
    try:
        with Reporter(after) as reporter:
            return _followed(client, job_id, reporter)
    except KeyboardInterrupt:
        done(f"stopped following; job {job_id} goes on")
        done(f"follow it with `towline jobs follow {job_id}`, end it with `towline jobs cancel {job_id}`")
        raise SystemExit(INTERRUPTED) from None


def _followed(client: Client, job_id: str, reporter: "Reporter") -> dict[str, Any]:
    deadline = time.monotonic() + RECONNECT_LIMIT
    while True:
        try:
            for event in client.events(f"jobs/{job_id}/events", after=reporter.last_seq, follow=1):
                deadline = time.monotonic() + RECONNECT_LIMIT
                reporter.event(event)
            job: dict[str, Any] = client.get(f"jobs/{job_id}")
            if job["state"] in ENDED:
                return job
        except CliError as error:
            if error.code != AWAY or time.monotonic() > deadline:
                error.hint = f"the job goes on; follow it with `towline jobs follow {job_id}`"
                raise
            reporter.say(f"{error.message}; trying again")
        time.sleep(RECONNECT_PAUSE)


def check(job: dict[str, Any], word: str = "") -> None:
    """Raise what a job's end means for the exit code."""
    if job["state"] == "succeeded":
        done(_summary(job, word))
        return
    if job["state"] not in ENDED:
        raise CliError(f"job {job['id']} is still {job['state']}", hint=f"towline jobs follow {job['id']}", code=AWAY)
    code = AWAY if job["state"] == "expired" else FAILED
    raise CliError(job.get("error") or f"the job was {job['state']}", hint=_next_step(job), code=code)


def _summary(job: dict[str, Any], word: str) -> str:
    where = job.get("deployment") or {}
    name = f"{job['cluster']['name']}/{where['name']}" if where else job["cluster"]["name"]
    return f"{name}: {word or job['kind'].removeprefix('compose.')} succeeded"


def _next_step(job: dict[str, Any]) -> str:
    back = (job.get("detail") or {}).get("rolled_back_to")
    if back:
        return f"revision {back} was put back and runs"
    where = job.get("deployment") or {}
    unhealthy = where and job.get("code") == "unhealthy"
    return f"see its logs: towline logs {job['cluster']['name']}/{where['name']}" if unhealthy else ""


class Reporter:
    """Prints progress on stderr: plain lines, and one bar a transfer where stderr is a terminal."""

    def __init__(self, after: int = 0) -> None:
        self.last_seq = after
        self._bars: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._last_state = self._last_said = ""

    def __enter__(self) -> "Reporter":
        if err.is_terminal:
            columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
            self._bars = Progress(*columns, console=err, transient=True)
            self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bars:
            self._bars.stop()

    def event(self, event: ServerEvent) -> None:
        """Show one event of the stream; what ended the job is the caller's to say."""
        if event.kind == "progress":
            self.progress(json.loads(event.data))
        elif event.kind == "state":
            self.state(json.loads(event.data))

    def say(self, text: str) -> None:
        """Print a line that is no event, once in a row."""
        if text != self._last_said:
            err.print(Text(printable(text), style="yellow"))
        self._last_said = text

    def progress(self, event: dict[str, Any]) -> None:
        """Show one event of the job."""
        self.last_seq, self._last_said = max(self.last_seq, event.get("seq", 0)), ""
        if event.get("total"):
            self._transfer(event)
            return
        if not event["stage"]:  # how it ended
            return
        service = f"{event['service']}: " if event.get("service") else ""
        line = Text(f"{event['stage']:<12} ", style="bright_black")
        line.append(printable(f"{service}{event['text']}"), style=LEVEL_STYLES.get(event.get("level", ""), ""))
        err.print(line)

    def state(self, job: dict[str, Any]) -> None:
        """Say when the job waits for something."""
        state, reason = job.get("state", ""), job.get("error") or ""
        if state != self._last_state and state == "waiting":
            err.print(Text(f"{state:<12} {printable(reason) or WAITING}", style="yellow"))
        self._last_state = state

    def _transfer(self, event: dict[str, Any]) -> None:
        if not self._bars:
            return
        name = event.get("service") or event["text"]
        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task(printable(name), total=event["total"])
        self._bars.update(self._tasks[name], completed=event["current"], total=event["total"])
