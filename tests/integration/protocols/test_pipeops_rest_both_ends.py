"""Our own agent, as a PipeOps REST agent, at our own control plane: both ends of the protocol, each as it runs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.support.command_runs import begin
from tests.support.control_app import grant_row
from tests.support.older_agent import older_agent
from tests.support.prepared import sqlite_copy
from tests.support.served import https, served
from tests.support.small_api import SmallApi, pod, thing

from towline.agent.protocols.pipeops import rest as driving
from towline.control.access.actor import Access, Actor
from towline.control.access.permissions import Reach, Right, Rights, Role
from towline.control.protocols.tokens import Wanted
from towline.control.server import Running
from towline.wire import pipeops_rest as rest

SECRET = "token-of-both-ends"


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything that the agent does in a minute, in a second or two; the control plane slows down what asks more."""
    monkeypatch.setenv("PIPEOPS_TOKEN", SECRET)
    monkeypatch.setenv("AGENT_ID", "agent-own")
    monkeypatch.setenv("PIPEOPS_CLUSTER_NAME", "own")
    monkeypatch.setattr(driving, "POLL_INTERVAL", 1.0)
    for name in ("HEARTBEAT_INTERVAL", "STATUS_INTERVAL"):
        monkeypatch.setattr(rest, name, 2.0)


@pytest.fixture
async def api() -> AsyncIterator[SmallApi]:
    """The API server of the agent's cluster."""
    api = SmallApi()
    await api.begin()
    api.put("namespaces", thing("web", namespace=""))
    api.put("pods", pod("a"))
    api.answers["/api/v1/namespaces/web/pods/a"] = (200, "application/json", json.dumps(pod("a")).encode())
    await api.write("web/a/app", "a line")
    await api.finish("web/a/app")
    yield api
    await api.end()


async def test_status_commands_and_results_go_through(prepared_sqlite: Path, tmp_path: Path, api: SmallApi) -> None:
    async with served(sqlite_copy(prepared_sqlite, tmp_path), tmp_path) as running:
        token = await _owner(running)
        url = f"http://127.0.0.1:{running.port}"
        async with (
            https(running, headers={"authorization": f"Bearer {token}"}) as client,
            older_agent("pipeops-rest", url, tmp_path / "agent", cluster=api.material),
        ):
            known = await _until(
                client, "/api/v1/clusters/own/kubernetes", lambda found: found.get("state") == "partial"
            )
            assert known["connected"] and known["pods"]["total"] == 1
            run = await begin(client, "kubectl", "logs", "a", clusters=["own"], namespace="web")
            found = await _until(client, f"/api/v1/commands/runs/{run['id']}", lambda found: found["ended_at"])
            assert found["state"] == "succeeded", found
            (group,) = (await client.get(f"/api/v1/commands/runs/{run['id']}/results")).json()["groups"]
            assert group["stdout"] == "a line\n"
            gone = await begin(client, "kubectl", "logs", "nobody", clusters=["own"], namespace="web")
            found = await _until(client, f"/api/v1/commands/runs/{gone['id']}", lambda found: found["ended_at"])
            assert found["targets"][0]["code"] == "command_exit" and found["targets"][0]["exit_code"] == 1


async def _owner(running: Running) -> str:
    """Take the agent's token over, and make somebody who may do everything. Returns: that one's token."""
    control = running.control
    right = Right(Role.OWNER, Reach())
    async with control.db.begin() as tx:
        actor = Actor("system", control.default_org, username="test")
        user = await control.accounts.add_user(tx, actor, "olga", "", ())
        tx.add(grant_row(control.default_org, user.id, right, await tx.now()))
    who = Actor("user", control.default_org, user.id, "olga", "127.0.0.1")
    access = Access(who, Rights((right,)), control.access.watch)
    await control.protocols.tokens.create(access, Wanted("pipeops", secret=SECRET))
    return (await control.accounts.create_token(access, "olga", kind="user", right=None, lifetime=None)).secret


async def _until(client: httpx.AsyncClient, path: str, wanted: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    async with asyncio.timeout(30):
        while True:
            answer = await client.get(path)
            found = answer.json()
            if answer.is_success and wanted(found):
                return found
            await asyncio.sleep(0.2)
