"""Foreign text made safe to show."""

from hypothesis import given
from hypothesis import strategies as st

from towline.compose.text import clean, nearest, shown


def test_control_and_direction_characters_are_escaped() -> None:
    assert clean("\x1b[31mred\x07\u202e") == "\\x1b[31mred\\x07\\u202e"


def test_newline_and_tab_stay_and_a_bare_return_does_not() -> None:
    assert clean("a\n\tb\r\nc\rd") == "a\n\tb\nc\\x0dd"


def test_long_text_is_cut_at_the_limit_in_bytes() -> None:
    assert clean("é" * 100, 50).endswith("… (cut)")
    assert len(clean("é" * 100, 50).encode()) <= 50


@given(st.text(), st.integers(min_value=10, max_value=200))
def test_cleaned_text_never_exceeds_the_limit_and_is_always_encodable(text: str, limit: int) -> None:
    assert len(clean(text, limit).encode()) <= limit


def test_a_name_is_shown_on_one_line() -> None:
    assert shown("a\nb") == "'a\\nb'"


def test_the_nearest_known_word_is_found() -> None:
    assert nearest("enviroment", ["environment", "env_file"]) == "environment"
    assert nearest("zzz", ["environment"]) is None
