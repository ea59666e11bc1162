"""Reading the table of an InstaDeploy agent, and judging a deploy by it."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from towline.compose import project
from towline.compose.health import Verdict
from towline.control.protocols.instadeploy import status, watching
from towline.control.protocols.instadeploy.status import Row, read
from towline.wire.instadeploy import Response, Standing, decode_response

TRACE = Path(__file__).parents[4] / "data" / "traces" / "instadeploy.jsonl"


def _recorded(job_id: str) -> Response:
    frames = [json.loads(line) for line in TRACE.read_text().splitlines()]
    texts = [one["raw"] for one in frames if one["dir"] == "agent" and one["frame"] == "text"]
    return [found for text in texts if (found := decode_response(text)).job_id == job_id][-1]


def _answer(table: str) -> Response:
    return Response(job_id="1", status=Standing.COMPLETED, logs=f"Status for project 'x':\n\n{table}")


def test_the_recorded_table_is_read() -> None:
    found = read(_recorded("j3"))

    assert found.rows == (Row("trace-web-1", "web", "running", "localhost/busybox:1", uptime=0.0),)
    assert found.exists
    assert not found.unclear


def test_the_recorded_unknown_project_does_not_exist() -> None:
    assert read(_recorded("j10")) == status.Status(exists=False)


def test_a_failed_status_tells_why_nothing_is_known() -> None:
    assert "did not find expected node" in read(_recorded("j8")).unclear


@pytest.mark.parametrize(
    ("text", "state", "health", "code", "uptime"),
    [
        ("Up Less than a second", "running", "", 0, 0.0),
        ("Up About a minute (healthy)", "running", "healthy", 0, 60.0),
        ("Up 3 hours (health: starting)", "running", "starting", 0, 10800.0),
        ("Up About an hour (unhealthy)", "running", "unhealthy", 0, 3600.0),
        ("Up 2 weeks (Paused)", "paused", "", 0, None),
        ("Restarting (137) 4 seconds ago", "restarting", "", 137, None),
        ("Exited (1) 3 minutes ago", "exited", "", 1, None),
        ("running (healthy)", "running", "healthy", 0, None),
        ("exited (2)", "exited", "", 2, None),
        ("Removal In Progress", "removing", "", 0, None),
        ("Frobnicating", "", "", 0, None),
    ],
)
def test_every_word_of_docker_is_understood(
    text: str, state: str, health: str, code: int, uptime: float | None
) -> None:
    table = f"NAME      SERVICE   STATUS\nx-web-2   web       {text}\n"

    (row,) = read(_answer(table)).rows

    assert (row.state, row.health, row.exit_code, row.uptime, row.number) == (state, health, code, uptime, 2)


def test_columns_are_found_whatever_stands_in_them() -> None:
    table = (
        "NAME      COMMAND        SERVICE   STATUS    PORTS\n"
        'x-web-1   "a  b – ü…"    web       running   0.0.0.0:80->80/tcp, :::80->80/tcp\n'
    )

    (row,) = read(_answer(table)).rows

    assert row.service == "web"
    assert row.ports == ("0.0.0.0:80->80/tcp", ":::80->80/tcp")


def test_a_table_without_rows_means_that_nothing_runs() -> None:
    assert read(_answer("NAME      IMAGE     COMMAND   SERVICE   CREATED   STATUS    PORTS\n")) == status.Status()


@pytest.mark.parametrize(
    "table", ["", "no configuration file provided\n", "Name   Command   State   Ports\n-----\n", "[]"]
)
def test_what_is_no_table_is_never_taken_for_nothing_running(table: str) -> None:
    assert read(_answer(table)).unclear


@given(st.text(max_size=300))
def test_no_answer_breaks_the_reader(text: str) -> None:
    read(_answer(text))
    read(_answer("NAME SERVICE STATUS\n" + text))


# -- the gate ------------------------------------------------------------------------------------

FILE = """
services:
  web: {image: a}
  job: {image: b, restart: "no"}
"""


def _watch(text: str = FILE) -> watching.Watch:
    return watching.begin(project.parse(text).project.active(), settle_seconds=5.0, deadline=60.0)


def _up(seconds: float, **changes: object) -> Row:
    return Row("x-web-1", "web", **{"state": "running", "uptime": seconds, **changes})


def test_a_service_is_healthy_once_it_ran_for_the_settle_time() -> None:
    watch, report = watching.look(_watch(), [_up(0)], 0.0)
    assert report.verdict is Verdict.PENDING

    _, report = watching.look(watch, [_up(5)], 5.5)

    assert report.verdict is Verdict.HEALTHY


def test_a_container_that_dies_a_second_later_is_no_success() -> None:
    watch, _ = watching.look(_watch(), [_up(0)], 0.0)
    watch, report = watching.look(watch, [], 1.0)
    assert report.verdict is Verdict.PENDING

    _, report = watching.look(watch, [], 2.0)

    assert report.verdict is Verdict.FAILED
    assert report.sentence() == f"web: {watching.GONE}"


def test_a_service_that_may_end_is_completed_and_nobody_claims_to_know_how() -> None:
    watch, _ = watching.look(_watch(), [_up(0)], 0.0)
    _, report = watching.look(watch, [_up(6)], 6.0)

    job = next(each for each in report.services if each.service == "job")

    assert (job.verdict, job.reason) == (Verdict.HEALTHY, watching.COMPLETED)


def test_a_restart_is_noticed_by_the_shorter_uptime_and_begins_the_settling_anew() -> None:
    watch, _ = watching.look(_watch(), [_up(4)], 0.0)

    _, report = watching.look(watch, [_up(0)], 2.0)

    assert report.verdict is Verdict.PENDING


def test_a_container_that_keeps_restarting_fails() -> None:
    watch, verdicts = _watch(), []
    for moment in range(7):
        watch, report = watching.look(watch, [_up(0, state="restarting", uptime=None, exit_code=1)], float(moment))
        verdicts.append(report.verdict)

    assert verdicts[-1] is Verdict.FAILED


def test_waiting_ends_with_the_deadline() -> None:
    watch, _ = watching.look(_watch(), [_up(1, health="starting")], 1.0)

    _, report = watching.look(watch, [_up(60, health="starting")], 61.0)

    assert report.verdict is Verdict.FAILED
    assert "when the time was up" in report.sentence()


def test_the_result_tells_of_each_service() -> None:
    rows = [_up(9, health="healthy", image="a:1")]
    watch, report = watching.look(_watch(), rows, 9.0)

    found = watching.outcomes(watch.services, report, rows)

    assert (found["web"].state, found["web"].running, found["web"].image) == ("healthy", 1, "a:1")
    assert found["job"].state == "completed"
