"""What `TOWLINE_TEST_REQUIRE` means, and which parts a marker asks for."""

import pytest
from tests.testbed import catalogue
from tests.testbed.requirement import VARIABLE, Missing, is_required


@pytest.mark.parametrize(("value", "answer"), [("all", True), ("docker", True), ("postgres, docker", True)])
def test_named_part_is_required(monkeypatch: pytest.MonkeyPatch, value: str, answer: bool) -> None:
    monkeypatch.setenv(VARIABLE, value)
    assert is_required("docker") is answer


@pytest.mark.parametrize("value", ["", "postgres", "dock", "none"])
def test_other_part_is_not_required(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv(VARIABLE, value)
    assert not is_required("docker")


def test_missing_part_says_why_and_what_to_do() -> None:
    missing = Missing("docker", "no engine answers", "start Docker")
    assert str(missing) == "docker: no engine answers (start Docker)"


def test_markers_become_parts_once_each_and_in_a_fixed_order() -> None:
    parts = catalogue.parts_of(["proxies", "docker", "docker", "timeout"])
    assert parts == ["docker", "compose", "images", "nginx", "haproxy", "squid"]


def test_every_part_of_a_marker_exists() -> None:
    assert {part for parts in catalogue.MARKERS.values() for part in parts} <= set(catalogue.PARTS)
