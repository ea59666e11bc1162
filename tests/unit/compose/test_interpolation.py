"""Variables in Compose files."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from towline.compose import document, interpolation
from towline.compose.problems import Severity


def _one(text: str, **values: str) -> str:
    loaded = document.Document({"a": text}, {}, "")
    data, problems = interpolation.interpolate(loaded, values)
    assert not [problem for problem in problems if problem.is_error]
    return str(data["a"])


@pytest.mark.parametrize(
    ("text", "values", "result"),
    [
        ("$A-b", {"A": "x"}, "x-b"),
        ("${A}b", {"A": "x"}, "xb"),
        ("${A:-d}", {}, "d"),
        ("${A:-d}", {"A": ""}, "d"),
        ("${A-d}", {"A": ""}, ""),
        ("${A-d}", {}, "d"),
        ("${A:+s}", {"A": "x"}, "s"),
        ("${A:+s}", {"A": ""}, ""),
        ("${A+s}", {"A": ""}, "s"),
        ("${A:?m}", {"A": "x"}, "x"),
        ("${A?m}", {"A": ""}, ""),
        ("${A:-${B:-${C}}}", {"C": "deep"}, "deep"),
        ("${A:-{}}", {}, "{}"),
        ("$$A $${A} $$$$", {"A": "x"}, "$A ${A} $$"),
        ("${X:-$(id)}", {}, "$(id)"),
        ("$(id) $1 100$ $", {}, "$(id) $1 100$ $"),
        ("${A}", {"A": "${B} $(id) $$"}, "${B} $(id) $$"),
    ],
)
def test_values_are_put_in_as_compose_does(text: str, values: dict[str, str], result: str) -> None:
    assert _one(text, **values) == result


@pytest.mark.parametrize("text", ["${}", "${1}", "${A", "${A!x}", "${towline:secret:X}", "${A:-${}}", "${-x}"])
def test_an_invalid_template_is_an_error_with_its_line(text: str) -> None:
    loaded = document.load(f"a: 1\nb: '{text}'\n")
    data, problems = interpolation.interpolate(loaded, {"A": "set"})
    assert [(problem.line, problem.severity) for problem in problems] == [(2, Severity.ERROR)]
    assert data["b"] == text


def test_a_missing_required_variable_is_an_error_with_its_reason() -> None:
    loaded = document.load("services:\n  web:\n    image: ${TAG:?which one}\n")
    _, problems = interpolation.interpolate(loaded, {})
    assert [str(problem) for problem in problems] == [
        "line 3: services.web.image: the variable TAG is required: which one (give the variable a value)"
    ]


def test_an_unset_variable_is_warned_about_once() -> None:
    loaded = document.load("a: $B\nc: ${B}\n")
    data, problems = interpolation.interpolate(loaded, {})
    assert [(problem.path, problem.severity) for problem in problems] == [(("a",), Severity.WARNING)]
    assert data == {"a": "", "c": ""}


def test_a_mistake_in_a_default_counts_even_when_the_default_is_not_used() -> None:
    loaded = document.load("a: ${A:-${B:?x}}")
    _, problems = interpolation.interpolate(loaded, {"A": "set"})
    assert [problem.is_error for problem in problems] == [True]


def test_keys_and_numbers_are_left_alone() -> None:
    loaded = document.load("$A: 1\nversion: $A\n")
    assert interpolation.interpolate(loaded, {"A": "x"})[0] == {"$A": 1, "version": "$A"}


def test_uses_list_every_variable_with_its_place_and_operator() -> None:
    loaded = document.load("a: ${A:-${B}}\nb: [$C]\n")
    found = [(use.variable.name, use.variable.operator, use.path) for use in interpolation.uses(loaded)]
    assert found == [("A", ":-", ("a",)), ("B", "", ("a",)), ("C", "", ("b", 0))]


def test_values_that_would_blow_the_file_up_are_refused() -> None:
    loaded = document.load("a: [" + ", ".join(["$A"] * 5000) + "]")
    _, problems = interpolation.interpolate(loaded, {"A": "x" * 10_000})
    assert any("larger than" in problem.message for problem in problems)


def test_no_value_appears_in_a_problem() -> None:
    loaded = document.load("a: ${A} ${B:?missing} ${C")
    _, problems = interpolation.interpolate(loaded, {"A": "hunter2"})
    assert "hunter2" not in str(problems)


@given(st.text(alphabet="$${}:-?+AB ", max_size=40))
def test_any_text_is_interpolated_or_reported(text: str) -> None:
    loaded = document.Document({"a": text}, {}, "")
    interpolation.interpolate(loaded, {"A": "x"})
    interpolation.uses(loaded)


@given(st.text())
def test_escaped_dollars_give_back_the_text(text: str) -> None:
    assert interpolation.substitute(text.replace("$", "$$"), {}) == text


_PIECES = st.sampled_from(
    ["$A", "${A}", "${B}", "$$", "x", "${A:-d$B}", "${B:-${A}}", "${A+s}", "${B:+$A}", "${A-e}", " "]
)
_VALUES = st.dictionaries(st.sampled_from("AB"), st.sampled_from(["", "v", "a$b", "$$", "${A}"]))


@given(st.lists(_PIECES).map("".join), _VALUES, _VALUES)
def test_a_settled_text_means_on_the_host_what_the_whole_text_meant(
    text: str, known: dict[str, str], on_the_host: dict[str, str]
) -> None:
    settled = interpolation.settle(text, known)

    assert interpolation.substitute(settled, on_the_host) == interpolation.substitute(text, on_the_host | known)


def test_a_variable_that_nobody_knows_is_left_to_the_host() -> None:
    assert interpolation.settle("$A/${B:-$A}", {"A": "1$"}) == "1$$/${B:-1$$}"


@pytest.mark.parametrize(("text", "values"), [("${B:-$A}", {"A": "}"}), ("${A:?gone}", {"A": ""}), ("${A", {})])
def test_what_cannot_be_settled_is_an_error(text: str, values: dict[str, str]) -> None:
    with pytest.raises(interpolation.TemplateError):
        interpolation.settle(text, values)
