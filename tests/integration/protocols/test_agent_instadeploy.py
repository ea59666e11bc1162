"""Our agent at an InstaDeploy control plane: headers, answers, ends told once, whatever breaks in between."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.support.agent_host import AgentHost
from tests.support.older_agent import older_agent
from tests.support.older_planes import TOKEN, InstaDeployPlane

from towline.agent.jobs.context import JobContext
from towline.agent.jobs.outcome import Ended
from towline.agent.protocols import place
from towline.agent.settings import AgentSettings

TRACE = Path(__file__).parents[2] / "data" / "traces" / "instadeploy.jsonl"
COMPOSE = "services:\n  web:\n    image: localhost/busybox:1\n"


@dataclass
class Work:
    """Does the jobs instead of Compose."""

    began: list[str] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, context: JobContext) -> Ended:
        self.began.append(context.job_id)
        context.reporter.say("starting", "Container trace-web-1 Started")
        await self.gate.wait()
        return Ended("succeeded")


@dataclass
class Stand:
    """An agent and the control plane that it knows."""

    plane: InstaDeployPlane
    work: Work
    agent: AgentHost
    turns: list[tuple[bool, str]]


def deploy(job_id: str, project: str = "trace", compose: str = COMPOSE) -> dict[str, Any]:
    text = base64.b64encode(compose.encode()).decode()
    return {"id": job_id, "type": "DEPLOY_COMPOSE", "payload": {"project_name": project, "compose_file_base64": text}}


@asynccontextmanager
async def agent_of(
    plane: InstaDeployPlane, state: Path, monkeypatch: pytest.MonkeyPatch, work: Work
) -> AsyncIterator[Stand]:
    """Run our agent against a control plane."""
    monkeypatch.setenv("AGENT_TOKEN", TOKEN)
    async with older_agent("instadeploy", plane.url, state, execute=work) as agent:
        yield Stand(plane, work, agent.host, agent.turns)


@pytest.fixture
async def plane() -> AsyncIterator[InstaDeployPlane]:
    async with InstaDeployPlane() as one:
        yield one


@pytest.fixture
async def stand(plane: InstaDeployPlane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stand]:
    async with agent_of(plane, tmp_path, monkeypatch, Work()) as one:
        yield one


async def test_the_upgrade_has_the_headers_of_the_recording(stand: Stand) -> None:
    line = await stand.plane.connected()
    recorded = next(json.loads(text) for text in TRACE.read_text().splitlines() if '"upgrade"' in text)
    assert {name.lower() for name in recorded["headers"]} <= {name.lower() for name in line.headers}
    assert line.path == recorded["path"]
    assert line.headers["X-Agent-Version"] == "1.0.0"
    assert line.headers["X-Agent-Architecture"] == "linux-amd64" or "-" in line.headers["X-Agent-Architecture"]


async def test_health_is_answered_as_recorded(stand: Stand) -> None:
    line = await stand.plane.connected()
    await line.send({"id": "j1", "type": "HEALTH_CHECK", "payload": {}})
    received, healthy = await line.next(), await line.next()
    assert received == {"job_id": "j1", "status": "IN_PROGRESS", "logs": "Command received, processing..."}
    assert healthy["logs"] == "Agent is healthy and operational"
    assert set(healthy["data"]) == {"version", "architecture", "hostname"}


@pytest.mark.parametrize(
    ("message", "error"),
    [
        (deploy("j6", "../x"), "Invalid project name: project name contains invalid characters"),
        ({"id": "j7", "type": "DEPLOY_COMPOSE", "payload": {"project_name": "t", "compose_file_base64": "%%%"}},
         "failed to decode compose file"),
        ({"id": "j11", "type": "NO_SUCH_TYPE", "payload": {}}, "Unknown command type: NO_SUCH_TYPE"),
        ({"id": "j12", "type": "STATUS", "payload": {"project_name": "_"}}, "Invalid project name"),
    ],
)  # fmt: skip
async def test_a_wrong_command_fails_with_the_recorded_words(stand: Stand, message: dict[str, Any], error: str) -> None:
    line = await stand.plane.connected()
    await line.send(message)
    assert (await line.next())["status"] == "IN_PROGRESS"
    answer = await line.next()
    assert answer["status"] == "FAILED" and answer["error"].startswith(error)
    assert stand.work.began == []


async def test_text_that_is_no_command_is_answered_as_unknown_and_the_line_lives(stand: Stand) -> None:
    line = await stand.plane.connected()
    for text in ("not json", "[]", '{"id":7}', "{}"):
        await line.send(text)
        answer = await line.next()
        assert (answer["job_id"], answer["status"]) == ("unknown", "FAILED")
        assert answer["error"].startswith("Invalid command format: ")
    await line.send(b"\x00\x01 binary")
    await line.send({"id": "j", "type": "HEALTH_CHECK"})
    assert (await line.final("j"))["status"] == "COMPLETED"


async def test_a_deploy_is_answered_at_once_and_at_its_end(stand: Stand) -> None:
    line = await stand.plane.connected()
    await line.send(deploy("j2"))
    assert (await line.next())["status"] == "IN_PROGRESS"
    stand.work.gate.set()
    end = await line.next()
    assert end["status"] == "COMPLETED"
    assert end["logs"].startswith("Project 'trace' deployed successfully.\n\nOutput:\n")
    assert "Container trace-web-1 Started" in end["logs"]


async def test_a_command_sent_twice_is_done_once_and_answered_twice(stand: Stand) -> None:
    line = await stand.plane.connected()
    stand.work.gate.set()
    await line.send(deploy("j2"))
    first = await line.final("j2")
    await line.send(deploy("j2"))
    assert await line.final("j2") == first
    assert len(stand.work.began) == 1


async def test_a_command_that_ends_while_the_line_is_down_is_told_on_the_next(stand: Stand) -> None:
    line = await stand.plane.connected()
    await line.send(deploy("2/../j ö"))
    await line.next()
    await line.close()
    stand.work.gate.set()
    again = await stand.plane.connected()
    assert (await again.final("2/../j ö"))["status"] == "COMPLETED"
    await again.close()
    third = await stand.plane.connected()
    await third.send({"id": "h", "type": "HEALTH_CHECK"})
    assert (await third.next())["job_id"] == "h", "an end that was read is not told again"
    assert len(stand.work.began) == 1


async def test_a_restart_in_the_middle_goes_on_and_answers_once(
    plane: InstaDeployPlane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with agent_of(plane, tmp_path, monkeypatch, Work()):
        line = await plane.connected()
        await line.send(deploy("j2"))
        await line.next()
    ended = Work()
    ended.gate.set()
    async with agent_of(plane, tmp_path, monkeypatch, ended):
        line = await plane.connected()
        assert (await line.final("j2"))["status"] == "COMPLETED"
        assert ended.began == ["instadeploy_j2"]


async def test_a_server_that_comes_later_is_found(
    plane: InstaDeployPlane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await plane.end()
    async with agent_of(plane, tmp_path, monkeypatch, Work()) as stand:
        while not stand.turns:
            await asyncio.sleep(0.01)
        assert stand.turns[0][0] is False
        await plane.begin()
        await plane.connected()


async def test_a_wrong_token_is_tried_again_and_found_right_later(
    plane: InstaDeployPlane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("towline.agent.protocols.keeper.REFUSED_PAUSE", 0.1)
    plane.token = "another"
    async with agent_of(plane, tmp_path, monkeypatch, Work()) as stand:
        while plane.refused < 2:
            await asyncio.sleep(0.01)
        assert "401" in stand.turns[-1][1] and TOKEN not in stand.turns[-1][1]
        plane.token = TOKEN
        await plane.connected()


async def test_the_identity_stays_over_restarts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENT_TOKEN", TOKEN)
    settings = AgentSettings(state_folder=tmp_path, protocol="instadeploy", server="ws://127.0.0.1:1")
    first, second = place.settle(settings), place.settle(settings)
    assert first.agent_id == second.agent_id
    assert TOKEN not in repr(first)
    assert str(first.endpoint("/ws", default_path=True).path) == "/ws"
