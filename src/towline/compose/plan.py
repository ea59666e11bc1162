"""A deploy as a table: which step follows which, what a failure or a cancel leads to.

Decide here, act elsewhere: `next_step` is pure, the agent performs the steps and reports events. The state is plain
data, so that the agent's journal can keep it and go on after a kill.

    stage → validate → policy → pull → [build] → apply → up → watch → keep → done
      any failure before `apply`: clean, failed; the running containers were never touched
      a failure from `apply` on:  logs → put back → up again → watch again → failed, the last good revision runs
"""

from dataclasses import dataclass, replace
from enum import StrEnum

from towline.compose.text import clean

# What a failure may take in a result; the full output is in the progress events.
MAX_REASON = 4_000


class Step(StrEnum):
    """One thing to do. Each can be done again after an interruption."""

    STAGE = "stage"  # write the new files beside the running ones
    VALIDATE = "validate"  # `config` on the staged files
    POLICY = "policy"  # check the normal form against the local policy
    PULL = "pull"  # fetch images
    BUILD = "build"  # build images
    APPLY = "apply"  # put the staged files into the project's folder
    UP = "up"
    WATCH = "watch"  # the health gate
    KEEP = "keep"  # record image digests, remember the revision as good
    CLEAN = "clean"  # remove the staged files
    LOGS = "logs"  # fetch the failing containers' last lines
    PUT_BACK = "put_back"  # put the last good revision's files into the folder
    UP_AGAIN = "up_again"
    WATCH_AGAIN = "watch_again"
    FINISH = "finish"


class Outcome(StrEnum):
    """How a deploy ended.

    `failed`: what ran before still runs, or, without a last good revision, what came up is left as it is.
    `rolled_back`: the new revision failed and the last good one runs again.
    `broken`: the new revision failed and putting the last good one back failed too.
    """

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    ROLLED_BACK = "rolled_back"
    BROKEN = "broken"
    CANCELLED = "cancelled"


