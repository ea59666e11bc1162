"""Reading the history of usage: who sees which part of it, from which steps a range is put together, and its gaps.

Whoever sees some namespaces alone sees their sums and their pods, and nothing of nodes or of the cluster.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from sqlalchemy import ColumnElement

from towline.aio.clock import REAL_CLOCK, Clock
from towline.control.access.actor import Access, forbidden
from towline.control.access.permissions import Permission
from towline.control.clusters.models import Cluster
from towline.control.db import Database, Transaction
from towline.control.errors import ApiError, ErrorCode
from towline.control.kubernetes.inventory import KubernetesInventory
from towline.control.usage import packing, repository
from towline.control.usage.known import STEP
from towline.control.usage.models import UsageState
from towline.control.usage.packing import Point
from towline.control.usage.rollup import KEEP_LONG, KEEP_SHORT, LONG_STEP, floor
from towline.wire.kube_usage import Kind

Sort = Literal["cpu", "memory", "name"]
StateWord = Literal["measured", "partial", "away", "unknown"]

MOST_POINTS = 1440
"""Of one series: a day of minutes, were they kept."""
MOST_BLOCKS = 3000
"""Read for one answer: they are unpacked in some 800 ms, in a thread. The last hour of 10,000 pods is less,
a day of one namespace too; a day of all pods is asked for namespace by namespace."""
FRESH = 180.0
"""Seconds after the last sample from which on the cluster counts as not measured now: three minutes without a point."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What somebody wants to see. Empty words: all there is; moments in seconds since the epoch."""

    kind: Kind
    begin: float
    end: float
    step: int = 0
    """Seconds; 0: minutes up to an hour, five minutes beyond."""
    namespace: str = ""
    name: str = ""
    sort: Sort = "cpu"
    limit: int = 20


@dataclass(frozen=True, slots=True)
class State:
    """How well a cluster is measured at present."""

    word: StateWord
    reason: str
    source: str
    left_out: int
    sampled_at: datetime | None


@dataclass(frozen=True, slots=True)
class Series:
    """What one node, namespace or pod used. `points`: one for each step; None where nobody measured."""

    namespace: str
    name: str
    points: Sequence[Point | None]
    whole: Point
    """All points as one."""


