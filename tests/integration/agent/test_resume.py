"""Deploys that are interrupted go on, and nothing runs twice: the agent, the step or Docker dies in the middle."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from tests.support.agent_host import AgentHost, agent_host, containers_of, deploy_order, docker, remove_project
from tests.testbed import images
from tests.testbed.engine import PrivateEngine

from towline.agent.docker.engine import Engine
from towline.agent.jobs.steps import Phase

pytestmark = pytest.mark.docker

WEB = """
services:
  web:
    image: towline-test/web:1
    stop_signal: KILL
    restart: always
    healthcheck: {test: ["CMD", "true"], interval: 300ms}
"""
MIGRATED = """
services:
  web:
    image: towline-test/web:1
    stop_signal: KILL
    restart: always
    healthcheck: {test: ["CMD", "true"], interval: 300ms}
    depends_on: {migrate: {condition: service_completed_successfully}}
    volumes: ['marks:/marks']
  migrate:
    image: towline-test/base:1
    stop_signal: KILL
    command: ['sh', '-c', 'echo ran >> /marks/runs; sleep 2']
    volumes: ['marks:/marks']
volumes: {marks: {}}
"""


@pytest.fixture
def project() -> Iterator[str]:
    name = f"h7-{secrets.token_hex(4)}"
    yield name
    remove_project(name)


async def test_later_agent_waits_for_the_step_that_an_earlier_one_began(tmp_path: Path, project: str) -> None:
    async with agent_host(tmp_path) as first:
        job_id = await first.submit("compose.deploy", deploy_order(project, MIGRATED))
        await first.said(job_id, "migrate-1 Started")

    async with agent_host(tmp_path) as second:
        run = second.host.steps.last(job_id, "up")
        assert run is not None
        assert run.phase() is Phase.RUNNING
        second.runner.resume()
        result = await second.result(job_id)

        assert result.outcome == "succeeded", result.error
        assert "the agent was restarted; going on" in second.texts(job_id)
        assert marks(project) == ["ran"]
        numbers = [event.seq for event in second.host.journal.events(job_id)]
        assert numbers == list(range(1, result.last_seq + 1))


async def test_step_that_was_cut_off_is_repeated_without_its_finished_one_shots(tmp_path: Path, project: str) -> None:
    async with agent_host(tmp_path) as first:
        job_id = await first.submit("compose.deploy", deploy_order(project, MIGRATED))
        await first.said(job_id, "migrate-1 Started")
    docker("wait", containers_of(project)["migrate"])
    kill_step(first, job_id)

    async with agent_host(tmp_path) as second:
        second.runner.resume()
        result = await second.result(job_id)

        assert result.outcome == "succeeded", result.error
        assert marks(project) == ["ran"]


async def test_finished_job_is_not_done_again_when_it_is_ordered_again(tmp_path: Path, project: str) -> None:
    async with agent_host(tmp_path) as host:
        order = deploy_order(project, MIGRATED)
        job_id = await host.submit("compose.deploy", order)
        first = await host.result(job_id)

        await host.submit("compose.deploy", order, job_id=job_id)

        assert await host.result(job_id) == first
        assert host.runner.running == 0
        assert marks(project) == ["ran"]


async def test_cancel_during_a_pull_leaves_the_old_containers(tmp_path: Path, project: str) -> None:
    async with agent_host(tmp_path) as host:
        text = MIGRATED.replace("sleep 2", "true")
        await host.do("compose.deploy", deploy_order(project, text))
        before = containers_of(project)
        # An address that takes connections and never answers.
        with socket.create_server(("127.0.0.1", 0)) as silent:
            port = silent.getsockname()[1]
            pulled = text.replace("towline-test/web:1", f"127.0.0.1:{port}/slow:1")
            job_id = await host.submit("compose.deploy", deploy_order(project, pulled, 2))
            await host.said(job_id, "Pulling")

            host.runner.cancel(job_id)

            result = await host.result(job_id)
        assert result.outcome == "cancelled", result
        assert containers_of(project) == before


async def test_one_shot_that_died_with_docker_is_told_and_not_run_again(
    tmp_path: Path, private_engine: PrivateEngine
) -> None:
    images.ensure(private_engine.host)
    async with agent_host(tmp_path / "state", engine=Engine(private_engine.host)) as host:
        job_id = await host.submit("compose.deploy", deploy_order("shop", MIGRATED))
        await host.said(job_id, "migrate-1 Started")

        await asyncio.to_thread(private_engine.kill)
        await asyncio.to_thread(private_engine.start)

        result = await host.result(job_id)
        assert (result.outcome, result.code) == ("failed", "unhealthy")
        assert result.error == "migrate: exited with 137 (killed)"
        script = ("run", "--rm", "-v", "shop_marks:/marks", images.BASE, "cat", "/marks/runs")
        assert images.docker(*script, host=private_engine.host) == "ran"


async def test_deploy_goes_on_when_docker_is_back(tmp_path: Path, private_engine: PrivateEngine) -> None:
    images.ensure(private_engine.host)
    text = WEB.replace("300ms", "2s")
    async with agent_host(tmp_path / "state", engine=Engine(private_engine.host)) as host:
        job_id = await host.submit("compose.deploy", deploy_order("shop", text))
        await host.said(job_id, "the healthcheck has not passed yet")

        await asyncio.to_thread(private_engine.kill)
        await asyncio.to_thread(private_engine.start)

        result = await host.result(job_id)
        assert result.outcome == "succeeded", (result, host.texts(job_id))
        assert "Docker does not answer; waiting for it" in host.texts(job_id)


async def test_deploy_waits_for_docker_from_its_first_step_on(tmp_path: Path, private_engine: PrivateEngine) -> None:
    images.ensure(private_engine.host)
    async with agent_host(tmp_path / "state", engine=Engine(private_engine.host)) as host:
        await asyncio.to_thread(private_engine.kill)
        job_id = await host.submit("compose.deploy", deploy_order("shop", MIGRATED))
        await host.said(job_id, "Docker does not answer; waiting for it")

        await asyncio.to_thread(private_engine.start)

        result = await host.result(job_id)
        assert result.outcome == "succeeded", (result, host.texts(job_id))


def marks(project: str) -> list[str]:
    """What the one-shot service wrote, once per run."""
    return docker("exec", containers_of(project)["web"], "cat", "/marks/runs").split()


def kill_step(host: AgentHost, job_id: str) -> None:
    """Kill the shim and its command, as a power cut does."""
    run = host.host.steps.last(job_id, "up")
    assert run is not None
    started = msgspec.json.decode((run.folder / "started").read_bytes())
    os.kill(started["pid"], signal.SIGKILL)
    os.killpg(started["command"], signal.SIGKILL)
    assert not (run.folder / "exit").exists()
