"""Says why a test failed at the moment it did: a run that is broken off, or ends by an error of the runner, never
comes to pytest's own summary. For runs that nobody watches: `pytest -p tests.support.early_reports`."""

import pytest
from tests.support.second_chance import RERUN

LINES = 60
"""Of a report: its end holds the error, its beginning the test's source."""


class EarlyReports:
    """Writes each failure to the terminal at once."""

    def __init__(self, terminal: pytest.TerminalReporter) -> None:
        self._terminal = terminal

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed or report.outcome == RERUN:
            self._terminal.ensure_newline()
            self._terminal.line(f"{report.outcome.upper()} {report.when} of {report.nodeid}")
            for line in report.longreprtext.splitlines()[-LINES:]:
                self._terminal.line(line)


def pytest_sessionstart(session: pytest.Session) -> None:
    plugins = session.config.pluginmanager
    # a worker of pytest-xdist has no terminal: its reports go to the one that has
    if terminal := plugins.get_plugin("terminalreporter"):
        plugins.register(EarlyReports(terminal), "early-reports")
