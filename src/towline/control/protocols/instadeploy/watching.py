"""The health gate over STATUS: as strict as with our own agent, as far as the table of running containers tells. Pure.

A container that ended is simply not in the table. A service that must run and has none there for two looks has failed;
one that says it may end (`may_be_gone`) counts as completed, and the words say that nobody knows how it ended.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from towline.compose import health
from towline.compose.health import Gate, Report, ServiceHealth, Verdict
from towline.compose.model import Service
from towline.control.protocols.instadeploy.rendering import may_be_gone
from towline.control.protocols.instadeploy.status import Row, judged, unseen
from towline.wire import orders

PATIENCE = 2
"""Looks in a row without a container of a service until it counts as gone: Compose itself was done with `up`."""

COMPLETED = "no container runs any more; how it ended an InstaDeploy agent does not tell"
GONE = "it ended right after its start; why an InstaDeploy agent does not tell, `docker compose logs` on the host does"


@dataclass(frozen=True, slots=True)
class Watch:
    """What was seen so far of the services of one deploy. Immutable: `look` returns the next one."""

    services: tuple[Service, ...]
    gate: Gate
    missing: dict[str, int] = field(default_factory=dict)
    """Service to the number of looks in a row at which it had no container."""
    restarts: dict[str, int] = field(default_factory=dict)
    before: dict[str, Row] = field(default_factory=dict)


def begin(services: Sequence[Service], *, settle_seconds: float, deadline: float) -> Watch:
    """Begin to watch. Args: deadline: on the clock that `look` is given, when waiting becomes failing."""
    lasting = [each for each in services if not may_be_gone(each)]
    return Watch(tuple(services), Gate(health.expect(lasting), deadline, settle_seconds))


def look(watch: Watch, rows: Sequence[Row], now: float) -> tuple[Watch, Report]:
    """Show one table. Returns: what is known next, and the verdict."""
    watch = _counted(watch, rows)
    gate, report = health.observe(watch.gate, [judged(row, watch.restarts.get(row.name, 0)) for row in rows], now)
    found = {each.service: each for each in report.services}
    verdicts = tuple(_verdict(watch, each, found.get(each.name), rows) for each in watch.services)
    kinds = {each.verdict for each in verdicts}
    overall = next((each for each in (Verdict.FAILED, Verdict.PENDING) if each in kinds), Verdict.HEALTHY)
    return replace(watch, gate=gate), Report(overall, verdicts)


def _counted(watch: Watch, rows: Sequence[Row]) -> Watch:
    missing = {name: watch.missing.get(name, 0) + 1 for name in unseen([each.name for each in watch.services], rows)}
    restarts = {row.name: watch.restarts.get(row.name, 0) + _restarted(watch.before.get(row.name), row) for row in rows}
    return replace(watch, missing=missing, restarts=restarts, before={row.name: row for row in rows})


def _restarted(before: Row | None, now: Row) -> bool:
    """Tell whether a container was started anew between two looks: only its state and a rounded time are known."""
    if now.state == "restarting":
        return True
    if before is None or before.uptime is None or now.uptime is None:
        return False
    return now.uptime < before.uptime


def _verdict(watch: Watch, service: Service, found: ServiceHealth | None, rows: Sequence[Row]) -> ServiceHealth:
    if found is not None:
        gone = watch.missing.get(service.name, 0) >= PATIENCE and service.replicas > 0
        return replace(found, verdict=Verdict.FAILED, reason=GONE) if gone else found
    own = [row for row in rows if row.service == service.name]
    if not own:
        return ServiceHealth(service.name, Verdict.HEALTHY, COMPLETED)
    for row in own:
        if row.state == "restarting" or (row.state == "exited" and row.exit_code):
            verdict = Verdict.PENDING if row.state == "restarting" else Verdict.FAILED
            return ServiceHealth(service.name, verdict, f"{row.state}: exited with {row.exit_code}", row.name)
    return ServiceHealth(service.name, Verdict.HEALTHY, own[0].state or "state not known", own[0].name)


def outcomes(services: Sequence[Service], report: Report, rows: Sequence[Row]) -> dict[str, orders.ServiceOutcome]:
    """Return how each service stands, for a job's result."""
    words = {Verdict.HEALTHY: "running", Verdict.PENDING: "pending", Verdict.FAILED: "failed"}
    told = {each.service: each for each in report.services}
    found: dict[str, orders.ServiceOutcome] = {}
    for service in services:
        own = [row for row in rows if row.service == service.name]
        verdict = told[service.name]
        state = "healthy" if any(row.health == "healthy" for row in own) else words[verdict.verdict]
        found[service.name] = orders.ServiceOutcome(
            state="completed" if verdict.reason == COMPLETED else state,
            reason=verdict.reason,
            running=sum(row.state == "running" for row in own),
            wanted=service.replicas,
            image=own[0].image if own else service.image,
        )
    return found


def failing(report: Report, tail: Sequence[str] = ()) -> tuple[orders.Failing, ...]:
    """Return what kept a deploy from becoming healthy. Args: tail: what the agent printed last."""
    return tuple(
        orders.Failing(service=each.service, container=each.container, reason=each.reason, log_tail=tuple(tail))
        for each in report.failing
    )
