"""Our agent at a PipeOps REST control plane: the calls of the recording, commands run once, results taken once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.older_agent import OlderAgent, older_agent
from tests.support.older_planes import TOKEN, RestPlane
from tests.support.small_api import SmallApi, pod, thing

from towline.agent.jobs.context import JobContext
from towline.agent.jobs.outcome import Ended
from towline.agent.protocols import keeper
from towline.agent.protocols.pipeops import rest as driving
from towline.wire import orders
from towline.wire import pipeops_rest as rest

TRACE = Path(__file__).parents[2] / "data" / "traces" / "pipeops-rest.jsonl"
CALLS = [json.loads(line) for line in TRACE.read_text().splitlines()]
GET_PODS = {"id": "c1", "type": "kubectl", "payload": {"args": ["get", "pods"], "timeout": 30}, "created_at": "x"}


class Work:
    """Does the jobs instead of a cluster."""

    def __init__(self) -> None:
        self.orders: list[orders.Command] = []
        self.gate = asyncio.Event()

    async def __call__(self, context: JobContext) -> Ended:
        order = orders.decode(context.entry.kind, context.entry.payload)
        assert isinstance(order, orders.Command)
        self.orders.append(order)
        context.reporter.output(orders.STDOUT, "NAME  READY\n")
        context.reporter.output(orders.STDERR, "a warning\n")
        await self.gate.wait()
        if "fails" in order.arguments:
            return Ended("failed", "command_exit", "it ended with 3", orders.CommandDetail(exit_code=3))
        return Ended("succeeded", detail=orders.CommandDetail())


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Intervals of a test: everything that the agent does in a minute, in a second."""
    monkeypatch.setenv("PIPEOPS_TOKEN", TOKEN)
    monkeypatch.setenv("AGENT_ID", "agent-rest-1")
    monkeypatch.setenv("PIPEOPS_CLUSTER_NAME", "trace")
    for module, name in ((driving, "POLL_INTERVAL"), (driving, "RESULT_INTERVAL"), (driving, "UNSPOKEN_INTERVAL")):
        monkeypatch.setattr(module, name, 0.05)
    for name in ("HEARTBEAT_INTERVAL", "STATUS_INTERVAL"):
        monkeypatch.setattr(rest, name, 0.2)
    monkeypatch.setattr(keeper, "REFUSED_PAUSE", 0.1)


@pytest.fixture
async def plane() -> AsyncIterator[RestPlane]:
    async with RestPlane() as one:
        yield one


@pytest.fixture
def work() -> Work:
    return Work()


@pytest.fixture
async def agent(plane: RestPlane, work: Work, tmp_path: Path) -> AsyncIterator[OlderAgent]:
    async with older_agent("pipeops-rest", plane.url, tmp_path, execute=work) as one:
        yield one


@pytest.mark.parametrize("ending", ["register", "heartbeat"])
async def test_a_call_says_what_the_recorded_one_says(plane: RestPlane, agent: OlderAgent, ending: str) -> None:
    recorded = next(call for call in CALLS if call["path"].endswith(ending))
    method, path, headers, body = await plane.called(ending)
    assert (method, path) == (recorded["method"], recorded["path"])
    assert headers["Content-Type"] == "application/json"
    assert headers["User-Agent"].split("/")[0] == ("PipeOps-Agent" if ending == "register" else "towline-agent")
    wanted = json.loads(recorded["body"])
    assert set(wanted) <= set(body)
    for key in ("id", "agent_id", "cluster_name", "status", "proxy_status"):
        assert body.get(key) == wanted.get(key)


async def test_status_tells_the_cluster_as_the_recorded_one_does(plane: RestPlane, tmp_path: Path) -> None:
    api = SmallApi()
    await api.begin()
    api.put("pods", pod("a"))
    api.put("namespaces", thing("web", namespace=""))
    try:
        async with older_agent("pipeops-rest", plane.url, tmp_path, cluster=api.material):
            _, _, _, body = await plane.called("status")
    finally:
        await api.end()
    recorded = json.loads(next(call["body"] for call in CALLS if call["path"].endswith("status")))
    assert set(body) == set(recorded)
    assert set(body["pods"][0]) == set(recorded["pods"][0])
    assert body["metrics"] == {"pod_count": 1, "node_count": 0}
    assert body["namespaces"] == ["web"]


async def test_nothing_is_invented_of_a_cluster_that_is_not_there(plane: RestPlane, agent: OlderAgent) -> None:
    for _ in range(3):
        _, path, _, body = await plane.calls.get()
        assert not path.endswith("/status")
        assert "k8s_pods" not in (body or {}).get("metadata", {})


