"""A line of the form is cut into arguments as it was written, and shown so that it is cut the same again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from towline.control.commands.pages import joined, words
from towline.control.errors import ApiError


def test_blanks_cut_and_quotes_keep_together() -> None:
    assert words("get pods -l 'app in (web, api)'") == ["get", "pods", "-l", "app in (web, api)"]


@pytest.mark.parametrize("line", ["get $(id)", "get `id`", "get ;", "get a|b", "get $HOME", "get *", "get >x"])
def test_what_a_shell_would_read_is_text(line: str) -> None:
    assert words(line) == line.split()


def test_a_quote_without_an_end_is_named() -> None:
    with pytest.raises(ApiError, match="quote"):
        words("get 'pods")


def test_a_parameter_is_shown_without_quotes() -> None:
    assert joined(["logs", "deploy/{{app}}", "a b"]) == "logs deploy/{{app}} 'a b'"


@given(st.lists(st.text(max_size=20), max_size=5))
def test_what_is_shown_is_read_the_same_again(arguments: list[str]) -> None:
    assert words(joined(arguments)) == arguments
