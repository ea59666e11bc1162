"""The shipped agent at an InstaDeploy control plane, on a real engine: the recorded conversation, and what it beats."""

from __future__ import annotations

import asyncio
import base64
import os
import secrets
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.support.agent_host import containers_of, docker, remove_project
from tests.support.older_planes import TOKEN, InstaDeployPlane, PlaneLine

pytestmark = pytest.mark.docker

WEB = """
services:
  web:
    image: towline-test/web:1
    stop_signal: KILL
    healthcheck: {test: ["CMD", "true"], interval: 300ms}
"""
SLOW = WEB.replace("300ms", "4s")
MISSING = WEB.replace("towline-test/web:1", "localhost/missing:9")


@pytest.fixture
def project(docker_engine: str) -> Iterator[str]:
    name = f"h7-{secrets.token_hex(4)}"
    yield name
    remove_project(name)


@pytest.fixture
async def plane() -> AsyncIterator[InstaDeployPlane]:
    async with InstaDeployPlane() as one:
        yield one


@asynccontextmanager
async def shipped_agent(plane: InstaDeployPlane, state: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run `towline agent run --protocol instadeploy` with the names that the original reads."""
    words = ["-m", "towline.cli.start", "agent", "run", "--protocol", "instadeploy", "--state-folder", str(state)]
    environment = os.environ | {"SERVER_URL": plane.url, "AGENT_TOKEN": TOKEN, "TOWLINE_AGENT_KUBERNETES": "off"}
    with (state.parent / "agent.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(sys.executable, *words, env=environment, stderr=log)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        await process.wait()


def command(job_id: str, kind: str, project: str, compose: str = "") -> dict[str, Any]:
    payload = {"project_name": project}
    if compose:
        payload["compose_file_base64"] = base64.b64encode(compose.encode()).decode()
    return {"id": job_id, "type": kind, "payload": payload}


async def done(line: PlaneLine, job_id: str, kind: str, project: str, compose: str = "") -> dict[str, Any]:
    await line.send(command(job_id, kind, project, compose))
    return await line.final(job_id)


async def test_the_recorded_conversation_on_a_real_engine(
    plane: InstaDeployPlane, project: str, tmp_path: Path
) -> None:
    # Five calls of Compose and a health gate: some ten seconds.
    async with shipped_agent(plane, tmp_path / "state"):
        line = await plane.connected()
        deployed = await done(line, "j2", "DEPLOY_COMPOSE", project, WEB)
        assert deployed["status"] == "COMPLETED", deployed
        assert deployed["logs"].startswith(f"Project '{project}' deployed successfully.\n\nOutput:\n")
        assert (tmp_path / "state" / "projects" / project / "docker-compose.yml").is_file()
        status = await done(line, "j3", "STATUS", project)
        assert status["status"] == "COMPLETED", status
        assert status["logs"].startswith(f"Status for project '{project}':\n\nNAME ")
        assert f"{project}-web-1" in status["logs"] and "Up " in status["logs"]
        running = containers_of(project)["web"]

        # What the original poisons its projects with changes nothing here.
        for job_id, compose in (("j4", MISSING), ("j5", "services: [")):
            failed = await done(line, job_id, "DEPLOY_COMPOSE", project, compose)
            assert failed["status"] == "FAILED" and failed["error"]
        assert containers_of(project)["web"] == running
        assert (await done(line, "j8a", "STATUS", project))["status"] == "COMPLETED"
        stopped = await done(line, "j8", "STOP_COMPOSE", project)
        assert stopped["status"] == "COMPLETED", stopped
        assert containers_of(project) == {}

        unknown = await done(line, "j9", "STOP_COMPOSE", "nosuch")
        assert (unknown["status"], unknown["error"]) == ("FAILED", "project does not exist")
        nothing = await done(line, "j10", "STATUS", "nosuch")
        assert nothing["logs"] == "Status for project 'nosuch':\n\nProject does not exist"
        again = await done(line, "j12", "DEPLOY_COMPOSE", project, WEB)
        assert again["status"] == "COMPLETED", again


async def test_a_killed_agent_finishes_its_deploy_and_answers_once(
    plane: InstaDeployPlane, project: str, tmp_path: Path
) -> None:
    async with shipped_agent(plane, tmp_path / "state") as process:
        line = await plane.connected()
        await line.send(command("j2", "DEPLOY_COMPOSE", project, SLOW))
        assert (await line.next())["status"] == "IN_PROGRESS"
        async with asyncio.timeout(30):
            while not docker("ps", "-q", "--filter", f"label=com.docker.compose.project={project}"):
                await asyncio.sleep(0.1)
        process.kill()
        await process.wait()
    async with shipped_agent(plane, tmp_path / "state"):
        line = await plane.connected()
        assert (await line.final("j2"))["status"] == "COMPLETED"
        await line.send({"id": "h", "type": "HEALTH_CHECK", "payload": {}})
        assert (await line.next())["job_id"] == "h"
    assert len(containers_of(project)) == 1
