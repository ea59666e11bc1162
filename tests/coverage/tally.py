"""What was run and what was not, of the packages that are measured, and how it is told."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

WORST = 10
"""Files shown with the most lines that nothing ran."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One file: where its statements begin, and which of them were run."""

    path: str
    lines: tuple[int, ...]
    marks: bytes

    @property
    def run(self) -> int:
        return sum(map(bool, self.marks))

    @property
    def missed(self) -> list[int]:
        return [line for line, mark in zip(self.lines, self.marks, strict=True) if not mark]


def share(files: Iterable[Seen]) -> tuple[int, int]:
    """Return how many lines were run, and how many there are."""
    found = list(files)
    return sum(one.run for one in found), sum(len(one.lines) for one in found)


def percent(run: int, all_lines: int) -> float:
    return 100 * run / all_lines if all_lines else 100.0


def page(files: Iterable[Seen]) -> Iterator[str]:
    """Yield every file with what was not run of it, the worst first."""
    yield "share of lines | run | all | file | not run"
    for one in sorted(files, key=lambda one: (percent(one.run, len(one.lines)), one.path)):
        missed = ", ".join(ranges(one.missed, one.lines))
        yield f"{percent(one.run, len(one.lines)):5.1f} % | {one.run} | {len(one.lines)} | {one.path} | {missed}"


def worst(files: Iterable[Seen]) -> Iterator[str]:
    """Yield the files with the most lines that nothing ran."""
    ordered = sorted(files, key=lambda one: one.run - len(one.lines))
    for one in ordered[:WORST]:
        if one.missed:
            yield f"{len(one.missed):4} of {len(one.lines):4} lines not run: {one.path}"


def ranges(missed: Iterable[int], lines: Iterable[int]) -> Iterator[str]:
    """Yield lines as `7` or `7-12`, those together between which nothing was run."""
    left = set(missed)
    group: list[int] = []
    for line in [*sorted(lines), 0]:
        if line in left:
            group.append(line)
        elif group:
            yield str(group[0]) if len(group) == 1 else f"{group[0]}-{group[-1]}"
            group = []
