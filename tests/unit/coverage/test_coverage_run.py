"""A run that measures: what a process ran counts even if it was killed, and too little is a failure where it counts.

Takes two seconds: a pytest of its own, which marks the whole agent.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
TEST = """\
import subprocess, sys

def test_of_a_worker() -> None:
    import towline.agent.policy

def test_agent_that_is_killed() -> None:
    code = "import os, signal, towline.agent.errors; os.kill(os.getpid(), signal.SIGKILL)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == -9
"""


def test_killed_process_counts_and_a_missed_goal_fails_the_run(tmp_path: Path) -> None:
    (tmp_path / "test_inner.py").write_text(TEST)
    ours = ("AGENT_LINES_FOLDER", "PYTEST_XDIST_WORKER")
    environment = {name: value for name, value in os.environ.items() if name not in ours}
    environment |= {"TOWLINE_TEST_REQUIRE": "all", "PYTHONPATH": str(ROOT / "src")}
    words = [
        "-m",
        "pytest",
        "-p",
        "tests.coverage.plugin",
        "-c",
        "pyproject.toml",
        "-n",
        "1",
        str(tmp_path / "test_inner.py"),
    ]

    done = subprocess.run(
        [sys.executable, *words], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60
    )

    lines = done.stdout.splitlines()
    (told,) = [line for line in lines if line.startswith("coverage of the agent: ")]
    run = int(told.rpartition(" run; ")[0].rpartition(" ")[2])
    assert done.returncode == 1, done.stdout
    assert "2 passed" in lines[-1]
    assert "MISSED" in told
    assert run > 100, told
