"""One command on many clusters: equal answers are told once, and nothing runs for ever."""

import sys

import pytest

from towline.cli.errors import AWAY
from towline.cli.kube.each import Said, grouped, run_each


def test_equal_answers_are_one_group_and_failures_stand_last() -> None:
    groups = grouped(
        [Said("c", 1, "", "no\n"), Said("b", 0, "x\n", ""), Said("a", 0, "x\n", ""), Said("d", 0, "y\n", "")]
    )
    assert [(group.clusters, group.code) for group in groups] == [(("a", "b"), 0), (("d",), 0), (("c",), 1)]


def test_answers_that_differ_in_their_errors_or_codes_are_no_group() -> None:
    assert len(grouped([Said("a", 0, "x", ""), Said("b", 0, "x", "w"), Said("c", 1, "x", "")])) == 3


def python(code: str) -> list[str]:
    return [sys.executable, "-S", "-c", code]


async def test_each_cluster_has_its_own_answer_and_exit_code() -> None:
    commands = {"a": python("print('x')"), "b": python("import sys; sys.exit('no')")}
    told: list[str] = []
    said = await run_each(commands, parallel=1, timeout=30, ended=lambda one: told.append(one.cluster))
    assert [(one.cluster, one.code, one.stdout, one.stderr) for one in said] == [
        ("a", 0, "x\n", ""),
        ("b", 1, "", "no\n"),
    ]
    assert told == ["a", "b"]


async def test_a_command_that_does_not_end_is_ended() -> None:
    commands = {"a": python("import signal; print('on', flush=True); signal.pause()")}
    (said,) = await run_each(commands, parallel=1, timeout=1.0, ended=lambda one: None)
    assert (said.code, said.stdout, said.stderr) == (AWAY, "on\n", "no end after 1 s\n")


async def test_output_without_end_is_cut_and_not_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("towline.cli.kube.each.MAX_OUTPUT_BYTES", 10)
    (said,) = await run_each({"a": python("print('x' * 50)")}, parallel=1, timeout=30, ended=lambda one: None)
    assert said.stdout == "x" * 10 + "\n… cut off\n"
