"""A deploy on an InstaDeploy agent: check, send, watch, and put the last good file back when that fails.

A file that is sent replaces the one before, whether it works or not, and every later command reads it. So nothing is
sent that was not checked here, and after a failure the last good file is deployed again: by our own rule that a failed
revision gives way, and because `stop` and `status` would fail with a broken one.
Source: docs/how-to/instadeploy.md, "What happens in a deploy"; tests/data/traces/instadeploy.jsonl.
"""

from __future__ import annotations

import msgspec

from towline.compose.health import Report, Verdict
from towline.control.protocols.instadeploy import rendering, status, watching
from towline.control.protocols.instadeploy.rendering import Rendered, Unsendable
from towline.control.protocols.instadeploy.status import Row
from towline.control.protocols.instadeploy.task import Ended, Ends, Task, status_command, tail, words
from towline.wire import instadeploy, link, orders
from towline.wire.instadeploy import Response, Standing

FIRST_PAUSE = 0.5
"""Seconds between the first two looks; each later one waits a half longer."""
LONGEST_PAUSE = 5.0
STATUS_TIMEOUT = 30.0
"""Seconds for `docker compose ps`, which takes a fraction of one."""
ROLLBACK_SECONDS = 300.0
"""Time limit of putting the old file back; the job's own may be used up by then."""
MOST_UNCLEAR = 5
"""Answers to STATUS in a row that cannot be read until the gate gives up."""

_TOUCHED = (" Container ", " Network ", " Volume ")
"""What Compose writes before it changes anything but images."""


class Failed(Exception):
    """A file did not come up."""

    def __init__(self, code: str, error: str, detail: orders.DeployDetail, *, touched: bool = True) -> None:
        super().__init__(error)
        self.code = code
        self.detail = detail
        self.touched = touched
        """Containers were changed, or may have been."""


