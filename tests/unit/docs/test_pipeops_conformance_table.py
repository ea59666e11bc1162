"""Every rule and message of PipeOps agents has a row, and every test that a row names exists."""

import re
from collections import Counter
from pathlib import Path

from towline.wire import pipeops

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "docs" / "design" / "pipeops-conformance.md"
RULES = [
    f"{word} {number}" for word, most in (("must", 7), ("should", 5), ("never", 5)) for number in range(1, most + 1)
]
OF_REST = 6
"""Calls of a REST agent."""
NOT_OF_THE_REAL_AGENT = {"ingress_routes"}
"""Told by documents alone; `test_routes_told_over_the_socket_are_published_too`."""


def rows() -> list[tuple[str, str, set[str]]]:
    found = re.findall(r"^\| ([a-z0-9. ]+) \| (.+?) \|([^|]*)\|$", PAGE.read_text(), re.MULTILINE)
    return [(row, what, set(re.findall(r"`(test_\w+)`", tests))) for row, what, tests in found]


def test_every_rule_of_the_checklist_has_one_row() -> None:
    counted = Counter(row for row, _, _ in rows())
    assert {rule: counted[rule] for rule in RULES} == dict.fromkeys(RULES, 1)
    assert counted["13.1"] == OF_REST


def test_every_message_is_named_by_a_row() -> None:
    told = " ".join(what for row, what, _ in rows() if row.startswith("2."))
    missing = [name for name in pipeops.TYPES if f"`{name}`" not in told]
    assert set(missing) == NOT_OF_THE_REAL_AGENT


def test_every_test_that_a_row_names_exists() -> None:
    written = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^\s*(?:async )?def (test_\w+)", path.read_text(), re.MULTILINE)
    }
    for row, what, tests in rows():
        assert tests, (row, what)
        assert tests <= written, (row, what, sorted(tests - written))
