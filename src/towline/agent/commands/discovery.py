"""Asking the cluster about kinds that are not built in: their version, plural and scope."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from towline.agent.commands.cluster import Cluster, Rejected
from towline.agent.commands.ending import CommandEnds
from towline.commandline.resources import Resource


async def resolve(cluster: Cluster, wanted: Resource) -> Resource:
    """Return a kind as the cluster serves it. Raises: CommandEnds: it does not, or with another scope or name."""
    if wanted.is_known:
        return wanted
    group = wanted.group
    try:
        version = wanted.version or (await cluster.get(f"/apis/{group}"))["preferredVersion"]["version"]
        served = (await cluster.get(f"/apis/{group}/{version}"))["resources"]
    except Rejected as error:
        if error.status != 404:
            raise
        raise CommandEnds(f"error: the server doesn't have a resource type {wanted.name}.{group}") from error
    found = next((each for each in served if _fits(each, wanted)), None)
    if found is None:
        raise CommandEnds(f"error: the server doesn't have a resource type {wanted.name}.{group}")
    if found["name"] != wanted.name:
        raise CommandEnds(f"error: name the kind by its plural: {found['name']}.{group}")
    if not found["namespaced"] and wanted.namespaced:
        raise CommandEnds(f"error: {found['name']}.{group} are of the whole cluster: add --all-namespaces")
    return replace(wanted, version=version, kind=found["kind"], namespaced=found["namespaced"])


def _fits(served: dict[str, Any], wanted: Resource) -> bool:
    if "/" in served["name"]:
        return False
    if wanted.kind:
        return bool(served["kind"] == wanted.kind)
    return wanted.name in (served["name"], served.get("singularName"), *served.get("shortNames", ()))