class Deploying:
    """One deploy."""

    def __init__(self, task: Task, order: orders.Deploy) -> None:
        self._task = task
        self._order = order
        self._looks = 0
        self._seconds: dict[str, float] = {}
        self._detail = orders.DeployDetail(revision=order.revision, revision_id=order.revision_id)

    async def run(self) -> Ended:
        """Deploy. Raises: TunnelClosed: it is done once more when the agent is back."""
        task = self._task
        task.say("validating", "checking the file before it is sent")
        try:
            task.hidden = rendering.values(self._order)
            rendered = rendering.render(self._order)
            task.require_going()
        except Unsendable as error:
            return self._refused(error)
        except Ends as error:
            return Ended(error.outcome, error.code, str(error))
        try:
            services = await self._bring_up(rendered, self._order, "deploy", "starting")
        except (Failed, Ends) as error:
            return await self._failed(error)
        task.say("done", "every service is healthy, as far as an InstaDeploy agent tells")
        return Ended(detail=self._told(services=services, running_revision_id=self._order.revision_id))

    def _refused(self, error: Unsendable) -> Ended:
        found = "violations" if error.code == "policy_violation" else "errors"
        shown = tuple(
            msgspec.structs.replace(each, message=self._task.redacted(each.message)) for each in error.problems
        )
        detail = msgspec.structs.replace(self._detail, **{found: shown})
        return Ended("failed", error.code, self._task.redacted(f"{error}; nothing was sent"), detail)

    def _told(self, **changes: object) -> orders.DeployDetail:
        return msgspec.structs.replace(self._detail, seconds=self._seconds, **changes)

    # -- forward -------------------------------------------------------------------------------------

    async def _bring_up(
        self, rendered: Rendered, order: orders.Deploy, step: str, stage: str
    ) -> dict[str, orders.ServiceOutcome]:
        """Send a file and watch it. Raises: Failed. Ends. TunnelClosed."""
        task, began = self._task, self._task.clock.monotonic()
        task.say(stage, "sending the file; the agent runs `docker compose up -d`")
        command = instadeploy.deploy(task.wire_id(step), order.project, rendered.text.encode())
        answer = await task.ask(command, stage)
        self._seconds[stage] = round(task.clock.monotonic() - began, 3)
        task.say_output(stage, answer.logs)
        if answer.status is not Standing.COMPLETED:
            raise self._up_failed(answer)
        task.require_going()
        return await self._watch(rendered, order, "watching" if stage == "starting" else stage)

    def _up_failed(self, answer: Response) -> Failed:
        text = f"{answer.logs}\n{answer.error}"
        touched = any(mark in text for mark in _TOUCHED)
        pulling = " Pulling" in text or "pull" in text.lower() or "manifest" in text.lower()
        code = "up_failed" if touched or not pulling else "pull_failed"
        failing = orders.Failing(service="", reason="docker compose up failed", log_tail=tail(answer))
        detail = msgspec.structs.replace(self._detail, failing=(self._hidden(failing),))
        return Failed(code, words(answer) or "docker compose up failed", detail, touched=touched)

    def _hidden(self, failing: orders.Failing) -> orders.Failing:
        lines = tuple(self._task.redacted(line) for line in failing.log_tail)
        return msgspec.structs.replace(failing, log_tail=lines)

    async def _watch(self, rendered: Rendered, order: orders.Deploy, stage: str) -> dict[str, orders.ServiceOutcome]:
        task, pause, unclear = self._task, FIRST_PAUSE, 0
        watch = watching.begin(rendered.services, settle_seconds=order.settle_seconds, deadline=task.deadline)
        said, began = "", task.clock.monotonic()
        while True:
            found = await self._look(order.project, stage)
            unclear = unclear + 1 if found.unclear else 0
            if unclear >= MOST_UNCLEAR:
                raise Failed("unhealthy", f"how the project is doing cannot be known: {found.unclear}", self._detail)
            if not unclear:
                watch, report = watching.look(watch, found.rows, task.clock.monotonic())
                self._seconds[stage] = round(task.clock.monotonic() - began, 3)
                if report.verdict is not Verdict.PENDING:
                    return self._judged(watch, report, found.rows)
                if report.sentence() != said:
                    said = report.sentence()
                    task.say(stage, said)
            task.require_going()
            await task.clock.sleep(pause)
            pause = min(pause * 1.5, LONGEST_PAUSE)

    def _judged(self, watch: watching.Watch, report: Report, rows: tuple[Row, ...]) -> dict[str, orders.ServiceOutcome]:
        outcomes = watching.outcomes(watch.services, report, rows)
        if report.verdict is Verdict.HEALTHY:
            for each in report.services:
                if each.reason == watching.COMPLETED:
                    self._task.say("watching", f"{each.service}: {each.reason}", level="warning")
            return outcomes
        detail = msgspec.structs.replace(self._detail, services=outcomes, failing=watching.failing(report))
        raise Failed("unhealthy", report.sentence(), detail)

    async def _look(self, project: str, stage: str) -> status.Status:
        self._looks += 1
        command = status_command(self._task, project, self._looks)
        return status.read(await self._task.ask(command, stage, timeout=STATUS_TIMEOUT))

    # -- back ----------------------------------------------------------------------------------------

    async def _failed(self, error: Failed | Ends) -> Ended:
        """Put the last good file back where that is wanted or needed, and say what runs now."""
        task = self._task
        outcome: link.JobOutcome = "failed"
        touched = True
        if isinstance(error, Ends):
            outcome = error.outcome
        else:
            touched, self._detail = error.touched, error.detail
        task.say("rolling_back", task.redacted(str(error)), level="error")
        sentence = task.redacted(str(error))
        task.deadline = max(task.deadline, task.clock.monotonic() + ROLLBACK_SECONDS)
        task.cancelled = False
        if not await self._goes_back(touched):
            return Ended(outcome, error.code, f"{sentence}; the failed revision was left as it is", self._left(touched))
        return await self._put_back(outcome, error.code, sentence, touched)

    async def _goes_back(self, touched: bool) -> bool:
        """Tell whether the old file is sent again: unless the project is to be left alone, or when it must be."""
        if self._order.auto_rollback or not touched:
            return True
        try:
            return bool((await self._look(self._order.project, "rolling_back")).unclear)
        except Ends:
            return False

    def _left(self, touched: bool) -> orders.DeployDetail:
        return self._told(running_revision_id=self._order.revision_id if touched else "")

    async def _put_back(self, outcome: link.JobOutcome, code: str, sentence: str, touched: bool) -> Ended:
        task = self._task
        fallback = await task.shelf.file(self._order.fallback_revision_id, task.cluster_id)
        if fallback is None:
            error = f"{sentence}; there is no good revision to put back"
            detail = msgspec.structs.replace(self._left(touched), rollback_error="no good revision")
            return Ended(outcome, code, error, detail)
        task.say("rolling_back", f"sending revision {fallback.revision} again")
        try:
            fallback = msgspec.structs.replace(fallback, settle_seconds=self._order.settle_seconds)
            rendered = rendering.render(fallback)
            task.hidden = dict(task.hidden) | dict(rendered.hidden)
            services = await self._bring_up(rendered, fallback, "rollback", "rolling_back")
        except (Unsendable, Failed, Ends) as error:
            why = task.redacted(str(error))
            detail = self._told(rollback_error=why)
            return Ended(outcome, code, f"{sentence}; putting revision {fallback.revision} back failed: {why}", detail)
        task.say("rolling_back", f"revision {fallback.revision} runs again")
        back = {"rolled_back_to": fallback.revision, "rolled_back_to_id": fallback.revision_id} if touched else {}
        detail = self._told(running_revision_id=fallback.revision_id, services=services, **back)
        return Ended(outcome, code, f"{sentence}; revision {fallback.revision} runs again", detail)
