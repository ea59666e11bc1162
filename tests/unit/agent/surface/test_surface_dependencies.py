"""What an agent needs, and what of it keeps it from being ready."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.support.surface import make_parts

from towline.agent.policy import KubernetesRules, LocalPolicy
from towline.agent.surface import dependencies
from towline.agent.surface.dependencies import Dependency, State
from towline.agent.surface.linkstate import Standing
from towline.aio.clock import SimulatedClock
from towline.wire import link


def found(parts: Any) -> dict[str, Dependency]:
    return {each.name: each for each in dependencies.all_of(parts)}


def seen(parts: Any, *capabilities: link.Capability, **versions: str) -> None:
    parts.capabilities.current = capabilities
    parts.capabilities.versions = versions


def test_standalone_agent_needs_no_control_plane(tmp_path: Path) -> None:
    plane = found(make_parts(tmp_path))["control_plane"]

    assert (plane.state, plane.is_ready) == (State.ABSENT, True)


def test_other_agent_is_not_ready_without_one(tmp_path: Path) -> None:
    parts = make_parts(tmp_path, standalone=False, clock=SimulatedClock())
    parts.link.turned(Standing.CONNECTING, server="https://towline.example", last_error="refused")

    plane = found(parts)["control_plane"]

    assert (plane.state, plane.is_ready, plane.reason) == (State.DOWN, False, "refused")
    assert plane.since == parts.clock.now().timestamp()
    parts.link.turned(Standing.CONNECTED)
    assert found(parts)["control_plane"].is_ready


def test_docker_is_needed_where_there_is_no_cluster(tmp_path: Path) -> None:
    parts = make_parts(tmp_path)
    seen(parts, link.Capability(name="compose", ready=False, reason="the service is stopped", since=5.0))

    docker = found(parts)["docker"]

    assert (docker.state, docker.required, docker.reason, docker.since) == (
        State.DOWN, True, "the service is stopped", 5.0,
    )  # fmt: skip
    assert found(parts)["kubernetes"].state is State.ABSENT


def test_docker_without_compose_is_up(tmp_path: Path) -> None:
    parts = make_parts(tmp_path)
    seen(parts, link.Capability(name="compose", ready=False, reason="Compose is missing"), docker="28.1")

    docker = found(parts)["docker"]

    assert (docker.state, docker.version, docker.reason) == (State.UP, "28.1", "Compose is missing")


def test_nothing_is_up_before_the_first_look(tmp_path: Path) -> None:
    docker = found(make_parts(tmp_path))["docker"]

    assert (docker.state, docker.reason) == (State.DOWN, "not looked at yet")


@pytest.mark.parametrize(
    "policy", [LocalPolicy(capabilities=("forward",)), LocalPolicy(kubernetes=KubernetesRules(enabled=False))]
)
def test_what_the_owner_switched_off_is_not_missed(tmp_path: Path, policy: LocalPolicy) -> None:
    cluster = found(make_parts(tmp_path, policy=policy))["kubernetes"]

    assert (cluster.state, cluster.is_ready) == (State.ABSENT, True)
    assert "policy of this host" in cluster.reason


def test_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = make_parts(tmp_path)
    assert found(parts)["disk"].state is State.UP
    monkeypatch.setattr(dependencies, "DISK_LEAST_BYTES", 2**60)

    assert found(parts)["disk"].state is State.DOWN
    assert "bytes are free" in found(parts)["disk"].reason


def test_missing_folder_is_told(tmp_path: Path) -> None:
    parts = make_parts(tmp_path / "agent")
    shutil.rmtree(tmp_path / "agent")

    assert found(parts)["disk"].reason == "No such file or directory"
