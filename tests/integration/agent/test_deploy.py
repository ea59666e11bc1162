"""Deploys on a real engine: what ends up running, what never stops, and what people are told."""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec
import pytest
from tests.support.agent_host import (
    AgentHost,
    agent_host,
    containers_of,
    deploy_order,
    docker,
    remove_project,
)
from tests.testbed import images

from towline.agent.policy import ComposeRules, LocalPolicy
from towline.wire import link, orders

pytestmark = pytest.mark.docker

WEB = """
services:
  web:
    image: towline-test/web:1
    stop_signal: KILL
    healthcheck: {test: ["CMD", "true"], interval: 300ms}
"""
SICK = WEB.replace('"true"', '"false"').replace("300ms", "200ms, retries: 1")


@pytest.fixture
def project() -> Iterator[str]:
    name = f"h7-{secrets.token_hex(4)}"
    yield name
    remove_project(name)


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[AgentHost]:
    async with agent_host(tmp_path / "state") as made:
        yield made


def detail(result: link.JobResult) -> orders.DeployDetail:
    return orders.parse_detail(orders.DeployDetail, result.detail)


async def test_deploy_ends_healthy_and_docker_compose_works_in_its_folder(host: AgentHost, project: str) -> None:
    result = await host.do("compose.deploy", deploy_order(project, WEB))

    assert result.outcome == "succeeded", result.error
    assert detail(result).services["web"].state == "healthy"
    assert detail(result).images["web"].startswith("sha256:")
    listed = subprocess.run(
        ["docker", "compose", "ps", "--format", "{{.Service}} {{.Health}}"],
        cwd=host.folder(project), capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert listed.stdout.split() == ["web", "healthy"]


async def test_sick_revision_is_replaced_by_the_last_good_one(host: AgentHost, project: str) -> None:
    await host.do("compose.deploy", deploy_order(project, WEB))
    text = SICK.replace("healthcheck", "command: [sh, -c, 'echo no luck; sleep 100']\n    healthcheck")

    result = await host.do("compose.deploy", deploy_order(project, text, 2))

    told = detail(result)
    assert (result.outcome, result.code) == ("failed", "unhealthy")
    assert (told.rolled_back_to, told.running_revision_id) == (1, "rev_1")
    assert told.failing[0].service == "web"
    assert told.failing[0].log_tail == ("no luck",)
    assert docker("inspect", "-f", "{{.State.Health.Status}}", containers_of(project)["web"]) == "healthy"
    assert (host.folder(project) / "compose.yaml").read_text() == WEB


async def test_failing_pull_leaves_the_old_containers_untouched(host: AgentHost, project: str) -> None:
    await host.do("compose.deploy", deploy_order(project, WEB))
    before = containers_of(project)
    text = WEB.replace("towline-test/web:1", "127.0.0.1:9/nothing:1")

    result = await host.do("compose.deploy", deploy_order(project, text, 2))

    assert (result.outcome, result.code) == ("failed", "pull_failed")
    assert "connection refused" in result.error
    assert containers_of(project) == before
    assert (host.folder(project) / "compose.yaml").read_text() == WEB


async def test_unchanged_service_keeps_its_container(host: AgentHost, project: str) -> None:
    await host.do("compose.deploy", deploy_order(project, WEB))
    before = containers_of(project)
    extra = "  extra: {image: 'towline-test/base:1', command: [sleep, '1000'], stop_signal: KILL}\n"

    result = await host.do("compose.deploy", deploy_order(project, WEB + extra, 2))

    assert result.outcome == "succeeded", result.error
    assert containers_of(project)["web"] == before["web"]


async def test_secret_reaches_the_container_and_no_other_place(host: AgentHost, project: str) -> None:
    value = f"canary-{secrets.token_hex(8)}"
    text = WEB + (
        "    environment: {FROM_ENV: '${DB_PASSWORD}'}\n"
        "    secrets: [DB_PASSWORD]\n"
        "    user: '65534'\n"
        "    command: [httpd, -f, -p, '8080', -h, /www]\n"
    )
    order = host.with_secrets(deploy_order(project, text), {"DB_PASSWORD": value})

    job_id = await host.submit("compose.deploy", order)
    result = await host.result(job_id)

    assert result.outcome == "succeeded", result.error
    container = containers_of(project)["web"]
    assert docker("exec", container, "cat", "/run/secrets/DB_PASSWORD") == value
    assert docker("exec", container, "sh", "-c", "echo $FROM_ENV") == value
    said = "".join(host.texts(job_id)) + msgspec.json.encode(result).decode()
    assert value not in said
    kept = [path for path in host.host.settings.state_folder.rglob("*") if path.is_file()]
    holding = {path.name for path in kept if value.encode() in path.read_bytes()}
    assert holding == {"DB_PASSWORD", ".env"}
    secret = host.folder(project) / ".towline/secrets/DB_PASSWORD"
    assert (secret.stat().st_mode & 0o777, secret.parent.stat().st_mode & 0o777) == (0o444, 0o700)


async def test_rollback_runs_the_recorded_image_when_the_tag_has_moved(host: AgentHost, project: str) -> None:
    tag = f"towline-test/moving-{project}:1"
    first = images.make_web(tag, revision="1")
    text = WEB.replace("towline-test/web:1", tag)
    good = detail(await host.do("compose.deploy", deploy_order(project, text)))
    try:
        second = images.make_web(tag, revision="2")
        moved = await host.do("compose.deploy", deploy_order(project, text, 2))
        assert (moved.outcome, image_of(project)) == ("succeeded", second)

        result = await host.do("compose.deploy", deploy_order(project, text, 1, image_pins=good.images))

        assert result.outcome == "succeeded", result.error
        assert image_of(project) == first
    finally:
        remove_project(project)
        docker("rmi", "-f", first, second)


async def test_policy_of_the_host_is_stricter_than_the_order(host: AgentHost, project: str) -> None:
    host.policy = LocalPolicy(compose=ComposeRules(privileged=False, images=("towline-test/web",)))
    text = WEB + "    privileged: true\n"

    result = await host.do("compose.deploy", deploy_order(project, text, policy_level="privileged"))

    assert (result.outcome, result.code) == ("failed", "policy_violation")
    violation = detail(result).violations[0]
    assert (violation.path, violation.line) == ("services.web.privileged", 7)
    assert containers_of(project) == {}


async def test_mount_of_the_agents_own_folder_is_refused(host: AgentHost, project: str) -> None:
    host.policy = LocalPolicy(compose=ComposeRules(bind_folders=("/",)))
    state = host.host.settings.state_folder
    (state / "door").symlink_to(state / "revisions")
    text = WEB + f"    volumes: ['{state}/door:/x:ro']\n"

    result = await host.do("compose.deploy", deploy_order(project, text))

    assert result.code == "policy_violation", result
    assert detail(result).violations[0].rule == "own-path"


@pytest.mark.parametrize("text", ["services: {web: {image: 3, bad: x}}", "a: [", "services: {}"])
async def test_broken_file_fails_before_anything_changes(host: AgentHost, project: str, text: str) -> None:
    result = await host.do("compose.deploy", deploy_order(project, text))

    assert (result.outcome, result.code) == ("failed", "invalid_project")
    assert detail(result).errors
    assert not host.folder(project).exists()


async def test_build_from_a_bundle_works_and_its_files_follow_the_revision(host: AgentHost, project: str) -> None:
    text = (
        "services:\n  web:\n    build: ./app\n    stop_signal: KILL\n"
        "    volumes: ['./page:/www:ro', './data:/data']\n"
        "    healthcheck: {test: ['CMD', 'true'], interval: 300ms}\n"
    )
    dockerfile = b"FROM towline-test/web:1\nLABEL built=yes\n"
    one = host.with_bundle(
        deploy_order(project, text), {"app/Dockerfile": dockerfile, "page/index.html": b"one", "page/old.html": b"x"}
    )
    two = host.with_bundle(deploy_order(project, text, 2), {"app/Dockerfile": dockerfile, "page/index.html": b"two"})
    try:
        first = await host.do("compose.deploy", one)
        assert first.outcome == "succeeded", first.error
        docker("exec", containers_of(project)["web"], "sh", "-c", "echo kept > /data/file")

        second = await host.do("compose.deploy", two)

        assert second.outcome == "succeeded", second.error
        container = containers_of(project)["web"]
        assert docker("exec", container, "cat", "/www/index.html", "/data/file") == "twokept"
        assert not (host.folder(project) / "page/old.html").exists()
    finally:
        remove_project(project)
        docker("rmi", "-f", f"{project}-web")


async def test_one_shot_service_counts_when_it_ends_with_zero(host: AgentHost, project: str) -> None:
    text = WEB + (
        "    depends_on: {migrate: {condition: service_completed_successfully}}\n"
        "  migrate: {image: 'towline-test/base:1', command: ['true']}\n"
    )

    result = await host.do("compose.deploy", deploy_order(project, text))

    assert result.outcome == "succeeded", result.error
    assert detail(result).services["migrate"].state == "completed"


async def test_putting_a_revision_back_runs_none_of_its_ended_services_again(host: AgentHost, project: str) -> None:
    once = (
        "  once: {image: 'towline-test/base:1', command: [sh, -c, '%s'], volumes: ['data:/data']}\n"
        "volumes: {data: {}}\n"
    )
    await host.do("compose.deploy", deploy_order(project, WEB + once % "echo one >> /data/ran"))
    still_running = once % "echo two >> /data/ran; exec sleep 300"

    result = await host.do("compose.deploy", deploy_order(project, SICK + still_running, 2))

    assert (result.outcome, detail(result).rolled_back_to) == ("failed", 1), result.error
    assert set(containers_of(project)) == {"web"}
    ran = docker("run", "--rm", "-v", f"{project}_data:/data", "towline-test/base:1", "cat", "/data/ran")
    assert ran.split() == ["one", "two"]


async def test_cancelled_deploy_puts_the_last_good_revision_back(host: AgentHost, project: str) -> None:
    await host.do("compose.deploy", deploy_order(project, WEB))
    pending = WEB.replace('"true"', '"false"').replace("300ms", "1s, retries: 100")
    job_id = await host.submit("compose.deploy", deploy_order(project, pending, 2))
    await host.said(job_id, "the healthcheck has not passed yet")

    host.runner.cancel(job_id)

    result = await host.result(job_id)
    assert (result.outcome, detail(result).running_revision_id) == ("cancelled", "rev_1")
    assert detail(result).rolled_back_to == 1
    assert docker("inspect", "-f", "{{.State.Health.Status}}", containers_of(project)["web"]) == "healthy"


async def test_deploys_of_one_project_run_one_after_another(host: AgentHost, project: str) -> None:
    first = await host.submit("compose.deploy", deploy_order(project, WEB))
    second = await host.submit("compose.deploy", deploy_order(project, WEB + "    labels: {a: b}\n", 2))

    results = [await host.result(first), await host.result(second)]

    assert [result.outcome for result in results] == ["succeeded", "succeeded"]
    assert results[0].finished_at <= min(event.at for event in host.host.journal.events(second))
    record = host.host.records.project(project)
    assert record is not None
    assert (record.running, record.revisions) == ("rev_2", ("rev_2", "rev_1"))


def image_of(project: str) -> str:
    return docker("inspect", "-f", "{{.Image}}", containers_of(project)["web"])
