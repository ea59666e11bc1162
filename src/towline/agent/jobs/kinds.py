"""Which code does which kind of job. Modules are imported when the first such job comes: an idle agent stays small."""

from __future__ import annotations

from towline.agent.errors import JobFailed
from towline.agent.jobs.context import JobContext
from towline.agent.jobs.outcome import Ended
from towline.compose import names
from towline.compose.errors import NameRefused
from towline.compose.policy import Level
from towline.wire import orders


async def execute(context: JobContext) -> Ended:
    """Do a job's work, from where the journal says it stands. Raises: JobFailed."""
    order = _order(context)
    if isinstance(order, orders.Command):
        from towline.agent.commands import job

        return await job.run(context, order)
    context.host.policy().require_project(order.project)
    match context.entry.kind, order:
        case "compose.deploy", orders.Deploy():
            from towline.agent.projects import deploy

            return await deploy.deploy(context, order)
        case "compose.validate", orders.Deploy():
            from towline.agent.projects import validate

            return await validate.validate(context, order)
        case "compose.adopt", orders.Adopt():
            from towline.agent.projects import adopt

            return await adopt.adopt(context, order)
        case "compose.remove", orders.Remove():
            from towline.agent.projects import remove

            return await remove.remove(context, order)
        case "compose.prune", orders.Prune():
            from towline.agent.projects import prune

            return await prune.prune(context, order)
        case kind, orders.Services() | orders.Scale():
            from towline.agent.projects import actions

            return await actions.act(context, kind, order)
    raise JobFailed("bad_order", f"this agent does not know jobs of the kind {context.entry.kind!r}")


def _order(context: JobContext) -> orders.Order:
    try:
        order = orders.decode(context.entry.kind, context.entry.payload)
        if not isinstance(order, orders.Command) or order.project:
            names.project_name(order.project)
        if isinstance(order, orders.Deploy):
            names.project_name(order.revision_id)  # it names a file
            Level(order.policy_level)
    except (orders.BadOrder, NameRefused, ValueError) as error:
        raise JobFailed("bad_order", f"the order cannot be read: {error}") from error
    return order
