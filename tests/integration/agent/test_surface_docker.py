"""The surface's questions, logs and streams about containers, beside a real Docker engine."""

from __future__ import annotations

import asyncio
import os
import secrets
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.integration.agent.conftest import compose_labels
from tests.support.event_reader import EventReader
from tests.support.scripted_agent import until
from tests.support.surface import Served, make_parts, served
from tests.testbed import images

from towline.agent.docker.engine import find_host
from towline.agent.policy import LocalPolicy
from towline.agent.surface import docker
from towline.agent.surface.endpoints import Endpoint
from towline.agent.surface.parts import Parts
from towline.aio.tasks import TaskOwner

pytestmark = pytest.mark.docker


@pytest.fixture
async def parts(docker_engine: str, tmp_path: Path) -> AsyncIterator[Parts]:
    parts = make_parts(tmp_path / "agent", docker_host=find_host())
    assert parts.docker is not None
    async with TaskOwner("inventory") as owner:
        owner.spawn("inventory", parts.docker.inventory.run())
        yield parts


@pytest.fixture
async def surface(parts: Parts) -> AsyncIterator[Served]:
    async with served(parts) as one:
        yield one


@pytest.fixture
def project() -> str:
    return f"s6{secrets.token_hex(4)}"


@pytest.fixture
def run(run_container: Callable[..., str], project: str) -> Callable[..., str]:
    """Run a shell script in a container of the project: `run("web", "echo hello")`."""
    return lambda service, script: run_container("sh", "-c", script, options=compose_labels(project, service))


def known(surface: Served, container: str) -> Any:
    docker = surface.parts.docker
    assert docker is not None
    return next((one for one in docker.inventory.snapshot().containers if one.id == container.strip()), None)


async def test_container_and_its_project_are_listed(surface: Served, run: Callable[..., str], project: str) -> None:
    container = await asyncio.to_thread(run, "web", "sleep 1000")
    await until(lambda: known(surface, container) is not None)

    _, found = await surface.get("/api/docker/containers", params={"project": project, "state": "running"})
    _, projects = await surface.get("/api/docker/projects", params={"limit": "5000"})

    assert [(one["service"], one["state"]) for one in found["items"]] == [("web", "running")]
    assert found["cache"]["age"] < 60
    (own,) = [one for one in projects["items"] if one["name"] == project]
    assert (own["containers"], own["running"], own["managed"]) == (1, 1, False)
    assert (await surface.get("/api/docker/containers?project=none"))[1]["items"] == []


@pytest.mark.parametrize("endpoint", docker.ENDPOINTS, ids=lambda endpoint: endpoint.path)
async def test_example_works_as_it_is_documented(surface: Served, run: Callable[..., str], endpoint: Endpoint) -> None:
    container = await asyncio.to_thread(run, "web", "echo hello")
    await until(lambda: known(surface, container) is not None)
    environment = os.environ | {"URL": surface.url, "TOKEN": surface.operate, "CONTAINER": container.strip()}
    command = f"curl -sS -w '\\n%{{http_code}} %{{content_type}}' {endpoint.curl}"

    done = await asyncio.to_thread(
        subprocess.run, ["sh", "-c", command], env=environment, capture_output=True, text=True, timeout=30
    )

    assert done.stdout.rpartition("\n")[2].startswith(f"200 {endpoint.answer}"), done.stdout + done.stderr


async def test_log_is_text(surface: Served, run: Callable[..., str]) -> None:
    container = (await asyncio.to_thread(run, "web", "echo one; echo two >&2; echo three")).strip()
    await asyncio.to_thread(images.docker, "wait", container)

    async def text(query: str) -> str:
        url = f"{surface.url}/api/docker/logs/{container}{query}"
        async with surface.client.get(url, headers=surface.operator) as got:
            assert got.status == 200
            return await got.text()

    assert sorted((await text("")).splitlines()) == ["one", "three", "two"]
    assert len((await text("?tailLines=1")).splitlines()) == 1
    assert await text("?grep=two") == "two\n"
    assert (await text("?timestamps&grep=one")).endswith("Z one\n")


async def test_log_that_is_followed_comes_as_it_is_written(surface: Served, run: Callable[..., str]) -> None:
    script = "echo one; while [ ! -e /tmp/go ]; do sleep 0.05; done; echo two; sleep 1000"
    container = (await asyncio.to_thread(run, "web", script)).strip()
    url = f"{surface.url}/api/docker/logs/{container}?follow=true"
    async with surface.client.get(url, headers=surface.operator) as got:
        assert await got.content.readline() == b"one\n"
        await asyncio.to_thread(images.docker, "exec", container, "touch", "/tmp/go")
        assert await got.content.readline() == b"two\n"


async def test_log_of_no_container_is_not_found(surface: Served) -> None:
    status, body = await surface.get("/api/docker/logs/no-such-container", headers=surface.operator)

    assert (status, body["error"]["code"]) == (404, "not_found")


@pytest.mark.parametrize("path", ["..", "-x", "a%2Fb", "a?since=yesterday", "a?tailLines=-1"])
async def test_bad_parameter_of_a_log_is_refused(surface: Served, path: str) -> None:
    status, _ = await surface.get(f"/api/docker/logs/{path}", headers=surface.operator)

    assert status in (400, 404)


async def test_policy_of_the_host_forbids_logs(docker_engine: str, tmp_path: Path) -> None:
    policy = LocalPolicy(capabilities=("compose",))
    made = make_parts(tmp_path / "agent", docker_host=find_host(), policy=policy)
    async with served(made) as surface:
        for path in ("/api/docker/logs/a", "/api/realtime/logs?container=a"):
            status, body = await surface.get(path, headers=surface.operator)
            assert (status, body["error"]["code"]) == (403, "forbidden")


async def test_containers_of_a_project_come_in_one_stream_with_those_that_come_later(
    surface: Served, run: Callable[..., str], project: str
) -> None:
    await asyncio.to_thread(run, "web", "echo from web; sleep 1000")
    url = f"{surface.url}/api/realtime/logs?project={project}&tail=-1"
    async with surface.client.get(url, headers=surface.operator) as got:
        reader = EventReader(got)
        first = (await reader.next("log")).data
        await asyncio.to_thread(run, "db", "echo from db; sleep 1000")
        second = (await reader.next("log", timeout=30)).data

    assert (first["line"], second["line"]) == ("from web", "from db")
    assert first["source"] != second["source"]


async def test_what_happens_to_a_container_is_an_event(surface: Served, run: Callable[..., str], project: str) -> None:
    async with surface.client.get(f"{surface.url}/api/realtime/events", headers=surface.reader) as got:
        reader = EventReader(got)
        state = (await reader.next("status")).data
        while state["docker"]["state"] != "connected":
            state = (await reader.next("status")).data
        await asyncio.to_thread(run, "web", "exit 3")
        seen: list[Any] = []
        while not seen or seen[-1]["change"] != "die":
            told = (await reader.next("event", timeout=30)).data
            if told["source"] == "docker" and told["item"]["project"] == project:
                seen.append(told)

    assert [one["change"] for one in seen[-2:]] == ["start", "die"]
    assert (seen[-1]["item"]["service"], seen[-1]["item"]["exit_code"]) == ("web", 3)
