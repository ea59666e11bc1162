"""The smaller jobs on a real engine: stop, start, restart, scale, adopt, validate, remove, prune, and drift."""

from __future__ import annotations

import asyncio
import secrets
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.support.agent_host import (
    PATIENCE,
    AgentHost,
    agent_host,
    containers_of,
    deploy_order,
    docker,
    make_inventory,
    remove_project,
)
from tests.testbed import images

from towline.wire import link, orders

pytestmark = pytest.mark.docker

TWO = """
services:
  web:
    image: towline-test/web:1
    stop_signal: KILL
    volumes: ['kept:/data', 'gone:/tmp']
  side:
    image: towline-test/base:1
    command: [sleep, '1000']
    stop_signal: KILL
volumes: {kept: {}, gone: {}}
"""


@pytest.fixture
def project() -> Iterator[str]:
    name = f"h7-{secrets.token_hex(4)}"
    yield name
    remove_project(name)


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[AgentHost]:
    async with agent_host(tmp_path / "state") as made:
        yield made


async def test_services_stop_start_restart_and_scale(host: AgentHost, project: str) -> None:
    await host.do("compose.deploy", deploy_order(project, TWO))
    before = containers_of(project)

    stopped = await host.do("compose.stop", orders.Services(project=project, services=("side",)))
    assert stopped.outcome == "succeeded", stopped.error
    assert (state(before["side"]), state(before["web"])) == ("exited", "running")

    started = await host.do("compose.start", orders.Services(project=project, settle_seconds=0.2))
    assert started.outcome == "succeeded", started.error
    assert started.detail["services"]["side"]["state"] == "running"

    restarted = await host.do(
        "compose.restart", orders.Services(project=project, services=("web",), settle_seconds=0.2)
    )
    assert restarted.outcome == "succeeded", restarted.error
    assert containers_of(project) == before

    scaled = await host.do("compose.scale", orders.Scale(project=project, services={"side": 2}, settle_seconds=0.2))
    assert scaled.outcome == "succeeded", scaled.error
    assert scaled.detail["services"]["side"]["running"] == 2


async def test_unknown_project_and_service_are_told(host: AgentHost, project: str) -> None:
    nothing = await host.do("compose.stop", orders.Services(project=project))
    await host.do("compose.deploy", deploy_order(project, TWO))
    unknown = await host.do("compose.stop", orders.Services(project=project, services=("nope",)))

    assert (nothing.outcome, nothing.code) == ("failed", "not_found")
    assert (unknown.outcome, unknown.error) == ("failed", "the project has no service nope")


async def test_adopted_project_keeps_its_containers_and_its_folder(
    host: AgentHost, project: str, tmp_path: Path
) -> None:
    folder = tmp_path / project
    folder.mkdir()
    (folder / "docker-compose.yml").write_text(TWO.replace("1000", "${HOW_LONG}"))
    (folder / ".env").write_text("HOW_LONG=1000\n")
    subprocess.run(["docker", "compose", "up", "-d"], cwd=folder, check=True, capture_output=True)
    before = containers_of(project)
    order = orders.Adopt(project=project, org_id="org_default", deployment_id="dep_test", revision_id="rev_1")

    adopted = await host.do("compose.adopt", order)

    assert adopted.outcome == "succeeded", adopted.error
    told = orders.parse_detail(orders.AdoptDetail, adopted.detail)
    assert (told.folder, told.env) == (str(folder), "HOW_LONG=1000\n")
    assert told.compose == TWO.replace("1000", "${HOW_LONG}")
    assert containers_of(project) == before

    changed = told.compose.replace("command: [", "environment: {A: b}\n    command: [")
    deployed = await host.do("compose.deploy", deploy_order(project, changed, 2, env=told.env))

    assert deployed.outcome == "succeeded", deployed.error
    after = containers_of(project)
    assert (after["web"] == before["web"], after["side"] == before["side"]) == (True, False)
    assert (folder / "docker-compose.yml").read_text() == changed
    label = '{{index .Config.Labels "com.docker.compose.project.working_dir"}}'
    assert docker("inspect", "-f", label, after["side"]) == str(folder)


