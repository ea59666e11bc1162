"""A command as a job of the control plane: judged again, done once, reported as it goes.

A command that writes is noted in the journal before its first change. Found begun after a restart, it is not done
again: nobody can know how far it got. One that only reads begins anew, behind a marker that makes what came before
void.
"""

from __future__ import annotations

from towline.agent.commands.cluster import Cluster
from towline.agent.commands.ending import FAILED, NotAnnounced
from towline.agent.commands.execution import check
from towline.agent.commands.invocation import Invocation
from towline.agent.commands.output import Output
from towline.agent.commands.supervising import detail, ended, until_stopped
from towline.agent.errors import PolicyRefused
from towline.agent.jobs.context import JobContext
from towline.agent.jobs.outcome import Ended
from towline.commandline.errors import BadCommand
from towline.commandline.plan import Plan
from towline.commandline.reading import parse
from towline.kube.errors import BadIdentity
from towline.kube.identity import Identity
from towline.kube.identity import check as check_identity
from towline.wire import link, orders

BEGUN, WRITING = b"begun", b"writing"
"""What the journal holds of a command: it was begun; it may have changed something."""

UNCERTAIN = "the agent was restarted in the middle: what the command changes may or may not have happened; look"


async def run(context: JobContext, order: orders.Command) -> Ended:
    """Do a command, or say why not. Raises: StorageError: the journal cannot be written."""
    try:
        plan = parse(
            order.program, order.arguments, stdin=order.stdin, namespace=order.namespace, project=order.project
        )
        identity = Identity(order.user, order.groups)
        check_identity(identity)
    except (BadCommand, BadIdentity) as error:
        return Ended("refused", "bad_command", str(error))
    if context.entry.plan == WRITING:
        return Ended("failed", "interrupted", UNCERTAIN, orders.CommandDetail(exit_code=FAILED))
    if context.cancelled.is_set():
        return Ended("cancelled", "cancelled", "cancelled before it had done anything")
    if context.entry.plan is not None:
        context.reporter.output(orders.RESTARTED, "the agent was restarted; the command begins anew")
    return await _run(context, order, plan, identity)


async def _run(context: JobContext, order: orders.Command, plan: Plan, identity: Identity) -> Ended:
    host, noted = context.host, _Noted(context, plan)
    output = Output(context.reporter.output, min(order.output_bytes, orders.MAX_OUTPUT_BYTES), clock=host.clock)
    api = None
    if plan.program == "kubectl" and host.kubernetes is not None:
        before = noted.before_write
        api = Cluster(host.kubernetes, identity, plan, host.policy, before_write=before, clock=host.clock)
    invocation = Invocation(
        plan, output, host.policy, host.engine, noted.before_write, api, host.clock, host.protected
    )  # fmt: skip
    try:
        check(invocation)
        host.journal.keep_plan(context.job_id, BEGUN)
        found = await until_stopped(invocation, context.cancelled, context.time_left())
        output.close()
        return ended(found, output, may_have_happened=noted.is_writing)
    except (PolicyRefused, NotAnnounced) as error:
        outcome: link.JobOutcome = "failed" if noted.is_writing else "refused"
        return Ended(outcome, "forbidden", str(error), detail(output, FAILED))
    finally:
        output.close()
        if api is not None:
            api.close()


class _Noted:
    """Writes down, once, that the command is about to change something."""

    def __init__(self, context: JobContext, plan: Plan) -> None:
        self._context = context
        self._writes = plan.writes
        self.is_writing = False

    def before_write(self) -> None:
        if self._writes and not self.is_writing:
            self._context.host.journal.keep_plan(self._context.job_id, WRITING)
            self.is_writing = True
