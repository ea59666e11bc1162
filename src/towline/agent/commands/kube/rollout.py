"""`kubectl rollout`: following, restarting, pausing and taking back what workloads roll out.

Source: kubectl's own rules of when a roll-out is over (polymorphichelpers/rollout_status.go).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from towline.agent.commands.ending import CommandEnds
from towline.agent.commands.invocation import Invocation
from towline.agent.commands.kube.objects import Chosen, Object, Selector, chosen, items
from towline.agent.commands.kube.patches import JSON_PATCH, MANAGER, MERGE, STRATEGIC, changing, done, is_dry
from towline.agent.commands.kube.selectors import of_workload
from towline.agent.commands.tables import Table
from towline.agent.commands.waiting import Waiting
from towline.commandline.resources import BY_NAME

RESTARTED_AT = "kubectl.kubernetes.io/restartedAt"
"""The annotation by which kubectl restarts a workload, so that its history reads the same."""
REVISION = "deployment.kubernetes.io/revision"
CAUSE = "kubernetes.io/change-cause"
HASH = "pod-template-hash"


# -- status ------------------------------------------------------------------------------------


async def status(invocation: Invocation) -> None:
    """Print how far roll-outs are, until they are over."""
    for each in await chosen(invocation):
        await _follow(invocation, each)


async def _follow(invocation: Invocation, each: Chosen) -> None:
    parsed = invocation.plan.parsed
    watches = parsed.text("watch", "true") == "true"
    wanted = parsed.number("revision", 0)
    waiting = Waiting(invocation.clock, parsed.seconds("timeout", 0))
    last = ""
    while True:
        found = await invocation.cluster.get(each.path())
        if wanted and wanted != _revision(found):
            raise CommandEnds(
                f"error: desired revision ({wanted}) is different from the running revision ({_revision(found)})"
            )
        words, is_over = progress(found)
        if words != last:
            invocation.output.line(words)
            last = words
        if is_over or not watches:
            return
        if not await waiting.pause():
            raise CommandEnds("error: timed out waiting for the condition")


def progress(found: Object) -> tuple[str, bool]:
    """Return how far a workload's roll-out is, and whether it is over. Raises: CommandEnds: it never will be."""
    name, status = found["metadata"]["name"], found.get("status") or {}
    if found["metadata"].get("generation", 0) > status.get("observedGeneration", 0):
        return f"Waiting for {found['kind'].lower()} spec update to be observed...", False
    return _PROGRESS[found["kind"]](name, found["spec"], status)


def _deployment(name: str, spec: Object, status: Object) -> tuple[str, bool]:
    for condition in status.get("conditions") or ():
        if condition.get("type") == "Progressing" and condition.get("reason") == "ProgressDeadlineExceeded":
            raise CommandEnds(f'error: deployment "{name}" exceeded its progress deadline')
    wanted, updated = spec.get("replicas", 1), status.get("updatedReplicas", 0)
    begin = f'Waiting for deployment "{name}" rollout to finish: '
    if updated < wanted:
        return f"{begin}{updated} out of {wanted} new replicas have been updated...", False
    if status.get("replicas", 0) > updated:
        return f"{begin}{status['replicas'] - updated} old replicas are pending termination...", False
    if status.get("availableReplicas", 0) < updated:
        return f"{begin}{status.get('availableReplicas', 0)} of {updated} updated replicas are available...", False
    return f'deployment "{name}" successfully rolled out', True


def _daemon_set(name: str, spec: Object, status: Object) -> tuple[str, bool]:
    _must_roll(spec, "RollingUpdate")
    wanted, updated = status.get("desiredNumberScheduled", 0), status.get("updatedNumberScheduled", 0)
    begin = f'Waiting for daemon set "{name}" rollout to finish: '
    if updated < wanted:
        return f"{begin}{updated} out of {wanted} new pods have been updated...", False
    if status.get("numberAvailable", 0) < wanted:
        return f"{begin}{status.get('numberAvailable', 0)} of {wanted} updated pods are available...", False
    return f'daemon set "{name}" successfully rolled out', True


def _stateful_set(name: str, spec: Object, status: Object) -> tuple[str, bool]:
    _must_roll(spec, "RollingUpdate")
    wanted = spec.get("replicas", 1)
    if status.get("readyReplicas", 0) < wanted:
        return f"Waiting for {wanted - status.get('readyReplicas', 0)} pods to be ready...", False
    rolling = (spec.get("updateStrategy") or {}).get("rollingUpdate") or {}
    updated, partition = status.get("updatedReplicas", 0), rolling.get("partition") or 0
    if partition:
        if updated < wanted - partition:
            return (
                f"Waiting for partitioned roll out to finish: {updated} out of {wanted - partition} new pods...",
                False,
            )
        return f"partitioned roll out complete: {updated} new pods have been updated...", True
    if status.get("updateRevision") != status.get("currentRevision"):
        return f"waiting for statefulset rolling update to complete {updated} pods...", False
    return f'statefulset "{name}" rolling update complete {status.get("currentReplicas", 0)} pods...', True


_PROGRESS: dict[str, Callable[[str, Object, Object], tuple[str, bool]]] = {
    "Deployment": _deployment,
    "DaemonSet": _daemon_set,
    "StatefulSet": _stateful_set,
}


def _must_roll(spec: Object, strategy: str) -> None:
    if (spec.get("updateStrategy") or {}).get("type", strategy) != strategy:
        raise CommandEnds(f"error: rollout status is only available for {strategy} strategy type")


