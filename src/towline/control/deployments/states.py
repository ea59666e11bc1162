"""The state of a deployment, in one word and an operator's sentence: a pure function of what is known.

Here: the rules that turn containers, drift, the active job and the link into `Verdict`. No database, no clock of its
own, no wording for other features.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum

from towline.wire.link import Container

OUT_OF_MEMORY_CODE = 137
"""128 + SIGKILL: what the kernel's memory killer leaves, and what `docker kill` leaves too."""
WORST_SERVICES_NAMED = 2
"""A reason fits one line of a list: the two worst services are named, the others are counted."""


class State(StrEnum):
    HEALTHY = "healthy"
    DEGRADED = "degraded"
    DOWN = "down"
    WORKING = "working"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Expected:
    """What the running revision wants of one service."""

    name: str
    image: str = ""
    replicas: int = 1
    one_shot: bool = False
    """It is meant to end with exit code 0, and its container may be cleaned up then."""
    may_end: bool = False
    """The file does not say whether it stays up: exit code 0 is fine. Whether its container may be missing, too, the
    agent knows, and tells by drift."""


@dataclass(frozen=True, slots=True)
class Activity:
    """The job that works on the deployment, or waits to."""

    job_id: str
    kind: str
    state: str
    stage: str = ""
    revision: int = 0
    action: str = ""


@dataclass(frozen=True, slots=True)
class Place:
    """What is known of the host."""

    name: str
    connected: bool
    last_seen_at: datetime | None = None
    compose_problem: str = ""
    """Why Docker or Compose does not work there; empty when it does."""


@dataclass(frozen=True, slots=True)
class Situation:
    """Everything that a verdict is made of."""

    place: Place
    services: Sequence[Expected] = ()
    containers: Sequence[Container] = ()
    drift: Sequence[str] = ()
    activity: Activity | None = None
    running_revision: int = 0
    latest_revision: int = 0
    latest_error: str = ""
    """Why the newest revision failed; empty when it did not."""
    stopped_by: str = ""
    removed: bool = False


@dataclass(frozen=True, slots=True)
class ServiceVerdict:
    name: str
    image: str
    state: State
    reason: str
    running: int
    wanted: int
    health: str = ""
    ports: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    state: State
    reason: str
    services: tuple[ServiceVerdict, ...] = field(default=())


def judge(situation: Situation) -> Verdict:
    """Say how a deployment is doing.

    Away beats everything (nothing else is known), work in progress beats what the containers say.
    """
    services = judge_services(situation.services, situation.containers)
    state, reason = _overall(situation, services)
    return Verdict(state, reason, services)


def judge_services(expected: Iterable[Expected], containers: Iterable[Container]) -> tuple[ServiceVerdict, ...]:
    """Judge each service by its containers; those that no revision names come last."""
    by_service: dict[str, list[Container]] = {}
    for container in containers:
        if not container.one_off:
            by_service.setdefault(container.service, []).append(container)
    known = [_judge_service(service, by_service.pop(service.name, [])) for service in expected]
    strangers = [
        _judge_service(Expected(name, found[0].image, len(found)), found) for name, found in sorted(by_service.items())
    ]
    return (*known, *strangers)


def _overall(situation: Situation, services: Sequence[ServiceVerdict]) -> tuple[State, str]:
    place, activity = situation.place, situation.activity
    if not place.connected:
        return State.UNKNOWN, _away(place, activity)
    if activity is not None:
        return State.WORKING, describe_activity(activity)
    if situation.removed:
        return State.DOWN, "removed from the host"
    if place.compose_problem:
        return State.UNKNOWN, f"{place.name}: {place.compose_problem}"
    if situation.stopped_by:
        return State.DOWN, f"stopped by {situation.stopped_by}"
    if not situation.running_revision and not situation.containers:
        return _never_ran(situation)
    return _by_services(situation, services)


def _away(place: Place, activity: Activity | None) -> str:
    seen = f", last seen {place.last_seen_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC" if place.last_seen_at else ""
    waiting = f"; {_work(activity)} waits for it" if activity else ""
    return f"{place.name} is away{seen}{waiting}"


_VERBS = {
    "compose.deploy": "deploying",
    "compose.stop": "stopping",
    "compose.start": "starting",
    "compose.restart": "restarting",
    "compose.scale": "scaling",
    "compose.remove": "removing",
    "compose.prune": "pruning images",
    "compose.adopt": "adopting",
}


def describe_activity(activity: Activity) -> str:
    """Say what happens right now, e.g. `deploying revision 4: pulling`."""
    if activity.state in ("queued", "waiting"):
        return f"{_work(activity)} waits for its turn"
    if activity.state == "cancelling":
        return f"cancelling: {_work(activity)}"
    stage = activity.stage.replace("_", " ")
    return f"{_work(activity)}: {stage}" if stage else _work(activity)


def _work(activity: Activity) -> str:
    verb = "rolling back to" if activity.action == "rollback" else _VERBS.get(activity.kind, activity.kind)
    return f"{verb} revision {activity.revision}" if activity.revision else verb


