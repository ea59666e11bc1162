"""Commands over the REST protocol: each runs once, each result is kept once, whatever goes away in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import update
from tests.support.command_runs import begin
from tests.support.control_app import ControlApp, running_control
from tests.support.rest_agents import SECRET, RestAgent, agents_of, rest_agent

from towline.control.access.permissions import Right, Role
from towline.control.audit.models import AuditEvent
from towline.control.db import now
from towline.control.jobs.models import Job
from towline.control.protocols.pipeops.rest_models import PipeopsCommand

GET_PODS = ("kubectl", "get", "pods")
SCALE = ("kubectl", "scale", "deployment/web", "--replicas=2")


@asynccontextmanager
async def scene(app: ControlApp, token: str = "") -> AsyncIterator[tuple[RestAgent, httpx.AsyncClient]]:
    """An agent that is there, and somebody who runs commands."""
    agent = await rest_agent(app)
    await app.control.fleet.reports.flush()  # what it serves is in its row
    yield agent, app.client(token) if token else await app.user("otto", Role.DEPLOYER)


async def fetched(agent: RestAgent, count: int = 1) -> list[dict[str, Any]]:
    """The commands that an agent gets, once they are there; it asks as often as it takes."""
    found: list[dict[str, Any]] = []
    async with asyncio.timeout(10):
        while len(found) < count:
            found += await agent.fetch()
            await asyncio.sleep(0.05)
    return found


async def ended(client: httpx.AsyncClient, run_id: str) -> dict[str, Any]:
    """The run, once it has ended."""
    async with asyncio.timeout(20):
        async with client.stream("GET", f"/api/v1/commands/runs/{run_id}/events?output=false") as answer:
            async for _ in answer.aiter_lines():
                continue
    found: dict[str, Any] = (await client.get(f"/api/v1/commands/runs/{run_id}")).json()
    assert found["ended_at"], found
    return found


async def printed(client: httpx.AsyncClient, run_id: str) -> tuple[str, str]:
    (group,) = (await client.get(f"/api/v1/commands/runs/{run_id}/results")).json()["groups"]
    return group["stdout"], group["stderr"]


async def overdue(app: ControlApp) -> None:
    """Let every lease be over, and have that noticed."""
    async with app.control.db.begin() as tx:
        await tx.execute(update(PipeopsCommand).values(lease_until=now(-1)))
    await agents_of(app).expire()


async def test_row_commands_hands_a_command_out_as_such_an_agent_reads_it(control_app: ControlApp) -> None:
    async with scene(control_app) as (agent, otto):
        run = await begin(otto, *GET_PODS, "-o", "wide", clusters=["office"], namespace="shop")
        (command,) = await fetched(agent)
        (job,) = await control_app.rows(Job)
        assert command["id"] == job.id and command["type"] == "kubectl"
        assert command["created_at"].endswith("Z")
        payload = command["payload"]
        assert payload["args"] == ["--namespace=shop", "get", "pods", "-o", "wide"]
        assert payload["timeout"] > 0 and payload["user"] == "towline:otto"
        assert await agent.fetch() == []
        answer = await agent.result(command["id"], success=True, output="web-1\nweb-2\n", metadata={"exit_code": 0})
        assert answer.status_code == 200
        found = await ended(otto, run["id"])
        assert found["state"] == "succeeded" and found["targets"][0]["exit_code"] == 0
        assert await printed(otto, run["id"]) == ("web-1\nweb-2\n", "")


async def test_row_result_is_taken_once_and_a_second_one_changes_nothing(control_app: ControlApp) -> None:
    async with scene(control_app) as (agent, otto):
        run = await begin(otto, *GET_PODS, clusters=["office"])
        (command,) = await fetched(agent)
        assert (await agent.result(command["id"], success=True, output="first")).status_code == 200
        await ended(otto, run["id"])
        assert (await agent.result(command["id"], success=False, error="second")).status_code == 200
        assert (await ended(otto, run["id"]))["state"] == "succeeded"
        assert await printed(otto, run["id"]) == ("first", "")


async def test_a_command_that_failed_says_so_with_what_it_printed(control_app: ControlApp) -> None:
    async with scene(control_app) as (agent, otto):
        run = await begin(otto, *GET_PODS, clusters=["office"])
        (command,) = await fetched(agent)
        body = {"success": False, "output": "", "error": "pods is forbidden", "metadata": {"exit_code": 1}}
        await agent.result(command["id"], **body)
        target = (await ended(otto, run["id"]))["targets"][0]
        assert (target["state"], target["code"], target["exit_code"]) == ("failed", "command_exit", 1)
        assert await printed(otto, run["id"]) == ("", "pods is forbidden")


async def test_an_exit_code_that_nobody_told_is_unknown(control_app: ControlApp) -> None:
    async with scene(control_app) as (agent, otto):
        run = await begin(otto, *GET_PODS, clusters=["office"])
        (command,) = await fetched(agent)
        await agent.result(command["id"], success=False, error="no such thing")
        target = (await ended(otto, run["id"]))["targets"][0]
        assert (target["code"], target["exit_code"]) == ("command_failed", None)


async def test_output_beyond_what_is_kept_is_cut_and_counted(control_app: ControlApp) -> None:
    async with scene(control_app) as (agent, otto):
        run = await begin(otto, *GET_PODS, clusters=["office"], output_bytes=10_000)
        (command,) = await fetched(agent)
        await agent.result(command["id"], success=True, output="ä" * 50_000)
        target = (await ended(otto, run["id"]))["targets"][0]
        assert target["truncated"] and target["stdout_bytes"] == 100_000
        assert (await printed(otto, run["id"]))[0] == "ä" * 5_000


async def test_output_that_no_database_keeps_is_kept_without_what_it_cannot(control_app: ControlApp) -> None:
    async with scene(control_app) as (agent, otto):
        run = await begin(otto, *GET_PODS, clusters=["office"])
        (command,) = await fetched(agent)
        assert (await agent.result(command["id"], success=True, output="a\0b\x1b[31mc")).status_code == 200
        await ended(otto, run["id"])
        assert (await printed(otto, run["id"]))[0] == "ab[31mc"


async def test_the_result_of_another_agents_command_is_404(control_app: ControlApp) -> None:
    async with scene(control_app) as (agent, otto):
        other = await rest_agent(control_app, name="agent-2", secret="another-token-there")
        await begin(otto, *GET_PODS, clusters=["office"])
        (command,) = await fetched(agent)
        assert (await other.result(command["id"])).status_code == 404
        assert (await RestAgent(other.client, agent.id).result(command["id"])).status_code == 404
        (row,) = await control_app.rows(PipeopsCommand)
        assert row.state == "handed"


async def test_a_command_that_was_not_handed_out_has_no_result(control_app: ControlApp) -> None:
    async with scene(control_app) as (agent, otto):
        await begin(otto, *GET_PODS, clusters=["office"])
        await _taken(control_app)
        (row,) = await control_app.rows(PipeopsCommand)
        assert (await agent.result(row.job_id)).status_code == 404


async def test_two_that_ask_at_once_get_each_command_once(control_app: ControlApp) -> None:
    async with scene(control_app) as (agent, otto):
        for _ in range(3):
            await begin(otto, *GET_PODS, clusters=["office"])
        await _taken(control_app, 3)
        found = await asyncio.gather(*(agent.fetch() for _ in range(6)))
        ids = [one["id"] for each in found for one in each]
        assert len(ids) == len(set(ids)) == 3


async def test_what_somebody_typed_is_sealed_while_it_waits(control_app: ControlApp) -> None:
    async with scene(control_app) as (agent, otto):
        manifest = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {word: hush-hush}\n"
        await begin(otto, "kubectl", "apply", "-f", "-", clusters=["office"], stdin=manifest)
        await _taken(control_app)
        (row,) = await control_app.rows(PipeopsCommand)
        assert b"hush-hush" not in row.sealed and "hush-hush" not in str(vars(row))
        (command,) = await fetched(agent)
        assert command["payload"]["stdin"] == manifest
        await agent.result(command["id"])
        await until_state(control_app, "stored")
        (row,) = await control_app.rows(PipeopsCommand)
        assert row.sealed == b"" and row.ending == {}


# -- what such an agent cannot do ------------------------------------------------------------------


async def test_a_command_that_follows_is_refused_by_name(control_app: ControlApp) -> None:
    async with scene(control_app) as (agent, otto):
        run = await begin(otto, "kubectl", "logs", "-f", "web-1", clusters=["office"])
        target = (await ended(otto, run["id"]))["targets"][0]
        assert target["state"] == "failed" and "this one follows" in target["error"]
        assert await agent.fetch() == []


async def test_an_agent_that_never_asks_is_said_to(control_app: ControlApp) -> None:
    async with scene(control_app) as (_, otto):
        run = await begin(otto, *GET_PODS, clusters=["office"])
        await _taken(control_app)
        await overdue(control_app)
        target = (await ended(otto, run["id"]))["targets"][0]
        assert target["code"] == "not_fetched" and "does not ask for commands" in target["error"]


# -- cancelling --------------------------------------------------------------------------------------


async def test_a_command_that_was_not_fetched_is_cancelled_at_once(control_app: ControlApp) -> None:
    async with scene(control_app) as (agent, otto):
        run = await begin(otto, *GET_PODS, clusters=["office"])
        await _taken(control_app)
        assert (await otto.post(f"/api/v1/commands/runs/{run['id']}/cancel")).is_success
        assert (await ended(otto, run["id"]))["state"] == "cancelled"
        assert await agent.fetch() == []


async def test_of_a_command_that_was_fetched_its_result_decides(control_app: ControlApp) -> None:
    async with scene(control_app) as (agent, otto):
        run = await begin(otto, *SCALE, clusters=["office"])
        (command,) = await fetched(agent)
        assert (await otto.post(f"/api/v1/commands/runs/{run['id']}/cancel")).is_success
        await agent.result(command["id"], success=True, output="scaled\n")
        found = await ended(otto, run["id"])
        assert found["targets"][0]["state"] == "succeeded"


# -- leases ------------------------------------------------------------------------------------------


async def test_a_command_that_reads_is_handed_out_again_when_its_lease_is_over(control_app: ControlApp) -> None:
    async with scene(control_app) as (agent, otto):
        run = await begin(otto, *GET_PODS, clusters=["office"])
        (first,) = await fetched(agent)
        await overdue(control_app)
        (second,) = await fetched(agent)
        assert first["id"] == second["id"]
        await agent.result(second["id"], success=True, output="web-1\n")
        assert (await ended(otto, run["id"]))["state"] == "succeeded"
        assert await printed(otto, run["id"]) == ("web-1\n", "")


async def test_a_command_that_writes_is_never_handed_out_again(control_app: ControlApp) -> None:
    async with scene(control_app) as (agent, otto):
        run = await begin(otto, *SCALE, clusters=["office"])
        (command,) = await fetched(agent)
        await overdue(control_app)
        target = (await ended(otto, run["id"]))["targets"][0]
        assert target["code"] == "interrupted" and "may or may not have happened" in target["error"]
        assert await agent.fetch() == []
        assert (await agent.result(command["id"], success=True)).status_code == 200
        assert (await ended(otto, run["id"]))["targets"][0]["code"] == "interrupted"
        events = [one for one in await control_app.rows(AuditEvent) if one.action == "command.end"]
        assert [one.reason for one in events] == ["interrupted"]


async def test_a_command_that_reads_is_given_up_after_some_times(control_app: ControlApp) -> None:
    async with scene(control_app) as (agent, otto):
        run = await begin(otto, *GET_PODS, clusters=["office"])
        for _ in range(3):
            await fetched(agent)
            await overdue(control_app)
        target = (await ended(otto, run["id"]))["targets"][0]
        assert target["code"] == "timed_out" and "3 times" in target["error"]


async def test_a_result_that_comes_late_from_the_first_time_counts(control_app: ControlApp) -> None:
    async with scene(control_app) as (agent, otto):
        run = await begin(otto, *GET_PODS, clusters=["office"])
        (command,) = await fetched(agent)
        await overdue(control_app)
        await agent.result(command["id"], success=True, output="late\n")
        assert await agent.fetch() == []
        assert (await ended(otto, run["id"]))["state"] == "succeeded"


async def test_a_job_that_was_given_up_is_not_handed_out(control_app: ControlApp) -> None:
    async with scene(control_app) as (agent, otto):
        await begin(otto, *GET_PODS, clusters=["office"])
        await _taken(control_app)
        async with control_app.control.db.begin() as tx:
            await tx.execute(update(Job).values(state="failed"))
        assert await agent.fetch() == []


async def test_an_agent_that_comes_back_has_time_to_tell_its_results(control_app: ControlApp) -> None:
    async with scene(control_app) as (agent, otto):
        run = await begin(otto, *SCALE, clusters=["office"])
        (command,) = await fetched(agent)
        (one,) = control_app.control.fleet.links
        one.session.close(reason="silent")
        await overdue(control_app)
        assert (await agent.beat()).status_code == 200
        await agents_of(control_app).expire()
        await agent.result(command["id"], success=True, output="scaled\n")
        assert (await ended(otto, run["id"]))["state"] == "succeeded"


# -- restarts: Done 4 ----------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", ["waiting", "handed", "ended"])
async def test_a_server_that_ends_in_the_middle_runs_each_command_once(
    prepared_database_url: str, tmp_path: Path, cut: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_control(prepared_database_url, tmp_path) as app:
        token = await app.token("otto", Right(Role.DEPLOYER))
        async with scene(app, token) as (agent, otto):
            run = await begin(otto, *SCALE, clusters=["office"])
            await _taken(app)
            fetched_ids = []
            if cut != "waiting":
                fetched_ids = [one["id"] for one in await fetched(agent)]
            if cut == "ended":
                await app.control.fleet.intake.stop()
                for one in app.control.fleet.links:  # nothing of it reaches the job: the process ends before
                    monkeypatch.setattr(one.session, "tell", lambda *_: None)
                await agent.result(fetched_ids[0], success=True, output="scaled\n")
    async with running_control(prepared_database_url, tmp_path) as app:
        agent, otto = RestAgent(app.client(SECRET)), app.client(token)
        assert (await agent.beat()).status_code == 200
        if cut == "waiting":
            fetched_ids = [one["id"] for one in await fetched(agent)]
        else:
            assert await agent.fetch() == []
        if cut != "ended":
            await agent.result(fetched_ids[0], success=True, output="scaled\n")
        await agent.result(fetched_ids[0], success=False, error="once more")
        assert (await ended(otto, run["id"]))["state"] == "succeeded"
        assert await printed(otto, run["id"]) == ("scaled\n", "")
        assert len(fetched_ids) == 1 and len(await app.rows(Job)) == 1


async def test_an_agent_that_was_away_gets_what_waited_for_it(control_app: ControlApp) -> None:
    async with scene(control_app) as (agent, otto):
        (one,) = control_app.control.fleet.links
        one.session.close(reason="silent")
        run = await begin(otto, *GET_PODS, clusters=["office"])
        await asyncio.sleep(0)
        assert (await agent.beat()).status_code == 200
        (command,) = await fetched(agent)
        await agent.result(command["id"], success=True, output="back\n")
        assert (await ended(otto, run["id"]))["state"] == "succeeded"


async def _taken(app: ControlApp, count: int = 1) -> None:
    """Wait until so many orders are in the journal of agents."""
    await until_count(app, count)


async def until_count(app: ControlApp, count: int) -> None:
    async with asyncio.timeout(10):
        while len(await app.rows(PipeopsCommand)) < count:
            await asyncio.sleep(0.02)


async def until_state(app: ControlApp, state: str) -> None:
    async with asyncio.timeout(10):
        while {row.state for row in await app.rows(PipeopsCommand)} != {state}:
            await asyncio.sleep(0.02)