# -- changes -----------------------------------------------------------------------------------


async def restart(invocation: Invocation) -> None:
    """Replace pods by noting the moment in their template."""
    noted = {RESTARTED_AT: invocation.clock.now().isoformat(timespec="seconds")}
    body = {"spec": {"template": {"metadata": {"annotations": noted}}}}

    async def change(each: Chosen, found: Object) -> str:
        if found["spec"].get("paused"):
            raise CommandEnds(f"error: {each.shown} is paused; resume it first")
        await invocation.cluster.send("PATCH", each.path(query=MANAGER), body, STRATEGIC)
        return "restarted"

    await _change(invocation, change)


async def pause(invocation: Invocation) -> None:
    await _set_paused(invocation, wanted=True)


async def resume(invocation: Invocation) -> None:
    await _set_paused(invocation, wanted=False)


async def _set_paused(invocation: Invocation, *, wanted: bool) -> None:
    word = "paused" if wanted else "resumed"

    async def change(each: Chosen, found: Object) -> str:
        if bool(found["spec"].get("paused")) == wanted:
            raise CommandEnds(f"error: {each.shown} is already {'paused' if wanted else 'running'}")
        await invocation.cluster.send("PATCH", each.path(query=MANAGER), {"spec": {"paused": wanted}}, MERGE)
        return word

    await _change(invocation, change)


async def undo(invocation: Invocation) -> None:
    """Put the pod template of an earlier revision back."""
    wanted = invocation.plan.parsed.number("to-revision", 0)
    parsed = invocation.plan.parsed
    dry = is_dry(parsed)

    async def change(each: Chosen, found: Object) -> str:
        if found["spec"].get("paused"):
            raise CommandEnds(f"error: {each.shown} is paused; resume it first")
        past = await _past(invocation, found)
        current = max(past, default=0)
        number = wanted or max((one for one in past if one != current), default=0)
        if number not in past:
            which = f"revision {wanted}" if wanted else "an earlier revision"
            raise CommandEnds(f"error: unable to find {which} of {each.shown} in the history")
        body, kind = _put_back(found, past[number])
        before = found["metadata"].get("generation")
        made = await invocation.cluster.send("PATCH", each.path(query=changing(parsed)), body, kind)
        if made["metadata"].get("generation") == before and not dry:
            return f"skipped rollback (current template already matches revision {number})"
        return done("rolled back", parsed)

    await _change(invocation, change)


def _put_back(found: Object, past: Object) -> tuple[Any, str]:
    """Return the patch that brings a revision back, and its type."""
    if found["kind"] != "Deployment":
        return msgspec.json.encode(past["data"]), STRATEGIC
    template = {**past["spec"]["template"]}
    metadata = {**(template.get("metadata") or {})}
    metadata["labels"] = {key: value for key, value in (metadata.get("labels") or {}).items() if key != HASH}
    template["metadata"] = metadata
    return [{"op": "replace", "path": "/spec/template", "value": template}], JSON_PATCH


async def _change(invocation: Invocation, change: Callable[[Chosen, Object], Awaitable[str]]) -> None:
    """Change each object that is meant; others go on when one cannot be. Raises: CommandEnds: the first failure."""
    failed: CommandEnds | None = None
    for each in await chosen(invocation):
        try:
            found = await invocation.cluster.get(each.path())
            invocation.output.line(f"{each.shown} {await change(each, found)}")
        except CommandEnds as error:
            if failed is not None:
                invocation.output.error(str(error))
            failed = failed or error
    if failed is not None:
        raise failed


# -- history -----------------------------------------------------------------------------------


async def history(invocation: Invocation) -> None:
    """Print the revisions, or the template of one."""
    wanted = invocation.plan.parsed.number("revision", 0)
    for each in await chosen(invocation):
        past = await _past(invocation, await invocation.cluster.get(each.path()))
        if wanted:
            if wanted not in past:
                raise CommandEnds(f"error: unable to find the specified revision {wanted}")
            _print_revision(invocation, each, wanted, past[wanted])
            continue
        invocation.output.line(each.shown)
        table = Table(["Revision", "Change-Cause"])
        rows = [[number, _notes(found).get(CAUSE)] for number, found in sorted(past.items())]
        for line in table.lay_out(rows):
            invocation.output.line(line)


def _print_revision(invocation: Invocation, each: Chosen, number: int, found: Object) -> None:
    template = found["spec"]["template"] if "spec" in found else found["data"]["spec"]["template"]
    invocation.output.line(f"{each.shown} with revision #{number}")
    invocation.output.line("Pod Template:")
    for container in template["spec"].get("containers") or ():
        invocation.output.line(f"  {container['name']}: {container.get('image', '')}")


async def _past(invocation: Invocation, found: Object) -> dict[int, Object]:
    """Return the revisions of a workload by number."""
    name = "replicasets" if found["kind"] == "Deployment" else "controllerrevisions"
    past = {}
    async for item in items(invocation, BY_NAME[name], Selector(of_workload(found))):
        owners = item["metadata"].get("ownerReferences") or ()
        if any(owner.get("uid") == found["metadata"]["uid"] for owner in owners):
            number = item.get("revision") or int(_notes(item).get(REVISION, "0"))
            past[number] = item
    return past


def _notes(found: Object) -> dict[str, str]:
    return found["metadata"].get("annotations") or {}


def _revision(found: Object) -> int:
    return int(_notes(found).get(REVISION, "0"))
