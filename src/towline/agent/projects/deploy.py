"""Driving a deploy through its plan: journal the state, perform the step, report what happened, decide the next.

The table of steps is `towline.compose.plan`; what each step does is in `deploy_steps.py`.
"""

from __future__ import annotations

import asyncio
import time

import structlog

from towline.agent.errors import DockerAway, JobFailed
from towline.agent.jobs.context import JobContext
from towline.agent.jobs.outcome import Ended
from towline.agent.jobs.reporter import Level
from towline.agent.projects import deploy_state
from towline.agent.projects.deploy_state import DeployState
from towline.agent.projects.deploy_steps import DeploySteps
from towline.agent.projects.workbench import open_bench
from towline.aio.tasks import TaskOwner
from towline.compose import plan
from towline.compose.plan import Event, EventKind, Step
from towline.wire import orders

_log = structlog.get_logger("towline.agent")

STAGES = {
    Step.STAGE: "validating",
    Step.VALIDATE: "validating",
    Step.POLICY: "validating",
    Step.PULL: "pulling",
    Step.BUILD: "building",
    Step.APPLY: "starting",
    Step.UP: "starting",
    Step.WATCH: "watching",
    Step.KEEP: "cleaning",
    Step.CLEAN: "cleaning",
    Step.LOGS: "rolling_back",
    Step.PUT_BACK: "rolling_back",
    Step.UP_AGAIN: "rolling_back",
    Step.WATCH_AGAIN: "rolling_back",
    Step.FINISH: "done",
}
"""Step to the word of `link.JobEvent.stage`."""


async def deploy(context: JobContext, order: orders.Deploy) -> Ended:
    """Do a deploy, or go on with it. Raises: JobFailed: before its first step."""
    bench = await open_bench(context)
    async with TaskOwner(f"deploy of {order.project}") as owner:
        return await _Driver(context, DeploySteps(context, order, bench), order, owner).run()


class _Driver:
    def __init__(self, context: JobContext, steps: DeploySteps, order: orders.Deploy, owner: TaskOwner) -> None:
        self._context = context
        self._order = order
        self._owner = owner
        self._steps = steps

    async def run(self) -> Ended:
        state, effect = self._begin()
        while effect is not None and effect.step is not Step.FINISH:
            self._keep(state)
            event = await self._perform(state, effect)
            state, effect = self._decide(event)
        self._keep(state)
        return self._ended(state)

    def _begin(self) -> tuple[DeployState, plan.Effect | None]:
        entry = self._context.entry
        if entry.plan is None:
            return self._steps.begin()
        state = deploy_state.decode(entry.plan)
        decided, effect = plan.next_step(state.plan, Event(EventKind.RESUME))
        self._say(decided.step, "the agent was restarted; going on", level="warning")
        return state.changed(plan=decided), effect

    async def _perform(self, state: DeployState, effect: plan.Effect) -> Event:
        """Do a step until it is done, has failed, or somebody cancels."""
        step = effect.step
        self._steps.state = state
        began = time.monotonic()
        task = self._owner.spawn(step.value, self._failure(effect))
        event = await self._watch_step(state, step, task)
        seconds = {**self._steps.state.seconds, step.value: round(time.monotonic() - began, 3)}
        self._steps.state = self._steps.state.changed(seconds=seconds)
        return event

    async def _watch_step(self, state: DeployState, step: Step, task: asyncio.Task[JobFailed | None]) -> Event:
        cancelled = self._context.cancelled
        if not state.plan.is_cancelled and plan.next_step(state.plan, Event(EventKind.CANCEL))[1] is not None:
            waiting = self._owner.spawn("cancel", _wait(cancelled))
            await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
            if cancelled.is_set():
                await self._stop(task)
                return Event(EventKind.CANCEL)
        await asyncio.wait({task})
        return self._event(step, task)

    async def _stop(self, task: asyncio.Task[JobFailed | None]) -> None:
        """End the present step: its command is told to end and waited for."""
        self._context.reporter.say("cancelling", "cancelled; stopping the present step", level="warning")
        if not self._steps.stop():
            task.cancel()
        await asyncio.wait({task})

    async def _failure(self, effect: plan.Effect) -> JobFailed | None:
        """Do a step; returns why it failed."""
        try:
            await self._steps.perform(effect, STAGES[effect.step])
        except JobFailed as error:
            return error
        except DockerAway as error:
            return JobFailed("docker_away", str(error))
        except Exception as error:
            # A step ends here: whatever went wrong, the plan must go on to put things back.
            _log.exception("step failed", job=self._context.job_id, step=effect.step.value)
            return JobFailed("internal", f"the agent failed: {type(error).__name__}: {error}")
        return None

    def _event(self, step: Step, task: asyncio.Task[JobFailed | None]) -> Event:
        error = task.result()
        if error is None:
            return Event(EventKind.DONE, step)
        if isinstance(error.detail, orders.DeployDetail):
            self._steps.state = self._steps.state.changed(errors=error.detail.errors)
        reason = self._context.reporter.redacted(str(error))
        if not self._steps.state.code:
            self._steps.state = self._steps.state.changed(code=error.code)
        self._say(step, reason, level="error")
        return Event(EventKind.FAILED, step, reason)

    def _decide(self, event: Event) -> tuple[DeployState, plan.Effect | None]:
        decided, effect = plan.next_step(self._steps.state.plan, event)
        return self._steps.state.changed(plan=decided), effect

    def _keep(self, state: DeployState) -> None:
        self._context.host.journal.keep_plan(self._context.job_id, state.encoded())

    def _ended(self, state: DeployState) -> Ended:
        detail = state.detail(self._order, *self._steps.what_runs())
        sentence = self._context.reporter.redacted(state.plan.sentence())
        match state.plan.outcome:
            case plan.Outcome.SUCCEEDED:
                self._say(Step.FINISH, "every service is healthy")
                return Ended("succeeded", detail=detail)
            case plan.Outcome.CANCELLED:
                return Ended("cancelled", "cancelled", sentence, detail)
        return Ended("failed", state.code or "internal", sentence, detail)

    def _say(self, step: Step, text: str, *, level: Level = "info") -> None:
        self._context.reporter.say(STAGES[step], text, level=level)


async def _wait(event: asyncio.Event) -> None:
    await event.wait()
