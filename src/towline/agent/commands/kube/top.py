"""`kubectl top`: the use of CPU and memory as a metrics server tells it; without one it is unknown, never zero."""

from __future__ import annotations

from collections.abc import Iterable

from towline.agent.commands.cluster import Rejected, path_of
from towline.agent.commands.ending import CommandEnds
from towline.agent.commands.invocation import Invocation
from towline.agent.commands.kube.objects import Object, items, selected
from towline.agent.commands.tables import Table
from towline.commandline.kubectl import NODES
from towline.commandline.resources import NODE_METRICS, POD_METRICS, Resource
from towline.kube.quantities import BadQuantity, parse_quantity

MEBIBYTE = 1024 * 1024
UNKNOWN = "<unknown>"

Use = tuple[float, float]
"""Cores and bytes."""


async def top(invocation: Invocation) -> None:
    """Print a table of use. Raises: CommandEnds: nobody measures."""
    target = invocation.plan.targets[0]
    try:
        if target.resource is NODES:
            await _nodes(invocation)
        else:
            await _pods(invocation)
    except Rejected as error:
        if error.status in (404, 503) and not target.names:
            raise CommandEnds("error: Metrics API not available: this cluster runs no metrics server") from error
        raise


async def _read(invocation: Invocation, resource: Resource) -> list[Object]:
    names = invocation.plan.targets[0].names
    if names:
        return [await invocation.cluster.get(path_of(resource, invocation.plan.namespace, names[0]))]
    return [each async for each in items(invocation, resource, selected(invocation.plan))]


async def _nodes(invocation: Invocation) -> None:
    used = await _read(invocation, NODE_METRICS)
    room = {
        each["metadata"]["name"]: each["status"].get("allocatable") or {} for each in await _read(invocation, NODES)
    }
    rows = []
    for each in used:
        name, (cpu, memory) = each["metadata"]["name"], _use(each["usage"])
        all_cpu, all_memory = _use(room.get(name, {}))
        rows.append(
            ((cpu, memory), [name, _cores(cpu), _share(cpu, all_cpu), _size(memory), _share(memory, all_memory)])
        )
    _print(invocation, ["Name", "CPU(cores)", "CPU(%)", "Memory(bytes)", "Memory(%)"], rows)


async def _pods(invocation: Invocation) -> None:
    by_container = invocation.plan.parsed.has("containers")
    with_namespace = not invocation.plan.namespace
    rows: list[tuple[Use, list[str]]] = []
    for each in await _read(invocation, POD_METRICS):
        begin = [each["metadata"]["namespace"]] if with_namespace else []
        begin.append(each["metadata"]["name"])
        uses = {one["name"]: _use(one["usage"]) for one in each.get("containers") or ()}
        if by_container:
            rows += [(use, [*begin, name, _cores(use[0]), _size(use[1])]) for name, use in uses.items()]
        else:
            whole = (sum(use[0] for use in uses.values()), sum(use[1] for use in uses.values()))
            rows.append((whole, [*begin, _cores(whole[0]), _size(whole[1])]))
    header = [*(["Namespace"] if with_namespace else []), *(["Pod", "Name"] if by_container else ["Name"])]
    _print(invocation, [*header, "CPU(cores)", "Memory(bytes)"], rows)


def _print(invocation: Invocation, header: list[str], rows: Iterable[tuple[Use, list[str]]]) -> None:
    parsed = invocation.plan.parsed
    sort_by = parsed.text("sort-by")
    found = list(rows)
    if not found:
        invocation.output.error("No resources found")
        return
    if sort_by:
        found.sort(key=lambda row: row[0][0 if sort_by == "cpu" else 1], reverse=True)
    else:
        found.sort(key=lambda row: row[1])
    table = Table(header, with_header=not parsed.has("no-headers"))
    for line in table.lay_out(cells for _, cells in found):
        invocation.output.line(line)


def _use(told: dict[str, str]) -> Use:
    return _amount(told.get("cpu", "")), _amount(told.get("memory", ""))


def _amount(text: str) -> float:
    try:
        return parse_quantity(text) if text else 0.0
    except BadQuantity:
        return 0.0


def _cores(cores: float) -> str:
    return f"{round(cores * 1000)}m"


def _size(size: float) -> str:
    return f"{round(size / MEBIBYTE)}Mi"


def _share(part: float, whole: float) -> str:
    return f"{part / whole:.0%}" if whole else UNKNOWN