async def test_validation_touches_nothing_and_hides_secrets(host: AgentHost, project: str) -> None:
    value = f"canary-{secrets.token_hex(8)}"
    text = TWO + "\nx-note: '${NOTE}'\n"
    text = text.replace("command:", "environment: {A: '${NOTE}'}\n    privileged: true\n    command:")
    order = host.with_secrets(deploy_order(project, text), {"NOTE": value})

    result = await host.do("compose.validate", order)

    told = orders.parse_detail(orders.ValidateDetail, result.detail)
    assert result.outcome == "succeeded", result.error
    assert [each.path for each in told.violations] == ["services.side.privileged"]
    assert told.config["services"]["side"]["environment"] == {"A": "‹NOTE›"}
    assert value not in str(result)
    assert not host.folder(project).exists()


async def test_removal_deletes_only_the_named_volumes(host: AgentHost, project: str) -> None:
    await host.do("compose.deploy", deploy_order(project, TWO))

    wrong = await host.do("compose.remove", orders.Remove(project=project, volumes=("nope",)))
    assert (wrong.outcome, wrong.code, len(containers_of(project))) == ("failed", "not_found", 2)

    removed = await host.do("compose.remove", orders.Remove(project=project, volumes=("gone",)))

    assert removed.outcome == "succeeded", removed.error
    assert containers_of(project) == {}
    left = docker("volume", "ls", "-q", "--filter", f"label=com.docker.compose.project={project}")
    assert left == f"{project}_kept"
    assert not host.folder(project).exists()


async def test_pruning_spares_the_images_of_good_revisions(host: AgentHost, project: str) -> None:
    tag = f"towline-test/old-{project}:1"
    text = TWO.replace("towline-test/web:1", tag)
    made = [await _deploy(host, project, text, tag, number) for number in (1, 2, 3)]

    result = await host.do("compose.prune", orders.Prune(project=project, keep_revisions=2))

    assert result.outcome == "succeeded", result.error
    told = orders.parse_detail(orders.PruneDetail, result.detail)
    assert told.images_removed == (made[0],)
    assert [bool(docker("image", "inspect", "-f", "x", each)) for each in made] == [False, True, True]
    remove_project(project)
    docker("rmi", "-f", *made[1:])


async def _deploy(host: AgentHost, project: str, text: str, tag: str, number: int) -> str:
    image = images.make_web(tag, revision=str(number))
    result = await host.do("compose.deploy", deploy_order(project, text, number, settle_seconds=0.1))
    assert result.outcome == "succeeded", result.error
    return image


async def test_drift_is_seen_when_somebody_else_changes_a_container(host: AgentHost, project: str) -> None:
    await host.do("compose.deploy", deploy_order(project, TWO))
    changes: asyncio.Queue[link.Inventory] = asyncio.Queue()
    inventory = make_inventory(host, changes.put_nowait)
    host.owner.spawn("inventory", inventory.run())
    assert await _drift(changes, project) == ()

    docker("stop", containers_of(project)["side"])
    assert await _drift(changes, project) == ("side: exited with 137 (killed)",)

    docker("rm", "-f", containers_of(project)["side"])
    assert await _drift(changes, project) == ("side: its container is gone",)

    shown = inventory.snapshot()
    assert {each.service for each in shown.containers if each.project == project} == {"web"}


async def _drift(changes: asyncio.Queue[link.Inventory], project: str) -> tuple[str, ...]:
    """Wait for the next change of the project."""
    async with asyncio.timeout(PATIENCE):
        while True:
            change = await changes.get()
            for each in change.projects:
                if each.name == project:
                    return each.drift


def state(container: str) -> str:
    return docker("inspect", "-f", "{{.State.Status}}", container)
