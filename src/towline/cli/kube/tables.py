"""Tables as the API server makes them (`as=Table`), and what pods and nodes use."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from towline.cli.output import cell, err, out
from towline.kube.quantities import parse_quantity

TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"


def print_table(document: dict[str, Any], *, wide: bool, namespaces: bool) -> None:
    """Print a Table; columns of a lower priority only when asked."""
    columns = document.get("columnDefinitions") or []
    rows = document.get("rows") or []
    if not rows:
        err.print("no such resources here")
        return
    shown = [place for place, column in enumerate(columns) if wide or not column.get("priority")]
    grid = Table(box=None, pad_edge=False, header_style="bold", show_edge=False)
    for title in (["NAMESPACE"] if namespaces else []) + [columns[place]["name"].upper() for place in shown]:
        grid.add_column(title, overflow="fold")
    for row in rows:
        where = [((row.get("object") or {}).get("metadata") or {}).get("namespace", "")] if namespaces else []
        grid.add_row(*(cell(value) for value in where + [row["cells"][place] for place in shown]))
    out.print(grid, soft_wrap=False, crop=False)


def usage_rows(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a NodeMetricsList or PodMetricsList as rows, pods summed over their containers."""
    return [_row(item) for item in document.get("items") or []]


def _row(item: dict[str, Any]) -> dict[str, Any]:
    usages = [container["usage"] for container in item["containers"]] if "containers" in item else [item["usage"]]
    cpu, memory = (sum(parse_quantity(usage.get(key, "0")) for usage in usages) for key in ("cpu", "memory"))
    return {
        "namespace": item["metadata"].get("namespace", ""), "name": item["metadata"]["name"],
        "cpu": f"{round(cpu * 1000)}m", "memory": f"{round(memory / 2**20)}Mi",
    }  # fmt: skip
