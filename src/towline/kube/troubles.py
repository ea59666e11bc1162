"""What is wrong with a pod, in the few words that people search for. Pure.

Reasons are the kubelet's and the scheduler's own, so that they can be looked up.
"""

from collections.abc import Iterable

from towline.kube.objects import Condition, ContainerStatus, Pod

MAX_TROUBLE_CHARACTERS = 400
"""A scheduler's message names each kind of obstacle once; pages show one or two lines of it."""

_STARTING = frozenset({"", "ContainerCreating", "PodInitializing"})
"""Reasons to wait that every healthy start goes through."""


def pod_trouble(pod: Pod) -> str:
    """Return why a pod is not well, or nothing for one that is well, done, or on its normal way up or down."""
    status = pod.status
    if status.phase == "Succeeded" or pod.metadata.deletion_timestamp is not None:
        return ""
    return (
        _first(_container_trouble(container) for container in _containers(pod))
        or _failed(pod)
        or _unscheduled(status.conditions or ())
        or _not_ready(pod)
    )[:MAX_TROUBLE_CHARACTERS]


def _containers(pod: Pod) -> Iterable[ContainerStatus]:
    yield from pod.status.init_container_statuses or ()
    yield from pod.status.container_statuses or ()


def _first(found: Iterable[str]) -> str:
    return next((words for words in found if words), "")


def _container_trouble(container: ContainerStatus) -> str:
    """Waiting says what is wrong now, and the last state why: CrashLoopBackOff after OOMKilled."""
    waiting, ended = container.state.waiting, container.state.terminated
    if waiting is not None and waiting.reason not in _STARTING:
        last = container.last_state.terminated
        why = last.reason if last is not None and last.reason not in ("", "Error", "Completed") else ""
        detail = f"last end: {why}" if why else waiting.message
        if last is not None and not why and waiting.reason == "CrashLoopBackOff":
            detail = f"last end: exit code {last.exit_code}"
        return _words(waiting.reason, container.name, detail)
    if ended is not None and (ended.exit_code != 0 or ended.reason == "OOMKilled"):
        return _words(ended.reason or "Error", container.name, f"exit code {ended.exit_code}")
    return ""


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
