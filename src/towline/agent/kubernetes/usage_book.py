"""Samples as they are told: what changed since the last one, in messages small enough for the link. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from towline.agent.kubernetes.usage_reading import Key, Reading, Used
from towline.wire.kube_usage import CPU_UNITS, LARGEST, MEMORY_UNIT, MOST_IN_PART, Series
from towline.wire.link import KubeUsage

WHOLE_AFTER = 120
"""Samples after which all is told anew: an hour. It bounds the numbers, of which none is used twice in between."""

Units = tuple[int, int]


@dataclass(slots=True)
class _Change:
    """One series of a sample: what is to be told of it."""

    number: int
    units: Units
    named: Series | None = None


@dataclass(slots=True)
class UsageBook:
    """What the other end knows."""

    _numbers: dict[Key, int] = field(default_factory=dict)
    _told: dict[int, Units] = field(default_factory=dict)
    _sequence: int = 0
    _samples: int = 0
    _next: int = 0
    is_whole_due: bool = True

    def begin(self) -> None:
        """A new link is up, which knows nothing."""
        self._sequence = 0
        self.is_whole_due = True

    def take(self, reading: Reading) -> list[KubeUsage]:
        """Return a reading as messages, and count it as told."""
        whole = self.is_whole_due or self._samples >= WHOLE_AFTER
        if whole:
            self._forget()
        self._samples += 1
        gone = [] if whole else [number for key, number in self._numbers.items() if key not in reading.used]
        for key in [key for key in self._numbers if key not in reading.used]:
            self._told.pop(self._numbers.pop(key), None)
        return self._messages(reading, whole, gone, list(self._changes(reading)))

    def _forget(self) -> None:
        self._numbers.clear()
        self._told.clear()
        self._samples = self._next = 0
        self.is_whole_due = False

    def _changes(self, reading: Reading) -> Iterator[_Change]:
        for key, used in reading.used.items():
            units, number = in_units(used), self._numbers.get(key)
            if number is None:
                number = self._numbers[key] = self._next
                self._next += 1
                self._told[number] = units
                yield _Change(number, units, Series(number, *key))
            elif self._told[number] != units:
                self._told[number] = units
                yield _Change(number, units)

    def _messages(
        self, reading: Reading, whole: bool, gone: Sequence[int], changes: Sequence[_Change]
    ) -> list[KubeUsage]:
        parts = max(1, -(-max(len(gone), len(changes)) // MOST_IN_PART))
        messages = []
        for part in range(parts):
            here = slice(part * MOST_IN_PART, (part + 1) * MOST_IN_PART)
            self._sequence += 1
            messages.append(
                KubeUsage(
                    sequence=self._sequence,
                    full=whole and part == 0,
                    more=part + 1 < parts,
                    source=reading.source,
                    reason=reading.reason,
                    left_out=reading.left_out,
                    named=tuple(one.named for one in changes[here] if one.named is not None),
                    gone=tuple(gone[here]),
                    values=tuple(value for one in changes[here] for value in (one.number, *one.units)),
                )
            )
        return messages


def in_units(used: Used) -> Units:
    """Return cores and bytes in the units of the wire, to the nearest one."""
    cpu, memory = used
    return min(round(cpu * CPU_UNITS), LARGEST), min(round(memory / MEMORY_UNIT), LARGEST)
