"""The small chart of `towline kube usage`."""

from typing import Any

from towline.cli.kube.usage import GAP, bars


def point(cpu: float) -> dict[str, Any]:
    return {"cpu": {"avg": cpu}}


def test_the_highest_point_is_a_whole_block_and_a_gap_is_none() -> None:
    assert bars([point(0.0), None, point(0.5), point(1.0)]) == f"▁{GAP}▅█"


def test_more_points_than_characters_are_put_together() -> None:
    assert bars([point(1.0)] * 100, wide=10) == "█" * 10


def test_nothing_measured_is_no_zero() -> None:
    assert bars([None, None]) == GAP * 2
    assert bars([]) == GAP
