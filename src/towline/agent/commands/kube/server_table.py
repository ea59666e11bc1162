"""The tables that an API server makes of its objects, as they come. Kubernetes, "Receiving resources as Tables"."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Sequence
from typing import Any

from towline.agent.commands.invocation import Invocation
from towline.agent.commands.kube.objects import ROWS, Object, pages, read_named, selected
from towline.agent.commands.tables import Table
from towline.commandline import jsonpath
from towline.commandline.plan import Target

AS_TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"


async def table_pages(invocation: Invocation, target: Target) -> AsyncIterator[Object]:
    """Yield the tables of a target, page by page."""
    if target.names:
        async for page in read_named(invocation, target, accept=AS_TABLE):
            yield page
    else:
        async for page in pages(invocation, target.resource, selected(invocation.plan), accept=AS_TABLE, size=ROWS):
            yield page


class ServerTable:
    """Prints the Table that an API server makes. Source: Kubernetes, "Receiving resources as Tables"."""

    def __init__(self, invocation: Invocation, target: Target, *, with_kind: bool, is_later: bool) -> None:
        parsed = invocation.plan.parsed
        self._output = invocation.output
        self._prefix = f"{target.resource.shown}/" if with_kind else ""
        self._wide = parsed.text("output") == "wide"
        self._with_namespace = invocation.plan.namespace == "" and target.resource.namespaced
        self._with_labels = parsed.has("show-labels")
        self._labels = [name for each in parsed.values.get("label-columns", ()) for name in each.split(",")]
        self._sort_by = jsonpath.path(parsed.text("sort-by")) if parsed.is_given("sort-by") else None
        self._with_header = not parsed.has("no-headers")
        self._is_later = is_later
        self._table: Table | None = None
        self._shown: list[int] = []

    def print(self, page: Object) -> bool:
        """Print a page. Returns: whether it had rows."""
        rows = list(page.get("rows") or ())
        if not rows:
            return False
        if self._table is None:
            self._begin(page["columnDefinitions"])
        assert self._table is not None
        if self._sort_by is not None:
            rows.sort(key=functools.partial(_order, self._sort_by))
        for line in self._table.lay_out(self._cells(row) for row in rows):
            self._output.line(line)
        return True

    def _begin(self, columns: Sequence[Object]) -> None:
        self._shown = [index for index, column in enumerate(columns) if self._wide or not column.get("priority")]
        header = [columns[index]["name"] for index in self._shown]
        if self._with_namespace:
            header.insert(0, "Namespace")
        header += [name.rpartition("/")[2] for name in self._labels]
        if self._with_labels:
            header.append("Labels")
        if self._is_later:
            self._output.line("")
        self._table = Table(header, with_header=self._with_header)

    def _cells(self, row: Object) -> list[Any]:
        metadata = (row.get("object") or {}).get("metadata") or {}
        labels = metadata.get("labels") or {}
        cells = [row["cells"][index] for index in self._shown]
        if cells and self._prefix:
            cells[0] = f"{self._prefix}{cells[0]}"
        if self._with_namespace:
            cells.insert(0, metadata.get("namespace", ""))
        cells += [labels.get(name, "") for name in self._labels]
        if self._with_labels:
            cells.append(",".join(f"{name}={value}" for name, value in sorted(labels.items())) or "<none>")
        return cells


def _order(by: jsonpath.Path, row: Object) -> tuple[int, float, str]:
    found = jsonpath.find(row.get("object") or {}, by)
    value = found[0] if found else ""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return 0, float(value), ""
    return 1, 0.0, jsonpath.as_text(value)
