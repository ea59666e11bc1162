"""Pages of commands: what was shown is what is run, forms keep what was typed, answers stand on the run's page."""

import re
from collections.abc import AsyncIterator

import httpx
import pytest
from tests.support.command_runs import Place, begin, place
from tests.support.control_app import ControlApp

from towline.control.access.permissions import Role


@pytest.fixture
async def scene(control_app: ControlApp) -> AsyncIterator[Place]:
    async with place(control_app) as made:
        yield made


def mark(page: httpx.Response) -> str:
    found = re.search(r'name="seen" value="([0-9a-f]{64})"', page.text)
    assert found, page.text
    return found[1]


async def test_nobody_sees_the_pages_without_signing_in(control_app: ControlApp) -> None:
    client = control_app.client()
    for path in ("/commands", "/commands/new", "/commands/saved", "/commands/x"):
        answer = await client.get(path)
        assert answer.status_code in (303, 401), path


async def test_the_form_shows_where_it_runs_and_then_runs_it(scene: Place) -> None:
    await scene.cluster("edge-1")
    client = await scene.operator()
    page = await client.get("/commands/new?cluster=edge-1")
    assert 'value="edge-1"' in page.text
    typed = {"program": "kubectl", "line": "get pods -l 'app in (web, api)'", "clusters": "edge-1"}
    seen = await client.post("/commands/new", data=typed | {"go": "check"})
    assert "Run it on 1 cluster" in seen.text
    assert "app in (web, api)" in seen.text
    done = await client.post("/commands/new", data=typed | {"go": "run", "seen": mark(seen)})
    assert done.status_code == 303
    order = await scene.order("edge-1")
    assert order.payload["arguments"] == ["get", "pods", "-l", "app in (web, api)"]
    await order.answer("<b>web-1</b>\n")
    await scene.ended(client, done.headers["location"].rpartition("/")[2])
    run = await client.get(done.headers["location"])
    assert "&lt;b&gt;web-1&lt;/b&gt;" in run.text
    assert "succeeded" in run.text
    assert "get pods" in (await client.get("/commands")).text


async def test_what_was_not_shown_is_not_run(scene: Place) -> None:
    await scene.cluster("edge-1")
    client = await scene.operator()
    typed = {"program": "kubectl", "line": "get pods", "clusters": "edge-1"}
    seen = await client.post("/commands/new", data=typed | {"go": "check"})
    other = typed | {"line": "get nodes", "go": "run", "seen": mark(seen)}
    again = await client.post("/commands/new", data=other)
    assert (again.status_code, "look again" in again.text) == (200, True)
    assert (await client.get("/api/v1/commands/runs")).json()["items"] == []


async def test_what_is_wrong_is_said_and_what_was_typed_stays(scene: Place) -> None:
    await scene.cluster("edge-1")
    client = await scene.operator()
    for line, word in (("exec web -- sh", "exec"), ("get 'pods", "quote has no end"), ("get pods --as=x", "--as")):
        typed = {"program": "kubectl", "line": line, "clusters": "edge-1", "go": "check"}
        page = await client.post("/commands/new", data=typed)
        assert page.status_code == 200
        assert word in page.text
        assert "Run it on" not in page.text


async def test_a_saved_command_asks_for_its_parameters(scene: Place) -> None:
    await scene.cluster("edge-1", labels={"env": "prod"})
    client = await scene.operator()
    form = {"name": "logs", "program": "kubectl", "line": "logs deploy/{{app}} -n {{ns}}", "defaults": "ns=shop"}
    assert (await client.post("/commands/saved", data=form)).status_code == 303
    assert "logs deploy" in (await client.get("/commands/saved")).text
    page = await client.get("/commands/new?saved=logs")
    assert 'name="value_app"' in page.text
    typed = {"saved": "logs", "value_app": "web", "value_ns": "shop", "selector": "env=prod", "program": "kubectl"}
    seen = await client.post("/commands/new", data=typed | {"go": "check"})
    done = await client.post("/commands/new", data=typed | {"go": "run", "seen": mark(seen)})
    assert done.status_code == 303
    assert (await scene.order("edge-1")).payload["arguments"] == ["logs", "deploy/web", "-n", "shop"]
    assert (await client.post("/commands/saved/logs/remove")).status_code == 303
    assert "No saved commands" in (await client.get("/commands/saved")).text


async def test_a_run_is_cancelled_from_its_page_and_viewers_have_no_button(scene: Place) -> None:
    await scene.cluster("edge-1")
    client, viewer = await scene.operator(), await scene.app.user("vera", Role.VIEWER)
    run = await begin(client, "kubectl", "logs", "-f", "web", clusters=["edge-1"])
    order = await scene.order("edge-1")
    await order.say("stdout", "so far\n")
    page = f"/commands/{run['id']}"
    assert "so far" in (await client.get(page)).text
    assert "Cancel this run" not in (await viewer.get(page)).text
    assert (await client.post(f"{page}/cancel")).status_code == 303
    await order.end(130, outcome="cancelled", code="cancelled")
    assert (await scene.ended(client, run["id"]))["state"] == "cancelled"
    for path in ("/commands/new", "/commands/saved"):
        assert (await viewer.get(path)).status_code == 403
