"""Drift, containers' labels, and going on after an interruption."""

import pytest

from towline.compose.containers import Container, Identity, config_hashes, identify
from towline.compose.drift import DriftKind, Expected, compare
from towline.compose.model import Lifetime
from towline.compose.project import parse
from towline.compose.resume import Resumption, resume

WEB = Expected("web", config_hash="h1", image="sha256:a", lifetime=Lifetime.LONG)


def _web(state: str = "running", **more: object) -> Container:
    given: dict[str, object] = {"id": "c1", "service": "web", "config_hash": "h1", "image": "sha256:a"}
    return Container(state=state, **(given | more))


def test_what_should_run_and_does_is_no_drift() -> None:
    assert compare([WEB], [_web(health="healthy")]) == ()


@pytest.mark.parametrize(
    ("containers", "kind", "reason"),
    [
        ([], DriftKind.MISSING, "its container is gone"),
        ([_web(), _web(id="c2")], DriftKind.REPLICAS, "2 containers, the revision has 1"),
        ([_web(config_hash="h2")], DriftKind.CONFIGURATION, "it was made from another configuration"),
        ([_web(image="sha256:b")], DriftKind.IMAGE, "it runs another image than the one deployed"),
        ([_web(health="unhealthy")], DriftKind.UNHEALTHY, "its healthcheck fails"),
        ([_web("exited", exit_code=137, out_of_memory=True)], DriftKind.STOPPED, "exited with 137 (out of memory)"),
        ([_web("exited")], DriftKind.STOPPED, "exited with 0"),
        ([_web("paused")], DriftKind.STOPPED, "paused"),
        ([_web(), _web(id="c2", service="old")], DriftKind.UNKNOWN_SERVICE, "the revision has no such service"),
    ],
)
def test_each_difference_has_its_kind_and_reason(containers: list[Container], kind: DriftKind, reason: str) -> None:
    assert [(each.kind, each.reason) for each in compare([WEB], containers)] == [(kind, reason)]


def test_a_finished_one_shot_service_is_no_drift_even_when_it_was_cleaned_up() -> None:
    migrate = Expected("web", lifetime=Lifetime.ONE_SHOT)
    assert compare([migrate], [_web("exited")]) == ()
    assert compare([migrate], []) == ()


def test_a_stopped_project_drifts_by_running() -> None:
    assert compare([WEB], [], is_stopped=True) == ()
    assert compare([WEB], [_web("exited")], is_stopped=True) == ()
    assert [each.kind for each in compare([WEB], [_web()], is_stopped=True)] == [DriftKind.RUNNING]


def test_one_off_containers_are_nobodys_drift() -> None:
    assert compare([WEB], [_web(), _web(id="c2", is_one_off=True)]) == ()


def test_what_is_not_known_is_not_compared() -> None:
    assert compare([Expected("web")], [_web(config_hash="x", image="y")]) == ()


LABELS = {
    "com.docker.compose.project": "shop",
    "com.docker.compose.service": "web",
    "com.docker.compose.config-hash": "abc",
    "com.docker.compose.container-number": "2",
    "com.docker.compose.oneoff": "False",
    "com.docker.compose.image": "sha256:x",
}


def test_labels_tell_who_a_container_is() -> None:
    assert identify(LABELS) == Identity("shop", "web", "abc", 2, False, "sha256:x")
    assert identify({}) is None
    odd = identify(LABELS | {"com.docker.compose.container-number": "²", "com.docker.compose.oneoff": "True"})
    assert odd is not None
    assert (odd.number, odd.is_one_off) == (1, True)


def test_hashes_are_read_from_what_compose_prints() -> None:
    assert config_hashes("web 1a\ndb 2b\n\nodd\n") == {"web": "1a", "db": "2b"}


SHOP = parse(
    "services:\n"
    "  web: {image: a, restart: always, depends_on: {migrate: {condition: service_completed_successfully}}}\n"
    "  db: {image: a, restart: always}\n"
    "  migrate: {image: a}\n"
).project.active()
HASHES = {"web": "w", "db": "d", "migrate": "m"}


def _migrate(state: str = "exited", **more: object) -> Container:
    given: dict[str, object] = {"id": "c9", "service": "migrate", "config_hash": "m", "started_in_this_run": True}
    return Container(state=state, **(given | more))


def test_a_one_shot_service_that_has_ended_in_this_run_does_not_run_again() -> None:
    assert resume(SHOP, [_migrate()], HASHES) == Resumption(("web", "db"), True, True, ("migrate",))


def test_a_one_shot_service_that_failed_starts_nothing_more() -> None:
    assert not resume(SHOP, [_migrate(exit_code=1)], HASHES).is_needed


@pytest.mark.parametrize(
    "containers",
    [
        [],
        [_migrate("running")],
        [_migrate("created")],
        [_migrate(config_hash="of another revision")],
        [_migrate(config_hash="")],
        [_migrate(started_in_this_run=False)],
        [_migrate(is_one_off=True)],
    ],
)
def test_a_one_shot_service_that_has_not_had_its_run_runs(containers: list[Container]) -> None:
    assert resume(SHOP, containers, HASHES) == Resumption((), False, True)


def test_when_only_finished_one_shot_services_exist_nothing_is_started() -> None:
    only = parse("services: {migrate: {image: a}}").project.active()
    assert not resume(only, [_migrate()], HASHES).is_needed


def test_a_lasting_service_that_has_exited_is_started_again() -> None:
    web = Container("c1", "web", "exited", config_hash="w", started_in_this_run=True)
    assert resume(SHOP, [web], HASHES) == Resumption((), False, True)
