"""What is wrong with a pod, in the few words that people search for. Pure.

Reasons are the kubelet's and the scheduler's own, so that they can be looked up. One is not: a container that ends
again and again runs between two ends, and the kubelet says no more of it then.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from towline.kube.objects import Condition, ContainerStatus, Pod, Terminated
from towline.kube.times import moment

MAX_TROUBLE_CHARACTERS = 400
"""A scheduler's message names each kind of obstacle once; pages show one or two lines of it."""
HEALTHY_RUN = 600.0
"""Seconds that a container must run to be well again after it ended: then the kubelet forgets its back-off too. Source:
https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#restart-policy"""
AGAIN = 2
"""Restarts from which a container begins again and again; one restart is what restarting is there for."""
BACK_OFF = "CrashLoopBackOff"
RESTARTING = "Restarting"

_STARTING = frozenset({"", "ContainerCreating", "PodInitializing"})
"""Reasons to wait that every healthy start goes through."""


@dataclass(frozen=True, slots=True)
class Crash:
    """How a container ended that is started again, or will be."""

    container: str
    reason: str
    exit_code: int
    runs: bool
    """It runs at this moment, and has not for HEALTHY_RUN."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a pod is not well."""

    words: str
    """Empty for one that is well, done, or on its normal way up or down."""
    crash: Crash | None = None
    until: float = 0.0
    """When it is over if nothing happens, in seconds since the epoch; 0: only an event ends it."""


WELL = Trouble("")


def pod_trouble(pod: Pod, now: float) -> Trouble:
    """Return why a pod is not well. Args: now: seconds since the epoch."""
    status = pod.status
    if status.phase == "Succeeded" or pod.metadata.deletion_timestamp is not None:
        return WELL
    found = (_container_trouble(container, now) for container in _containers(pod))
    worst = min((one for one in found if one.words), key=lambda one: bool(one.until), default=WELL)
    if worst.words:
        return replace(worst, words=worst.words[:MAX_TROUBLE_CHARACTERS])
    words = _failed(pod) or _unscheduled(status.conditions or ()) or _not_ready(pod)
    return Trouble(words[:MAX_TROUBLE_CHARACTERS])


def _containers(pod: Pod) -> Iterable[ContainerStatus]:
    yield from pod.status.init_container_statuses or ()
    yield from pod.status.container_statuses or ()


def _container_trouble(container: ContainerStatus, now: float) -> Trouble:
    state = container.state
    if state.waiting is not None:
        return _waiting(container) if state.waiting.reason not in _STARTING else WELL
    if state.terminated is not None:
        return _ended(container, state.terminated)
    return _running(container, now) if state.running is not None else WELL


def _waiting(container: ContainerStatus) -> Trouble:
    """Waiting says what is wrong now, and the last state why: CrashLoopBackOff after OOMKilled."""
    waiting, last = container.state.waiting, container.last_state.terminated
    assert waiting is not None
    detail = _last_end(last) if last is not None and (_is_telling(last) or waiting.reason == BACK_OFF) else ""
    words = _words(waiting.reason, container.name, detail or waiting.message)
    return Trouble(words, _crash(container, last, runs=False) if waiting.reason == BACK_OFF else None)


def _ended(container: ContainerStatus, ended: Terminated) -> Trouble:
    """An end without a fault is how init containers and jobs end."""
    if ended.exit_code == 0 and ended.reason != "OOMKilled":
        return WELL
    words = _words(ended.reason or "Error", container.name, f"exit code {ended.exit_code}")
    again = container.restart_count > 0 and _length(ended) < HEALTHY_RUN
    return Trouble(words, _crash(container, ended, runs=False) if again else None)


def _running(container: ContainerStatus, now: float) -> Trouble:
    running, last = container.state.running, container.last_state.terminated
    assert running is not None
    if last is None or container.restart_count < AGAIN or _length(last) >= HEALTHY_RUN:
        return WELL
    until = moment(running.started_at) + HEALTHY_RUN
    words = _words(RESTARTING, container.name, _last_end(last))
    return Trouble(words, _crash(container, last, runs=True), until) if now < until else WELL


def _length(ended: Terminated) -> float:
    """Return the seconds of a run; one that never began has none."""
    return moment(ended.finished_at) - moment(ended.started_at) if ended.started_at else 0.0


def _crash(container: ContainerStatus, ended: Terminated | None, *, runs: bool) -> Crash:
    if ended is None:
        return Crash(container.name, "", 0, runs)
    return Crash(container.name, ended.reason, ended.exit_code, runs)


def _is_telling(ended: Terminated) -> bool:
    """Tell whether the reason of an end says more than its exit code."""
    return ended.reason not in ("", "Error", "Completed")


def _last_end(ended: Terminated) -> str:
    return f"last end: {ended.reason if _is_telling(ended) else f'exit code {ended.exit_code}'}"


def _words(reason: str, name: str, detail: str) -> str:
    return f"{reason} ({name}): {detail}" if detail else f"{reason} ({name})"


def _failed(pod: Pod) -> str:
    if pod.status.phase not in ("Failed", "Unknown"):
        return ""
    reason = pod.status.reason or pod.status.phase
    return f"{reason}: {pod.status.message}" if pod.status.message else reason


def _unscheduled(conditions: Iterable[Condition]) -> str:
    for condition in conditions:
        if condition.type == "PodScheduled" and condition.status == "False":
            reason = condition.reason or "Unschedulable"
            return f"{reason}: {condition.message}" if condition.message else reason
    return ""


def _not_ready(pod: Pod) -> str:
    """Name the moment since when a running pod answers no probes."""
    if pod.status.phase != "Running":
        return ""
    for condition in pod.status.conditions or ():
        if condition.type == "Ready" and condition.status != "True":
            slow = [status.name for status in pod.status.container_statuses or () if not status.ready]
            since = condition.last_transition_time or pod.status.start_time
            words = f"not ready since {since}" if since else "not ready"
            return f"{words} ({', '.join(slow)})" if slow else words
    return ""
