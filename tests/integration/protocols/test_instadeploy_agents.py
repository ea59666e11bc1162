"""InstaDeploy's agents at a real server: who is let in, and which of our jobs they do."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import websockets
from tests.support import prepared
from tests.support.instadeploy_stand import FILE, SECRET, Host, Stand, stand


@pytest.fixture
async def bench(prepared_sqlite: Path, tmp_path: Path) -> AsyncIterator[Stand]:
    async with stand(tmp_path, prepared_sqlite) as found:
        yield found


@pytest.fixture
async def open_bench(bench: Stand) -> Stand:
    await bench.shared_token()
    return bench


# -- coming in -----------------------------------------------------------------------------------


async def test_a_wrong_token_is_a_401_to_the_upgrade(open_bench: Stand) -> None:
    with pytest.raises(websockets.InvalidStatus) as caught:
        async with open_bench.agent(token="no-token-of-this-server"):
            pass

    assert caught.value.response.status_code == 401


@pytest.mark.parametrize("path", ["/ws", "/api/v1/agents/ws"])
async def test_an_agent_is_a_cluster_of_its_host_name(open_bench: Stand, path: str) -> None:
    async with open_bench.agent("shop-3", path):
        found = await open_bench.online("shop-3")

    assert found["link"]["connected"]
    assert [each["name"] for each in found["capabilities"]] == ["compose"]


async def test_an_agent_without_a_host_name_is_told_so(open_bench: Stand) -> None:
    with pytest.raises(websockets.InvalidStatus) as caught:
        async with open_bench.agent(""):
            pass

    assert caught.value.response.status_code == 400
    assert b"X-Agent-Hostname is missing" in (caught.value.response.body or b"")


async def test_a_shared_token_without_a_window_admits_nobody_to_work_before_an_approval(bench: Stand) -> None:
    await bench.shared_token(open_for=0)
    async with bench.agent() as agent:
        found = await bench.online()
        (row,) = found["agents"]
        assert row["state"] == "pending"
        made = await bench.deploy()
        await bench.call("POST", f"/clusters/vm/agents/{row['id']}/approve")
        assert (await bench.ended(made))["state"] == "succeeded"
        assert len(agent.of("DEPLOY_COMPOSE")) == 1


async def test_a_second_host_of_a_name_is_told_and_the_first_one_stays(open_bench: Stand) -> None:
    async with open_bench.agent():
        await open_bench.online()
        with pytest.raises(websockets.InvalidStatus) as caught:
            async with open_bench.agent():
                pass
        assert caught.value.response.status_code == 409
        assert b"a host named vm is connected already" in (caught.value.response.body or b"")
        assert (await open_bench.ended(await open_bench.deploy()))["state"] == "succeeded"


async def test_a_message_that_is_none_does_not_end_the_connection(open_bench: Stand) -> None:
    async with open_bench.agent() as agent:
        await open_bench.online()
        for text in (
            "not json",
            "[]",
            '{"job_id": "x"}',
            '{"job_id": "x", "status": "DONE"}',
            "\udcff".encode("utf-8", "replace").decode(),
        ):
            await agent.connection.send(text)
        await agent.connection.send(b"\x00binary")
        await agent.say("nobody-asked", status="COMPLETED", logs="")
        assert (await open_bench.ended(await open_bench.deploy()))["state"] == "succeeded"


async def test_a_ping_is_answered(open_bench: Stand) -> None:
    async with open_bench.agent() as agent:
        await (await agent.connection.ping())


# -- jobs ----------------------------------------------------------------------------------------


async def test_a_deploy_is_one_command_and_its_status_is_the_inventory(open_bench: Stand) -> None:
    host = Host()
    async with open_bench.agent(host=host) as agent:
        await open_bench.online()
        job = await open_bench.ended(await open_bench.deploy(FILE, variables={"UNUSED": "x"}))
        shown = await open_bench.until(state="healthy")

    assert job["state"] == "succeeded", job
    assert host.files["shop"] == FILE
    assert agent.at_once == 1
    assert (shown["revision"], shown["last_good_revision"]) == (1, 1)


async def test_a_failed_deploy_puts_the_last_good_file_back(open_bench: Stand) -> None:
    host = Host()
    async with open_bench.agent(host=host):
        await open_bench.online()
        assert (await open_bench.ended(await open_bench.deploy()))["state"] == "succeeded"
        job = await open_bench.ended(await open_bench.deploy(FILE.replace(":1", ":dies")))
        assert (job["state"], job["code"]) == ("failed", "unhealthy")
        assert job["detail"]["rolled_back_to"] == 1
        assert host.files["shop"] == FILE
        shown = await open_bench.until(state="healthy")

    assert shown["revision"] == 1


async def test_a_failed_pull_changes_nothing_and_the_project_is_not_poisoned(open_bench: Stand) -> None:
    host = Host()
    async with open_bench.agent(host=host):
        await open_bench.online()
        await open_bench.ended(await open_bench.deploy())
        job = await open_bench.ended(await open_bench.deploy(FILE.replace(":1", ":missing")))
        assert (job["state"], job["code"]) == ("failed", "pull_failed")
        assert "rolled_back_to" not in job["detail"]
        assert host.files["shop"] == FILE
        assert (await open_bench.ended(await open_bench.operate("stop")))["state"] == "succeeded"


async def test_a_rollback_is_a_deploy_of_the_old_revision(open_bench: Stand) -> None:
    host = Host()
    async with open_bench.agent(host=host):
        await open_bench.online()
        await open_bench.ended(await open_bench.deploy())
        await open_bench.ended(await open_bench.deploy(FILE.replace(":1", ":2")))
        assert "shop/web:2" in host.files["shop"]
        assert (await open_bench.ended(await open_bench.operate("rollback")))["state"] == "succeeded"

    assert host.files["shop"] == FILE


async def test_stop_takes_the_project_down_and_start_brings_it_back(open_bench: Stand) -> None:
    host = Host()
    async with open_bench.agent(host=host):
        await open_bench.online()
        await open_bench.ended(await open_bench.deploy())
        assert (await open_bench.ended(await open_bench.operate("stop")))["state"] == "succeeded"
        assert (await open_bench.until(state="down"))["reason"].startswith("stopped by")
        assert (await open_bench.ended(await open_bench.operate("start")))["state"] == "succeeded"
        await open_bench.until(state="healthy")

    assert host.running == {"shop": {"web": "shop/web:1"}}


async def test_a_project_that_somebody_broke_by_hand_can_still_be_stopped(open_bench: Stand) -> None:
    host = Host()
    async with open_bench.agent(host=host):
        await open_bench.online()
        await open_bench.ended(await open_bench.deploy())
        host.files["shop"] = "services: ["
        assert (await open_bench.ended(await open_bench.operate("stop")))["state"] == "succeeded"

    assert host.running == {}


@pytest.mark.parametrize(
    ("verb", "body", "words"),
    [
        ("restart", None, "knows no restart"),
        ("scale", {"services": {"web": 2}}, "knows no scale"),
        ("prune", None, "cannot delete images"),
        ("stop", {"services": ["web"]}, "whole projects"),
        ("remove", {"volumes": True}, "deletes no volumes"),
    ],
)
async def test_what_such_an_agent_cannot_do_is_refused_by_name(
    open_bench: Stand, verb: str, body: dict[str, object] | None, words: str
) -> None:
    async with open_bench.agent() as agent:
        await open_bench.online()
        await open_bench.ended(await open_bench.deploy())
        before = len(agent.of("STOP_COMPOSE") + agent.of("DEPLOY_COMPOSE"))
        job = await open_bench.ended(await open_bench.operate(verb, body))

    assert job["state"] == "failed"
    assert words in job["error"]
    assert len(agent.of("STOP_COMPOSE") + agent.of("DEPLOY_COMPOSE")) == before


async def test_secrets_on_the_host_are_refused_before_anything_is_sent(open_bench: Stand) -> None:
    async with open_bench.agent() as agent:
        await open_bench.online()
        job = await open_bench.ended(await open_bench.deploy(secrets={"db": "s3cret-value"}))

    assert job["state"] == "failed"
    assert "keeps no secrets" in job["error"]
    assert agent.of("DEPLOY_COMPOSE") == []


async def test_values_of_variables_stay_out_of_events(open_bench: Stand) -> None:
    async with open_bench.agent() as agent:
        await open_bench.online()
        text = FILE + "    environment:\n      KEY: $KEY\n"
        agent.hold = {"DEPLOY_COMPOSE"}
        made = await open_bench.deploy(text, variables={"KEY": "planted-77aa"})
        command = await agent.got("DEPLOY_COMPOSE")
        await agent.say(command["id"], status="FAILED", logs="bad KEY planted-77aa\n", error="x: planted-77aa")
        job = await open_bench.ended(made)
        events = await open_bench.call("GET", f"/jobs/{job['id']}/events")

    assert "planted" not in f"{job}{events}"
    assert "value of KEY" in str(events)


# -- going away and coming back --------------------------------------------------------------------


async def test_a_deploy_waits_for_an_agent_that_is_away(open_bench: Stand) -> None:
    async with open_bench.agent():
        await open_bench.online()
    made = await open_bench.deploy()
    await open_bench.job(made["job"]["id"], {"waiting"})
    async with open_bench.agent() as agent:
        assert (await open_bench.ended(made))["state"] == "succeeded"
        assert len(agent.of("DEPLOY_COMPOSE")) == 1


async def test_an_agent_that_goes_away_in_mid_command_gets_it_again_and_the_result_counts_once(
    open_bench: Stand,
) -> None:
    host = Host()
    async with open_bench.agent(host=host, hold=("DEPLOY_COMPOSE",)) as agent:
        await open_bench.online()
        made = await open_bench.deploy()
        first = await agent.got("DEPLOY_COMPOSE")
        await open_bench.job(made["job"]["id"], {"running"})
    assert (await open_bench.call("GET", f"/jobs/{made['job']['id']}"))["state"] == "running"
    async with open_bench.agent(host=host) as agent:
        again = await agent.got("DEPLOY_COMPOSE")
        job = await open_bench.ended(made)
        await agent.say(first["id"], status="FAILED", logs="late", error="late")
        stop = await open_bench.ended(await open_bench.operate("stop"))

    assert again["id"] == first["id"]
    assert (job["state"], job["attempt"], stop["state"]) == ("succeeded", 1, "succeeded")
    assert (await open_bench.call("GET", f"/jobs/{job['id']}"))["state"] == "succeeded"


async def test_a_deploy_that_had_begun_survives_a_restart_of_the_server(prepared_sqlite: Path, tmp_path: Path) -> None:
    url, host = prepared.sqlite_copy(prepared_sqlite, tmp_path), Host()
    async with stand(tmp_path, url) as first:
        await first.shared_token()
        async with first.agent(host=host, hold=("DEPLOY_COMPOSE",)) as agent:
            await first.online()
            made = await first.deploy()
            sent = await agent.got("DEPLOY_COMPOSE")
            await first.job(made["job"]["id"], {"running"})
    async with stand(tmp_path, url, name="second") as second, second.agent(host=host) as agent:
        job = await second.ended(made)
        again = await agent.got("DEPLOY_COMPOSE")
        shown = await second.until(state="healthy")

    assert (job["state"], again["id"], shown["revision"]) == ("succeeded", sent["id"], 1)


async def test_pruning_is_not_scheduled_again_where_the_agent_knows_none(open_bench: Stand) -> None:
    async with open_bench.agent():
        await open_bench.online()
        await open_bench.ended(await open_bench.deploy())
        await open_bench.ended(await open_bench.operate("prune"))

    assert (await open_bench.shown())["prune_interval_seconds"] == 0


async def test_one_command_at_a_time_whatever_is_queued(open_bench: Stand) -> None:
    async with open_bench.agent() as agent:
        await open_bench.online()
        made = [await open_bench.deploy(name=f"shop{number}") for number in range(4)]
        jobs = [await open_bench.ended(each) for each in made]

    assert {job["state"] for job in jobs} == {"succeeded"}
    assert agent.at_once == 1


async def test_a_cancelled_deploy_ends_when_the_agent_answered(open_bench: Stand) -> None:
    async with open_bench.agent(hold=("DEPLOY_COMPOSE",)) as agent:
        await open_bench.online()
        running, queued = await open_bench.deploy(), await open_bench.deploy(name="other")
        command = await agent.got("DEPLOY_COMPOSE")
        await open_bench.job(queued["job"]["id"], {"running"})
        for made in (queued, running):
            await open_bench.call("POST", f"/jobs/{made['job']['id']}/cancel", {}, status=202)
        assert (await open_bench.ended(queued))["state"] == "cancelled"
        agent.hold.clear()
        await agent.answer(command)
        assert (await open_bench.ended(running))["state"] == "cancelled"


async def test_a_status_that_cannot_be_read_says_so(open_bench: Stand) -> None:
    host = Host()
    async with open_bench.agent(host=host):
        await open_bench.online()
        await open_bench.ended(await open_bench.deploy())
        await open_bench.until(state="healthy")
    host.docker_away = True
    async with open_bench.agent(host=host):
        await open_bench.online()
        shown = await open_bench.until(state="degraded")

    assert "what runs is not known" in shown["reason"]


async def test_a_revoked_token_is_refused_at_the_next_connect(bench: Stand) -> None:
    made = await bench.shared_token()
    await bench.call("DELETE", f"/compat/tokens/{made['id']}", status=204)
    with pytest.raises(websockets.InvalidStatus) as caught:
        async with bench.agent(token=SECRET):
            pass

    assert caught.value.response.status_code == 401
