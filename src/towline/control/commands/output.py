"""What commands printed, read back from the events of their jobs, and targets grouped by equal answers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from towline.control.commands import repository
from towline.control.commands.models import CommandTarget
from towline.control.commands.states import OPEN_TARGETS, TargetState
from towline.control.db import Transaction
from towline.wire.orders import RESTARTED, STDERR, STDOUT

STAGES = (STDOUT, STDERR)
PAGE = 256
"""Events of one read: some 2 MiB at most."""
SHOWN_BYTES = 64 * 1024
"""Of one output in a list of answers, unless more is asked for: what a page shows."""
MOST_SHOWN_BYTES = 16 * 1024 * 1024
"""Of all outputs of one answer together."""
_ORDER = {TargetState.SUCCEEDED: 0, TargetState.ACTIVE: 1, TargetState.PENDING: 2}


@dataclass(frozen=True, slots=True)
class Group:
    """Targets that gave the very same answer, or wait for the same."""

    targets: tuple[CommandTarget, ...]

    @property
    def first(self) -> CommandTarget:
        return self.targets[0]

    @property
    def names(self) -> list[str]:
        return [one.cluster_name for one in self.targets]


async def texts(tx: Transaction, job_id: str, stage: str) -> AsyncIterator[str]:
    """Yield what a command printed, in order; what came before it was begun anew is left out."""
    after = await repository.last_seq_of(tx, job_id, RESTARTED) if job_id else 0
    while job_id:
        found = await repository.events(tx, job_id, (stage,), after=after, limit=PAGE)
        for event in found:
            yield event.text
        if len(found) < PAGE:
            return
        after = found[-1].seq


async def read(tx: Transaction, job_id: str, stage: str, most: int) -> tuple[str, bool]:
    """Return what a command printed, and whether some of it is left out. Args: most: bytes."""
    found: list[str] = []
    size = 0
    async for text in texts(tx, job_id, stage):
        room = most - size
        if room <= 0:
            return "".join(found), True
        piece = text.encode()
        found.append(text if len(piece) <= room else piece[:room].decode("utf-8", "ignore"))
        size += len(piece)
    return "".join(found), size > most


def grouped(targets: Sequence[CommandTarget]) -> list[Group]:
    """Return groups of equal answers: good ones first, of those the most common, then by name.

    A target that is at work stands alone: what it prints is its own until it ends.
    """
    found: dict[tuple[object, ...], list[CommandTarget]] = {}
    for one in targets:
        key: tuple[object, ...] = (one.state, one.exit_code, one.code, one.error, one.answer)
        if one.state == TargetState.ACTIVE:
            key = (one.position,)
        found.setdefault(key, []).append(one)
    groups = [Group(tuple(sorted(members, key=lambda one: one.cluster_name))) for members in found.values()]
    return sorted(groups, key=_rank)


def _rank(group: Group) -> tuple[int, int, str]:
    state = TargetState(group.first.state)
    return _ORDER.get(state, 3), 0 if state in OPEN_TARGETS else -len(group.targets), group.first.cluster_name
