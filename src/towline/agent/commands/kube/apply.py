"""`kubectl apply -f -`: server-side, object by object, each as whoever asked."""

from __future__ import annotations

from towline.agent.commands.cluster import Rejected, path_of
from towline.agent.commands.discovery import resolve
from towline.agent.commands.ending import CommandEnds
from towline.agent.commands.invocation import Invocation
from towline.agent.commands.kube.patches import APPLY, changing, done
from towline.agent.errors import PolicyRefused
from towline.commandline import pods
from towline.commandline.plan import Manifest

MOST_TOLD = 5
"""Violations that a refusal names."""
FORCE_HINT = "add --force-conflicts to take these fields over"


def check(invocation: Invocation) -> None:
    """Hold what would run against the policy of this host. Raises: PolicyRefused."""
    policy = invocation.policy()
    making = [each for each in invocation.plan.manifests if pods.makes_pods(each)]
    if making and not policy.commands.workloads:
        raise PolicyRefused("the policy of this host does not allow commands to apply what runs containers")
    wrong = list(pods.violations(making, policy.for_project("privileged"), protected=invocation.protected))
    if wrong:
        more = f"; and {len(wrong) - MOST_TOLD} more" if len(wrong) > MOST_TOLD else ""
        raise PolicyRefused(f"the policy of this host forbids it: {'; '.join(wrong[:MOST_TOLD])}{more}")


async def apply(invocation: Invocation) -> None:
    """Apply every object; one that is not taken is told, the others go on. Raises: CommandEnds: the first failure."""
    check(invocation)
    failed: CommandEnds | None = None
    for each in invocation.plan.manifests:
        try:
            await _apply(invocation, each)
        except CommandEnds as error:
            if failed is not None:
                invocation.output.error(str(failed))
            failed = error
    if failed is not None:
        raise failed


async def _apply(invocation: Invocation, manifest: Manifest) -> None:
    parsed = invocation.plan.parsed
    resource = await resolve(invocation.cluster, manifest.resource)
    metadata = {key: value for key, value in manifest.body["metadata"].items() if key != "managedFields"}
    body = {key: value for key, value in manifest.body.items() if key != "status"} | {"metadata": metadata}
    query = {**changing(parsed), "force": parsed.has("force-conflicts"), "fieldValidation": "Strict"}
    target = path_of(resource, manifest.namespace, manifest.name, query=query)
    try:
        await invocation.cluster.send("PATCH", target, body, APPLY)
    except Rejected as error:
        hint = f"; {FORCE_HINT}" if error.reason == "Conflict" else ""
        raise CommandEnds(f"{error}{hint}") from error
    name = f"{resource.shown}/{manifest.name}"
    words = name if parsed.text("output") == "name" else f"{name} {done('serverside-applied', parsed)}"
    invocation.output.line(words)
