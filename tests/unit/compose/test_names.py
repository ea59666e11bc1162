"""Grammars of names."""

import pytest

from towline.compose import names
from towline.compose.errors import NameRefused

HOSTILE = [
    "", ".", "..", "-rf", "--flag", "a;id", "$(id)", "`id`", "a\nb", "a b", "é", "🚢", "\u202eabc", "a" * 64, "a" * 256,
    "A", "Web", "a/b", "a\0", "_a", "a\n",
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_project_names_are_refused(text: str) -> None:
    with pytest.raises(NameRefused):
        names.project_name(text)


def test_a_name_of_a_million_characters_is_refused_with_a_short_message() -> None:
    with pytest.raises(NameRefused) as caught:
        names.deployment_name("a" * 1_000_000)
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize("text", ["a", "0", "web-1", "my_app", "a" * 63])
def test_plain_project_names_are_accepted(text: str) -> None:
    assert names.project_name(text) == text


@pytest.mark.parametrize("text", ["..", "-x", "a/b", "", "a b"])
def test_a_secret_name_is_always_a_safe_file_name(text: str) -> None:
    with pytest.raises(NameRefused):
        names.secret_name(text)


def test_services_may_have_capitals_and_dots() -> None:
    assert names.service_name("Web.v1") == "Web.v1"


@pytest.mark.parametrize("text", ["1A", "A-B", "A B", "", "A=B", "Ä"])
def test_a_variable_that_compose_cannot_name_is_refused(text: str) -> None:
    with pytest.raises(NameRefused):
        names.variable_name(text)
