"""Quantities against exact fractions."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from towline.kube.quantities import MAX_QUANTITY_CHARACTERS, BadQuantity, parse_quantity

POWERS = {"n": -3, "u": -2, "m": -1, "": 0, "k": 1, "M": 2, "G": 3, "T": 4, "P": 5, "E": 6}
BINARY = {"Ki": 1, "Mi": 2, "Gi": 3, "Ti": 4, "Pi": 5, "Ei": 6}


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("0", 0), ("2", 2), ("250m", 0.25), ("1900m", 1.9), ("16Gi", 16 * 1024**3), ("3919Mi", 3919 * 1024**2),
        ("131072Ki", 131072 * 1024), ("12e6", 12_000_000), ("12E6", 12_000_000), ("1E", 10**18), ("1Ei", 1024**6),
        ("5k", 5000), ("123456789n", 0.123456789), ("7u", 0.000007), ("1.5Gi", 1.5 * 1024**3), (".5", 0.5), ("5.", 5),
        ("-1", -1), ("+1.25", 1.25), ("1e-3", 0.001), ("110", 110),
    ],
)  # fmt: skip
def test_quantity_is_read(text: str, amount: float) -> None:
    assert parse_quantity(text) == amount


@pytest.mark.parametrize(
    "text",
    [
        "", ".", "-", "m", "Gi", "1K", "1ki", "1gi", "1 Gi", " 1", "1 ", "1\n", "1mm", "1Gim", "1e", "1e1m", "1e1.5",
        "0x10", "1_000", "1,5", "١", "NaN", "inf", "--1", "1e9999", "1e999", "9" * (MAX_QUANTITY_CHARACTERS + 1),
    ],
)  # fmt: skip
def test_anything_else_is_no_quantity(text: str) -> None:
    with pytest.raises(BadQuantity):
        parse_quantity(text)


@given(st.integers(-(10**19), 10**19), st.integers(0, 9), st.sampled_from([*POWERS, *BINARY]))
def test_quantity_is_the_nearest_float(digits: int, places: int, suffix: str) -> None:
    sign, text = "-" * (digits < 0), str(abs(digits)).zfill(places + 1)
    number = f"{sign}{text[: len(text) - places]}.{text[len(text) - places :]}{suffix}"
    factor = Fraction(1024) ** BINARY[suffix] if suffix in BINARY else Fraction(1000) ** POWERS[suffix]
    assert parse_quantity(number) == float(Fraction(digits, 10**places) * factor)
