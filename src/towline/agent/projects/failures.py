"""What people are told of a project that is not healthy: which container, why, and its last words."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from towline.agent.docker import logs
from towline.agent.docker.engine import Engine
from towline.agent.errors import DockerError
from towline.agent.projects.gate import Watched
from towline.compose.health import ServiceHealth, Verdict
from towline.compose.model import Lifetime, Service
from towline.compose.text import clean
from towline.wire import orders

MAX_FAILING = 5
"""Containers whose last lines are fetched; the others are named."""


async def collect(engine: Engine, watched: Watched, redact: Callable[[str], str]) -> tuple[orders.Failing, ...]:
    """Describe the failing containers."""
    found: list[orders.Failing] = []
    for each in watched.report.failing:
        name = next((one.name for one in watched.containers if one.id == each.container), "")
        tail = await _tail(engine, each, redact) if len(found) < MAX_FAILING else ()
        found.append(orders.Failing(service=each.service, container=name, reason=redact(each.reason), log_tail=tail))
    return tuple(found)


async def _tail(engine: Engine, failing: ServiceHealth, redact: Callable[[str], str]) -> tuple[str, ...]:
    if not failing.container:
        return ()
    try:
        lines = await logs.tail(engine, failing.container, orders.LOG_TAIL_LINES)
    except DockerError:
        return ()
    return tuple(
        clean(redact(line.decode("utf-8", "replace")), orders.LOG_TAIL_LINE_BYTES).replace("\n", " ") for line in lines
    )


def outcomes(
    watched: Watched, services: Iterable[Service], scales: Mapping[str, int]
) -> dict[str, orders.ServiceOutcome]:
    """Tell how each service stands."""
    verdicts = {each.service: each for each in watched.report.services}
    found = {}
    for service in services:
        own = [each for each in watched.containers if each.service == service.name]
        verdict = verdicts.get(service.name)
        found[service.name] = orders.ServiceOutcome(
            state=_state(verdict, service),
            reason=verdict.reason if verdict else "",
            running=sum(1 for each in own if each.state == "running"),
            wanted=scales.get(service.name, service.replicas),
            image=service.image,
        )
    return found


def _state(verdict: ServiceHealth | None, service: Service) -> str:
    if verdict is None:
        return "pending"
    if verdict.verdict is not Verdict.HEALTHY:
        return verdict.verdict.value
    if verdict.reason == "completed":
        return "completed"
    return "healthy" if service.has_healthcheck and service.lifetime is not Lifetime.ONE_SHOT else "running"
