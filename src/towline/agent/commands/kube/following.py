"""`kubectl get --watch`: the table as it is, and then a row for each change, until the command is ended."""

from __future__ import annotations

from typing import Any

from towline.agent.commands.cluster import path_of
from towline.agent.commands.ending import CommandEnds
from towline.agent.commands.invocation import Invocation
from towline.agent.commands.kube.objects import Object, selected
from towline.agent.commands.kube.server_table import AS_TABLE, ServerTable, table_pages
from towline.commandline.plan import Target
from towline.kube.errors import BadWatch
from towline.kube.watching import Bookmark, Failure, WatchReader

PAUSE = 1.0
"""Seconds between two watches: the API server ends each after half an hour or more, and one that does so at once must
not be asked without end."""


async def follow(invocation: Invocation, target: Target) -> None:
    """Print what there is, and what becomes of it. Raises: CommandEnds: the watch cannot go on."""
    table = ServerTable(invocation, target, with_kind=invocation.plan.parsed.has("show-kind"), is_later=False)
    version = ""
    async for page in table_pages(invocation, target):
        table.print(page)
        version = _version(page) or version
    while True:
        version = await _watch(invocation, target, table, version)
        await invocation.clock.sleep(PAUSE)


async def _watch(invocation: Invocation, target: Target, table: ServerTable, version: str) -> str:
    """Follow one watch to its end. Returns: the version to go on from. Raises: CommandEnds."""
    reader: WatchReader[dict[str, Any]] = WatchReader(dict)
    async with invocation.cluster.ask("GET", _address(invocation, target, version), accept=AS_TABLE) as answer:
        async for piece in answer.pieces():
            try:
                for event in reader.feed(piece):
                    if isinstance(event, Failure):
                        raise CommandEnds(f"error: the watch ended: {event.message or event.reason}")
                    if isinstance(event, Bookmark):
                        version = event.resource_version
                    else:
                        table.print(event.object)
                        version = _version_of_row(event.object) or version
            except BadWatch as error:
                raise CommandEnds(f"error: the watch cannot be read: {error}") from error
    return version


def _address(invocation: Invocation, target: Target, version: str) -> str:
    wanted = selected(invocation.plan)
    fields = f"metadata.name={target.names[0]}" if target.names else wanted.fields
    query: dict[str, str | int | bool] = {
        "watch": True, "resourceVersion": version, "allowWatchBookmarks": True,
        "labelSelector": wanted.labels, "fieldSelector": fields,
    }  # fmt: skip
    return path_of(target.resource, invocation.plan.namespace, query=query)


def _version(page: Object) -> str:
    return str((page.get("metadata") or {}).get("resourceVersion") or "")


def _version_of_row(page: Object) -> str:
    rows = page.get("rows") or ()
    return _version(rows[-1].get("object") or {}) if rows else ""
