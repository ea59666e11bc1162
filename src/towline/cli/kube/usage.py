"""`kube usage`: what nodes, namespaces and pods used in the last day, as the control plane kept it."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

from towline.cli.client import quoted
from towline.cli.errors import USAGE, CliError
from towline.cli.kube.spans import seconds
from towline.cli.options import ClusterName, Output, client
from towline.cli.output import Column, Format, err, printable, show, show_list

KINDS = {
    "cluster": "cluster", "node": "node", "nodes": "node", "no": "node", "namespace": "namespace",
    "namespaces": "namespace", "ns": "namespace", "pod": "pod", "pods": "pod", "po": "pod",
}  # fmt: skip
BARS = "▁▂▃▄▅▆▇█"
GAP = "·"
"""Stands where nobody measured: no bar is a zero."""
BARS_WIDE = 24
"""Characters of the small chart: with names and figures it fits into 100 columns."""


def usage(
    cluster: ClusterName,
    what: Annotated[str, typer.Argument(help="cluster, nodes, namespaces or pods.")] = "nodes",
    name: Annotated[str, typer.Argument(help="Only this one; of a pod with its namespace.")] = "",
    namespace: Annotated[str, typer.Option("-n", "--namespace", help="Pods of this namespace alone.")] = "",
    last: Annotated[str, typer.Option(help="Until now from so long ago on: 10m, 6h, 1d.")] = "1h",
    sort: Annotated[str, typer.Option(help="cpu, memory or name.")] = "cpu",
    limit: Annotated[int, typer.Option(min=1, max=100, help="So many of them.")] = 20,
    output: Output = Format.TABLE,
) -> None:
    """Show CPU and memory of the last 24 hours; times that nobody measured are dots in the chart."""
    if what not in KINDS:
        raise CliError(f"{what!r} is none of cluster, nodes, namespaces and pods", code=USAGE)
    query: dict[str, Any] = {
        "kind": KINDS[what], "name": name, "namespace": namespace, "sort": sort, "limit": limit,
        "from": (datetime.now(UTC) - timedelta(seconds=seconds(last))).isoformat(),
    }  # fmt: skip
    with client() as api:
        found = api.get(f"clusters/{quoted(cluster)}/usage", **query)
    if output is not Format.TABLE:
        show(found, output, lambda: None)
        return
    if found["state"] != "measured":
        err.print(printable(f"{found['state']}: {found['reason']}"), markup=False)
    columns = [column for column in COLUMNS if column[0] != "NAMESPACE" or KINDS[what] == "pod"]
    show_list(found["series"], output, columns, empty="nothing was measured in this time")
    if found["total"] > len(found["series"]):
        err.print(f"{len(found['series'])} of {found['total']}")


def bars(points: Sequence[dict[str, Any] | None], wide: int = BARS_WIDE) -> str:
    """Return a small chart of the mean CPU of points, the highest of them as a whole block."""
    count = max(1, min(wide, len(points)))
    parts = [points[len(points) * at // count : len(points) * (at + 1) // count] for at in range(count)]
    means = [_mean([point["cpu"]["avg"] for point in part if point is not None]) for part in parts]
    most = max((mean for mean in means if mean is not None), default=0.0) or 1.0
    top = len(BARS) - 1
    return "".join(GAP if mean is None else BARS[round(mean / most * top)] for mean in means)


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _cpu(cores: float) -> str:
    return f"{cores * 1000:.0f}m" if cores < 1 else f"{cores:.2f}"


def _memory(size: float) -> str:
    return f"{size / 2**20:.0f}Mi"


COLUMNS: tuple[Column, ...] = (
    ("NAMESPACE", lambda one: one["namespace"]),
    ("NAME", lambda one: one["name"] or "all nodes"),
    ("CPU", lambda one: _cpu(one["cpu"]["avg"])),
    ("MOST", lambda one: _cpu(one["cpu"]["max"])),
    ("MEMORY", lambda one: _memory(one["memory_bytes"]["avg"])),
    ("MOST", lambda one: _memory(one["memory_bytes"]["max"])),
    ("", lambda one: bars(one["points"])),
)
