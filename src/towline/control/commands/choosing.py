"""Which clusters a command is for, and whether it may run on each: listed before anything is run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from towline.commandline.plan import Plan
from towline.control.access.actor import Access
from towline.control.clusters import repository as clusters
from towline.control.clusters.models import Cluster
from towline.control.clusters.selectors import BadSelector, parse
from towline.control.commands import repository
from towline.control.commands.authority import Decision, decide, is_visible, place_of, serves
from towline.control.commands.schemas import MOST_TARGETS, Where
from towline.control.db import Transaction
from towline.control.errors import ApiError, ErrorCode, not_found
from towline.control.kubernetes.places import Place

PROGRAM_NEEDS = {"kubectl": "Kubernetes", "docker": "Docker", "compose": "Docker"}


@dataclass(frozen=True, slots=True)
class Chosen:
    """A cluster, and whether the command may run there."""

    row: Cluster
    place: Place
    decision: Decision


async def choose(tx: Transaction, access: Access, where: Where, plan: Plan, *, selector: str | None) -> list[Chosen]:
    """Return the targets in their order: as they were named, or by name.

    Args: selector: of the request, or of the saved command.
    Raises: ApiError: cluster_not_found; invalid, for a bad selector, or when there is no target at all.
    """
    labels: Mapping[str, Mapping[str, str]]
    if where.clusters:
        rows = await _named(tx, access, where.clusters)
        labels = await clusters.labels_of(tx, [row.id for row in rows])
    elif selector is not None:
        rows, labels = await _selected(tx, access, selector, plan.program)
    else:
        raise ApiError(ErrorCode.INVALID, "which clusters?", hint="name them, or give a selector")
    if not rows:
        needed = PROGRAM_NEEDS[plan.program]
        raise ApiError(ErrorCode.INVALID, f"no cluster with {needed} that you see has these labels")
    return [await _decided(tx, access, row, labels[row.id], plan) for row in rows]


async def _named(tx: Transaction, access: Access, names: Sequence[str]) -> list[Cluster]:
    found = await repository.clusters_named(tx, access.org_id, names)
    labels = await clusters.labels_of(tx, [row.id for row in found.values()])
    for name in names:
        row = found.get(name)
        if row is None or not is_visible(access, place_of(row, labels[row.id])):
            raise not_found("cluster", name)
    return list({found[name].id: found[name] for name in names}.values())


async def _selected(
    tx: Transaction, access: Access, selector: str, program: str
) -> tuple[list[Cluster], Mapping[str, Mapping[str, str]]]:
    try:
        requirements = parse(selector)
    except BadSelector as error:
        raise ApiError(ErrorCode.INVALID, str(error)) from error
    rows = await repository.clusters_matching(tx, access.org_id, requirements, MOST_TARGETS + 1)
    if len(rows) > MOST_TARGETS:
        raise ApiError(ErrorCode.INVALID, f"these are more than {MOST_TARGETS} clusters", hint="choose fewer by labels")
    labels = await clusters.labels_of(tx, [row.id for row in rows])
    seen = [row for row in rows if serves(row, program) and is_visible(access, place_of(row, labels[row.id]))]
    return seen, labels


async def _decided(tx: Transaction, access: Access, row: Cluster, labels: Mapping[str, str], plan: Plan) -> Chosen:
    place = place_of(row, labels)
    if not serves(row, plan.program):
        return Chosen(row, place, Decision(f"it serves no {PROGRAM_NEEDS[plan.program]}"))
    return Chosen(row, place, await decide(tx, access, place, plan))
