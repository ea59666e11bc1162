"""The health gate."""

import pytest

from towline.compose.containers import Container
from towline.compose.health import Expectation, Gate, Report, Verdict, expect, next_look, observe
from towline.compose.model import Lifetime
from towline.compose.project import parse


def _look(expected: Expectation, *moments: tuple[float, list[Container]], settle: float = 10.0) -> Report:
    gate = Gate((expected,), deadline=100.0, settle_seconds=settle)
    report = None
    for now, containers in moments:
        gate, report = observe(gate, containers, now)
    assert report is not None
    return report


def _web(state: str = "running", **more: object) -> Container:
    return Container(id="c1", service="web", state=state, **more)


WEB = Expectation("web")
LONG = Expectation("web", lifetime=Lifetime.LONG)
ONE_SHOT = Expectation("web", lifetime=Lifetime.ONE_SHOT)
ALWAYS = Expectation("web", lifetime=Lifetime.LONG, restart="always")


def test_a_passed_healthcheck_is_healthy_at_once() -> None:
    assert _look(WEB, (0.0, [_web(health="healthy")])).verdict is Verdict.HEALTHY


def test_a_healthcheck_that_has_not_passed_is_waited_for() -> None:
    report = _look(WEB, (50.0, [_web(health="starting", uptime=50.0)]))
    assert (report.verdict, report.sentence()) == (Verdict.PENDING, "web: the healthcheck has not passed yet")


def test_a_failing_healthcheck_fails_with_its_last_words() -> None:
    report = _look(WEB, (5.0, [_web(health="unhealthy", health_output="connection refused")]))
    assert report.sentence() == "web: the healthcheck fails: connection refused"
    assert report.verdict is Verdict.FAILED


def test_without_a_healthcheck_the_settle_time_must_pass() -> None:
    assert _look(WEB, (0.0, [_web(uptime=0.0)]), (9.9, [_web(uptime=9.9)])).verdict is Verdict.PENDING
    assert _look(WEB, (0.0, [_web(uptime=0.0)]), (10.0, [_web(uptime=10.0)])).verdict is Verdict.HEALTHY


def test_a_container_that_ran_all_along_needs_no_settling() -> None:
    assert _look(WEB, (0.0, [_web(uptime=3600.0)])).verdict is Verdict.HEALTHY


def test_a_restart_begins_the_settle_time_anew() -> None:
    report = _look(ALWAYS, (0.0, [_web(uptime=8.0)]), (3.0, [_web(uptime=1.0, restarts=1)]))
    assert report.sentence() == "web: running for 1 of 10 s, 1 restart"


