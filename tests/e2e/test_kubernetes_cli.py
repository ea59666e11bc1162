"""`towline kube exec` on a terminal of its own, against the real cluster: its size, and how it ends."""

from __future__ import annotations

import os
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
from tests.support.commands import Terminal
from tests.support.kubernetes_stack import CLUSTER, Stack
from tests.support.product import PASSWORD

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(180)]

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


def shell(place: Any, home: str, *command: str) -> AbstractContextManager[Terminal]:
    words = ("kube", "exec", CLUSTER, "shell", "-n", home, "--", *(command or ("sh",)))
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
