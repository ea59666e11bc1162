"""Diffs as pages show them: old beside new, a run of removed lines beside the run that replaced it."""

from collections.abc import Iterable, Iterator
from typing import Any

from towline.control.deployments.schemas import DiffLine


def plan(diff: Any) -> dict[str, Any]:
    changed = [each.model_dump() for each in diff.services if each.change != "unchanged"]
    return {"services": changed, "blocks": list(side_by_side(diff.lines)), "violations": []}


def side_by_side(lines: Iterable[DiffLine]) -> Iterator[dict[str, Any]]:
    """Group diff lines into rows of old and new; a run of removed lines stands beside the run that replaced it."""
    rows: list[dict[str, Any]] = []
    removed: list[DiffLine] = []
    added: list[DiffLine] = []

    def flush() -> None:
        for index in range(max(len(removed), len(added))):
            old = removed[index] if index < len(removed) else None
            new = added[index] if index < len(added) else None
            kind = "change" if old and new else "remove" if old else "add"
            rows.append(_row(kind, old, new))
        removed.clear()
        added.clear()

    for line in lines:
        if line.sign == "-":
            removed.append(line)
            continue
        if line.sign == "+":
            added.append(line)
            continue
        flush()
        if line.sign == "@":
            yield {"rows": rows, "folded": ""}
            rows = []
            yield {"rows": [], "folded": line.text or "unchanged"}
        else:
            rows.append(_row("same", line, line))
    flush()
    if rows:
        yield {"rows": rows, "folded": ""}


def _row(kind: str, old: DiffLine | None, new: DiffLine | None) -> dict[str, Any]:
    return {
        "kind": kind, "old": old.text if old else None, "new": new.text if new else None,
        "old_no": old.old if old else 0, "new_no": new.new if new else 0,
    }  # fmt: skip
