"""Following a run: what its targets print and how they end, as it is stored. Hints only say when."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from towline.control.access.actor import Access
from towline.control.bus import RESYNC, Subscription
from towline.control.commands import repository
from towline.control.commands.models import CommandRun, CommandTarget
from towline.control.commands.output import STAGES
from towline.control.commands.results import error_of, readable
from towline.control.commands.states import OPEN_RUNS
from towline.control.db import Transaction
from towline.wire.orders import RESTARTED

if TYPE_CHECKING:
    from towline.control.app import ControlPlane

PAGE = 200
"""Events of one target in one read: at most some 1.6 MiB."""
MOST_STREAMED = 50
"""Targets whose output is streamed: more of it than this nobody follows by eye."""
LOOK_INTERVAL = 10.0
"""Seconds without a hint after which the rows are read anyway; also how often a silent stream says that it lives."""
GATHER_SECONDS = 0.05
"""Hints are gathered for this long: a burst of output is one read."""


@dataclass(slots=True)
class Place:
    """How far somebody has read a run: per target the number of its last event."""

    seqs: dict[int, int] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> Place:
        """Read what `str` gave; anything else is the beginning."""
        pairs = [part.partition(".") for part in text.split("_") if part]
        if not all(key.isdigit() and value.isdigit() and len(key + value) < 20 for key, _, value in pairs):
            return cls()
        return cls({int(key): int(value) for key, _, value in pairs[:MOST_STREAMED]})

    def __str__(self) -> str:
        return "_".join(f"{position}.{seq}" for position, seq in sorted(self.seqs.items()))


@dataclass(frozen=True, slots=True)
class News:
    """One thing to say. `place` is where to go on behind it."""

    kind: str
    data: Mapping[str, Any]
    place: str = ""


async def follow(
    control: ControlPlane, access: Access, run_id: str, place: Place, *, with_output: bool
) -> AsyncIterator[News | None]:
    """Yield what is new of a run until it ends; None when nothing has happened for a while.

    Kinds: `output` (what a target printed), `target` (its state changed), `end`.
    """
    reader = _Reader(control, access, place, with_output)
    async with control.bus.subscribe("command", "job", "access", RESYNC) as hints:
        while True:
            async with control.db.read() as tx:
                await reader.renew(tx)
                run, targets = await control.commands.runs.find(tx, reader.access, run_id)
                news, more = await reader.read(tx, run, targets)
            for one in news:
                yield one
            if more:
                continue
            if run.state not in OPEN_RUNS:
                yield News("end", {"id": run.id, "state": run.state})
                return
            if control.draining:
                return  # the reader comes back, and goes on where it was
            if not await _hinted(hints, run, targets, reader):
                yield None


class _Reader:
    """What one stream has said so far, and for whom."""

    def __init__(self, control: ControlPlane, access: Access, place: Place, with_output: bool) -> None:
        self._control = control
        self._place = place
        self._with_output = with_output
        self._states: dict[int, str] = {}
        self._read_to: dict[str, int] = {}
        """Per job the number of its last event, of whatever stage, when it was read to its end."""
        self._renewed_at = control.clock.monotonic()
        self.access = access
        self.is_stale = False
        """Somebody's rights changed, perhaps those of the reader."""

    async def renew(self, tx: Transaction) -> None:
        """Look at the reader's rights again, now and then: a stream outlives them. Raises: AccessLost."""
        now = self._control.clock.monotonic()
        if self.is_stale or now - self._renewed_at >= LOOK_INTERVAL:
            self.access = await self._control.access.renewed(tx, self.access)
            self._renewed_at, self.is_stale = now, False

    async def read(self, tx: Transaction, run: CommandRun, targets: Sequence[CommandTarget]) -> tuple[list[News], bool]:
        """Return what is new, and whether there is more of it."""
        contents = self._control.commands.contents
        may = await readable(tx, self.access, contents, run, [one.cluster_id for one in targets])
        news: list[News] = []
        more = False
        if self._with_output:
            streamed = [one for one in targets if one.job_id and one.cluster_id in may][:MOST_STREAMED]
            news, more = await self._printed(tx, streamed)
        if more:
            return news, True  # how a target ended is said behind what it printed
        for one in targets:
            if self._states.get(one.position) != one.state:
                self._states[one.position] = one.state
                news.append(News("target", shown(one, readable=one.cluster_id in may), str(self._place)))
        return news, False

    async def _printed(self, tx: Transaction, streamed: Sequence[CommandTarget]) -> tuple[list[News], bool]:
        jobs = await repository.jobs(tx, [one.job_id for one in streamed])
        news: list[News] = []
        more = False
        for one in streamed:
            job = jobs.get(one.job_id)
            if job is None or self._read_to.get(job.id) == job.last_seq:
                continue
            found = await self._target(tx, one)
            news += found
            if len(found) == PAGE:
                more = True
            else:
                self._read_to[job.id] = job.last_seq
        return news, more

    async def _target(self, tx: Transaction, one: CommandTarget) -> list[News]:
        seqs = self._place.seqs
        after = seqs.get(one.position, 0)
        news: list[News] = []
        for event in await repository.events(tx, one.job_id, (*STAGES, RESTARTED), after=after, limit=PAGE):
            seqs[one.position] = event.seq
            data = {"target": one.cluster_name, "position": one.position, "stage": event.stage, "text": event.text}
            news.append(News("output", data, str(self._place)))
        return news


def shown(one: CommandTarget, *, readable: bool) -> dict[str, Any]:
    """Return a target as a stream tells of it."""
    return {
        "target": one.cluster_name, "position": one.position, "state": one.state, "exit_code": one.exit_code,
        "error": error_of(one, readable=readable), "code": one.code, "truncated": one.truncated,
    }  # fmt: skip


async def _hinted(hints: Subscription, run: CommandRun, targets: Sequence[CommandTarget], reader: _Reader) -> bool:
    """Wait for a hint about the run. False: none came."""
    wanted = {run.id, *(one.job_id for one in targets)}
    try:
        async with asyncio.timeout(LOOK_INTERVAL):
            async for hint in hints:
                reader.is_stale = reader.is_stale or hint.topic in ("access", RESYNC)
                if reader.is_stale or hint.ids.get("id", run.id) in wanted:
                    break
            else:
                await asyncio.sleep(0.1)  # the bus is closed: the server stops
                return True
    except TimeoutError:
        return False
    with suppress(TimeoutError, StopAsyncIteration):
        async with asyncio.timeout(GATHER_SECONDS):
            while True:
                hint = await anext(hints)
                reader.is_stale = reader.is_stale or hint.topic in ("access", RESYNC)
    return True
