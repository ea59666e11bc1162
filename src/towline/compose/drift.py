"""Drift: where the containers that exist differ from the revision that should run.

Not here: asking the engine, or repairing anything.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from towline.compose.containers import Container
from towline.compose.health import exit_words
from towline.compose.model import Lifetime


class DriftKind(StrEnum):
    """In what way a service differs."""

    MISSING = "missing"
    STOPPED = "stopped"
    UNHEALTHY = "unhealthy"
    CONFIGURATION = "configuration"
    IMAGE = "image"
    REPLICAS = "replicas"
    UNKNOWN_SERVICE = "unknown service"
    RUNNING = "running"


@dataclass(frozen=True, slots=True)
class Expected:
    """What the revision says about one service.

    Attributes: config_hash: as `docker compose config --hash` gives it; "" when it is not known. image: the image id
        that was deployed; "" when any will do.
    """

    service: str
    replicas: int = 1
    config_hash: str = ""
    image: str = ""
    lifetime: Lifetime = Lifetime.UNKNOWN


@dataclass(frozen=True, slots=True)
class Drift:
    """One difference, in words for the operator."""

    service: str
    kind: DriftKind
    reason: str
    container: str = ""


def compare(
    expected: Iterable[Expected], containers: Iterable[Container], *, is_stopped: bool = False
) -> tuple[Drift, ...]:
    """Find the differences.

    Args: is_stopped: the project was stopped on purpose, so that a running container is the drift.
    """
    wanted = {each.service: each for each in expected}
    present: dict[str, list[Container]] = {}
    for container in containers:
        if not container.is_one_off:
            present.setdefault(container.service, []).append(container)
    return tuple(_compare(wanted, present, is_stopped))


def _compare(
    wanted: Mapping[str, Expected], present: Mapping[str, list[Container]], is_stopped: bool
) -> Iterator[Drift]:
    for service, expectation in wanted.items():
        own = present.get(service, [])
        if is_stopped:
            yield from _running(own)
            continue
        yield from _count(expectation, own)
        for container in own:
            yield from _container(expectation, container)
    for service, own in present.items():
        if service not in wanted:
            reason = "the revision has no such service"
            yield Drift(service, DriftKind.UNKNOWN_SERVICE, reason, own[0].name)


def _running(own: Iterable[Container]) -> Iterator[Drift]:
    for container in own:
        if container.state in ("running", "restarting", "paused"):
            yield Drift(container.service, DriftKind.RUNNING, "runs although the project was stopped", container.name)


def _count(expected: Expected, own: list[Container]) -> Iterator[Drift]:
    may_be_gone = expected.lifetime is Lifetime.ONE_SHOT  # cleaned up after its run
    if not own and expected.replicas and not may_be_gone:
        yield Drift(expected.service, DriftKind.MISSING, "its container is gone")
    elif own and len(own) != expected.replicas:
        reason = f"{len(own)} containers, the revision has {expected.replicas}"
        yield Drift(expected.service, DriftKind.REPLICAS, reason)


def _container(expected: Expected, container: Container) -> Iterator[Drift]:
    service, name = expected.service, container.name
    if expected.config_hash and container.config_hash and container.config_hash != expected.config_hash:
        yield Drift(service, DriftKind.CONFIGURATION, "it was made from another configuration", name)
    if expected.image and container.image and container.image != expected.image:
        yield Drift(service, DriftKind.IMAGE, "it runs another image than the one deployed", name)
    completed = container.has_ended and container.exit_code == 0 and expected.lifetime is not Lifetime.LONG
    if container.state == "running":
        if container.health == "unhealthy":
            yield Drift(service, DriftKind.UNHEALTHY, "its healthcheck fails", name)
    elif not completed:
        words = exit_words(container) if container.has_ended or container.state == "restarting" else container.state
        yield Drift(service, DriftKind.STOPPED, words, name)
