"""A failed test that works with real parts is run once more, and both are told: what passes only then is counted as
`rerun`, and its failure stands in the output. For runs that nobody watches: `pytest -p tests.support.second_chance`.

A real cluster, engine or browser on two busy cores now and then fails by itself. Unit tests get no second chance.
"""

from collections.abc import Iterable, Iterator

import pytest
from _pytest.runner import runtestprotocol

UNIT = "tests/unit/"
MOST = 5
"""Reruns of one worker: more failures than this are not chance."""
RERUN = "rerun"


class SecondChance:
    """Counts what was run again."""

    def __init__(self) -> None:
        self._left = MOST

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
        if item.nodeid.startswith(UNIT) or not self._left:
            return None
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        reports = runtestprotocol(item, log=False, nextitem=nextitem)
        if any(report.failed for report in reports):
            self._left -= 1
            _log(item, _as_reruns([*reports, _begun_anew(item)]))
            reports = runtestprotocol(item, log=False, nextitem=nextitem)
        _log(item, reports)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True

    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, str] | None:
        return (RERUN, "R", "RERUN") if report.outcome == RERUN else None

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        for report in terminalreporter.getreports(RERUN):
            terminalreporter.line(f"RERUN {report.when} of {report.nodeid}")


def _log(item: pytest.Item, reports: Iterable[pytest.TestReport]) -> None:
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)


def _as_reruns(reports: Iterable[pytest.TestReport]) -> Iterator[pytest.TestReport]:
    for report in reports:
        if report.failed:
            report.outcome = RERUN
            yield report


def _begun_anew(item: pytest.Item) -> pytest.TestReport:
    """End every fixture, those of the whole run too: one that failed would only say again that it did."""
    ended = pytest.CallInfo.from_call(lambda: item.session._setupstate.teardown_exact(None), when="teardown")
    return pytest.TestReport.from_item_and_call(item, ended)


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(SecondChance(), "second-chance")
