"""`kubectl delete`, and `kubectl scale`."""

from __future__ import annotations

from typing import Any

from towline.agent.commands.cluster import Rejected
from towline.agent.commands.discovery import resolve
from towline.agent.commands.ending import CommandEnds
from towline.agent.commands.invocation import Invocation
from towline.agent.commands.kube.objects import Chosen, Object, chosen
from towline.agent.commands.kube.patches import MERGE, changing, done, is_dry
from towline.agent.commands.waiting import Waiting
from towline.commandline.flags import Parsed


async def delete(invocation: Invocation) -> None:
    """Delete objects, then wait until they are gone. Raises: CommandEnds."""
    parsed = invocation.plan.parsed
    gone: list[tuple[Chosen, str]] = []
    failed: CommandEnds | None = None
    for each in await _meant(invocation):
        try:
            answer = await invocation.cluster.send("DELETE", each.path(), _options(parsed))
        except Rejected as error:
            if error.status == 404 and parsed.has("ignore-not-found"):
                continue
            if failed is not None:
                invocation.output.error(str(failed))
            failed = error
            continue
        invocation.output.line(f'{each.resource.shown} "{each.name}" {done("deleted", parsed)}')
        gone.append((each, _uid(answer)))
    if parsed.text("wait", "true") == "true" and not is_dry(parsed):
        await _wait(invocation, gone)
    if failed is not None:
        raise failed


async def _meant(invocation: Invocation) -> list[Chosen]:
    if not invocation.plan.manifests:
        return await chosen(invocation)
    return [
        Chosen(await resolve(invocation.cluster, each.resource), each.namespace, each.name)
        for each in invocation.plan.manifests
    ]


def _options(parsed: Parsed) -> Object:
    options: dict[str, Any] = {"kind": "DeleteOptions", "apiVersion": "v1"}
    options["propagationPolicy"] = parsed.text("cascade", "background").capitalize()
    grace = 1 if parsed.has("now") else parsed.number("grace-period", -1)
    if grace == 0 and not parsed.has("force"):
        grace = 1
    if parsed.has("force") and grace < 0:
        grace = 0
    if grace >= 0:
        options["gracePeriodSeconds"] = grace
    if is_dry(parsed):
        options["dryRun"] = ["All"]
    return options


def _uid(answer: Object) -> str:
    """Return the uid of what was deleted: an object that still ends, or a Status."""
    found = (answer.get("metadata") or {}).get("uid") or (answer.get("details") or {}).get("uid")
    return str(found or "")


async def _wait(invocation: Invocation, gone: list[tuple[Chosen, str]]) -> None:
    waiting = Waiting(invocation.clock, invocation.plan.parsed.seconds("timeout", 0))
    for each, uid in gone:
        while await is_there(invocation, each, uid):
            if not await waiting.pause():
                raise CommandEnds(f"error: timed out waiting for {each.shown} to be deleted")


async def is_there(invocation: Invocation, each: Chosen, uid: str) -> bool:
    """Tell whether an object still is the one that it was."""
    try:
        found = await invocation.cluster.get(each.path())
    except Rejected as error:
        if error.status == 404:
            return False
        raise
    return not uid or found["metadata"]["uid"] == uid


async def scale(invocation: Invocation) -> None:
    """Set how many pods workloads have. Raises: CommandEnds."""
    parsed = invocation.plan.parsed
    wanted = parsed.number("replicas", 0)
    for each in await chosen(invocation):
        if parsed.is_given("current-replicas"):
            has = (await invocation.cluster.get(each.path("scale")))["spec"].get("replicas", 0)
            if has != parsed.number("current-replicas", -1):
                raise CommandEnds(f"error: {each.shown} has {has} replicas, not {parsed.text('current-replicas')}")
        body = {"spec": {"replicas": wanted}}
        await invocation.cluster.send("PATCH", each.path("scale", changing(parsed)), body, MERGE)
        invocation.output.line(f"{each.shown} {done('scaled', parsed)}")