def test_a_restart_between_two_looks_is_noticed_even_if_the_state_is_the_same() -> None:
    moments = [(float(now), [_web(uptime=0.5, restarts=now // 3)]) for now in range(0, 12, 3)]
    assert _look(ALWAYS, *moments).verdict is Verdict.PENDING


def test_endless_restarts_fail_before_the_deadline() -> None:
    report = _look(
        ALWAYS,
        (0.0, [_web("restarting", exit_code=1)]),
        (4.0, [_web("restarting", exit_code=137, out_of_memory=True, restarts=5)]),
    )
    assert report.sentence() == "web: exited with 137 (out of memory), 5 restarts"
    assert report.verdict is Verdict.FAILED


def test_restarts_from_before_the_deploy_are_not_held_against_a_container() -> None:
    assert _look(ALWAYS, (0.0, [_web(uptime=100.0, restarts=40)])).verdict is Verdict.HEALTHY


def test_a_one_shot_service_is_healthy_by_ending_with_zero() -> None:
    assert _look(ONE_SHOT, (0.0, [_web("running", uptime=500.0)])).verdict is Verdict.PENDING
    assert _look(ONE_SHOT, (0.0, [_web("exited", exit_code=0)])).verdict is Verdict.HEALTHY


def test_a_one_shot_service_that_ends_badly_fails_at_once() -> None:
    report = _look(ONE_SHOT, (0.0, [_web("exited", exit_code=127)]))
    assert (report.verdict, report.sentence()) == (Verdict.FAILED, "web: exited with 127 (the command was not found)")


def test_a_lasting_service_that_ends_with_zero_fails() -> None:
    report = _look(LONG, (0.0, [_web("exited", exit_code=0)]))
    assert report.sentence() == "web: exited with 0, though it is meant to stay up"


def test_a_service_of_unknown_lifetime_may_end_with_zero() -> None:
    assert _look(WEB, (0.0, [_web("exited")])).verdict is Verdict.HEALTHY


def test_an_exited_container_that_docker_will_start_again_is_waited_for() -> None:
    assert _look(ALWAYS, (0.0, [_web("exited", exit_code=1)])).verdict is Verdict.PENDING


def test_docker_giving_up_is_a_failure() -> None:
    given_up = Expectation("web", restart="on-failure")
    assert _look(given_up, (0.0, [_web("exited", exit_code=1, restarts=3)])).sentence() == (
        "web: exited with 1, 3 restarts"
    )


@pytest.mark.parametrize(
    ("container", "words"),
    [
        (_web("paused"), "paused"),
        (_web("created", error="port is already allocated"), "could not start: port is already allocated"),
        (_web("dead", exit_code=1), "exited with 1"),
    ],
)
def test_states_that_do_not_heal_fail(container: Container, words: str) -> None:
    report = _look(LONG, (0.0, [container]))
    assert (report.verdict, report.services[0].reason) == (Verdict.FAILED, words)


def test_a_missing_container_is_waited_for_until_the_deadline() -> None:
    assert _look(WEB, (99.0, [])).sentence() == "web: not created yet"
    late = _look(WEB, (100.0, []))
    assert (late.verdict, late.sentence()) == (Verdict.FAILED, "web: not created yet when the time was up")


def test_all_replicas_must_be_healthy() -> None:
    two = Expectation("web", replicas=2)
    one = _web(health="healthy")
    other = Container("c2", "web", "running", health="starting")
    assert _look(two, (0.0, [one])).sentence() == "web: 1 of 2 containers exist"
    assert _look(two, (0.0, [one, other])).verdict is Verdict.PENDING
    assert _look(WEB, (0.0, [one, Container("c2", "web", "running", health="healthy")])).verdict is Verdict.PENDING


def test_a_service_scaled_to_nothing_is_healthy_without_containers() -> None:
    assert _look(Expectation("web", replicas=0), (0.0, [])).verdict is Verdict.HEALTHY


def test_one_failed_service_fails_the_project_and_is_the_one_named() -> None:
    gate = Gate((WEB, Expectation("db")), deadline=100.0)
    db = Container("c2", "db", "exited", exit_code=1)
    _, report = observe(gate, [_web(health="starting"), db], 0.0)
    assert (report.verdict, report.sentence(), report.failing[0].container) == (
        Verdict.FAILED,
        "db: exited with 1",
        "c2",
    )


def test_the_next_look_is_when_a_service_settles_or_at_the_deadline() -> None:
    gate = Gate((WEB,), deadline=100.0)
    assert next_look(gate, 40.0) == 60.0
    gate, _ = observe(gate, [_web(uptime=4.0)], 40.0)
    assert next_look(gate, 40.0) == 6.0
    assert next_look(gate, 101.0) is None


def test_expectations_come_from_the_project_and_its_scales() -> None:
    text = """
services:
  web: {image: a, ports: ["80"], deploy: {replicas: 2}}
  job: {image: a}
  migrate: {image: a}
  late: {image: a, restart: on-failure, depends_on: {migrate: {condition: service_completed_successfully}}}
  off: {image: a, profiles: [debug]}
"""
    found = {each.service: each for each in expect(parse(text).project.active(), {"web": 3})}
    assert found["web"] == Expectation("web", 3, Lifetime.LONG, "no")
    assert found["job"].lifetime is Lifetime.UNKNOWN
    assert found["migrate"].lifetime is Lifetime.ONE_SHOT
    assert found["late"].restart == "on-failure"
    assert "off" not in found
