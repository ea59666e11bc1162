"""A standalone agent beside a real Docker engine, and beside one that is killed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.support.standalone import standalone

from towline.agent.docker.engine import find_host
from towline.agent.surface import catalogue

pytestmark = pytest.mark.docker

OF_CONTAINERS = {
    "/api/realtime/logs": '-N --max-time 2 -H "Authorization: Bearer $TOKEN" '
    '"$URL/api/realtime/logs?container=$CONTAINER"'
}
"""What the example asks of pods, asked of a container."""
OF_A_CONTAINER = "/api/realtime/logs?container=a"


async def test_every_path_answers_beside_a_real_engine(run_container: Callable[..., str], tmp_path: Path) -> None:
    container = (await asyncio.to_thread(run_container, "sh", "-c", "echo hello; sleep 1000")).strip()
    async with standalone(tmp_path / "agent", docker_host=find_host(), kubernetes="off") as agent:
        token = await asyncio.to_thread(agent.token, operate=True)
        await agent.until("/ready", token, lambda status, _: status == 200)
        await agent.until("/api/docker/containers", token, lambda status, _: status == 200)

        endpoints = catalogue.ENDPOINTS
        examples = (OF_CONTAINERS.get(each.path, each.curl) for each in endpoints)
        variables = {"CONTAINER": container, "NAMESPACE": "default", "POD": "none"}
        answers = await asyncio.gather(*(agent.curl(each, token, **variables) for each in examples))

    for endpoint, (status, kind, body) in zip(endpoints, answers, strict=True):
        if endpoint.path.startswith("/api/k8s/"):
            assert (status, json.loads(body)["error"]["code"]) == (503, "unavailable"), endpoint.path
            continue
        assert status in (200, 201, 101), (endpoint.path, body)
        assert status == 101 or kind.startswith(endpoint.answer), endpoint.path
        if endpoint.answer == "application/json":
            assert set(endpoint.fields) <= json.loads(body).keys()
        if "logs" in endpoint.path:
            assert "hello" in body


@pytest.mark.root
async def test_engine_that_dies_is_told_and_its_return_as_well(private_engine: Any, tmp_path: Path) -> None:
    async with standalone(tmp_path / "agent", docker_host=private_engine.host, kubernetes="off") as agent:
        token = await asyncio.to_thread(agent.token)
        await agent.until("/ready", token, lambda status, _: status == 200)
        _, tried = await agent.get("/api/status/connectivity", token)
        assert tried["connectivity"]["docker"]["latency_ms"]["tries"] == 5
        assert tried["well"]
        _, detail = await agent.get("/api/health/detailed", token)
        assert detail["connectivity"] == {
            "control_plane": "absent", "kubernetes": "absent", "docker": "up", "disk": "up",
        }  # fmt: skip

        await asyncio.to_thread(private_engine.kill)

        gone = await agent.until("/ready", token, lambda status, _: status == 503)
        docker = next(each for each in gone["checks"] if each["name"] == "docker")
        assert (docker["state"], docker["required"]) == ("down", True)
        assert "docker.sock" in docker["reason"] or "socket" in docker["reason"]
        assert (await agent.get("/health", token))[0] == 200
        operate = await asyncio.to_thread(agent.token, operate=True)
        for path in ("/api/docker/projects", "/api/docker/containers", "/api/docker/logs/a", OF_A_CONTAINER):
            status, refused = await agent.get(path, operate)
            assert (status, refused["error"]["code"]) == (503, "unavailable"), path

        await asyncio.to_thread(private_engine.start)

        await agent.until("/ready", token, lambda status, _: status == 200)
        _, detail = await agent.get("/api/health/detailed", token)
        docker = next(each for each in detail["dependencies"] if each["name"] == "docker")
        assert docker["last_error"]
