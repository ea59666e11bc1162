"""Stop, start, restart and scale: one command on the files in the project's folder, then a look at what came of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from towline.agent.errors import JobFailed
from towline.agent.jobs.cancelling import until_cancelled
from towline.agent.jobs.context import JobContext
from towline.agent.jobs.outcome import Ended
from towline.agent.projects import failures
from towline.agent.projects.commands import Step
from towline.agent.projects.workbench import Workbench, open_bench
from towline.compose import health
from towline.compose.argv import Compose
from towline.compose.model import Lifetime, Service
from towline.wire import orders

_STEPS = {
    "compose.stop": Step("stop", "stopping", "command_failed", "stopping failed"),
    "compose.start": Step("start", "starting", "command_failed", "starting failed"),
    "compose.restart": Step("restart", "starting", "command_failed", "restarting failed"),
    "compose.scale": Step("scale", "starting", "command_failed", "scaling failed"),
}


async def act(context: JobContext, kind: str, order: orders.Services | orders.Scale) -> Ended:
    """Do one of the small jobs. Raises: JobFailed."""
    bench = await open_bench(context, must_exist=True)
    return await until_cancelled(context, bench.commands, _act(bench, kind, order))


async def _act(bench: Workbench, kind: str, order: orders.Services | orders.Scale) -> Ended:
    await bench.context.wait_for_docker(_STEPS[kind].stage)
    services = await bench.services_in_folder()
    named = tuple(order.services)
    unknown = sorted(set(named) - services.keys())
    if unknown:
        raise JobFailed("not_found", f"the project has no service {', '.join(unknown)}")
    arguments = _arguments(kind, bench.placed(), order)
    await bench.run(_STEPS[kind], arguments, bench.folder, limit=bench.context.time_left())
    _remember(bench, kind, order, services)
    return await _looked(bench, kind, order, services, named)


def _arguments(kind: str, compose: Compose, order: orders.Services | orders.Scale) -> Sequence[str]:
    if isinstance(order, orders.Scale):
        return compose.scale(order.services)
    commands: dict[str, Callable[[Sequence[str]], list[str]]] = {
        "compose.stop": compose.stop,
        "compose.start": compose.start,
        "compose.restart": compose.restart,
    }
    return commands[kind](order.services)


def _remember(
    bench: Workbench, kind: str, order: orders.Services | orders.Scale, services: Mapping[str, Service]
) -> None:
    """Note what was wanted, so that it is not taken for drift."""
    if isinstance(order, orders.Scale):
        bench.rescale(order.services)
        return
    named = set(order.services or services)
    stopped = set(bench.record.stopped)
    bench.save(stopped=tuple(sorted(stopped | named if kind == "compose.stop" else stopped - named)))


async def _looked(
    bench: Workbench,
    kind: str,
    order: orders.Services | orders.Scale,
    services: Mapping[str, Service],
    named: Sequence[str],
) -> Ended:
    chosen = [each for name, each in services.items() if not named or name in named]
    if kind == "compose.stop":
        stopped = {each.name: orders.ServiceOutcome(state="stopped", image=each.image) for each in chosen}
        return Ended("succeeded", detail=orders.ServicesDetail(services=stopped))
    long_lived = [each for each in chosen if each.lifetime is not Lifetime.ONE_SHOT]
    scales = bench.record.scales
    watched = await bench.watch(
        health.expect(long_lived, scales),
        settle=order.settle_seconds,
        limit=bench.context.time_left(),
        stage="watching",
    )
    detail = orders.ServicesDetail(services=failures.outcomes(watched, long_lived, scales))
    if watched.report.verdict is health.Verdict.HEALTHY:
        return Ended("succeeded", detail=detail)
    failing = await failures.collect(bench.host.engine, watched, bench.context.reporter.redacted)
    detail = orders.ServicesDetail(services=detail.services, failing=failing)
    return Ended("failed", "unhealthy", watched.report.sentence(), detail)
