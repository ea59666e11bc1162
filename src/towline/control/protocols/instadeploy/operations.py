"""The other jobs of a project on an InstaDeploy agent: stop, start, remove; and a no by name to what it cannot do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import cast

import msgspec

from towline.control.protocols.instadeploy.deploying import Deploying
from towline.control.protocols.instadeploy.rendering import MOVE_ON
from towline.control.protocols.instadeploy.task import Ended, Ends, Task, words
from towline.wire import instadeploy, link, orders
from towline.wire.instadeploy import Standing

NOT_THERE = "project does not exist"
"""What the agent answers when it has no folder for the project."""

REFUSED: Mapping[str, str] = {
    "compose.validate": "cannot check a file on its host; what is checked here was checked",
    "compose.restart": "knows no restart; stop the project, then start it, which makes new containers",
    "compose.scale": "knows no scale; write `scale` into the file and deploy that",
    "compose.prune": "cannot delete images; `docker image prune` on the host does",
    "compose.adopt": "does not give out the files of its projects; `towline import instadeploy --projects` takes them",
    "command.run": "runs no commands",
}
"""Kinds of jobs that its protocol has no message for, and what to do instead."""


async def run(task: Task, order: orders.Order) -> Ended:
    """Do a job. Raises: TunnelClosed: it is done once more when the agent is back."""
    found = _WORK.get(task.kind)
    if found is None:
        why = REFUSED.get(task.kind, f"knows nothing of {task.kind}")
        return Ended("refused", "bad_order", f"an InstaDeploy agent {why}; or {MOVE_ON}")
    try:
        task.require_going()
        return await found(task, order)
    except Ends as error:
        return Ended(error.outcome, error.code, str(error))


async def _deploy(task: Task, order: orders.Order) -> Ended:
    return await Deploying(task, cast(orders.Deploy, order)).run()


async def _stop(task: Task, order: orders.Order) -> Ended:
    _require_all(cast(orders.Services, order))
    task.say("stopping", "InstaDeploy stops by `docker compose down`: containers and networks go, volumes stay")
    await _down(task, order.project)
    return Ended(detail=orders.ServicesDetail())


async def _start(task: Task, order: orders.Order) -> Ended:
    wanted = cast(orders.Services, order)
    _require_all(wanted)
    file = await task.shelf.current(order.project, task.cluster_id)
    if file is None:
        raise Ends("not_found", "there is no revision to start; deploy one")
    same = msgspec.structs.replace(file, auto_rollback=False, settle_seconds=wanted.settle_seconds)
    ended = await Deploying(task, same).run()
    detail = cast(orders.DeployDetail, ended.detail) if ended.detail is not None else orders.DeployDetail()
    ended.detail = orders.ServicesDetail(services=detail.services, failing=detail.failing)
    return ended


async def _remove(task: Task, order: orders.Order) -> Ended:
    wanted = cast(orders.Remove, order)
    if wanted.volumes:
        raise Ends("bad_order", "an InstaDeploy agent deletes no volumes; remove the project without them", "refused")
    await _down(task, order.project, gone_is_fine=True)
    task.say("removing", "the folder with the file stays on the host, and so do volumes")
    return Ended(detail=orders.RemoveDetail())


async def _down(task: Task, project: str, *, gone_is_fine: bool = False) -> None:
    """Take the project down; with a broken file the last good one is sent first. Raises: Ends."""
    answer = await task.ask(instadeploy.stop(task.wire_id("stop"), project), "stopping")
    if answer.status is Standing.COMPLETED:
        task.say_output("stopping", answer.logs)
        return
    if NOT_THERE in f"{answer.error}{answer.logs}".lower():
        if gone_is_fine:
            return
        raise Ends("not_found", "the agent has no project of this name")
    if not await _repaired(task, project):
        raise Ends("command_failed", words(answer) or "docker compose down failed")
    again = await task.ask(instadeploy.stop(task.wire_id("stop.again"), project), "stopping")
    if again.status is not Standing.COMPLETED:
        raise Ends("command_failed", words(again) or "docker compose down failed")


async def _repaired(task: Task, project: str) -> bool:
    """Send the last good file over one that Compose cannot read; it comes up for a moment."""
    file = await task.shelf.current(project, task.cluster_id)
    if file is None:
        return False
    task.say("stopping", "the file on the host may be broken; sending the last good one first", level="warning")
    repair = msgspec.structs.replace(file, auto_rollback=False, settle_seconds=0.0)
    return (await Deploying(task, repair).run()).outcome == "succeeded"


def _require_all(order: orders.Services) -> None:
    if order.services:
        raise Ends("bad_order", f"an InstaDeploy agent stops and starts whole projects; or {MOVE_ON}", "refused")


_WORK: Mapping[str, Callable[[Task, orders.Order], Awaitable[Ended]]] = {
    "compose.deploy": _deploy,
    "compose.stop": _stop,
    "compose.start": _start,
    "compose.remove": _remove,
}


def result(task: Task, ended: Ended) -> link.JobResult:
    """Return the message that tells how a job ended."""
    return link.JobResult(
        job_id=task.job_id,
        fence=task.fence,
        outcome=ended.outcome,
        code=ended.code,
        error=task.redacted(ended.error),
        detail=orders.detail_dict(ended.detail) if ended.detail is not None else {},
        finished_at=task.clock.now().timestamp(),
        last_seq=task.seq,
    )
