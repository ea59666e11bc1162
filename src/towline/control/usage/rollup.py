"""Minutes become points of five minutes, and what is older than a day goes. What is written is the truth: a process
that begins anew, or takes a cluster over, goes on where the rows stand.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from towline.control.db import Transaction
from towline.control.usage import packing, repository
from towline.control.usage.known import STEP
from towline.control.usage.packing import Block, Point

LONG_STEP = 300
"""Seconds of a point that is kept for a day: 288 points are as many as a chart is wide."""
KEEP_SHORT = 3600
"""Seconds that minutes are kept."""
KEEP_LONG = 24 * 3600
"""Seconds that points of five minutes are kept."""


def floor(moment: float, step: int) -> int:
    """Return when the step began that a moment is in."""
    return int(moment) // step * step


async def roll(tx: Transaction, cluster_id: str, end: int) -> int:
    """Make points of five minutes out of the minutes before a moment, where that was not done. Returns: how many.

    Args: end: a multiple of LONG_STEP, in seconds since the epoch.
    """
    begin = end - KEEP_LONG
    minutes = await repository.moments(tx, cluster_id, STEP, begin, end)
    done = await repository.moments(tx, cluster_id, LONG_STEP, begin, end)
    due = sorted({floor(moment, LONG_STEP) for moment in minutes} - done)
    for begins in due:
        found = await repository.data(tx, cluster_id, STEP, begins, begins + LONG_STEP)
        blocks = await asyncio.to_thread(merged, found)
        await repository.write(tx, cluster_id, LONG_STEP, begins, blocks)
    return len(due)


def merged(found: Iterable[tuple[str, bytes]]) -> dict[str, list[Block]]:
    """Return blocks of several moments as those of one, by kind."""
    kinds: dict[str, dict[str, list[Point]]] = {}
    for kind, data in found:
        series = kinds.setdefault(kind, {})
        for name, point in packing.all_of(data):
            series.setdefault(name, []).append(point)
    return {
        kind: list(packing.pack({name: packing.merge(points) for name, points in series.items()}))
        for kind, series in kinds.items()
    }


async def forget(tx: Transaction, now: float) -> int:
    """Remove what is old of one cluster. Returns: how many blocks; 0 when nothing is old any more."""
    for step, keep in ((STEP, KEEP_SHORT), (LONG_STEP, KEEP_LONG)):
        end = floor(now - keep, LONG_STEP)
        cluster_id = await repository.cluster_with_older(tx, step, end)
        if cluster_id is not None:
            if step == STEP:
                await roll(tx, cluster_id, end)
            return await repository.forget(tx, cluster_id, step, end)
    return 0
