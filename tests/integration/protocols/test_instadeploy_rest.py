"""InstaDeploy's REST API, in the shapes of its documentation: on a host name with tokens, and on an open listener."""

import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from tests.support.instadeploy_agent import go_agent
from tests.support.instadeploy_stand import FILE, SECRET, Host, Stand, stand

from towline.control.access.permissions import Right, Role
from towline.control.settings import load

NAME = "instadeploy.towline.test"
CALLS = [
    ("GET", "/health"), ("GET", "/agents"), ("POST", "/deploy"), ("POST", "/projects/shop/stop"),
    ("GET", "/projects/shop/status"),
]  # fmt: skip


@pytest.fixture
async def bench(prepared_sqlite: Path, tmp_path: Path) -> AsyncIterator[Stand]:
    changes = {"instadeploy_host": NAME, "instadeploy_listen": "127.0.0.1:0", "instadeploy_open": True}
    async with stand(tmp_path, prepared_sqlite, **changes) as found:
        await found.shared_token()
        yield found


def file(text: str = FILE) -> str:
    return base64.b64encode(text.encode()).decode()


def place(bench: Stand) -> str:
    listener = bench.control.protocols.instadeploy.place
    assert listener is not None
    return f"127.0.0.1:{listener.port}"


class Caller:
    """Somebody at the API: by host name and token, or at the open listener."""

    def __init__(self, bench: Stand, *, token: str | None = None) -> None:
        self._bench = bench
        self._token = bench.token if token is None else token

    async def call(self, method: str, path: str, body: Any = None) -> httpx.Response:
        headers = {"host": NAME} | ({"authorization": f"Bearer {self._token}"} if self._token else {})
        async with self._bench.client() as client:
            client.base_url = httpx.URL(f"https://localhost:{self._bench.running.port}")
            client.headers.pop("authorization")
            more = {"sni_hostname": NAME}
            return await client.request(method, path, json=body, headers=headers, extensions=more)


async def at_listener(bench: Stand, method: str, path: str, body: Any = None, **headers: str) -> httpx.Response:
    async with httpx.AsyncClient(base_url=f"http://{place(bench)}", timeout=30) as client:
        return await client.request(method, path, json=body, headers=headers)


# -- who may -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "path"), CALLS)
async def test_every_call_needs_a_token(bench: Stand, method: str, path: str) -> None:
    answer = await Caller(bench, token="").call(method, path, {})

    assert answer.status_code == 401
    assert set(answer.json()) == {"detail"}


async def test_a_viewer_may_look_and_not_deploy(bench: Stand) -> None:
    viewer = Caller(bench, token=await bench.app.token("vera", Right(Role.VIEWER)))

    assert (await viewer.call("GET", "/agents")).status_code == 200
    body = {"project_name": "shop", "compose_file_base64": file()}
    assert (await viewer.call("POST", "/deploy", body)).status_code == 403


async def test_the_root_says_that_it_runs(bench: Stand) -> None:
    answer = await Caller(bench, token="").call("GET", "/")

    assert set(answer.json()) == {"service", "version", "status"}
    assert answer.json()["status"] == "running"


async def test_only_its_own_host_name_has_these_paths(bench: Stand) -> None:
    async with bench.client() as client:
        client.base_url = httpx.URL(f"https://localhost:{bench.running.port}")
        assert (await client.get("/agents")).status_code == 404


async def test_the_open_listener_asks_for_no_token_and_answers_no_browser(bench: Stand) -> None:
    assert (await at_listener(bench, "GET", "/agents")).json() == {"agents": [], "total": 0}
    assert (await at_listener(bench, "GET", "/agents", origin="https://evil.test")).status_code == 403
    assert (await at_listener(bench, "GET", "/agents", host="rebound.test")).status_code == 403
    assert (await at_listener(bench, "GET", "/agents", authorization="Bearer twl_x")).status_code == 401


@pytest.mark.parametrize("listen", ["", "0.0.0.0:8000", "10.0.0.1:8000"])
def test_the_open_switch_is_refused_where_others_could_reach_it(listen: str, tmp_path: Path) -> None:
    values = {"data_folder": str(tmp_path), "instadeploy_listen": listen, "instadeploy_open": True}

    with pytest.raises(Exception, match="loopback"):
        load({}, **values)


# -- what it answers -------------------------------------------------------------------------------


