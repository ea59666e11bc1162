"""Label selectors of workloads, as the API server takes them in a query."""

from __future__ import annotations

from typing import Any

from towline.agent.commands.ending import CommandEnds


def of_workload(workload: dict[str, Any]) -> str:
    """Return the selector of a workload's pods. Raises: CommandEnds: it has none."""
    selector = workload["spec"].get("selector") or {}
    if workload.get("kind") == "ReplicationController":
        selector = {"matchLabels": selector}
    terms = [f"{name}={value}" for name, value in (selector.get("matchLabels") or {}).items()]
    terms += [_term(each) for each in selector.get("matchExpressions") or ()]
    if not terms:
        raise CommandEnds(f"error: {workload['metadata']['name']} selects no pods")
    return ",".join(terms)


def _term(expression: dict[str, Any]) -> str:
    key, values = expression["key"], ",".join(expression.get("values") or ())
    match expression["operator"]:
        case "In":
            return f"{key} in ({values})"
        case "NotIn":
            return f"{key} notin ({values})"
        case "Exists":
            return f"{key}"
        case _:
            return f"!{key}"
