"""The rest between two passes."""

import pytest

from towline.control.pacing import LONGEST_REST, rest_after


@pytest.mark.parametrize(
    ("took", "rest"), [(0.0, 0.2), (0.01, 0.2), (0.1, 1.0), (3.0, LONGEST_REST), (300.0, LONGEST_REST)]
)
def test_a_pass_is_followed_by_ten_times_its_length_within_bounds(took: float, rest: float) -> None:
    assert rest_after(took, least=0.2) == pytest.approx(rest)
