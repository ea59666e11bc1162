"""`towline kube exec` on a terminal of its own, against the real cluster: its size, its keys, and how it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.support import commands
from tests.support import kubernetes_objects as objects
from tests.support.commands import AWAY, Terminal
from tests.support.kubernetes_stack import CLUSTER, Stack
from tests.support.product import PASSWORD

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(180)]

INTERRUPTED = 130
# Tells that it began, then whether it was interrupted: each word is computed, as what was typed is on the screen too.
CAUTIOUS = "trap 'echo caught$((1+1)); exit 7' INT; echo here$((1+1)); while true; do sleep 0.1; done"
TOWLINE = str(Path(sys.executable).with_name("towline"))


@pytest.fixture(scope="module")
def home(stack: Stack) -> Iterator[str]:
    with stack.empty_namespace("ks-cli") as name:
        objects.apply(stack.direct(), name, objects.pod("shell"))
        objects.wait_for_pods(stack.direct(), name, "pod/shell")
        yield name


@pytest.fixture(scope="module")
def place(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A folder and an environment in which somebody has signed in."""
    folder = tmp_path_factory.mktemp("cli")
    environment = {**os.environ, "HOME": str(folder), "TOWLINE_CONFIG_DIR": str(folder / "towline"), "NO_COLOR": "1"}
    stack.user("kscli", "admin", bound_to="cluster-admin")
    words = ["login", stack.url, "--user", "kscli", "--password-file", "-", "--ca-file", str(stack.authority)]
    subprocess.run([TOWLINE, *words], input=PASSWORD.encode(), env=environment, check=True, capture_output=True)
    return SimpleNamespace(environment=environment, folder=folder)


def shell(place: Any, home: str, *command: str, options: tuple[str, ...] = ()) -> AbstractContextManager[Terminal]:
    words = ("kube", "exec", *options, CLUSTER, "shell", "-n", home, "--", *(command or ("sh",)))
    return commands.terminal(place, TOWLINE, *words, columns=91, rows=33)


def test_terminal_has_its_size_from_the_start_and_follows_each_change(place: Any, home: str) -> None:
    with shell(place, home) as screen:
        screen.shows("# ")
        for columns, rows in ((91, 33), (120, 40), (60, 20)):
            if columns != 91:
                screen.resize(columns, rows)
            screen.type(f"until [ \"$(stty size)\" = '{rows} {columns}' ]; do sleep 0.1; done; echo is$((1+1)){rows}\n")
            screen.shows(f"is2{rows}")
        screen.type("exit 5\n")
        assert screen.wait() == 5


def test_ctrl_c_interrupts_the_program_there_and_the_session_goes_on(place: Any, home: str) -> None:
    with shell(place, home) as screen:
        screen.shows("# ")
        screen.type(f'sh -c "{CAUTIOUS.replace("$", chr(92) + "$")}"\n')
        screen.shows("here2")
        assert screen.modes() != screen.first_modes, "the keys must go there as they are"
        screen.type("\x03")
        screen.shows("caught2")
        screen.type("echo after$?\n")
        screen.shows("after7")
        screen.type("stty raw -echo; echo go$((1+1)); head -c 2 | od -An -tx1; stty sane\n")
        screen.shows("go2")
        screen.type("\x03\x1a")  # Ctrl-C and Ctrl-Z
        screen.shows("03 1a")
        screen.type("exit 6\n")
        assert screen.wait() == 6
        assert screen.modes() == screen.first_modes


def test_ctrl_c_ends_a_command_whose_only_program_it_interrupts(place: Any, home: str) -> None:
    with shell(place, home, "sh", "-c", CAUTIOUS) as screen:
        screen.shows("here2")
        screen.type("\x03")
        screen.shows("caught2")
        assert screen.wait() == 7
        assert screen.modes() == screen.first_modes


def test_ctrl_c_without_a_terminal_there_ends_the_command_here(place: Any, home: str) -> None:
    with shell(place, home, "sh", "-c", CAUTIOUS, options=("-T",)) as screen:
        screen.shows("here2")
        screen.type("\x03")
        assert screen.wait() == INTERRUPTED
        assert screen.modes() == screen.first_modes


def test_command_that_is_ended_by_a_signal_leaves_the_terminal_as_before(place: Any, home: str) -> None:
    with shell(place, home, "sh", "-c", CAUTIOUS) as screen:
        screen.shows("here2")
        assert screen.modes() != screen.first_modes
        screen.send(signal.SIGTERM)
        assert screen.wait() == -signal.SIGTERM
        assert screen.modes() == screen.first_modes


def test_agent_that_dies_is_an_error_and_the_terminal_is_as_before(place: Any, home: str, stack: Stack) -> None:
    with shell(place, home, "sh", "-c", "echo here$((1+1)); cat") as screen:
        screen.shows("here2")
        assert screen.modes() != screen.first_modes
        stack.kill("agent")
        try:
            assert screen.wait() == AWAY
            screen.shows("the command may still run")
            assert screen.modes() == screen.first_modes
        finally:
            stack.start_agent()
    with shell(place, home, "sh", "-c", "echo again; exit 4") as screen:
        screen.shows("again")
        assert screen.wait() == 4
