"""`kubectl cordon`, `uncordon` and `drain`: pods leave by the eviction API, within their disruption budgets.

Source: Kubernetes, "Safely Drain a Node", and kubectl's own filters of pods (pkg/drain/filters.go).
"""

from __future__ import annotations

from dataclasses import dataclass

from towline.agent.commands.cluster import Rejected, path_of
from towline.agent.commands.ending import CommandEnds
from towline.agent.commands.invocation import Invocation
from towline.agent.commands.kube.delete import is_there
from towline.agent.commands.kube.objects import Chosen, Object, Selector, chosen, items
from towline.agent.commands.kube.patches import MERGE, changing, done, is_dry
from towline.agent.commands.waiting import Waiting
from towline.commandline.flags import Parsed
from towline.commandline.kubectl import PODS

RETRY_PAUSE = 5.0
"""Seconds until an eviction is tried again that a budget forbids now, as kubectl waits."""
MIRROR = "kubernetes.io/config.mirror"
"""The annotation of pods that a node runs by itself: nobody can evict them."""


async def cordon(invocation: Invocation) -> None:
    for node in await chosen(invocation):
        await _mark(invocation, node, wanted=True)


async def uncordon(invocation: Invocation) -> None:
    for node in await chosen(invocation):
        await _mark(invocation, node, wanted=False)


async def _mark(invocation: Invocation, node: Chosen, *, wanted: bool) -> None:
    word = "cordoned" if wanted else "uncordoned"
    found = await invocation.cluster.get(node.path())
    if bool(found["spec"].get("unschedulable")) == wanted:
        invocation.output.line(f"{node.shown} already {word}")
        return
    parsed = invocation.plan.parsed
    body = {"spec": {"unschedulable": True if wanted else None}}
    await invocation.cluster.send("PATCH", node.path(query=changing(parsed)), body, MERGE)
    invocation.output.line(f"{node.shown} {done(word, parsed)}")


# -- drain -------------------------------------------------------------------------------------


async def drain(invocation: Invocation) -> None:
    """Cordon nodes and empty them. Raises: CommandEnds: pods are in the way, or the time is up."""
    nodes = await chosen(invocation)
    for node in nodes:
        await _mark(invocation, node, wanted=True)
    waiting = Waiting(invocation.clock, invocation.plan.parsed.seconds("timeout", 0))
    for node in nodes:
        await _empty(invocation, node, waiting)
        invocation.output.line(f"{node.shown} {done('drained', invocation.plan.parsed)}")


async def _empty(invocation: Invocation, node: Chosen, waiting: Waiting) -> None:
    parsed = invocation.plan.parsed
    selector = Selector(parsed.text("pod-selector"), f"spec.nodeName={node.name}")
    leaving, problems = [], []
    async for pod in items(invocation, PODS, selector):
        verdict = judge(pod, parsed)
        if verdict.problem:
            problems.append(f"{_name(pod)}: {verdict.problem}")
        if verdict.warning:
            invocation.output.error(f"Warning: {verdict.warning}: {_name(pod)}")
        if verdict.leaves:
            leaving.append(pod)
    if problems:
        raise CommandEnds(f'error: unable to drain node "{node.name}": ' + "; ".join(problems))
    evicted = await _evict_all(invocation, leaving, waiting)
    for each, uid in evicted:
        while await is_there(invocation, each, uid):
            if not await waiting.pause():
                raise CommandEnds(f"error: timed out waiting for {each.shown} to leave")
        invocation.output.line(f"{each.shown} evicted")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of one pod."""

    leaves: bool
    warning: str = ""
    problem: str = ""
    """Why the node cannot be drained as long as this is not allowed by a flag."""


def judge(pod: Object, parsed: Parsed) -> Verdict:
    """Decide about a pod of a node that is drained."""
    metadata = pod["metadata"]
    if MIRROR in (metadata.get("annotations") or {}):
        return Verdict(False)
    if (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
        return Verdict(True)
    owner = next((one for one in metadata.get("ownerReferences") or () if one.get("controller")), None)
    if owner is not None and owner.get("kind") == "DaemonSet":
        if parsed.has("ignore-daemonsets"):
            return Verdict(False, "stays, as a daemon set's pod")
        return Verdict(False, problem="a daemon set's pod (--ignore-daemonsets lets it stay)")
    if owner is None and not parsed.has("force"):
        return Verdict(False, problem="no controller makes it anew (--force evicts it all the same)")
    has_scratch = any("emptyDir" in volume for volume in pod["spec"].get("volumes") or ())
    if has_scratch and not parsed.has("delete-emptydir-data"):
        return Verdict(False, problem="loses what is in its emptyDir (--delete-emptydir-data)")
    return Verdict(True, "" if owner is not None else "is gone for good, no controller makes it anew")


async def _evict_all(invocation: Invocation, pods: list[Object], waiting: Waiting) -> list[tuple[Chosen, str]]:
    """Evict pods; those that a budget holds back are tried again until the time is up."""
    evicted: list[tuple[Chosen, str]] = []
    while pods:
        held: list[Object] = []
        for pod in pods:
            each = Chosen(PODS, pod["metadata"]["namespace"], pod["metadata"]["name"])
            invocation.output.line(f"evicting pod {_name(pod)}")
            if await _evict(invocation, each):
                evicted.append((each, pod["metadata"]["uid"]))
            else:
                held.append(pod)
        pods = held
        if is_dry(invocation.plan.parsed):
            return []
        if pods and not await waiting.pause(RETRY_PAUSE):
            names = ", ".join(_name(pod) for pod in pods)
            raise CommandEnds(f"error: timed out: disruption budgets still hold {names}")
    return evicted


async def _evict(invocation: Invocation, pod: Chosen) -> bool:
    """Ask for one eviction. Returns: False when a budget forbids it for now."""
    grace = invocation.plan.parsed.number("grace-period", -1)
    options = {"deleteOptions": {"gracePeriodSeconds": grace}} if grace >= 0 else {}
    metadata = {"name": pod.name, "namespace": pod.namespace}
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": metadata, **options}
    query = {"dryRun": "All"} if is_dry(invocation.plan.parsed) else {}
    try:
        await invocation.cluster.send("POST", path_of(PODS, pod.namespace, pod.name, "eviction", query), body)
    except Rejected as error:
        if error.status == 404:
            return True
        if error.status != 429:
            raise
        invocation.output.error(f"{pod.shown} -n {pod.namespace} (will retry after {RETRY_PAUSE:g}s): {error}")
        return False
    return True


def _name(pod: Object) -> str:
    return f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
