"""Entries that agents tell, as rows: text cleaned and cut, and how grave each is. Pure.

Ranks: 0 is well, 1 has failed and ended (a job, its pods), 2 a pod, 3 a workload, 4 a node. From 2 on the cluster's
health is not good.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Any

import msgspec

from towline.control.links.cleaning import clean, clean_json
from towline.wire import kube_inventory as wire

ENDED, POD, WORKLOAD, NODE = 1, 2, 3, 4
KEY_CHARACTERS = 700
WORDS_CHARACTERS = 1500
REASON_CHARACTERS = 500
LARGEST_AMOUNT = 2**31 - 1
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
"""Stands for a moment that nobody knows."""


def key_of(entry: wire.Entry) -> str:
    return fit_key(wire.entry_key(entry))


def fit_key(key: str) -> str:
    """Return a key that fits its column and stays unique."""
    key = clean(key)
    if len(key) <= KEY_CHARACTERS:
        return key
    return key[: KEY_CHARACTERS - 65] + "#" + hashlib.sha256(key.encode()).hexdigest()


def moment(seconds: float) -> datetime:
    """Return an agent's moment; what no clock can show is EPOCH."""
    try:
        return datetime.fromtimestamp(seconds, UTC) if seconds > 0 else EPOCH
    except (OverflowError, ValueError, OSError):
        return EPOCH


def row(cluster_id: str, org_id: str, section: str, entry: wire.Entry) -> dict[str, Any]:
    """Return the row of an entry."""
    found = {"kind": "", "namespace": "", "state": "", "reason": "", "amount": 0, "rank": 0, **_columns(entry)}
    words = (entry.name, found["namespace"], found["kind"], found["state"], found["reason"], *found.pop("more", ()))
    return {
        "cluster_id": cluster_id,
        "section": section,
        "key": key_of(entry),
        "org_id": org_id,
        "name": clean(entry.name)[:253],
        "kind": clean(found["kind"])[:128],
        "namespace": clean(found["namespace"])[:63],
        "state": clean(found["state"])[:32],
        "reason": clean(found["reason"])[:REASON_CHARACTERS],
        "words": clean(" ".join(word for word in words if word))[:WORDS_CHARACTERS],
        "rank": found["rank"],
        "amount": max(0, min(found["amount"], LARGEST_AMOUNT)),
        "moment": moment(found["moment"]),
        "data": clean_json(msgspec.to_builtins(entry)),
    }


def _columns(entry: wire.Entry) -> dict[str, Any]:
    match entry:
        case wire.Node():
            return _node(entry)
        case wire.Namespace():
            return {
                "namespace": entry.name, "state": entry.phase, "amount": entry.pods.total, "moment": entry.created_at,
            }  # fmt: skip
        case wire.Workload():
            return _workload(entry)
        case wire.Pod():
            return _pod(entry)
        case wire.Event():
            return {
                "kind": entry.kind, "namespace": entry.namespace, "state": entry.reason, "reason": entry.message,
                "amount": entry.count, "moment": entry.last_at,
            }  # fmt: skip


def _node(entry: wire.Node) -> dict[str, Any]:
    return {
        "state": "ready" if entry.ready else "not_ready",
        "reason": entry.trouble,
        "rank": NODE if entry.trouble else 0,
        "amount": entry.pods,
        "moment": entry.created_at,
        "more": (*entry.roles, entry.address, entry.version, entry.zone, entry.instance_type),
    }


def _workload(entry: wire.Workload) -> dict[str, Any]:
    rank = {"degraded": WORKLOAD, "failed": ENDED}.get(entry.state, 0)
    return {
        "kind": entry.kind, "namespace": entry.namespace, "state": entry.state, "reason": entry.reason, "rank": rank,
        "amount": entry.desired, "moment": entry.created_at, "more": (entry.app,),
    }  # fmt: skip


def _pod(entry: wire.Pod) -> dict[str, Any]:
    return {
        "kind": "Pod", "namespace": entry.namespace, "state": entry.phase, "reason": entry.reason,
        "rank": ENDED if entry.phase == "Failed" else POD, "amount": entry.restarts,
        "moment": entry.since or entry.created_at, "more": (entry.node, entry.owner),
    }  # fmt: skip
