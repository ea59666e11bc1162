"""What one cluster's agent has told since its link came up, and the minute that is gathered. No database, no clock.

Messages hold what changed; here stands what it changed to. A sample in parts counts when its last part is there, one
that a message is missing of counts for nothing.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from towline.control.links.cleaning import clean
from towline.control.usage.packing import Point
from towline.wire.kube_usage import LARGEST, MOST_SERIES, Kind, Series, Source
from towline.wire.link import KubeUsage

STEP = 60
"""Seconds of a point as it is written first; samples come twice as often."""
CLOSEST = 5.0
"""Seconds between two samples that count; an agent that tells more often is not measured better."""

Key = tuple[Kind, str]
"""Kind, and the name; of a pod `NAMESPACE/NAME`."""


@dataclass(slots=True)
class Tally:
    """The samples of one series in one minute."""

    samples: int
    cpu: int
    cpu_low: int
    cpu_high: int
    memory: int
    memory_low: int
    memory_high: int

    def add(self, cpu: int, memory: int) -> None:
        self.samples += 1
        self.cpu += cpu
        self.memory += memory
        if cpu < self.cpu_low:
            self.cpu_low = cpu
        elif cpu > self.cpu_high:
            self.cpu_high = cpu
        if memory < self.memory_low:
            self.memory_low = memory
        elif memory > self.memory_high:
            self.memory_high = memory

    def point(self) -> Point:
        n = self.samples
        return Point(
            n, round(self.cpu / n), self.cpu_low, self.cpu_high, round(self.memory / n), self.memory_low,
            self.memory_high,
        )  # fmt: skip


@dataclass(slots=True)
class Minute:
    """One minute that has ended, ready to be written."""

    begins: int
    points: dict[Kind, dict[str, Point]]


@dataclass(slots=True)
class Standing:
    """How well a cluster is measured, as its agent says."""

    source: Source = "none"
    reason: str = ""
    left_out: int = 0


class Broken(Exception):
    """A message is missing before this one: only a full sample means something now."""


@dataclass(slots=True)
class Known:
    """One cluster's usage, as told over one link."""

    standing: Standing = field(default_factory=Standing)
    _keys: dict[int, Key] = field(default_factory=dict)
    _values: dict[int, tuple[int, int]] = field(default_factory=dict)
    _counts: Counter[Kind] = field(default_factory=Counter)
    _sequence: int = 0
    _refused: int = 0
    """Series of this sample that found no room."""
    _minute: int = 0
    _tallies: dict[Key, Tally] = field(default_factory=dict)
    _sampled: float = float("-inf")

    def __len__(self) -> int:
        return len(self._keys)

    def take(self, message: KubeUsage, now: float) -> Minute | None:
        """Take a message that came now, in seconds since the epoch.

        Returns: the minute before, when this sample begins another one. Raises: Broken.
        """
        if message.full:
            self._forget()
        elif not self._sequence or message.sequence != self._sequence + 1:
            self._forget()
            raise Broken
        self._sequence = message.sequence
        self._apply(message)
        if message.more:
            return None
        self.standing = Standing(
            message.source, clean(message.reason)[:500], max(0, min(message.left_out, 2**31 - 1)) + self._refused
        )
        return self._sample(now)

    def _forget(self) -> None:
        self._keys.clear()
        self._values.clear()
        self._counts.clear()
        self._sequence = self._refused = 0

    def _apply(self, message: KubeUsage) -> None:
        for number in message.gone:
            key = self._keys.pop(number, None)
            self._values.pop(number, None)
            if key is not None:
                self._counts[key[0]] -= 1
        for series in message.named:
            self._name(series)
        values = message.values
        for number, cpu, memory in zip(values[::3], values[1::3], values[2::3], strict=False):
            if number in self._keys:
                self._values[number] = (min(max(cpu, 0), LARGEST), min(max(memory, 0), LARGEST))

    def _name(self, series: Series) -> None:
        if series.number in self._keys:
            return
        if self._counts[series.kind] >= MOST_SERIES[series.kind]:
            self._refused += 1
            return
        self._counts[series.kind] += 1
        self._keys[series.number] = key_of(series)

    def _sample(self, now: float) -> Minute | None:
        minute = int(now) // STEP * STEP
        ended = self.close() if minute != self._minute else None
        if ended is None and 0 <= now - self._sampled < CLOSEST:
            return None
        self._minute, self._sampled = minute, now
        for number, (cpu, memory) in self._values.items():
            key = self._keys[number]
            tally = self._tallies.get(key)
            if tally is None:
                self._tallies[key] = Tally(1, cpu, cpu, cpu, memory, memory, memory)
            else:
                tally.add(cpu, memory)
        return ended

    @property
    def minute(self) -> int:
        """When the minute that is gathered began; 0 while there is none."""
        return self._minute if self._tallies else 0

    def close(self) -> Minute | None:
        """End the minute that is gathered; None when nothing was measured in it."""
        if not self._tallies:
            return None
        points: dict[Kind, dict[str, Point]] = {}
        for (kind, name), tally in self._tallies.items():
            points.setdefault(kind, {})[name] = tally.point()
        self._tallies = {}
        return Minute(self._minute, points)


def key_of(series: Series) -> Key:
    """Return the key of a series: text of agents, cleaned and cut."""
    name = clean(series.name)[:253]
    return (series.kind, f"{clean(series.namespace)[:63]}/{name}") if series.kind == "pod" else (series.kind, name)
