"""Fixtures of our agent at a PipeOps WebSocket control plane that a test speaks. A module of tests imports them all."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.support.older_agent import OlderAgent, older_agent
from tests.support.older_planes import TOKEN
from tests.support.small_api import SmallApi, pod
from tests.support.spoken_pipeops import PipeOpsPlane

from towline.agent.protocols import keeper


@pytest.fixture(autouse=True)
def names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIPEOPS_TOKEN", TOKEN)
    monkeypatch.setenv("AGENT_ID", "agent-1")
    monkeypatch.setenv("PIPEOPS_CLUSTER_NAME", "trace")
    monkeypatch.setattr(keeper, "REFUSED_PAUSE", 0.1)


@pytest.fixture
async def plane() -> AsyncIterator[PipeOpsPlane]:
    async with PipeOpsPlane() as one:
        yield one


@pytest.fixture
async def api() -> AsyncIterator[SmallApi]:
    one = SmallApi()
    await one.begin()
    one.put("pods", pod("a"))
    yield one
    await one.end()


@pytest.fixture
async def agent(plane: PipeOpsPlane, api: SmallApi, tmp_path: Path) -> AsyncIterator[OlderAgent]:
    async with older_agent("pipeops-ws", plane.url, tmp_path, cluster=api.material) as one:
        yield one
