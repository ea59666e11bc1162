"""Every expectation of Kubernetes clients has a row, and every test that a row names exists."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
EXPECTATIONS = 65


def test_every_expectation_names_tests_that_exist() -> None:
    text = (ROOT / "docs" / "design" / "kubernetes-conformance.md").read_text()
    rows = {int(number): tests for number, tests in re.findall(r"^\| (\d+) \|[^|]*\|([^|]*)\|$", text, re.MULTILINE)}
    assert sorted(rows) == list(range(1, EXPECTATIONS + 1))
    written = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^\s*(?:async )?def (test_\w+)", path.read_text(), re.MULTILINE)
    }
    for number, tests in rows.items():
        named = set(re.findall(r"`(test_\w+)`", tests))
        assert named or "the tests of" in tests, number
        assert named <= written, (number, sorted(named - written))
