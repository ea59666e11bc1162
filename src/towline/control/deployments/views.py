"""Turning rows into what the API and the pages show: deployments with their live state, revisions without secrets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from towline.control.db import Transaction
from towline.control.deployments import repository, states
from towline.control.deployments.interfaces import ClusterView, Fleet, Inventory, Queue
from towline.control.deployments.models import Deployment, Revision
from towline.control.deployments.schemas import (
    ClusterRef,
    DeploymentOut,
    Replicas,
    RevisionOut,
    SecretRef,
    ServiceOut,
)
from towline.control.deployments.states import Activity, Expected, Place, Situation, Verdict

NOTHING = Inventory()
REASON_CHARACTERS = 160
"""Of another thing's error within a reason."""


@dataclass(frozen=True, slots=True)
class Known:
    """Everything about some deployments that is not in their own rows."""

    clusters: Mapping[str, ClusterView] = field(default_factory=dict)
    inventory: Mapping[tuple[str, str], Inventory] = field(default_factory=dict)
    activities: Mapping[str, Activity] = field(default_factory=dict)
    running: Mapping[str, Revision] = field(default_factory=dict)
    latest: Mapping[str, Revision] = field(default_factory=dict)


async def gather(tx: Transaction, fleet: Fleet, queue: Queue, found: Sequence[Deployment]) -> Known:
    """Read what is known about some deployments: a handful of queries, however many there are."""
    return Known(
        clusters=await fleet.views(tx, sorted({each.cluster_id for each in found})),
        inventory=await fleet.inventory(tx, [(each.cluster_id, each.name) for each in found]),
        activities=await queue.activities(tx, [each.id for each in found]),
        running=await repository.numbered(tx, [(each.id, shown_number(each)) for each in found]),
        latest=await repository.numbered(tx, [(each.id, each.latest_number) for each in found]),
    )


def shown_number(deployment: Deployment) -> int:
    """Return the revision whose services are looked for: the one that runs, else the one that is wanted."""
    return deployment.running_number or deployment.desired_number


def situation(deployment: Deployment, known: Known) -> Situation:
    """Put together what a verdict is made of."""
    cluster = known.clusters.get(deployment.cluster_id)
    seen = known.inventory.get((deployment.cluster_id, deployment.name), NOTHING)
    latest = known.latest.get(deployment.id)
    activity = known.activities.get(deployment.id)
    return Situation(
        place=cluster.place() if cluster else Place("the host", connected=False),
        services=expected(known.running.get(deployment.id), deployment.scales),
        containers=seen.containers,
        drift=drift(deployment, seen, busy=activity is not None),
        activity=activity,
        running_revision=deployment.running_number,
        latest_revision=deployment.latest_number,
        latest_error=_news(deployment, latest),
        stopped_by=deployment.stopped_by,
        removed=deployment.removed_at is not None,
    )


def _news(deployment: Deployment, latest: Revision | None) -> str:
    """Return why the newest revision failed, until a later deploy went well; empty otherwise."""
    if latest is None or latest.outcome != "failed":
        return ""
    settled, failed = deployment.deployed_at, latest.finished_at
    return "" if settled and failed and settled > failed else shortened(latest.error or latest.outcome)


def shortened(text: str) -> str:
    """Cut an error to what fits a line of a list; the revision holds all of it."""
    first = text.partition("\n")[0]
    return first if len(first) <= REASON_CHARACTERS else f"{first[: REASON_CHARACTERS - 1]}…"


def expected(revision: Revision | None, scales: Mapping[str, int]) -> tuple[Expected, ...]:
    """Return what a revision wants of each service, with the replicas that `scale` set."""
    if revision is None:
        return ()
    return tuple(
        Expected(
            name=service["name"],
            image=service.get("image", ""),
            replicas=int(scales.get(service["name"], service.get("replicas", 1))),
            one_shot=bool(service.get("one_shot", False)),
            may_end=bool(service.get("may_end", False)),
        )
        for service in revision.services
    )


def drift(deployment: Deployment, seen: Inventory, *, busy: bool) -> tuple[str, ...]:
    """Return how the host differs from what is wanted, in words. Work in progress is no drift."""
    if busy or seen.project is None or not deployment.running_number or deployment.stopped_by:
        return ()
    found = list(seen.project.drift)
    if seen.project.managed and seen.project.revision and seen.project.revision != deployment.running_number:
        found.append(f"the host has revision {seen.project.revision}, not {deployment.running_number}")
    return tuple(found)


def deployment_out(deployment: Deployment, known: Known) -> DeploymentOut:
    """Judge a deployment now and return its JSON."""
    facts = situation(deployment, known)
    verdict = states.judge(facts)
    cluster = known.clusters.get(deployment.cluster_id)
    activity = known.activities.get(deployment.id)
    seen = known.inventory.get((deployment.cluster_id, deployment.name), NOTHING)
    return DeploymentOut(
        id=deployment.id,
        name=deployment.name,
        cluster=ClusterRef(id=deployment.cluster_id, name=cluster.name if cluster else deployment.cluster_id),
        state=verdict.state,
        reason=verdict.reason,
        state_since=deployment.state_since,
        revision=deployment.running_number,
        desired_revision=deployment.desired_number,
        last_good_revision=deployment.last_good_number,
        latest_revision=deployment.latest_number,
        drift=list(facts.drift),
        services=_services(verdict),
        job_id=activity.job_id if activity else None,
        labels=deployment.labels,
        auto_rollback=deployment.auto_rollback,
        settle_seconds=deployment.settle_seconds,
        keep_revisions=deployment.keep_revisions,
        policy_level=deployment.policy_level,
        prune_interval_seconds=deployment.prune_interval_seconds,
        pruned_at=deployment.pruned_at,
        scales=deployment.scales,
        folder=(seen.project.folder if seen.project else "") or deployment.folder,
        removed_at=deployment.removed_at,
        created_at=deployment.created_at,
        updated_at=deployment.updated_at,
    )


def _services(verdict: Verdict) -> list[ServiceOut]:
    return [
        ServiceOut(
            name=service.name,
            image=service.image,
            state=service.state,
            replicas=Replicas(running=service.running, wanted=service.wanted),
            health=service.health,
            reason=service.reason,
            ports=list(service.ports),
        )
        for service in verdict.services
    ]


def revision_out(revision: Revision, *, with_logs: bool = True) -> RevisionOut:
    """Return a revision's JSON: names and versions of secrets, never values.

    Args: with_logs: whether the last log lines of what failed are shown; they need the right to read logs.
    """
    return RevisionOut(**revision_fields(revision, with_logs=with_logs))


def revision_fields(revision: Revision, *, with_logs: bool) -> dict[str, object]:
    """Return the fields that list and detail share."""
    failing = revision.failing
    if not with_logs:
        failing = [{key: value for key, value in each.items() if key != "log_tail"} for each in failing]
    return {
        "id": revision.id,
        "number": revision.number,
        "message": revision.message,
        "author": revision.author,
        "source": revision.source,
        "outcome": revision.outcome,
        "error": revision.error,
        "code": revision.code,
        "failing": failing,
        "rolled_back_to": revision.rolled_back_to,
        "images": revision.images,
        "base_revision": revision.base_number,
        "bundle": revision.bundle,
        "variables": revision.variables,
        "secrets": [SecretRef(name=name, version=version) for name, version in sorted(revision.secrets.items())],
        "registries": revision.registries,
        "job_id": revision.job_id,
        "has_content": revision.compose is not None,
        "created_at": revision.created_at,
        "finished_at": revision.finished_at,
    }
