"""How well the agent sees its cluster: what was read, what may not be, and since when nothing answers.

Takes the states of all watchers, and puts them into the words of `About`. Pure but for the clock.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass

from msgspec.structs import replace

from towline.agent.kubernetes.book import Book
from towline.agent.kubernetes.watches import State
from towline.aio.clock import Clock
from towline.wire.kube_inventory import Missing

AWAY_AFTER = 10.0
"""Seconds without any answer before it is told: an API server that restarts is back sooner."""
PART_AWAY_AFTER = 60.0
"""Seconds before one kind that fails beside others is told as missing."""
READ_TIMEOUT = 60.0
"""Seconds after which what was read is told, though something else still fails."""
REASON_CHARACTERS = 300
MOST_MISSING = 50


@dataclass(frozen=True, slots=True)
class Turn:
    """The state of one watcher, since a monotonic moment."""

    state: State
    reason: str
    since: float


class Sight:
    """Args: read: called once, when everything was read for the first time."""

    def __init__(self, book: Book, read: Callable[[], None], *, clock: Clock) -> None:
        self._book = book
        self._read = read
        self._clock = clock
        self._began = clock.monotonic()
        self._expected: set[str] = set()
        self._turns: dict[tuple[str, str], Turn] = {}
        self._names: dict[str, tuple[str, ...]] = {}
        self._done: set[str] = set()
        """Kinds that were read, or denied."""
        self._progress = asyncio.Event()
        self.is_read = False

    def __repr__(self) -> str:
        return f"<Sight {len(self._done)} of {len(self._expected)} kinds>"

    def expect(self, kind: str) -> None:
        """This kind belongs to everything."""
        self._expected.add(kind)

    def turned(self, kind: str, namespace: str, state: State, reason: str) -> None:
        """A watcher is in another state."""
        now, before = self._clock.monotonic(), self._turns.get((kind, namespace))
        if state is State.LISTING and before is not None and before.state is State.AWAY:
            return  # it answers again when the list is whole
        same = before is not None and before.state is state
        since = before.since if same and before is not None else now
        self._turns[kind, namespace] = Turn(state, reason[:REASON_CHARACTERS], since)
        if state in (State.FOLLOWING, State.DENIED):
            self._note_done(kind)
        self.look()

    def narrowed(self, kind: str, names: tuple[str, ...]) -> None:
        """A kind is read in some namespaces alone."""
        self._turns.pop((kind, ""), None)
        self._names[kind] = names
        self.look()

    def widened(self, kind: str) -> None:
        """A kind may be read everywhere again."""
        self._names.pop(kind, None)
        for key in [key for key in self._turns if key[0] == kind]:
            del self._turns[key]
        self.look()

    async def has_read(self, kinds: Collection[str]) -> None:
        """Wait until some kinds were read or denied; not for ever."""
        try:
            async with asyncio.timeout(READ_TIMEOUT):
                while not self._done.issuperset(kinds):
                    await self._progress.wait()
                    self._progress.clear()
        except TimeoutError:
            return

    def states(self) -> list[tuple[str, State]]:
        """Return kind and state of every watcher."""
        return [(kind, turn.state) for (kind, _), turn in self._turns.items()]

    def look(self) -> None:
        """Bring what is told up to date; called on each turn and, for what only time changes, now and then."""
        now = self._clock.monotonic()
        away = self._away(now)
        kept = self._book.about.away_since
        self._book.about = replace(
            self._book.about,
            namespaces=tuple(sorted({name for names in self._names.values() for name in names})),
            missing=() if away is not None else self._missing(now),
            away_since=0.0 if away is None else kept or self._clock.now().timestamp() - (now - away.since),
            away_reason="" if away is None else away.reason,
        )
        late = now - self._began >= READ_TIMEOUT and bool(self._done)
        if not self.is_read and (late or (self._expected and self._done >= self._expected)):
            self.is_read = True
            self._read()

    def _note_done(self, kind: str) -> None:
        """A narrowed kind is done when each of its namespaces is."""
        ends = (State.FOLLOWING, State.DENIED)
        names = self._names.get(kind, ("",))
        if all((turn := self._turns.get((kind, name))) is not None and turn.state in ends for name in names):
            self._done.add(kind)
            self._progress.set()

    def _away(self, now: float) -> Turn | None:
        """Return since when and why nothing answers; None while something does."""
        asked = [turn for turn in self._turns.values() if turn.state is not State.DENIED]
        if not asked or any(turn.state is not State.AWAY for turn in asked):
            return None
        last = max(asked, key=lambda turn: turn.since)
        return last if now - last.since >= AWAY_AFTER else None

    def _missing(self, now: float) -> tuple[Missing, ...]:
        found = [
            Missing(kind=kind, namespace=namespace, reason=turn.reason)
            for (kind, namespace), turn in sorted(self._turns.items())
            if turn.state is State.DENIED or (turn.state is State.AWAY and now - turn.since >= PART_AWAY_AFTER)
        ]
        return tuple(found[:MOST_MISSING])
