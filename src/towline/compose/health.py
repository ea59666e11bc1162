"""The health gate: from what containers look like, and for how long, to pending, healthy or failed.

Here: a pure judge that is shown container states again and again, with the time. Not here: asking Docker, waiting.
A service is healthy when all its containers are: by their healthcheck, or by running without a restart for the settle
time, or, for one-shot services, by having ended with 0.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from towline.compose.containers import Container
from towline.compose.model import Lifetime, Service

# A service without a healthcheck counts as healthy after running this long without a restart.
DEFAULT_SETTLE_SECONDS = 10.0
# Docker doubles its pause between restarts from 100 ms: five are some 3 s of trying, time enough for a database to
# come up, and early enough that nobody waits for the deadline of a service that can never start.
DEFAULT_MAX_RESTARTS = 5

_EXIT_WORDS = {
    125: "Docker could not run it",
    126: "the command cannot be executed",
    127: "the command was not found",
    130: "interrupted",
    134: "aborted",
    137: "killed",
    139: "segmentation fault",
    143: "terminated",
}


class Verdict(StrEnum):
    """What the gate says about a service or the whole project."""

    PENDING = "pending"
    HEALTHY = "healthy"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Expectation:
    """What one service must show. `replicas` 0 means that it must have no container."""

    service: str
    replicas: int = 1
    lifetime: Lifetime = Lifetime.UNKNOWN
    restart: str = "no"

    @property
    def always_restarts(self) -> bool:
        return self.restart in ("always", "unless-stopped")


def expect(services: Iterable[Service], scales: Mapping[str, int] | None = None) -> tuple[Expectation, ...]:
    """What a deploy of these services must bring about. Args: scales: replicas that differ from the file."""
    chosen = scales or {}
    return tuple(
        Expectation(each.name, chosen.get(each.name, each.replicas), each.lifetime, each.restart) for each in services
    )


@dataclass(frozen=True, slots=True)
class ServiceHealth:
    """The verdict on one service, in words for its operator."""

    service: str
    verdict: Verdict
    reason: str
    container: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """The verdict on the project and on each of its services."""

    verdict: Verdict
    services: tuple[ServiceHealth, ...]

    @property
    def failing(self) -> tuple[ServiceHealth, ...]:
        return tuple(each for each in self.services if each.verdict is Verdict.FAILED)

    def sentence(self) -> str:
        """One line for people: the failed services, else the pending ones, else that all are healthy."""
        chosen = self.failing or tuple(each for each in self.services if each.verdict is Verdict.PENDING)
        return "; ".join(f"{each.service}: {each.reason}" for each in chosen) or "all services are healthy"


@dataclass(frozen=True, slots=True)
class _Seen:
    """What the gate remembers of a container: its restarts at first sight, and since when it runs undisturbed."""

    first_restarts: int
    restarts: int
    running_since: float | None


@dataclass(frozen=True, slots=True)
class Gate:
    """The gate's rules and memory. Immutable: `observe` returns the next one.

    Attributes: deadline: the moment, on the caller's monotonic clock, when pending becomes failed.
    """

    expectations: tuple[Expectation, ...]
    deadline: float
    settle_seconds: float = DEFAULT_SETTLE_SECONDS
    max_restarts: int = DEFAULT_MAX_RESTARTS
    seen: Mapping[str, _Seen] = field(default_factory=dict)


def observe(gate: Gate, containers: Iterable[Container], now: float) -> tuple[Gate, Report]:
    """Show the gate all containers of the project, stopped ones too.

    Args: now: seconds on the clock of `gate.deadline`.
    Returns: the gate to ask next time, and the verdict now. A failed verdict is final, a healthy one is of this moment.
    """
    present = tuple(containers)
    seen = {each.id: _remember(gate.seen.get(each.id), each, now) for each in present}
    gate = replace(gate, seen=seen)
    services = tuple(_service(gate, expected, present, now) for expected in gate.expectations)
    verdicts = {each.verdict for each in services}
    overall = next((each for each in (Verdict.FAILED, Verdict.PENDING) if each in verdicts), Verdict.HEALTHY)
    return gate, Report(overall, services)


def next_look(gate: Gate, now: float) -> float | None:
    """Seconds until the passing of time alone may change the verdict; None when only an event can."""
    moments = [gate.deadline - now]
    moments += [
        seen.running_since + gate.settle_seconds - now for seen in gate.seen.values() if seen.running_since is not None
    ]
    ahead = [moment for moment in moments if moment > 0]
    return min(ahead, default=None)


def exit_words(container: Container) -> str:
    """Say how a container ended: `exited with 137 (out of memory), 3 restarts`."""
    meaning = "out of memory" if container.out_of_memory else _EXIT_WORDS.get(container.exit_code, "")
    text = f"exited with {container.exit_code}" + (f" ({meaning})" if meaning else "")
    if container.error:
        text += f": {container.error}"
    return text + _restart_words(container.restarts)


def _restart_words(count: int) -> str:
    return "" if not count else f", {count} restart" + ("s" if count > 1 else "")


def _remember(before: _Seen | None, container: Container, now: float) -> _Seen:
    if container.state != "running":
        running_since = None
    elif before is not None and before.running_since is not None and before.restarts == container.restarts:
        running_since = before.running_since
    else:
        running_since = now - (container.uptime or 0.0)
    first = before.first_restarts if before is not None else container.restarts
    return _Seen(min(first, container.restarts), container.restarts, running_since)


def _service(gate: Gate, expected: Expectation, present: Sequence[Container], now: float) -> ServiceHealth:
    own = [container for container in present if container.service == expected.service]
    health = _judged(gate, expected, own, now)
    if health.verdict is Verdict.PENDING and now >= gate.deadline:
        return replace(health, verdict=Verdict.FAILED, reason=f"{health.reason} when the time was up")
    return health


def _judged(gate: Gate, expected: Expectation, own: Sequence[Container], now: float) -> ServiceHealth:
    verdicts = [_container(gate, expected, container, now) for container in own]
    for wanted in (Verdict.FAILED, Verdict.PENDING):
        if found := next((each for each in verdicts if each.verdict is wanted), None):
            return found
    if len(own) < expected.replicas:
        reason = "not created yet" if not own else f"{len(own)} of {expected.replicas} containers exist"
        return ServiceHealth(expected.service, Verdict.PENDING, reason)
    if len(own) > expected.replicas:
        reason = f"{len(own)} containers exist, {expected.replicas} wanted"
        return ServiceHealth(expected.service, Verdict.PENDING, reason)
    reason = verdicts[0].reason if verdicts else "no containers wanted"
    return ServiceHealth(expected.service, Verdict.HEALTHY, reason)


def _container(gate: Gate, expected: Expectation, container: Container, now: float) -> ServiceHealth:
    verdict, reason = _verdict(gate, expected, container, now)
    return ServiceHealth(expected.service, verdict, reason, container.id)


def _verdict(gate: Gate, expected: Expectation, container: Container, now: float) -> tuple[Verdict, str]:
    seen = gate.seen[container.id]
    if container.restarts - seen.first_restarts >= gate.max_restarts:
        return Verdict.FAILED, exit_words(container)
    match container.state:
        case "running":
            return _running(gate, expected, container, now)
        case "exited" | "dead":
            return _ended(expected, container)
        case "restarting":
            return Verdict.PENDING, exit_words(container)
        case "paused":
            return Verdict.FAILED, "paused"
        case "created" if container.error:
            return Verdict.FAILED, f"could not start: {container.error}"
    return Verdict.PENDING, "created, not started yet" if container.state == "created" else container.state


def _running(gate: Gate, expected: Expectation, container: Container, now: float) -> tuple[Verdict, str]:
    restarts = _restart_words(container.restarts)
    match container.health:
        case "healthy" if expected.lifetime is not Lifetime.ONE_SHOT:
            return Verdict.HEALTHY, f"healthy{restarts}"
        case "unhealthy":
            output = f": {container.health_output}" if container.health_output else ""
            return Verdict.FAILED, f"the healthcheck fails{output}{restarts}"
        case "starting":
            return Verdict.PENDING, f"the healthcheck has not passed yet{restarts}"
    if expected.lifetime is Lifetime.ONE_SHOT:
        return Verdict.PENDING, "still running, it must end with 0"
    since = gate.seen[container.id].running_since
    elapsed = now - since if since is not None else 0.0
    if elapsed >= gate.settle_seconds:
        return Verdict.HEALTHY, f"running{restarts}"
    return Verdict.PENDING, f"running for {elapsed:.0f} of {gate.settle_seconds:g} s{restarts}"


def _ended(expected: Expectation, container: Container) -> tuple[Verdict, str]:
    words = exit_words(container)
    if container.exit_code == 0 and not container.error and expected.lifetime is not Lifetime.LONG:
        return Verdict.HEALTHY, "completed"
    if container.exit_code == 0 and expected.lifetime is Lifetime.LONG:
        words += ", though it is meant to stay up"
    # Docker says "restarting" while it will try again. Exited under such a policy: stopped by hand, or by the engine's
    # own stop; it comes back with the engine. Under any other policy Docker has given up.
    return (Verdict.PENDING if expected.always_restarts else Verdict.FAILED), words
