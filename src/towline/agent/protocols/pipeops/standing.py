"""What a PipeOps control plane is told of the cluster, from watches that stay open. What is not read is not told."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from towline.agent.errors import AgentError
from towline.agent.surface import cluster
from towline.agent.surface.cache import ClusterCache
from towline.agent.surface.cluster import Row, Sort
from towline.wire import rfc3339

OS_LABEL = "kubernetes.io/os"


class Unread(Exception):
    """Nothing of the cluster can be told now; the text says why."""


async def status(cache: ClusterCache, now: datetime) -> bytes:
    """Return the body of a status. Raises: Unread: there is no cluster, or nothing of it may be read."""
    told: dict[str, Any] = {}
    reasons = []
    for key, sort, describe in _SECTIONS:
        try:
            shelf = await cache.shelf(sort)
        except AgentError as error:
            reasons.append(f"{key}: {error}")
            continue
        told[key] = [describe(row, msgspec.json.decode(row.shown)) for row in shelf.rows.values()]
    if not told:
        raise Unread("; ".join(reasons)[:500])
    counts = {"pod_count": len(told.get("pods", ())), "node_count": len(told.get("nodes", ()))}
    known = {key: value for key, value in counts.items() if key.replace("_count", "s") in told}
    return msgspec.json.encode({**told, "metrics": known, "timestamp": rfc3339.write(now)})


def counts(cache: ClusterCache) -> dict[str, int]:
    """Return how many nodes and pods there are, as far as that is read by now."""
    return {
        f"k8s_{sort.source.kind}": len(rows)
        for sort in (cluster.NODES, cluster.PODS)
        if (rows := cache.rows_now(sort)) is not None
    }


def _moment(seconds: float) -> str:
    return rfc3339.write(datetime.fromtimestamp(seconds, UTC)) if seconds else ""


def _node(row: Row, shown: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": row.name,
        "ready": shown["ready"],
        "version": shown["version"],
        "os": row.labels.get(OS_LABEL, ""),
        "arch": shown["architecture"],
        "labels": row.labels,
        "resources": {"allocatable": _amounts(shown["allocatable"]), "capacity": _amounts(shown["capacity"])},
    }


def _amounts(amounts: Mapping[str, Any]) -> dict[str, str]:
    return {"cpu": f"{amounts['cpu']:g}", "memory": f"{int(amounts['memory_bytes']) // 1024}Ki"}


def _namespace(row: Row, shown: Mapping[str, Any]) -> str:
    return row.name


def _named(row: Row, shown: Mapping[str, Any], *, ready: bool) -> dict[str, Any]:
    told = {"name": row.name, "namespace": row.namespace, "labels": row.labels, "ready": ready}
    return told | {"created_at": _moment(shown["created_at"])}


def _deployment(row: Row, shown: Mapping[str, Any]) -> dict[str, Any]:
    return _named(row, shown, ready=shown["ready"] >= shown["desired"])


def _service(row: Row, shown: Mapping[str, Any]) -> dict[str, Any]:
    return _named(row, shown, ready=True)


def _pod(row: Row, shown: Mapping[str, Any]) -> dict[str, Any]:
    is_ready = shown["phase"] == "Running" and shown["ready"] == len(shown["containers"])
    return {
        **_named(row, shown, ready=is_ready),
        "phase": shown["phase"],
        "node_name": shown["node"],
        "containers": len(shown["containers"]),
        "restarts": shown["restarts"],
    }


_SECTIONS: tuple[tuple[str, Sort[Any], Callable[[Row, Mapping[str, Any]], Any]], ...] = (
    ("nodes", cluster.NODES, _node),
    ("namespaces", cluster.NAMESPACES, _namespace),
    ("deployments", cluster.DEPLOYMENTS, _deployment),
    ("services", cluster.SERVICES, _service),
    ("pods", cluster.PODS, _pod),
)
