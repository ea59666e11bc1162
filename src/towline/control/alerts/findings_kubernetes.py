"""What is not well in Kubernetes clusters now: nodes and pods, by what their agents told. Reads only.

A pod that crash-loops runs between two ends. Its agent tells of it then too (`crash`), so that it is clear what became
of it: it runs and may end again, it has run for long enough, or it is gone. Older agents tell of it only while it is
down.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import and_, select

from towline.control.alerts.catalogue import RuleName
from towline.control.alerts.subjects import Finding, Host, Look, RuleBook, Scope
from towline.control.db import Transaction
from towline.control.kubernetes.inventory_rows import ENDED, POD
from towline.control.kubernetes.kinds import page_of
from towline.control.kubernetes.models import KubeObject
from towline.kube.troubles import BACK_OFF

FRESH_END = 3600.0
"""Seconds after which something that has ended is history, and no news."""
PULL_REASONS = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable")
OUT_OF_MEMORY = "OOMKilled"
DISK_PRESSURE = "DiskPressure"


async def kubernetes(tx: Transaction, scope: Scope, seen: Look, book: RuleBook) -> list[Finding]:
    """Ask for nodes and pods that are not well. Pods of one workload are one subject: their names change."""
    unwell = and_(KubeObject.rank >= ENDED, KubeObject.section.in_(("nodes", "pods")))
    query = select(KubeObject).where(scope.of(KubeObject.cluster_id), unwell).order_by(KubeObject.key)
    found: dict[tuple[str, str, str], Finding] = {}
    for row in await tx.scalars(query):
        host = seen.hosts.get(row.cluster_id)
        if host is None or not host.connected:
            continue
        for one in _of_node(host, row) if row.section == "nodes" else _of_pod(host, row, book, seen.moment):
            if one.key not in found or found[one.key].quiet:
                found[one.key] = one
    return list(found.values())


def _of_node(host: Host, row: KubeObject) -> list[Finding]:
    rules = []
    if row.state == "not_ready":
        rules.append(RuleName.NODE_NOT_READY)
    if DISK_PRESSURE in row.reason:
        rules.append(RuleName.DISK_FULL)
    page = page_of(host.name, "Node", "", row.name)
    return [
        host.finding(
            rule, row.reason or "not ready", subject=f"node/{row.name}", name=f"{host.name}/{row.name}", page=page
        )
        for rule in rules
    ]


def _of_pod(host: Host, row: KubeObject, book: RuleBook, now: datetime) -> list[Finding]:
    if row.rank < POD and now - row.moment > timedelta(seconds=FRESH_END):
        return []  # it has ended, and may lie there for weeks
    kind, owner = str(row.data.get("owner_kind", "")), str(row.data.get("owner", ""))
    what = owner or row.name
    place = f"{kind or 'Pod'}/{row.namespace}/{what}"
    page = page_of(host.name, kind or "Pod", row.namespace, what)

    def found(rule: RuleName, words: str) -> Finding:
        made = host.finding(
            rule, f"{row.name}: {words}", subject=place, name=f"{host.name}/{row.namespace}/{what}", page=page
        )
        return replace(made, namespace=row.namespace)

    least = book.of(row.org_id, RuleName.CRASH_LOOP).value
    return [found(rule, row.reason) for rule in _pod_rules(row.reason)] + _crash_loop(row, least, found)


def _pod_rules(reason: str) -> list[RuleName]:
    rules = []
    if reason.startswith(PULL_REASONS):
        rules.append(RuleName.IMAGE_PULL)
    if OUT_OF_MEMORY in reason:
        rules.append(RuleName.OUT_OF_MEMORY)
    return rules


def _crash_loop(row: KubeObject, least: float, found: Callable[[RuleName, str], Finding]) -> list[Finding]:
    """Judge by the kubelet's word, or by what is so: it is down again after so many restarts."""
    if row.rank < POD:
        return []
    crash: Mapping[str, Any] | None = row.data.get("crash")
    is_down = crash is not None and not crash.get("runs")
    is_found = row.reason.startswith(BACK_OFF) or (is_down and row.amount >= least)
    words = f"{row.reason}, {row.amount} {'restart' if row.amount == 1 else 'restarts'}"
    return [replace(found(RuleName.CRASH_LOOP, words), lasting=crash is not None, quiet=not is_found)]
