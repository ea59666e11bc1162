"""Commands of the surface's callers: run by `/ws`, followed by many, cancelled, listed; each within its right."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
import structlog
from tests.support.small_api import SmallApi, pod
from tests.support.surface import Served

from towline.agent.surface import running
from towline.agent.surface.endpoints import Right
from towline.agent.surface.live import LIVE
from towline.agent.surface.running import LocalCommands

LOG = "web/a/app"
FOLLOW = {"program": "kubectl", "arguments": ["logs", "-f", "a"], "namespace": "web"}


@pytest.fixture
async def api() -> AsyncIterator[SmallApi]:
    api = SmallApi()
    await api.begin()
    found = pod("a")
    api.put("pods", found)
    api.answers["/api/v1/namespaces/web/pods/a"] = (200, "application/json", json.dumps(found).encode())
    await api.write(LOG, "first")
    yield api
    await api.end()


def commands_of(surface: Served) -> LocalCommands:
    runner = surface.surface._runner
    assert runner is not None
    return runner.app[LIVE].commands


class Socket:
    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket

    async def command(self, **payload: Any) -> None:
        await self.socket.send_json({"type": "command", "payload": payload, "id": 7})

    async def hear(self, kind: str, event: str = "") -> Any:
        async with asyncio.timeout(10):
            while True:
                message = await self.socket.receive_json()
                if message["type"] == kind and (not event or message["payload"]["event"] == event):
                    return message["payload"]


@asynccontextmanager
async def talking(surface: Served, headers: dict[str, str] | None = None) -> AsyncIterator[Socket]:
    async with surface.client.ws_connect(f"{surface.url}/ws", headers=headers or surface.operator) as opened:
        yield Socket(opened)


async def listed(surface: Served, headers: dict[str, str]) -> Any:
    async with surface.client.get(f"{surface.url}/api/commands", headers=headers) as got:
        assert got.status == 200
        return (await got.json())["commands"]


async def test_nobody_lists_commands_without_a_token(surface: Served) -> None:
    async with surface.client.get(f"{surface.url}/api/commands") as got:
        assert got.status == 401


async def test_a_command_runs_with_its_output_as_it_comes(api: SmallApi, surface: Served) -> None:
    async with talking(surface) as one:
        await one.command(run=FOLLOW)
        begun = await one.hear("command", "started")
        assert (begun["state"], begun["arguments"]) == ("running", ["logs", "-f", "a"])
        first = await one.hear("command", "output")
        assert (first["stage"], first["text"]) == ("stdout", "first\n")
        await api.write(LOG, "second")
        assert (await one.hear("command", "output"))["text"] == "second\n"
        await api.finish(LOG)
        end = await one.hear("command", "ended")
        assert (end["state"], end["exit_code"], end["stdout_bytes"]) == ("succeeded", 0, 13)
    (kept,) = await listed(surface, surface.operator)
    assert kept["state"] == "succeeded"
    made = [fields for _, target, fields in api.asked if target.startswith("/api/v1/namespaces/web/pods/a")]
    assert len(made) == 2
    for fields in made:
        assert fields["impersonate-user"] == "towline:local"
        assert fields["impersonate-group"] == "towline:role:operator"


async def test_a_command_is_on_record_with_its_words_and_without_secrets(api: SmallApi, surface: Served) -> None:
    with structlog.testing.capture_logs() as logs:
        async with talking(surface) as one:
            await one.command(run={"program": "kubectl", "arguments": ["get", "pods", "-l", "password=hush"]})
            await one.hear("command", "ended")

    begun, ended = [each for each in logs if each["event"].startswith("local command")]
    assert (begun["program"], begun["arguments"]) == ("kubectl", ("get", "pods", "-l", "password=***"))
    assert (begun["right"], ended["id"]) == ("operate", begun["id"])
    assert "hush" not in repr(logs)


async def test_many_follow_one_command_from_its_beginning(api: SmallApi, surface: Served) -> None:
    async with talking(surface) as one, talking(surface) as other:
        await one.command(run=FOLLOW)
        begun = await one.hear("command", "started")
        await one.hear("command", "output")
        await other.command(follow=begun["id"])
        assert (await other.hear("command", "output"))["text"] == "first\n"
        await other.command(follow=begun["id"])
        assert (await other.hear("error"))["code"] == "bad_request"
        await other.command(unfollow=begun["id"])
        await other.hear("command", "unfollowed")
        await other.command(cancel=begun["id"])
        assert (await one.hear("command", "ended"))["state"] == "cancelled"


async def test_a_command_outlives_its_connection(api: SmallApi, surface: Served) -> None:
    async with talking(surface) as one:
        await one.command(run=FOLLOW)
        begun = await one.hear("command", "started")
    async with talking(surface) as other:
        await other.command(follow=begun["id"])
        assert (await other.hear("command", "output"))["text"] == "first\n"
        await api.finish(LOG)
        assert (await other.hear("command", "ended"))["state"] == "succeeded"


@pytest.mark.parametrize(
    ("run", "code"),
    [
        ({"program": "kubectl", "arguments": ["exec", "a"]}, "bad_request"),
        ({"program": "kubectl", "arguments": ["get", "pods", "--as=admin"]}, "bad_request"),
        ({"program": "sh", "arguments": ["-c", "id"]}, "bad_request"),
        ({"program": "kubectl", "arguments": ["get", "secrets"]}, "forbidden"),
        ({"program": "kubectl", "arguments": ["apply", "-f", "-"], "stdin": "apiVersion: v1"}, "bad_request"),
        ({"program": "kubectl", "arguments": ["delete", "deploy", "a"]}, "forbidden"),
        ({"program": "kubectl", "arguments": ["get", "pods"], "timeout": 1e9}, "bad_request"),
        ({"program": "docker", "arguments": ["run", "x"]}, "bad_request"),
        ({"program": "kubectl", "arguments": "get pods"}, "bad_request"),
    ],
)
async def test_what_may_not_run_is_refused(surface: Served, run: dict[str, Any], code: str) -> None:
    async with talking(surface) as one:
        await one.command(run=run)
        assert (await one.hear("error"))["code"] == code


async def test_who_reads_runs_what_reads_and_sees_nothing_of_who_operates(api: SmallApi, surface: Served) -> None:
    async with talking(surface) as operator, talking(surface, surface.reader) as reader:
        await operator.command(run=FOLLOW)
        begun = await operator.hear("command", "started")
        await reader.command(run=FOLLOW)
        assert (await reader.hear("error"))["code"] == "forbidden"
        for payload in ({"follow": begun["id"]}, {"cancel": begun["id"]}):
            await reader.command(**payload)
            assert (await reader.hear("error"))["code"] == "not_found"
        await reader.command(run={"program": "kubectl", "arguments": ["get", "pods", "-o", "name"], "namespace": "web"})
        assert (await reader.hear("command", "output"))["text"] == "pod/a\n"
        await reader.hear("command", "ended")
        assert len(await listed(surface, surface.reader)) == 1
        assert len(await listed(surface, surface.operator)) == 2
        await operator.command(cancel=begun["id"])
        await operator.hear("command", "ended")


async def test_one_command_too_many_is_told_so(surface: Served) -> None:
    async with talking(surface) as one, talking(surface) as other:
        most = surface.parts.settings.parallel_commands
        for number in range(most):
            await (one if number < 5 else other).command(run=FOLLOW)
            await (one if number < 5 else other).hear("command", "started")
        await one.command(run=FOLLOW)
        assert (await one.hear("error"))["code"] == "throttled"
        assert commands_of(surface).running == most


async def test_outputs_of_old_commands_are_let_go(surface: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "KEPT_OUTPUTS", 1)
    run = {"program": "kubectl", "arguments": ["get", "pods", "-o", "name"], "namespace": "web"}
    async with talking(surface) as one:
        ids = []
        for _ in range(2):
            await one.command(run=run)
            ids.append((await one.hear("command", "started"))["id"])
            await one.hear("command", "ended")
    first, second = (commands_of(surface).find(each, Right.OPERATE) for each in ids)
    assert (first.chunks, len(second.chunks)) == ([], 1)


async def test_commands_are_counted(surface: Served) -> None:
    run = {"program": "kubectl", "arguments": ["get", "pods", "-o", "name"], "namespace": "web"}
    async with talking(surface) as one:
        await one.command(run=run)
        await one.hear("command", "ended")
    async with surface.client.get(f"{surface.url}/metrics", headers=surface.operator) as got:
        text = await got.text()
    assert 'towline_agent_local_commands_ended_total{outcome="succeeded",program="kubectl"} 1.0' in text
    assert "towline_agent_local_commands_running 0.0" in text