async def test_a_command_is_run_and_its_result_is_told(plane: RestPlane, agent: OlderAgent, work: Work) -> None:
    work.gate.set()
    plane.commands.append(GET_PODS)
    _, path, _, body = await plane.called("result")
    assert path == "/api/v1/agents/agent-rest-1/commands/c1/result"
    assert (body["success"], body["output"]) == (True, "NAME  READY\n")
    assert body["metadata"] == {"exit_code": 0, "truncated": False, "outcome": "succeeded", "stderr": "a warning\n"}
    assert work.orders[0].arguments == ("get", "pods")
    assert (work.orders[0].user, work.orders[0].groups) == ("towline:pipeops", ("towline:role:operator",))


async def test_a_command_that_fails_says_so(plane: RestPlane, agent: OlderAgent, work: Work) -> None:
    work.gate.set()
    plane.commands.append({**GET_PODS, "payload": {"args": ["get", "fails"]}})
    _, _, _, body = await plane.called("result")
    assert (body["success"], body["error"]) == (False, "it ended with 3")
    assert (body["metadata"]["exit_code"], body["metadata"]["code"]) == (3, "command_exit")


async def test_a_command_that_is_handed_out_twice_is_run_once(plane: RestPlane, agent: OlderAgent, work: Work) -> None:
    work.gate.set()
    plane.commands += [GET_PODS, GET_PODS]
    first = await plane.called("result")
    plane.commands.append(GET_PODS)
    second = await plane.called("result")
    assert first[3] == second[3]
    assert len(work.orders) == 1


@pytest.mark.parametrize(
    "command",
    [
        {"id": "c1", "type": "reboot", "payload": {}},
        {"id": "c1", "type": "kubectl", "payload": {"args": "get pods"}},
        {"id": "c1" * 100, "type": "kubectl", "payload": {"args": []}},
    ],
)
async def test_a_command_that_cannot_be_read_is_refused(
    plane: RestPlane, agent: OlderAgent, work: Work, command: dict[str, Any]
) -> None:
    plane.commands.append(command)
    _, _, _, body = await plane.called("result")
    assert body["success"] is False and body["metadata"]["outcome"] == "refused"
    assert work.orders == []


async def test_a_result_that_was_not_taken_is_told_again(plane: RestPlane, agent: OlderAgent, work: Work) -> None:
    work.gate.set()
    plane.answers["/result"] = 503
    plane.commands.append(GET_PODS)
    await plane.called("result")
    plane.answers.clear()
    await plane.called("result")
    assert len(work.orders) == 1


async def test_a_result_that_nobody_waits_for_is_told_once(plane: RestPlane, agent: OlderAgent, work: Work) -> None:
    work.gate.set()
    plane.answers["/result"] = 404
    plane.commands.append(GET_PODS)
    await plane.called("result")
    plane.commands.append({**GET_PODS, "id": "c2"})
    assert "/c2/" in (await plane.called("result"))[1]
    assert "/c1/" not in (await plane.called("heartbeat"))[1]


async def test_a_restart_in_the_middle_goes_on_and_tells_once(plane: RestPlane, work: Work, tmp_path: Path) -> None:
    async with older_agent("pipeops-rest", plane.url, tmp_path, execute=work):
        plane.commands.append(GET_PODS)
        while not work.orders:
            await plane.called("commands")
    again = Work()
    again.gate.set()
    async with older_agent("pipeops-rest", plane.url, tmp_path, execute=again):
        assert (await plane.called("result"))[3]["success"] is True
        assert len(again.orders) == 1


async def test_an_agent_that_is_not_known_any_more_registers_again(plane: RestPlane, agent: OlderAgent) -> None:
    await plane.called("register")
    plane.answers["/heartbeat"] = 404
    await plane.called("register")


async def test_a_wrong_token_is_tried_again_and_found_right_later(plane: RestPlane, work: Work, tmp_path: Path) -> None:
    plane.token = "another"
    async with older_agent("pipeops-rest", plane.url, tmp_path, execute=work) as agent:
        async with asyncio.timeout(10):
            while plane.refused < 2:
                await asyncio.sleep(0.01)
        assert "401" in agent.turns[-1][1] and TOKEN not in agent.turns[-1][1]
        plane.token = TOKEN
        await plane.called("heartbeat")


async def test_a_control_plane_that_comes_later_is_found(plane: RestPlane, work: Work, tmp_path: Path) -> None:
    await plane.end()
    async with older_agent("pipeops-rest", plane.url, tmp_path, execute=work) as agent:
        async with asyncio.timeout(10):
            while not agent.turns:
                await asyncio.sleep(0.01)
        await plane.begin()
        await plane.called("register")


async def test_three_missed_heartbeats_lead_to_a_registration(plane: RestPlane, agent: OlderAgent) -> None:
    await plane.called("register")
    plane.answers["/heartbeat"] = 500
    await plane.called("register")
