"""Label selectors."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from towline.control.clusters import selectors

LABELS = {"env": "prod", "region": "eu-1", "tier": "web"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", True),
        ("env=prod", True),
        ("env==prod", True),
        ("env=test", False),
        ("env!=test", True),
        ("nothing!=x", True),
        ("env = prod , region!=us", True),
        ("tier in (web, api)", True),
        ("tier in (api)", False),
        ("tier notin (api,db)", True),
        ("env", True),
        ("!env", False),
        ("!legacy", True),
        ("env=prod,tier in (web),!legacy,region!=us", True),
        ("env=", False),
    ],
)
def test_a_selector_matches_labels(text: str, expected: bool) -> None:
    assert selectors.matches(selectors.parse(text), LABELS) is expected


@pytest.mark.parametrize(
    "text",
    [
        ",",
        "env=prod,",
        ",env",
        "a=b=c",
        "a in b",
        "a in (b",
        "a=(b)",
        "=x",
        "a;b",
        "a=b%",
        "a" * 70,
        "a=b," * 17 + "a",
    ],
)
def test_a_bad_selector_is_refused(text: str) -> None:
    with pytest.raises(selectors.BadSelector):
        selectors.parse(text)


@given(st.text(max_size=60))
def test_any_text_parses_or_is_refused(text: str) -> None:
    with contextlib.suppress(selectors.BadSelector):
        selectors.matches(selectors.parse(text), LABELS)


@pytest.mark.parametrize(
    "labels", [{"a b": "c"}, {"a": "b,c"}, {"": "x"}, {"a": "x" * 64}, {f"k{n}": "" for n in range(65)}]
)
def test_labels_that_no_selector_could_name_are_refused(labels: dict[str, str]) -> None:
    with pytest.raises(selectors.BadLabel):
        selectors.check_labels(labels)


def test_usual_labels_are_accepted() -> None:
    selectors.check_labels({"env": "prod", "example.com/team": "a_b-c.d", "empty": ""})
