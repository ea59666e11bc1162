"""Parameters are put into arguments as text: never split, never options, never parameters again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from towline.control.commands.parameters import BadParameter, filled, names


def test_parameters_are_found_in_the_order_of_their_use() -> None:
    assert names(["logs", "deploy/{{app}}", "-n", "{{ns}}", "{{app}}"]) == ["app", "ns"]


def test_a_value_is_a_whole_argument_or_a_part_of_one() -> None:
    arguments = ("logs", "deploy/{{app}}", "-n", "{{ns}}")
    assert filled(arguments, {"app": "web", "ns": "shop"}, {}) == ("logs", "deploy/web", "-n", "shop")


@pytest.mark.parametrize("value", ["a b", "; rm -rf /", "$(id)", "`id`", "a\nb", "{{other}}", "'", '"x y"'])
def test_what_looks_like_a_shell_stays_one_argument(value: str) -> None:
    assert filled(("get", "x{{app}}"), {"app": value}, {}) == ("get", f"x{value}")


@given(st.text(min_size=1, max_size=50).filter(lambda text: "\x00" not in text and not text.startswith("-")))
def test_any_text_makes_as_many_arguments_as_were_written(value: str) -> None:
    assert filled(("{{a}}", "b", "c{{a}}d"), {"a": value}, {}) == (value, "b", f"c{value}d")


def test_a_value_cannot_become_an_option() -> None:
    with pytest.raises(BadParameter, match="option"):
        filled(("get", "{{app}}"), {"app": "--all-namespaces"}, {})
    assert filled(("get", "--selector={{app}}"), {"app": "-x"}, {}) == ("get", "--selector=-x")


def test_defaults_are_taken_where_nobody_gives_a_value() -> None:
    assert filled(("{{a}}", "{{b}}"), {"a": "1"}, {"a": "x", "b": "2"}) == ("1", "2")


@pytest.mark.parametrize(
    ("values", "word"), [({}, "must be given"), ({"app": ""}, "empty"), ({"app": "a", "x": "b"}, "no parameter 'x'")]
)
def test_what_is_missing_empty_or_unknown_is_named(values: dict[str, str], word: str) -> None:
    with pytest.raises(BadParameter, match=word):
        filled(("{{app}}",), values, {})


@pytest.mark.parametrize("text", ["{{}}", "{{ App }}", "{{a b}}", "{{1}}"])
def test_what_is_no_parameter_is_refused_when_it_is_saved(text: str) -> None:
    with pytest.raises(BadParameter, match="no parameter"):
        names([text])
