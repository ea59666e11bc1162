"""What is not well now, by rule: questions to the tables that others write. Reads only; tells nobody.

Each question is asked for some clusters or for all of them, and names of everything it finds the one that people know.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

from sqlalchemy import and_, or_, select

from towline.control.agents.models import Agent
from towline.control.agents.states import AgentState
from towline.control.alerts.catalogue import RuleName
from towline.control.alerts.findings_kubernetes import FRESH_END, kubernetes
from towline.control.alerts.subjects import Finding, Host, Look, RuleBook, Scope
from towline.control.certificates import schedule
from towline.control.certificates.models import Certificate
from towline.control.clusters.health import clock_time
from towline.control.clusters.models import Cluster, InventoryContainer
from towline.control.db import Transaction
from towline.control.deployments.models import Deployment, Revision
from towline.control.kubernetes.models import KubeCluster

FRESH_START = 600.0
"""Seconds after its start in which a container counts as one that has just begun again."""


async def look(tx: Transaction, scope: Scope, book: RuleBook) -> Look:
    """Ask every question."""
    seen = Look(await tx.now())
    seen.hosts = await _hosts(tx, scope)
    for host in seen.hosts.values():
        seen.found += _of_host(host, book, seen.moment)
    seen.found += await _containers(tx, scope, seen, book)
    seen.found += await kubernetes(tx, scope, seen, book)
    seen.found += await _deploys(tx, scope, seen.hosts)
    if scope.certificates:
        seen.found += await _certificates(tx, seen.moment)
    return seen


# -- hosts -------------------------------------------------------------------------------------


async def _hosts(tx: Transaction, scope: Scope) -> dict[str, Host]:
    columns = (
        Cluster.id, Cluster.org_id, Cluster.name, Cluster.connected, Cluster.last_seen_at, Cluster.capabilities,
        Cluster.facts,
    )  # fmt: skip
    rows = (await tx.execute(select(*columns).where(scope.of(Cluster.id)))).all()
    with_kubernetes = set(
        (await tx.scalars(select(KubeCluster.cluster_id).where(scope.of(KubeCluster.cluster_id)))).all()
    )
    agents = select(Agent.cluster_id).where(Agent.state == AgentState.ACTIVE, Agent.cluster_id.is_not(None))
    active = set((await tx.scalars(agents)).all())
    return {
        row.id: Host(
            row.id, row.org_id, row.name, row.connected, row.last_seen_at, row.capabilities,
            row.facts.get("disks", ()), row.id in with_kubernetes, row.id in active,
        )
        for row in rows
    }  # fmt: skip


def _of_host(host: Host, book: RuleBook, now: datetime) -> list[Finding]:
    if not host.connected:
        if not host.is_active or host.last_seen_at is None:
            return []
        return [host.finding(RuleName.AGENT_AWAY, f"no word from the agent since {clock_time(host.last_seen_at, now)}")]
    found = _full_disks(host, book.of(host.org_id, RuleName.DISK_FULL).value)
    if not host.has_kubernetes:
        found += _silent_docker(host)
    return found


def _silent_docker(host: Host) -> list[Finding]:
    for one in host.capabilities:
        if one.get("name") == "compose" and not one.get("ready"):
            why = one.get("reason") or "no reason given"
            return [host.finding(RuleName.DOCKER_DOWN, f"Docker does not answer: {why}")]
    return []


def _full_disks(host: Host, least_percent: float) -> list[Finding]:
    found = []
    for disk in host.disks:
        total, free = _number(disk.get("total_bytes")), _number(disk.get("free_bytes"))
        if total > 0 and free * 100 < total * least_percent:
            mount = str(disk.get("mount", ""))
            words = f"{mount} has {free / 2**30:.1f} GiB free of {total / 2**30:.0f} ({free * 100 / total:.0f}%)"
            found.append(host.finding(RuleName.DISK_FULL, words, subject=f"disk{mount}", name=f"{host.name}:{mount}"))
    return found


async def _containers(tx: Transaction, scope: Scope, seen: Look, book: RuleBook) -> list[Finding]:
    """Ask for containers that began again or were ended by memory; both are few among many."""
    data = InventoryContainer.data
    strange = or_(InventoryContainer.sick, data["restarts"].as_integer() > 0, data["oom_killed"].as_boolean().is_(True))
    rows = await tx.scalars(select(InventoryContainer).where(scope.of(InventoryContainer.cluster_id), strange))
    found = []
    for row in rows:
        host = seen.hosts.get(row.cluster_id)
        if host is not None and host.connected and not row.data.get("one_off"):
            least = book.of(row.org_id, RuleName.CONTAINER_RESTARTING).value
            found += _of_container(host, row, least, seen.moment.timestamp())
    return found


def _of_container(host: Host, row: InventoryContainer, least_restarts: float, now: float) -> list[Finding]:
    what, restarts = row.service or row.name, _number(row.data.get("restarts"))
    page = f"/clusters/{host.name}/deployments/{row.project}" if row.project else ""
    subject = f"container/{row.project}/{row.name}"
    found = []

    def add(rule: RuleName, words: str) -> None:
        made = host.finding(rule, words, subject=subject, name=f"{host.name}/{row.name}", page=page)
        found.append(replace(made, project=row.project))

    young = now - _number(row.data.get("started_at")) < FRESH_START
    if row.state == "restarting" or (restarts >= least_restarts and young):
        add(RuleName.CONTAINER_RESTARTING, f"{what} restarted {restarts:.0f} times, last exit code {_exit(row)}")
    ended = _number(row.data.get("finished_at"))
    if row.data.get("oom_killed") and now - ended < FRESH_END:
        add(RuleName.OUT_OF_MEMORY, f"{what} was killed: its memory ran out")
    return found


def _exit(row: InventoryContainer) -> str:
    return f"{_number(row.data.get('exit_code')):.0f}"


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


# -- deployments and certificates ---------------------------------------------------------------


async def _deploys(tx: Transaction, scope: Scope, hosts: Mapping[str, Host]) -> list[Finding]:
    """Ask for projects whose newest revision failed, and was not followed by a deploy that went well."""
    newest = and_(Revision.deployment_id == Deployment.id, Revision.number == Deployment.latest_number)
    unsettled = or_(
        Deployment.deployed_at.is_(None), Revision.finished_at.is_(None),
        Deployment.deployed_at <= Revision.finished_at,
    )  # fmt: skip
    columns = (
        Deployment.id, Deployment.name, Deployment.cluster_id, Revision.number, Revision.error, Revision.rolled_back_to,
    )  # fmt: skip
    query = select(*columns).join(Revision, newest).where(
        scope.of(Deployment.cluster_id), Deployment.removed_at.is_(None), Revision.outcome == "failed", unsettled
    )  # fmt: skip
    return [
        _failed(hosts[row.cluster_id], row.id, row.name, row.number, row.error, row.rolled_back_to)
        for row in await tx.execute(query)
        if row.cluster_id in hosts
    ]


def _failed(host: Host, id: str, name: str, number: int, error: str, back_to: int | None) -> Finding:
    back = f"; revision {back_to} runs again" if back_to else ""
    words = f"revision {number} failed{back}: {error.partition(chr(10))[0] or 'no reason given'}"
    found = host.finding(
        RuleName.DEPLOY_FAILED, words, subject=f"deployment/{id}", name=f"{host.name}/{name}",
        page=f"/clusters/{host.name}/deployments/{name}",
    )  # fmt: skip
    return replace(found, project=name)


async def _certificates(tx: Transaction, now: datetime) -> list[Finding]:
    columns = (
        Certificate.id, Certificate.org_id, Certificate.name, Certificate.begins_at, Certificate.ends_at,
        Certificate.reason,
    )  # fmt: skip
    served = and_(Certificate.wanted, Certificate.chain != "", Certificate.ends_at.is_not(None))
    return [
        Finding(
            RuleName.CERTIFICATE_ENDING, row.org_id, f"certificate/{row.id}", row.name,
            _ending(row.ends_at.astimezone(UTC), now, row.reason), page=f"/certificates/{row.name}",
        )
        for row in await tx.execute(select(*columns).where(served))
        if row.begins_at and now >= schedule.warn_at(row.begins_at, row.ends_at)
    ]  # fmt: skip


def _ending(ends_at: datetime, now: datetime, why: str) -> str:
    words = f"{'ended' if ends_at <= now else 'ends'} {ends_at:%Y-%m-%d %H:%M} UTC"
    return f"{words}: {why}" if why else words
