"""`kubectl get`: the API server's own tables, or objects as JSON, YAML, names, paths and columns."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import msgspec
import yaml

from towline.agent.commands.discovery import resolve
from towline.agent.commands.ending import CommandEnds
from towline.agent.commands.invocation import Invocation
from towline.agent.commands.kube import following
from towline.agent.commands.kube.objects import Object, indented, items, kind_of, read_named, selected
from towline.agent.commands.kube.server_table import ServerTable, table_pages
from towline.agent.commands.tables import Table
from towline.commandline import jsonpath
from towline.commandline.errors import BadCommand
from towline.commandline.plan import Target

MOST_HELD = 1_000
"""Objects that a template is filled from at once: some 50 MB of memory. Columns and documents hold one page."""


async def get(invocation: Invocation) -> None:
    """Print what was asked for, in the form that was asked for."""
    form, _, more = invocation.plan.parsed.text("output").partition("=")
    targets = [Target(await resolve(invocation.cluster, each.resource), each.names) for each in invocation.plan.targets]
    match form:
        case "" | "wide" if invocation.plan.follows:
            await following.follow(invocation, targets[0])
        case "" | "wide":
            await _tables(invocation, targets)
        case "json" | "yaml":
            await _documents(invocation, targets, form)
        case "name":
            async for target, found in _objects(invocation, targets):
                invocation.output.line(f"{target.resource.shown}/{found['metadata']['name']}")
        case "jsonpath":
            await _template(invocation, targets, more)
        case _:
            await _columns(invocation, targets, more)


# -- tables ------------------------------------------------------------------------------------


async def _tables(invocation: Invocation, targets: Sequence[Target]) -> None:
    printed = False
    with_kind = len(targets) > 1 or invocation.plan.parsed.has("show-kind")
    last_kind: tuple[str, str] | None = None
    table: ServerTable | None = None
    for target in targets:
        kind = (target.resource.group, target.resource.name)
        if table is None or kind != last_kind:
            table = ServerTable(invocation, target, with_kind=with_kind, is_later=printed)
        last_kind = kind
        async for page in table_pages(invocation, target):
            printed = table.print(page) or printed
    if not printed:
        where = f" in {invocation.plan.namespace} namespace." if invocation.plan.namespace else "."
        if not invocation.plan.parsed.has("ignore-not-found"):
            invocation.output.error(f"No resources found{where}")


# -- objects -----------------------------------------------------------------------------------


async def _objects(invocation: Invocation, targets: Sequence[Target]) -> AsyncIterator[tuple[Target, Object]]:
    for target in targets:
        if target.names:
            async for found in read_named(invocation, target):
                yield target, _plain(found)
        else:
            async for item in items(invocation, target.resource, selected(invocation.plan)):
                await asyncio.sleep(0)  # a large object takes milliseconds to write down; others must have their turn
                yield target, _plain(kind_of(target.resource, item))


def _plain(found: Object) -> Object:
    """Leave out who owns which field, as kubectl does."""
    found.get("metadata", {}).pop("managedFields", None)
    return found


async def _documents(invocation: Invocation, targets: Sequence[Target], form: str) -> None:
    is_single = len(targets) == 1 and len(targets[0].names) == 1
    if is_single:
        async for _, found in _objects(invocation, targets):
            for line in (_json(found) if form == "json" else _yaml(found)).splitlines():
                invocation.output.line(line)
        return
    print_list = _json_list if form == "json" else _yaml_list
    await print_list(_objects(invocation, targets), invocation.output.line)


async def _json_list(found: AsyncIterator[tuple[Target, Object]], line: Callable[[str], None]) -> None:
    line('{\n    "apiVersion": "v1",\n    "items": [')
    held = ""
    async for _, each in found:
        if held:
            line(f"{held},")
        held = "\n".join(indented(_json(each), 8))
    if held:
        line(held)
    line('    ],\n    "kind": "List",\n    "metadata": {\n        "resourceVersion": ""\n    }\n}')


async def _yaml_list(found: AsyncIterator[tuple[Target, Object]], line: Callable[[str], None]) -> None:
    has_any = False
    async for _, each in found:
        if not has_any:
            line("apiVersion: v1\nitems:")
        has_any = True
        line(_yaml([each]).rstrip("\n"))
    line("kind: List\nmetadata:\n  resourceVersion: ''" if has_any else "apiVersion: v1\nitems: []\nkind: List")


def _json(value: Any) -> str:
    return msgspec.json.format(msgspec.json.encode(value, order="sorted"), indent=4).decode()


def _yaml(value: Any) -> str:
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    return str(yaml.dump(value, Dumper=dumper, default_flow_style=False, allow_unicode=True, width=4096))


async def _template(invocation: Invocation, targets: Sequence[Target], text: str) -> None:
    nodes = jsonpath.template(text)
    found: list[Object] = []
    async for _, each in _objects(invocation, targets):
        found.append(each)
        if len(found) > MOST_HELD:
            raise CommandEnds(f"error: more than {MOST_HELD} objects for a template: narrow it by a selector")
    is_single = len(targets) == 1 and len(targets[0].names) == 1
    value: Any = found[0] if is_single and found else {"apiVersion": "v1", "kind": "List", "items": found}
    invocation.output.write("stdout", jsonpath.fill(nodes, value).encode())


async def _columns(invocation: Invocation, targets: Sequence[Target], text: str) -> None:
    columns = columns_of(text)
    table = Table([name for name, _ in columns], with_header=not invocation.plan.parsed.has("no-headers"))
    async for _, found in _objects(invocation, targets):
        values = [",".join(jsonpath.as_text(each) for each in jsonpath.find(found, path)) for _, path in columns]
        for line in table.lay_out([[value or None for value in values]]):
            invocation.output.line(line)


def columns_of(text: str) -> list[tuple[str, jsonpath.Path]]:
    """Read `NAME:.metadata.name,IMAGE:.spec.image`. Raises: BadCommand."""
    found = []
    for part in text.split(","):
        name, colon, path = part.partition(":")
        if not colon or not name:
            raise BadCommand("custom-columns are written NAME:PATH,NAME:PATH")
        found.append((name, jsonpath.path(path)))
    return found