class EventKind(StrEnum):
    """What the executor reports."""

    DONE = "done"
    FAILED = "failed"
    CANCEL = "cancel"
    RESUME = "resume"


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened. `step` says of which step; an event of another step than the present is late."""

    kind: EventKind
    step: Step | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Deploy:
    """The state of one deploy. Starts by `start`.

    Attributes: builds: some service is built here. has_fallback: a last good revision exists, and putting it back is
        wanted. reason: why the new revision failed. second_reason: why putting back failed.
    """

    step: Step
    builds: bool
    has_fallback: bool
    outcome: Outcome | None = None
    reason: str = ""
    second_reason: str = ""
    is_cancelled: bool = False
    resumed: int = 0

    @property
    def has_touched_containers(self) -> bool:
        return self.step not in _BEFORE_TOUCHING

    @property
    def is_finished(self) -> bool:
        return self.step is Step.FINISH

    def sentence(self) -> str:
        """How it ended, for people."""
        match self.outcome:
            case Outcome.SUCCEEDED:
                return "healthy"
            case Outcome.ROLLED_BACK:
                return f"{self.reason}; the last good revision runs again"
            case Outcome.BROKEN:
                return f"{self.reason}; putting the last good revision back failed too: {self.second_reason}"
            case None:
                return f"at step {self.step}"
        return self.reason or str(self.outcome)


@dataclass(frozen=True, slots=True)
class Effect:
    """What to do now.

    Attributes: resumed: the step may have been begun before; for `up`, ask `resume` what is left.
        cancel_running: stop the process of the step that runs first.
    """

    step: Step
    resumed: bool = False
    cancel_running: bool = False


_BEFORE_TOUCHING = frozenset({Step.STAGE, Step.VALIDATE, Step.POLICY, Step.PULL, Step.BUILD, Step.CLEAN})
_CHANGING = frozenset({Step.APPLY, Step.UP, Step.WATCH})
_PUTTING_BACK = frozenset({Step.PUT_BACK, Step.UP_AGAIN, Step.WATCH_AGAIN})

_AFTER_SUCCESS = {
    Step.STAGE: Step.VALIDATE,
    Step.VALIDATE: Step.POLICY,
    Step.POLICY: Step.PULL,
    Step.PULL: Step.APPLY,  # or BUILD, see `_after`
    Step.BUILD: Step.APPLY,
    Step.APPLY: Step.UP,
    Step.UP: Step.WATCH,
    Step.WATCH: Step.KEEP,
    Step.KEEP: Step.FINISH,
    Step.CLEAN: Step.FINISH,
    Step.LOGS: Step.PUT_BACK,  # or FINISH, see `_after`
    Step.PUT_BACK: Step.UP_AGAIN,
    Step.UP_AGAIN: Step.WATCH_AGAIN,
    Step.WATCH_AGAIN: Step.FINISH,
}


def start(*, builds: bool, has_fallback: bool) -> tuple[Deploy, Effect]:
    """Begin a deploy."""
    return Deploy(Step.STAGE, builds, has_fallback), Effect(Step.STAGE)


def next_step(state: Deploy, event: Event) -> tuple[Deploy, Effect | None]:
    """Decide. Returns: the new state, to be journaled before acting, and what to do; None when nothing changes."""
    if state.is_finished:
        return state, None
    match event.kind:
        case EventKind.RESUME:
            return _resume(state)
        case EventKind.CANCEL:
            return _cancel(state)
    if event.step is not state.step:
        return state, None
    return _done(state) if event.kind is EventKind.DONE else _failed(state, clean(event.reason, MAX_REASON))


def _done(state: Deploy) -> tuple[Deploy, Effect]:
    return _go(state, _after(state))


def _after(state: Deploy) -> Step:
    if state.step is Step.PULL and state.builds:
        return Step.BUILD
    if state.step is Step.LOGS and not state.has_fallback:
        return Step.FINISH
    return _AFTER_SUCCESS[state.step]


def _failed(state: Deploy, reason: str) -> tuple[Deploy, Effect]:
    if state.step in (Step.CLEAN, Step.LOGS):  # best effort: their failure says nothing about the deploy
        return _done(state)
    if state.step in _PUTTING_BACK:
        return _go(replace(state, second_reason=reason, outcome=Outcome.BROKEN), Step.FINISH)
    state = replace(state, reason=reason)
    if state.step is Step.KEEP:
        return _go(replace(state, outcome=Outcome.FAILED), Step.FINISH)
    return _go(state, Step.LOGS if state.step in _CHANGING else Step.CLEAN)


def _cancel(state: Deploy) -> tuple[Deploy, Effect | None]:
    if state.is_cancelled or not (state.step in _CHANGING or state.step in _BEFORE_TOUCHING - {Step.CLEAN}):
        return state, None  # what is being put back is put back, and what is kept is kept
    state = replace(state, is_cancelled=True, reason="cancelled")
    back = Step.PUT_BACK if state.has_fallback else Step.FINISH
    state, effect = _go(state, back if state.step in _CHANGING else Step.CLEAN)
    return state, replace(effect, cancel_running=True)


def _resume(state: Deploy) -> tuple[Deploy, Effect]:
    """Go on after the executor died: from the start while nothing was touched, else with the step it was at."""
    step = Step.STAGE if state.has_touched_containers is False and state.step is not Step.CLEAN else state.step
    state = replace(state, step=step, resumed=state.resumed + 1)
    return state, Effect(step, resumed=True)


def _go(state: Deploy, step: Step) -> tuple[Deploy, Effect]:
    state, left = replace(state, step=step), state.step
    if step is Step.FINISH:
        state = replace(state, outcome=state.outcome or _outcome(state, left))
    return state, Effect(step)


def _outcome(state: Deploy, left: Step) -> Outcome:
    if state.is_cancelled:
        return Outcome.CANCELLED
    if left is Step.WATCH_AGAIN:
        return Outcome.ROLLED_BACK
    return Outcome.FAILED if state.reason else Outcome.SUCCEEDED
