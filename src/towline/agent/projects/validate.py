"""Judging a project without touching it: Compose's own check on staged files, then the policy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from towline.agent.errors import JobFailed
from towline.agent.jobs.context import JobContext
from towline.agent.jobs.outcome import Ended
from towline.agent.projects import content, judging, staging
from towline.agent.projects.workbench import Workbench, open_bench
from towline.wire import orders


async def validate(context: JobContext, order: orders.Deploy) -> Ended:
    """Check an order's files. Succeeds when the check could be made; the findings are in the detail."""
    bench = await open_bench(context)
    try:
        return Ended("succeeded", detail=await _findings(bench, order))
    except judging.Invalid as error:
        return Ended("succeeded", detail=orders.ValidateDetail(errors=(error.problem,)))
    except JobFailed as error:
        if isinstance(error.detail, orders.DeployDetail):
            return Ended("succeeded", detail=orders.ValidateDetail(errors=error.detail.errors))
        raise
    finally:
        staging.discard(bench.stage)


async def _findings(bench: Workbench, order: orders.Deploy) -> orders.ValidateDetail:
    opened = content.open_order(order, bench.host.identity.current)
    bench.context.reporter.hide(opened.secrets)
    prepared = bench.prepare(order, opened, order.image_pins)
    bench.write_stage(prepared)
    await bench.read_model(prepared, bench.staged(prepared), bench.stage)
    found = await judging.violations(
        prepared.model,
        bench.host.policy(),
        order.policy_level,
        bench.host.engine,
        name=order.project,
        folder=str(bench.folder),
        protected=bench.host.protected,
        document=prepared.parsed.document,
    )
    return orders.ValidateDetail(violations=found, config=_without(prepared.model, opened.secrets))


def _without(model: dict[str, Any], secrets: Mapping[str, str]) -> dict[str, Any]:
    """Return the model with every value of a secret replaced by the secret's name."""
    hidden = {value: f"‹{name}›" for name, value in secrets.items() if value}
    cleaned: dict[str, Any] = _hide(model, hidden)
    return cleaned


def _hide(value: Any, hidden: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        for secret, shown in hidden.items():
            value = value.replace(secret, shown)
        return value
    if isinstance(value, dict):
        return {key: _hide(item, hidden) for key, item in value.items()}
    return [_hide(item, hidden) for item in value] if isinstance(value, list) else value
