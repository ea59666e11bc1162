"""What nodes and pods use, as the metrics API tells it: from its lists to one reading. No sockets, no clock.

Source: Kubernetes metrics API, `metrics.k8s.io/v1beta1`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from towline.kube import objects
from towline.kube.quantities import BadQuantity, parse_quantity
from towline.wire.kube_usage import MOST_SERIES, Kind, Source

MOST_REASON = 500
NAME_CHARACTERS = 253
"""The longest name that Kubernetes takes."""
_DURATION = re.compile(r"(?:(\d{1,6})m(?!s))?(?:(\d{1,6}(?:\.\d*)?)s)?", re.ASCII)

Key = tuple[Kind, str, str]
"""Kind, namespace, name."""
Used = tuple[float, float]
"""Cores and bytes."""
CLUSTER: Key = ("cluster", "", "")


@dataclass(slots=True)
class Reading:
    """What was measured at one moment; what is not in it is not known."""

    source: Source = "none"
    reason: str = ""
    used: dict[Key, Used] = field(default_factory=dict)
    left_out: int = 0
    window: float = 0.0
    """Seconds over which it was measured; 0 when nobody says."""
    away: bool = False
    """Nobody answered: what is there to be measured by is not known either."""

    def nodes(self) -> dict[str, Used]:
        """Return what nodes use, by name."""
        return {name: used for (kind, _, name), used in self.used.items() if kind == "node"}


def unknown(reason: str, *, away: bool = False) -> Reading:
    """Return a reading in which nothing is known."""
    return Reading(reason=reason[:MOST_REASON], away=away)


def amounts(usage: Mapping[str, str] | None) -> Used | None:
    """Return cores and bytes; None when one of them is missing or no amount."""
    try:
        cpu, memory = (parse_quantity((usage or {})[word]) for word in ("cpu", "memory"))
    except (KeyError, BadQuantity):
        return None
    return (cpu, memory) if cpu >= 0 and memory >= 0 else None


def node_usage(found: Iterable[objects.NodeMetrics]) -> dict[str, Used]:
    """Return what nodes use by name, those alone that are measured."""
    measured = ((one.metadata.name, amounts(one.usage)) for one in found)
    return {name: used for name, used in measured if name and used is not None}


def pod_usage(found: Iterable[objects.PodMetrics]) -> dict[tuple[str, str], Used]:
    """Return what pods use by namespace and name: all containers together, none of those with one unmeasured."""
    usage: dict[tuple[str, str], Used] = {}
    for one in found:
        containers = [amounts(container.usage) for container in one.containers or ()]
        measured = [used for used in containers if used is not None]
        if measured and len(measured) == len(containers):
            usage[one.metadata.namespace, one.metadata.name] = (
                sum(cpu for cpu, _ in measured),
                sum(memory for _, memory in measured),
            )
    return usage


def gather(
    source: Source,
    nodes: Mapping[str, Used],
    pods: Mapping[tuple[str, str], Used],
    *,
    allowed: Callable[[str], bool],
    reason: str = "",
    window: float = 0.0,
) -> Reading:
    """Put nodes and pods into one reading, with sums by namespace and of the cluster.

    Args: allowed: whether the local policy lets a namespace be told.
    """
    reading = Reading(source=source, reason=reason[:MOST_REASON], window=window)
    if nodes:
        reading.used[CLUSTER] = _total(nodes.values())
    for name in sorted(nodes)[: MOST_SERIES["node"]]:
        reading.used["node", "", name[:NAME_CHARACTERS]] = nodes[name]
    told = sorted(key for key in pods if allowed(key[0]))
    spaces: dict[str, list[Used]] = {}
    for namespace, name in told:
        spaces.setdefault(namespace, []).append(pods[namespace, name])
    for namespace in sorted(spaces)[: MOST_SERIES["namespace"]]:
        reading.used["namespace", "", namespace[:NAME_CHARACTERS]] = _total(spaces[namespace])
    most = MOST_SERIES["pod"]
    for namespace, name in told[:most]:
        reading.used["pod", namespace[:NAME_CHARACTERS], name[:NAME_CHARACTERS]] = pods[namespace, name]
    reading.left_out = max(0, len(told) - most)
    return reading


def _total(used: Iterable[Used]) -> Used:
    cpu = memory = 0.0
    for one in used:
        cpu += one[0]
        memory += one[1]
    return cpu, memory


def seconds(window: str | None) -> float:
    """Return a duration as Go writes it in seconds; 0 for what is none, or has hours."""
    match = _DURATION.fullmatch(window or "")
    return int(match[1] or 0) * 60 + float(match[2] or 0) if match is not None else 0.0
