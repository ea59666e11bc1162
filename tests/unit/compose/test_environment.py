"""Env files."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from towline.compose import environment
from towline.compose.errors import EnvironmentRefused


def test_the_forms_that_compose_knows_are_read() -> None:
    text = "# head\nA=1\nexport B = two\nC: three\nD='$A \\n'\nE=\"x\\ny $A\"\nF=a b # note\nG=\nH='multi\nline'\n"
    assert environment.parse(text) == {
        "A": "1", "B": "two", "C": "three", "D": "$A \\n", "E": "x\ny 1", "F": "a b", "G": "", "H": "multi\nline",
    }  # fmt: skip


def test_a_bare_name_takes_its_value_from_outside() -> None:
    assert environment.parse("A\nB\n", {"A": "x"}) == {"A": "x"}


def test_windows_line_ends_are_read() -> None:
    assert environment.parse("A=1\r\nB=2\r\n") == {"A": "1", "B": "2"}


@pytest.mark.parametrize(
    ("text", "line"), [("A=1\n=x\n", 2), ("A B=1", 1), ("A='x", 1), ("1A=x", 1), ("A=${", 1), ("A=1\nB=\0", 2)]
)
def test_a_mistake_is_refused_with_its_line(text: str, line: int) -> None:
    with pytest.raises(EnvironmentRefused) as caught:
        environment.parse(text)
    assert caught.value.line == line


def test_a_refusal_never_shows_the_value() -> None:
    with pytest.raises(EnvironmentRefused) as caught:
        environment.parse("PASSWORD='hunter2")
    assert "hunter2" not in str(caught.value)


def test_too_many_variables_are_refused() -> None:
    with pytest.raises(EnvironmentRefused, match="more than"):
        environment.parse("\n".join(f"A{number}=1" for number in range(environment.MAX_VARIABLES + 2)))


@given(st.text(alphabet=st.characters(exclude_characters="\0", exclude_categories=("Cs",))))
def test_a_rendered_value_is_read_back_unchanged(value: str) -> None:
    rendered = environment.render({"A": value, "B": "1"})
    assert environment.parse(rendered) == {"A": value.replace("\r\n", "\n"), "B": "1"}


def test_plain_values_stay_plain() -> None:
    assert environment.render({"A": "x1", "B": "two words", "C": "it's"}) == "A=x1\nB='two words'\nC=\"it's\"\n"


@pytest.mark.parametrize(("name", "value"), [("A\nB", "x"), ("", "x"), ("A=B", "x"), ("A", "x\0y")])
def test_what_an_env_file_cannot_hold_is_refused(name: str, value: str) -> None:
    with pytest.raises(EnvironmentRefused):
        environment.render({name: value})
