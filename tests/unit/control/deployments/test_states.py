"""The state of a deployment is a pure function: one situation in, one word and one sentence out."""

from datetime import UTC, datetime
from typing import Any

import pytest

from towline.control.deployments import states
from towline.control.deployments.states import Activity, Expected, Place, Situation, State
from towline.wire.link import Container

HERE = Place("edge-1", connected=True)
WEB = Expected("web", "shop/web:1")


def container(service: str = "web", **changes: Any) -> Container:
    known: dict[str, Any] = {"id": f"{service}-1", "name": f"shop-{service}-1", "service": service, "state": "running"}
    return Container(**(known | changes))


def judge(*containers: Container, **changes: Any) -> states.Verdict:
    known: dict[str, Any] = {"place": HERE, "services": (WEB,), "running_revision": 3, "latest_revision": 3}
    return states.judge(Situation(containers=containers, **(known | changes)))


def test_a_running_service_is_healthy_without_a_reason() -> None:
    verdict = judge(container())
    assert (verdict.state, verdict.reason) == (State.HEALTHY, "")
    assert (verdict.services[0].running, verdict.services[0].wanted) == (1, 1)


@pytest.mark.parametrize(
    ("changes", "state", "reason"),
    [
        ({"health": "unhealthy"}, State.DEGRADED, "web: its healthcheck fails"),
        ({"health": "starting"}, State.WORKING, "web: waits for its healthcheck"),
        (
            {"state": "exited", "exit_code": 137, "oom_killed": True, "restarts": 3},
            State.DOWN,
            "web: exited with 137 (out of memory), 3 restarts",
        ),
        ({"state": "exited", "exit_code": 137}, State.DOWN, "web: exited with 137 (killed)"),
        ({"state": "exited", "exit_code": 0}, State.DOWN, "web: exited with 0"),
        (
            {"state": "restarting", "exit_code": 1, "restarts": 1},
            State.DOWN,
            "web: keeps restarting: exited with 1, 1 restart",
        ),
        ({"state": "created"}, State.DOWN, "web: created, but not started"),
        ({"state": "paused"}, State.DEGRADED, "web: paused"),
        ({"state": "somethingnew"}, State.DEGRADED, "web: somethingnew"),
    ],
)
def test_a_container_that_is_not_well_says_why(changes: dict[str, Any], state: State, reason: str) -> None:
    verdict = judge(container(**changes))
    assert (verdict.state, verdict.reason) == (state, reason)


def test_a_service_that_may_end_is_well_when_it_ended_by_itself_or_was_spared_by_putting_a_revision_back() -> None:
    once = Expected("once", may_end=True)
    assert judge(container(), container("once", state="exited"), services=(WEB, once)).state is State.HEALTHY
    gone = judge(container(), services=(WEB, once))
    assert gone.state is State.HEALTHY, "whether it should be there is the agent's to know, which calls it drift"
    failed = judge(container("once", state="exited", exit_code=1), services=(once,))
    assert (failed.state, failed.reason) == (State.DOWN, "once: exited with 1")


def test_a_one_shot_service_is_well_when_it_has_ended_or_was_cleaned_up() -> None:
    once = Expected("once", one_shot=True)
    ended = judge(container(), container("once", state="exited", exit_code=0), services=(WEB, once))
    cleaned_up = judge(container(), services=(WEB, once))
    assert [ended.state, cleaned_up.state] == [State.HEALTHY, State.HEALTHY]
    assert [verdict.services[1].reason for verdict in (ended, cleaned_up)] == ["completed", "completed"]


def test_a_project_without_any_container_is_down_even_when_its_services_may_end() -> None:
    assert judge(services=(Expected("once", one_shot=True),)).reason == "no container"


def test_a_missing_container_is_down() -> None:
    assert judge().reason == "web: no container"
    assert judge().state is State.DOWN


def test_one_broken_replica_of_two_degrades() -> None:
    verdict = judge(container(), container(id="b", state="exited", exit_code=1), services=(Expected("web", "", 2),))
    assert (verdict.state, verdict.reason) == (State.DEGRADED, "web: 1 of 2 containers: exited with 1")