async def test_the_whole_story_of_a_project(bench: Stand) -> None:
    host, caller = Host(), Caller(bench)
    async with bench.agent(host=host):
        await bench.online()
        assert (await caller.call("GET", "/health")).json() == {"status": "healthy", "connected_agents": 1}

        listed = (await caller.call("GET", "/agents")).json()
        (agent,) = listed["agents"]
        assert listed["total"] == 1
        assert set(agent) == {"id", "hostname", "ip_address", "status", "last_seen", "version", "architecture"}
        assert (agent["id"], agent["hostname"], agent["status"]) == (1, "vm", "online")
        assert (agent["version"], agent["architecture"]) == ("1.0.0", "linux-amd64")

        body = {"project_name": "shop", "compose_file_base64": file(), "agent_id": 1}
        made = (await caller.call("POST", "/deploy", body)).json()
        assert set(made) == {"job_id", "deployment_id", "status", "message"}
        assert (made["deployment_id"], made["status"], UUID(made["job_id"]).int > 0) == (1, "queued", True)
        await bench.until(last_good_revision=1)
        assert host.files["shop"] == FILE

        status = (await caller.call("GET", "/projects/shop/status")).json()
        assert set(status) == {"job_id", "status", "logs"}
        assert "Status for project 'shop'" in status["logs"]

        stopped = (await caller.call("POST", "/projects/shop/stop", {"agent_id": 1})).json()
        assert set(stopped) == {"job_id", "status", "message"}
        assert (await bench.until(state="down"))["reason"].startswith("stopped by olga")
        assert host.running == {}

    events = (await bench.call("GET", "/audit?action=deployment.deploy"))["items"]
    assert len(events) == 1


async def test_without_an_agent_the_first_online_one_is_used(bench: Stand) -> None:
    hosts = {"a": Host(), "b": Host()}
    async with bench.agent("a", host=hosts["a"]):
        await bench.online("a")
        await Caller(bench).call("GET", "/agents")
    async with bench.agent("b", host=hosts["b"]):
        await bench.online("b")
        body = {"project_name": "shop", "compose_file_base64": file()}
        assert (await Caller(bench).call("POST", "/deploy", body)).status_code == 200
        await bench.until(cluster="b", last_good_revision=1)

    assert (hosts["a"].files, list(hosts["b"].files)) == ({}, ["shop"])


async def test_what_is_not_there_is_a_404_and_what_is_away_a_503(bench: Stand) -> None:
    caller, body = Caller(bench), {"project_name": "shop", "compose_file_base64": file()}
    assert (await caller.call("POST", "/deploy", body)).status_code == 503
    assert (await caller.call("POST", "/deploy", body | {"agent_id": 9})).status_code == 404
    assert (await caller.call("POST", "/projects/none/stop")).status_code == 404
    assert (await caller.call("GET", "/projects/none/status")).status_code == 404
    async with bench.agent():
        await bench.online()
        await bench.ended(await bench.deploy())
    await bench.until(state="unknown")
    for method, path, sent in (
        ("POST", "/deploy", body | {"agent_id": 1}),
        ("POST", "/projects/shop/stop", None),
        ("GET", "/projects/shop/status", None),
    ):
        answer = await caller.call(method, path, sent)
        assert (answer.status_code, set(answer.json())) == (503, {"detail"}), path


@pytest.mark.parametrize(
    "body",
    [
        {"project_name": "../x", "compose_file_base64": "eA=="},
        {"project_name": "shop", "compose_file_base64": "%%%"},
        {"project_name": "shop", "compose_file_base64": file("services: [")},
        {"project_name": "shop"},
        {"project_name": "shop", "compose_file_base64": "eA==", "agent_id": 2**40},
    ],
)
async def test_what_cannot_be_deployed_is_refused_before_any_agent_hears_of_it(bench: Stand, body: Any) -> None:
    async with bench.agent() as agent:
        await bench.online()
        answer = await Caller(bench).call("POST", "/deploy", body)
        assert agent.of("DEPLOY_COMPOSE") == []

    assert answer.status_code == 422
    assert "compose_file_base64" not in answer.text or "eA==" not in answer.text


async def test_agents_reach_the_listener_without_tls_as_they_did_before(bench: Stand) -> None:
    async with go_agent(f"ws://{place(bench)}/ws", SECRET, hostname="old"):
        await bench.online("old")
        assert (await at_listener(bench, "GET", "/health")).json()["connected_agents"] == 1
        body = {"project_name": "shop", "compose_file_base64": file()}
        assert (await at_listener(bench, "POST", "/deploy", body)).status_code == 200
        await bench.until(cluster="old", last_good_revision=1)


async def test_an_imported_host_that_has_not_come_yet_is_listed_as_offline_under_its_old_number(bench: Stand) -> None:
    agent = {"number": 42, "hostname": "vm"}
    await bench.call("POST", "/compat/instadeploy/import", {"token": SECRET, "agents": [agent]})

    (listed,) = (await Caller(bench).call("GET", "/agents")).json()["agents"]

    assert (listed["id"], listed["hostname"], listed["status"]) == (42, "vm", "offline")
