"""Measures which lines of the agent all tests together run: `pytest -p tests.coverage.plugin`, `make coverage`, CI.

Whatever runs the agent counts: the tests' own processes, and every process that they start with their environment or
a copy of it. What runs in a container does not. The figure stands before pytest's summary, and the whole list in
tests/artifacts; where every real part is required, less than the goal is a failure.
"""

from __future__ import annotations

import importlib
import marshal
import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

from tests.coverage import marking, tally
from tests.coverage.tally import Seen
from tests.testbed.requirement import is_required

GOAL = 85.0
"""Per cent of the agent's lines."""
ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src"
MEASURED = ("towline/agent", "towline/commandline")
"""The agent, and the reading of commands that it shares with the control plane."""
PAGE = ROOT / "tests" / "artifacts" / "agent-lines.txt"
START = str(Path(__file__).with_name("start"))
EVERYTHING = "all"
"""Where this is required of the test bed, the goal is required as well."""


class Measuring:
    """One measured run, in the process that hands out the tests."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="agent-lines-"))
        self._folder.chmod(0o755)  # tests run some processes as other users
        self._places: dict[Path, tuple[int, list[int]]] = {}
        """By source: where its marks begin, and its lines."""

    def begin(self) -> None:
        """Write the plan, and have every Python that starts from now on follow it."""
        sys.path.insert(0, START)
        sys.modules.pop("sitecustomize", None)  # a distribution may have one of its own
        start = importlib.import_module("sitecustomize")
        plan: dict[str, tuple[int, int, int]] = {}
        begin = 0
        for path in sorted(file for package in MEASURED for file in (SOURCE / package).rglob("*.py")):
            source, module = path.read_text(), _module(path)
            lines = marking.lines_of(source)
            plan[module] = (begin, len(lines), path.stat().st_size)
            code = marking.marked(source, module, str(path))
            (self._folder / start.CODE.format(module)).write_bytes(marshal.dumps(code))
            self._places[path] = (begin, lines)
            begin += len(lines)
        self._marks = self._folder / start.MARKS
        self._marks.write_bytes(bytes(begin))
        (self._folder / start.PLAN).write_bytes(marshal.dumps(plan))
        os.environ[start.FOLDER] = str(self._folder)
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [START, os.environ.get("PYTHONPATH", "")]))
        start.begin(str(self._folder))

    def files(self) -> list[Seen]:
        """Return what was run so far."""
        marks = self._marks.read_bytes()
        return [
            Seen(str(path.relative_to(ROOT)), tuple(lines), marks[begin : begin + len(lines)])
            for path, (begin, lines) in self._places.items()
        ]

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if is_required(EVERYTHING) and session.exitstatus == pytest.ExitCode.OK and self._share() < GOAL:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        files = self.files()
        PAGE.parent.mkdir(parents=True, exist_ok=True)
        PAGE.write_text("\n".join(tally.page(files)) + "\n")
        run, all_lines = tally.share(files)
        terminalreporter.section("lines of the agent that tests run")
        for line in tally.worst(files):
            terminalreporter.line(line)
        verdict = "met" if self._share() >= GOAL else "MISSED"
        figure = f"{self._share():.1f} % of {all_lines} lines, {run} run"
        words = f"goal {GOAL:.0f} %: {verdict}; all of it in {PAGE.relative_to(ROOT)}"
        terminalreporter.line(f"coverage of the agent: {figure}; {words}")

    def pytest_unconfigure(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    def _share(self) -> float:
        return tally.percent(*tally.share(self.files()))


def _module(path: Path) -> str:
    words = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(words[:-1] if words[-1] == "__init__" else words)


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Begin before anything of the agent is imported. Workers of pytest-xdist began so, by their environment."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        return
    measuring = Measuring()
    measuring.begin()
    early_config.pluginmanager.register(measuring, "agent-lines")
