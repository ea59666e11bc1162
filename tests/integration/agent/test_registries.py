"""Pulls from a private registry: with the given login, for the pull alone, by digests that a rollback pulls again."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from tests.support.agent_host import AgentHost, agent_host, containers_of, deploy_order, docker, remove_project
from tests.testbed import images
from tests.testbed.servers import Server

from towline.wire import orders

pytestmark = [pytest.mark.docker, pytest.mark.registry]

PASSWORD = f"canary-{secrets.token_hex(8)}"


@pytest.fixture
def project() -> Iterator[str]:
    name = f"h7-{secrets.token_hex(4)}"
    yield name
    remove_project(name)


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[AgentHost]:
    async with agent_host(tmp_path / "state") as made:
        yield made


@pytest.fixture
def private_image(
    start_registry: Callable[..., Server], tmp_path: Path, docker_engine: str
) -> Iterator[tuple[Server, str]]:
    """An image that only the private registry has."""
    registry = start_registry(accounts={"ada": PASSWORD})
    name = f"{registry.address}/shop:1"
    images.make_web(name, revision=secrets.token_hex(4))
    config = str(tmp_path / "login")
    docker("--config", config, "login", "-u", "ada", "-p", PASSWORD, registry.address)
    docker("--config", config, "push", name)
    docker("rmi", name)
    yield registry, name
    docker("rmi", "-f", name)


async def test_login_is_used_for_the_pull_and_left_nowhere(
    host: AgentHost, project: str, private_image: tuple[Server, str]
) -> None:
    registry, name = private_image
    text = f"services: {{web: {{image: '{name}', stop_signal: KILL}}}}\n"
    order = host.with_logins(deploy_order(project, text), registry.address, "ada", PASSWORD)

    job_id = await host.submit("compose.deploy", order)
    result = await host.result(job_id)

    assert result.outcome == "succeeded", result.error
    told = orders.parse_detail(orders.DeployDetail, result.detail)
    assert told.images["web"].startswith(f"{registry.address}/shop@sha256:")
    assert PASSWORD not in str(result) + "".join(host.texts(job_id))
    kept = [path for path in host.host.settings.state_folder.rglob("*") if path.is_file()]
    assert not [path for path in kept if PASSWORD.encode() in path.read_bytes()]

    remove_project(project)
    docker("rmi", "-f", name)
    again = host.with_logins(deploy_order(project, text, image_pins=told.images), registry.address, "ada", PASSWORD)
    rolled_back = await host.do("compose.deploy", again)
    assert rolled_back.outcome == "succeeded", rolled_back.error
    assert docker("inspect", "-f", "{{.Config.Image}}", containers_of(project)["web"]) == told.images["web"]


async def test_pull_without_the_login_fails_with_the_registrys_words(
    host: AgentHost, project: str, private_image: tuple[Server, str]
) -> None:
    _, name = private_image
    text = f"services: {{web: {{image: '{name}'}}}}\n"

    result = await host.do("compose.deploy", deploy_order(project, text))

    assert (result.outcome, result.code) == ("failed", "pull_failed")
    assert "no basic auth credentials" in result.error
