"""The page on policy names every level and every rule, and no rule that does not exist."""

import re
from pathlib import Path

from towline.compose.policy import Level, Rule

PAGE = (Path(__file__).parents[3] / "docs/how-to/compose-policy.md").read_text()


def test_every_rule_has_its_row_and_every_row_its_rule() -> None:
    table = PAGE.partition("| rule | refused")[2]
    assert re.findall(r"^\| `([a-z-]+)` \|", table, re.MULTILINE) == [rule.value for rule in Rule]


def test_every_level_is_described() -> None:
    assert all(f"`{level.value}`" in PAGE for level in Level)
