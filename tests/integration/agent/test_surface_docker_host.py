"""A standalone agent beside a real Docker engine, and beside one that is killed."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.support.standalone import standalone

pytestmark = [pytest.mark.docker, pytest.mark.root]


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

        await asyncio.to_thread(private_engine.start)

        await agent.until("/ready", token, lambda status, _: status == 200)
        _, detail = await agent.get("/api/health/detailed", token)
        docker = next(each for each in detail["dependencies"] if each["name"] == "docker")
        assert docker["last_error"]
