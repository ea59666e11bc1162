"""Marks in code: each statement that is run shows, and nothing else of a module changes."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.coverage import marking, tally
from tests.coverage.tally import Seen

SOURCE = '''\
"""What it is."""
from __future__ import annotations

import typing

LIMIT = 3
"""Why."""

if typing.TYPE_CHECKING:
    import decimal


class Shape(typing.Protocol):
    sides: int = 4

    def area(self) -> float: ...


def judged(number: int) -> str:
    """Say."""
    global LIMIT
    match number:
        case 0:
            return "none"
        case _ if number > LIMIT:
            word = "many"
        case _:
            word = "few"
    try:
        return word + "!" * (10 // (number - 5))
    except ZeroDivisionError:
        return (
            "five"
        )
    finally:
        LIMIT += 1


for at in range(0):
    judged(at)
else:
    done = True
'''


@pytest.fixture
def marks(monkeypatch: pytest.MonkeyPatch) -> Iterator[bytearray]:
    """Where marks go: to nothing that this run of tests measures itself."""
    found = bytearray(len(marking.lines_of(SOURCE)))
    store = types.SimpleNamespace(marks_of=lambda module: found)
    monkeypatch.setitem(sys.modules, "sitecustomize", store)
    yield found


def run(marks: bytearray) -> tuple[types.ModuleType, list[int]]:
    module = types.ModuleType("shapes")
    exec(marking.marked(SOURCE, "shapes", "shapes.py"), module.__dict__)
    return module, missed(marks)


def missed(marks: bytearray) -> list[int]:
    return Seen("shapes.py", tuple(marking.lines_of(SOURCE)), bytes(marks)).missed


def test_statements_count_once_where_they_begin() -> None:
    assert marking.lines_of(SOURCE) == [4, 6, 13, 14, 16, 19, 22, 24, 26, 28, 29, 30, 32, 36, 39, 40, 42]


def test_only_what_ran_has_its_mark(marks: bytearray) -> None:
    module, left = run(marks)
    assert left == [22, 24, 26, 28, 29, 30, 32, 36, 40]

    assert module.judged(0) == "none"
    assert missed(marks) == [26, 28, 29, 30, 32, 36, 40]
    assert module.judged(5) == "five"
    assert missed(marks) == [28, 40]


def test_module_stays_what_it_was(marks: bytearray) -> None:
    module, _ = run(marks)

    assert module.__doc__ == "What it is."
    assert module.judged.__doc__ == "Say."
    assert module.judged.__annotations__ == {"number": "int", "return": "str"}
    assert module.judged.__code__.co_firstlineno == 19
    assert set(vars(module.Shape)) >= {"sides", "area"}


def test_lines_of_the_agent_itself_can_all_be_marked() -> None:
    for path in (Path(__file__).parents[3] / "src/towline/agent/surface").glob("*.py"):
        marking.marked(path.read_text(), path.stem, str(path))


def test_neighbours_that_were_not_run_are_told_together() -> None:
    lines = (1, 2, 4, 5, 9, 12)
    seen = Seen("a.py", lines, bytes([1, 0, 0, 1, 0, 0]))

    assert list(tally.ranges(seen.missed, lines)) == ["2-4", "9-12"]
    assert tally.share([seen, seen]) == (4, 12)
    assert list(tally.page([seen]))[1] == " 33.3 % | 2 | 6 | a.py | 2-4, 9-12"
