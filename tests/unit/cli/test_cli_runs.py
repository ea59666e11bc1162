"""`towline run`: which words are the command's, and lines of many targets that never mix."""

from typing import Any

import pytest

from towline.cli.commands.run import what
from towline.cli.commands.saved import show_words
from towline.cli.errors import USAGE, CliError
from towline.cli.kube import alias
from towline.cli.runs import Lines


def asked(words: list[str], targets: list[str] | None = None, **more: Any) -> dict[str, Any]:
    options: dict[str, Any] = {"selector": "", "saved": "", "values": [], "everything": False} | more
    return what(words, targets or [], options.pop("selector"), options.pop("saved"), options.pop("values"), **options)


def test_names_and_words_become_a_body() -> None:
    assert asked(["docker", "ps", "-a"], ["web-1", "web-2"]) == {
        "clusters": ["web-1", "web-2"], "program": "docker", "arguments": ["ps", "-a"],
    }  # fmt: skip


def test_all_is_the_empty_selector_and_none_is_no_selector() -> None:
    assert asked(["kubectl", "get", "nodes"], everything=True)["selector"] == ""
    assert "selector" not in asked(["kubectl", "get", "nodes"], ["a"])
    assert asked(["kubectl", "get", "nodes"], selector="env=prod")["selector"] == "env=prod"


def test_a_saved_command_gets_values_and_no_words() -> None:
    found = asked([], ["a"], saved="logs", values=["app=web=1"])
    assert (found["saved"], found["values"]) == ("logs", {"app": "web=1"})


@pytest.mark.parametrize(
    ("words", "targets", "more"),
    [
        ([], ["a"], {}),
        (["kubectl", "get"], ["a"], {"saved": "x"}),
        (["bash", "-c", "id"], ["a"], {}),
        (["kubectl", "get"], [], {}),
        (["kubectl", "get"], ["a"], {"selector": "env=prod"}),
        (["kubectl", "get"], ["a"], {"values": ["a=b"]}),
    ],
)
def test_what_says_too_little_or_too_much_is_a_matter_of_usage(
    words: list[str], targets: list[str], more: dict[str, Any]
) -> None:
    with pytest.raises(CliError) as caught:
        asked(words, targets, **more)
    assert caught.value.code == USAGE


def test_lines_of_two_targets_are_never_mixed() -> None:
    printed: list[tuple[str, str, str]] = []
    lines = Lines(lambda *line: printed.append(line))
    lines.take("a", "stdout", "one\ntw")
    lines.take("b", "stdout", "other\n")
    lines.take("a", "stderr", "oops\n")
    lines.take("a", "stdout", "o\nend")
    lines.end("a")
    assert printed == [
        ("a", "stdout", "one"), ("b", "stdout", "other"), ("a", "stderr", "oops"), ("a", "stdout", "two"),
        ("a", "stdout", "end"),
    ]  # fmt: skip


def test_each_goes_to_the_server_with_what_it_runs_and_stays_here_with_the_rest() -> None:
    assert alias.takes(["get", "pods", "-n", "shop"])
    for elsewhere in (["exec", "web", "--", "id"], ["get", "unicorns"], ["apply", "-f", "x.yaml"], ["version"], []):
        assert not alias.takes(elsewhere)


def test_each_begins_as_many_at_once_as_it_was_told() -> None:
    body = alias.Asked(["get", "nodes"], [], "env=prod", 3, 60.0).body()
    assert (body["wave"], body["selector"], body["timeout"]) == (3, "env=prod", 60.0)


def test_words_with_blanks_are_shown_as_one() -> None:
    assert show_words(["kubectl", "get", "a b", ""]) == "kubectl get 'a b' ''"