def _never_ran(situation: Situation) -> tuple[State, str]:
    if situation.latest_error:
        return State.DOWN, f"revision {situation.latest_revision} failed: {situation.latest_error}"
    return State.DOWN, "nothing was deployed yet"


def _by_services(situation: Situation, services: Sequence[ServiceVerdict]) -> tuple[State, str]:
    bad = [service for service in services if service.state in (State.DOWN, State.DEGRADED)]
    working = [service for service in services if service.state is State.WORKING]
    if not bad and not situation.containers and any(service.wanted for service in services):
        return State.DOWN, "no container"
    if bad:
        all_down = all(service.state is State.DOWN for service in services)
        return (State.DOWN if all_down else State.DEGRADED), _name_worst(bad)
    if working:
        return State.WORKING, _name_worst(working)
    if situation.drift:
        return State.DEGRADED, f"differs from revision {situation.running_revision}: {_some(situation.drift)}"
    if situation.latest_error and situation.latest_revision != situation.running_revision:
        failed = f"revision {situation.latest_revision} failed: {situation.latest_error}"
        return State.HEALTHY, f"revision {situation.running_revision} runs; {failed}"
    return State.HEALTHY, ""


def _name_worst(services: Sequence[ServiceVerdict]) -> str:
    ordered = sorted(services, key=lambda service: service.state is not State.DOWN)
    return _some([f"{service.name}: {service.reason}" for service in ordered])


def _some(texts: Sequence[str]) -> str:
    more = len(texts) - WORST_SERVICES_NAMED
    listed = "; ".join(texts[:WORST_SERVICES_NAMED])
    return f"{listed}; and {more} more" if more > 0 else listed


def _judge_service(expected: Expected, containers: Sequence[Container]) -> ServiceVerdict:
    judged = [_judge_container(expected, container) for container in containers]
    running = sum(1 for container in containers if container.state == "running")
    state, reason = _join(expected, judged)
    return ServiceVerdict(
        name=expected.name,
        image=next((container.image for container in containers if container.image), expected.image),
        state=state,
        reason=reason,
        running=running,
        wanted=expected.replicas,
        health=_worst_health(containers),
        ports=tuple(dict.fromkeys(port for container in containers for port in container.ports)),
    )


def _join(expected: Expected, judged: Sequence[tuple[State, str]]) -> tuple[State, str]:
    """Fold the containers of one service: the worst speaks, replicas that work soften it."""
    missing = expected.replicas - len(judged)
    if not judged and missing > 0:
        cleaned_up = expected.one_shot or expected.may_end
        return (State.HEALTHY, "completed") if cleaned_up else (State.DOWN, "no container")
    if not judged:
        return State.HEALTHY, "scaled to 0"
    down = [reason for state, reason in judged if state is State.DOWN]
    if len(down) == len(judged):
        return State.DOWN, down[0]
    if down:
        return State.DEGRADED, f"{len(down)} of {expected.replicas} containers: {down[0]}"
    for wanted in (State.DEGRADED, State.WORKING):
        for state, reason in judged:
            if state is wanted:
                return state, reason
    if missing > 0 and not expected.one_shot:
        return State.DEGRADED, f"{len(judged)} of {expected.replicas} containers"
    return State.HEALTHY, judged[0][1]


def _judge_container(expected: Expected, container: Container) -> tuple[State, str]:
    match container.state:
        case "running":
            return _judge_running(container)
        case "exited" if (expected.one_shot or expected.may_end) and container.exit_code == 0:
            return State.HEALTHY, "completed"
        case "exited" | "dead":
            return State.DOWN, describe_exit(container)
        case "restarting":
            return State.DOWN, f"keeps restarting: {describe_exit(container)}"
        case "paused":
            return State.DEGRADED, "paused"
        case "created":
            return State.DOWN, "created, but not started"
        case "removing":
            return State.WORKING, "being removed"
        case other:
            return State.DEGRADED, other or "state not known"


_HEALTH: Mapping[str, tuple[State, str]] = {
    "unhealthy": (State.DEGRADED, "its healthcheck fails"),
    "starting": (State.WORKING, "waits for its healthcheck"),
}


def _judge_running(container: Container) -> tuple[State, str]:
    return _HEALTH.get(container.health, (State.HEALTHY, ""))


def describe_exit(container: Container) -> str:
    """Say how a container ended, e.g. `exited with 137 (out of memory), 3 restarts`."""
    killed = " (killed)" if container.exit_code == OUT_OF_MEMORY_CODE else ""
    why = " (out of memory)" if container.oom_killed else killed
    plural = "" if container.restarts == 1 else "s"
    again = f", {container.restarts} restart{plural}" if container.restarts else ""
    return f"exited with {container.exit_code}{why}{again}"


def _worst_health(containers: Sequence[Container]) -> str:
    order = ("unhealthy", "starting", "healthy")
    found = {container.health for container in containers}
    return next((health for health in order if health in found), "")


def utc(seconds: float) -> datetime | None:
    """Convert seconds since the epoch; 0 means not known."""
    return datetime.fromtimestamp(seconds, UTC) if seconds else None