def test_too_few_replicas_degrade() -> None:
    assert judge(container(), services=(Expected("web", "", 3),)).reason == "web: 1 of 3 containers"


def test_a_service_scaled_to_nothing_is_well() -> None:
    assert judge(services=(Expected("web", "", 0),)).state is State.HEALTHY


def test_a_one_shot_service_that_ended_well_is_healthy() -> None:
    migrate = Expected("migrate", one_shot=True)
    verdict = judge(container(), container("migrate", state="exited"), services=(WEB, migrate))
    assert verdict.state is State.HEALTHY
    assert verdict.services[1].reason == "completed"


def test_one_service_down_of_two_degrades_and_names_it_first() -> None:
    verdict = judge(container(), container("db", health="unhealthy"), container("mail", state="dead"))
    assert verdict.state is State.DEGRADED
    assert verdict.reason == "mail: exited with 0; db: its healthcheck fails"


def test_a_reason_counts_what_it_does_not_name() -> None:
    services = tuple(Expected(name) for name in ("a", "b", "c", "d"))
    assert judge(services=services).reason == "a: no container; b: no container; and 2 more"


def test_a_container_of_no_revision_is_shown_too() -> None:
    verdict = judge(container(), container("old", image="shop/old:1"))
    assert [service.name for service in verdict.services] == ["web", "old"]


def test_containers_that_somebody_ran_by_hand_do_not_count() -> None:
    assert judge(container(), container(state="exited", exit_code=1, one_off=True)).state is State.HEALTHY


def test_an_agent_that_is_away_beats_everything_and_says_since_when() -> None:
    place = Place("edge-1", connected=False, last_seen_at=datetime(2026, 11, 21, 14, 2, tzinfo=UTC))
    waiting = Activity("job_1", "compose.deploy", "waiting", revision=4)
    verdict = judge(container(state="exited"), place=place, activity=waiting)
    assert verdict.state is State.UNKNOWN
    assert verdict.reason == ("edge-1 is away, last seen 2026-11-21 14:02 UTC; deploying revision 4 waits for it")


def test_an_active_job_says_what_it_does() -> None:
    activity = Activity("job_1", "compose.deploy", "running", "pulling", 4)
    assert judge(container(), activity=activity).reason == "deploying revision 4: pulling"
    rollback = Activity("job_1", "compose.deploy", "running", "starting", 2, "rollback")
    assert judge(container(), activity=rollback).reason == "rolling back to revision 2: starting"
    queued = Activity("job_1", "compose.restart", "queued")
    assert judge(container(), activity=queued).reason == "restarting waits for its turn"
    cancelling = Activity("job_1", "compose.deploy", "cancelling", "pulling", 4)
    assert judge(container(), activity=cancelling).reason == "cancelling: deploying revision 4"


def test_docker_that_does_not_answer_makes_the_state_unknown() -> None:
    place = Place("edge-1", True, compose_problem="Docker does not answer: permission denied on the socket")
    verdict = judge(container(), place=place)
    assert (verdict.state, verdict.reason) == (
        State.UNKNOWN,
        "edge-1: Docker does not answer: permission denied on the socket",
    )


def test_what_was_stopped_on_purpose_says_by_whom() -> None:
    verdict = judge(container(state="exited"), stopped_by="alice")
    assert (verdict.state, verdict.reason) == (State.DOWN, "stopped by alice")


def test_drift_degrades() -> None:
    verdict = judge(container(), drift=("web: image changed by hand",))
    assert (verdict.state, verdict.reason) == (
        State.DEGRADED,
        "differs from revision 3: web: image changed by hand",
    )


def test_a_failed_newer_revision_is_told_while_the_old_one_is_well() -> None:
    verdict = judge(container(), latest_revision=4, latest_error="web: exited with 1")
    assert (verdict.state, verdict.reason) == (
        State.HEALTHY,
        "revision 3 runs; revision 4 failed: web: exited with 1",
    )


def test_a_deployment_that_never_ran_is_down() -> None:
    assert judge(running_revision=0, latest_revision=0).reason == "nothing was deployed yet"
    failed = judge(running_revision=0, latest_revision=1, latest_error="cannot pull shop/web:1")
    assert failed.reason == "revision 1 failed: cannot pull shop/web:1"
