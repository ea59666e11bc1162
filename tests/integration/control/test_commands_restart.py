"""A control plane that is stopped or killed in the middle of a run goes on with it, and begins nothing twice."""

from pathlib import Path

from tests.support.command_runs import Place, begin, place
from tests.support.control_app import running_control
from tests.support.scripted_agent import ScriptedAgent

from towline.control.access.permissions import Right, Role
from towline.control.jobs.models import Job
from towline.wire import link


async def again(scene: Place, old: Place, name: str, held: link.JobsHeld) -> ScriptedAgent:
    """The agent of a cluster, back at another process of the control plane."""
    agent = ScriptedAgent(old.agents[name].identity)
    agent.capabilities = old.agents[name].capabilities
    scene.agents[name] = agent
    await agent.connect(scene.url, jobs=held)
    return agent


async def test_the_next_wave_begins_after_a_restart_and_no_target_twice(
    prepared_database_url: str, tmp_path: Path
) -> None:
    async with running_control(prepared_database_url, tmp_path) as app, place(app) as before:
        await before.cluster("edge-1")
        await before.cluster("edge-2")
        token = await app.token("otto", *_operator())
        run = await begin(app.client(token), "kubectl", "get", "pods", clusters=["edge-1", "edge-2"], wave=1)
        first = await before.order("edge-1")
        await app.control.commands.stop()  # it ends before the run is moved on
        await first.answer("ok\n")
    async with running_control(prepared_database_url, tmp_path) as app, place(app) as scene:
        await again(scene, before, "edge-1", link.JobsHeld())
        await again(scene, before, "edge-2", link.JobsHeld())
        await (await scene.order("edge-2")).answer("ok\n")
        ended = await scene.ended(app.client(token), run["id"])
        assert [each["state"] for each in ended["targets"]] == ["succeeded", "succeeded"]
        assert len(await app.rows(Job)) == 2
        assert scene.agents["edge-1"].received(link.Job) == []


async def test_a_result_that_comes_after_a_restart_is_stored_once(prepared_database_url: str, tmp_path: Path) -> None:
    async with running_control(prepared_database_url, tmp_path) as app, place(app) as before:
        await before.cluster("edge-1")
        token = await app.token("otto", *_operator())
        run = await begin(app.client(token), "kubectl", "get", "pods", clusters=["edge-1"])
        order = await before.order("edge-1")
        await order.say("stdout", "first\n")
    async with running_control(prepared_database_url, tmp_path) as app, place(app) as scene:
        order.agent = await again(scene, before, "edge-1", link.JobsHeld(running=(order.job.job_id,)))
        await order.say("stdout", "second\n")
        await order.end(0)
        client = app.client(token)
        await scene.ended(client, run["id"])
        (group,) = (await client.get(f"/api/v1/commands/runs/{run['id']}/results")).json()["groups"]
        assert group["stdout"] == "first\nsecond\n"


def _operator() -> tuple[Right, ...]:
    return (Right(Role.OPERATOR),)