@dataclass(frozen=True, slots=True)
class History:
    """An answer: series in order, of all that there are."""

    cluster: Cluster
    state: State
    restricted: bool
    kind: Kind
    begin: int
    end: int
    step: int
    series: Sequence[Series]
    total: int


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which names are read."""

    name: str = ""
    namespaces: frozenset[str] | None = None
    """None: all of them."""
    names: frozenset[str] | None = None
    """None: every name."""

    def keeps(self, name: str, kind: Kind) -> bool:
        if self.names is not None:
            return name in self.names
        if self.name and name != self.name:
            return False
        return self.namespaces is None or (name.partition("/")[0] if kind == "pod" else name) in self.namespaces


class UsageHistory:
    """Reads what was kept."""

    def __init__(self, db: Database, inventory: KubernetesInventory, *, clock: Clock = REAL_CLOCK) -> None:
        self._db = db
        self._inventory = inventory
        self._clock = clock

    async def state(self, access: Access, cluster: str) -> State:
        """Return how well a cluster is measured. Raises: ApiError: cluster_not_found."""
        async with self._db.read() as tx:
            row, _ = await self._inventory.require(tx, access, cluster)
            return standing(row, await repository.state(tx, row.id), self._clock.now())

    async def read(self, access: Access, cluster: str, asked: Asked) -> History:
        """Return the history of one kind. Raises: ApiError: cluster_not_found, forbidden, invalid."""
        now = self._clock.now()
        begin, end, step = frame(asked, now.timestamp())
        async with self._db.read() as tx:
            row, seen = await self._inventory.require(tx, access, cluster)
            if seen is not None and asked.kind in ("cluster", "node"):
                raise forbidden(Permission.CLUSTER_READ)
            state = standing(row, await repository.state(tx, row.id), now)
            chosen = choose(asked, seen)
            found = await self._blocks(tx, row.id, asked.kind, begin, end, step, chosen)
        series, total = await asyncio.to_thread(_answer, found, asked, chosen, (begin, end, step))
        return History(row, state, seen is not None, asked.kind, begin, end, step, series, total)

    async def _blocks(
        self, tx: Transaction, cluster_id: str, kind: Kind, begin: int, end: int, step: int, chosen: Chosen
    ) -> list[repository.Row]:
        """Return the blocks of a range: of five minutes as far as there are, minutes for the rest."""
        where = _where(kind, chosen)
        long = await self._some(tx, cluster_id, kind, LONG_STEP, begin, end, where) if step >= LONG_STEP else []
        rest = max(begin, long[-1][0] + LONG_STEP if long else begin)
        if step >= LONG_STEP:
            rest = max(rest, end - 2 * KEEP_SHORT)
        return long + await self._some(tx, cluster_id, kind, STEP, rest, end, where)

    async def _some(
        self, tx: Transaction, cluster_id: str, kind: Kind, step: int, begin: int, end: int,
        where: tuple[ColumnElement[bool], ...],
    ) -> list[repository.Row]:  # fmt: skip
        if await repository.count(tx, cluster_id, kind, step, begin, end, *where) > MOST_BLOCKS:
            raise ApiError(
                ErrorCode.INVALID, "that is more than one answer holds: ask for one namespace, or for a shorter time"
            )
        return await repository.read(tx, cluster_id, kind, step, begin, end, *where)


def frame(asked: Asked, now: float) -> tuple[int, int, int]:
    """Return begin, end and step of an answer, whole steps. Raises: ApiError: invalid."""
    if asked.end <= asked.begin:
        raise ApiError(ErrorCode.INVALID, "`from` has to be before `to`")
    span = asked.end - asked.begin
    step = asked.step or (STEP if span <= KEEP_SHORT and asked.begin >= now - 2 * KEEP_SHORT else LONG_STEP)
    if step % STEP or (step > LONG_STEP and step % LONG_STEP):
        raise ApiError(ErrorCode.INVALID, "`step` has to be 60, 120, 180, 240, or a multiple of 300 seconds")
    if step < LONG_STEP and asked.begin < now - 2 * KEEP_SHORT:
        raise ApiError(ErrorCode.INVALID, "minutes are kept for an hour: ask for a `step` of 300 seconds")
    begin = floor(max(asked.begin, now - KEEP_LONG), step)
    end = -floor(-min(asked.end, now + step), step)
    if end <= begin:
        raise ApiError(ErrorCode.INVALID, "only the last 24 hours are kept")
    if (end - begin) // step > MOST_POINTS:
        raise ApiError(ErrorCode.INVALID, f"more than {MOST_POINTS} points: ask for a longer `step`")
    return begin, end, step


def choose(asked: Asked, seen: Collection[str] | None) -> Chosen:
    """Return which names somebody gets who sees some namespaces alone; None: all."""
    namespaces = None if seen is None else frozenset(seen)
    if asked.kind == "pod":
        if asked.namespace:
            wanted = frozenset({asked.namespace})
            namespaces = wanted if namespaces is None else namespaces & wanted
        name = f"{asked.namespace}/{asked.name}" if asked.name else ""
        if asked.name and not asked.namespace:
            raise ApiError(ErrorCode.INVALID, "a pod is named together with its `namespace`")
        return Chosen(name, namespaces)
    if asked.kind == "namespace":
        return Chosen(asked.name or asked.namespace, namespaces)
    return Chosen(asked.name)


def _where(kind: Kind, chosen: Chosen) -> tuple[ColumnElement[bool], ...]:
    if chosen.name:
        return (repository.named(packing.order(chosen.name)),)
    if kind == "pod" and chosen.namespaces is not None:
        return (repository.within(chosen.namespaces),)
    return ()


def _answer(
    blocks: Sequence[repository.Row], asked: Asked, chosen: Chosen, frame: tuple[int, int, int]
) -> tuple[list[Series], int]:
    """Return the first series of an answer, in order, and how many there are."""
    names = rank(blocks, asked.kind, chosen, asked.sort)
    wanted = Chosen(names=frozenset(names[: asked.limit]))
    series = put_together(blocks, asked.kind, wanted, *frame)
    return sorted(series, key=_order(asked.sort)), len(names)


def rank(blocks: Sequence[repository.Row], kind: Kind, chosen: Chosen, sort: Sort) -> list[str]:
    """Return the names of all series in order, without the work of making points of them."""
    sums: dict[str, tuple[int, int]] = {}
    for _, data in blocks:
        heads = packing.heads(data)
        for name, samples, value in zip(
            heads.names, heads.samples, heads.memory if sort == "memory" else heads.cpu, strict=True
        ):
            before, amount = sums.get(name, (0, 0))
            sums[name] = (before + samples, amount + samples * value)
    names = [name for name in sums if chosen.keeps(name, kind)]
    if sort == "name":
        return sorted(names)
    return sorted(names, key=lambda name: (-sums[name][1] / sums[name][0], name))


def put_together(
    blocks: Sequence[repository.Row], kind: Kind, chosen: Chosen, begin: int, end: int, step: int
) -> list[Series]:
    """Return series out of blocks, which hold others too."""
    found: dict[str, dict[int, list[Point]]] = {}
    for begins, data in blocks:
        columns = packing.unpack(data)
        places = [at for at, name in enumerate(columns.names) if chosen.keeps(name, kind)]
        for name, point in packing.points_of(columns, places):
            found.setdefault(name, {}).setdefault(floor(begins, step), []).append(point)
    return [_series(name, kind, points, begin, end, step) for name, points in found.items()]


def _series(name: str, kind: Kind, found: dict[int, list[Point]], begin: int, end: int, step: int) -> Series:
    points = {at: packing.merge(here) for at, here in found.items()}
    namespace, _, short = name.rpartition("/") if kind == "pod" else ("", "", name)
    return Series(
        namespace, short, [points.get(at) for at in range(begin, end, step)], packing.merge(list(points.values()))
    )


def _order(sort: Sort) -> Callable[[Series], tuple[Any, ...]]:
    if sort == "name":
        return lambda one: (one.namespace, one.name)
    if sort == "memory":
        return lambda one: (-one.whole.memory, one.namespace, one.name)
    return lambda one: (-one.whole.cpu, one.namespace, one.name)


def standing(row: Cluster, known: UsageState | None, now: datetime) -> State:
    """Say how well a cluster is measured now, and why not better."""
    if known is None:
        return State("unknown", "its agent has told nothing of usage yet", "none", 0, None)
    age = (now - known.sampled_at).total_seconds()
    if age > FRESH:
        why = "its agent is away" if not row.connected else "its agent tells no usage at present"
        return State("away", why, known.source, known.left_out, known.sampled_at)
    if known.source == "none":
        return State("unknown", known.reason or "nobody measures it", "none", 0, known.sampled_at)
    reasons = [known.reason] if known.reason else []
    if known.left_out:
        reasons.append(f"{known.left_out} pods beyond those that are kept are in the sums of their namespaces alone")
    word: StateWord = "partial" if reasons else "measured"
    return State(word, "; ".join(reasons), known.source, known.left_out, known.sampled_at)


def moment(seconds: float) -> datetime:
    """Return seconds since the epoch as an aware time."""
    return datetime.fromtimestamp(seconds, UTC)
