"""Deployments over the real link: orders that an agent can open, bundles, progress, results, and waiting for it."""

import asyncio
import base64
from collections.abc import AsyncIterator
from typing import Any

import httpx
import msgspec
import pytest
import sqlalchemy as sa
from tests.integration.control.test_bundles import tar
from tests.support.control_app import ControlApp
from tests.support.scripted_agent import ScriptedAgent, enrolled, link_listener

from towline.control.access.permissions import Role
from towline.control.db import metadata
from towline.tunnel.opening import IncomingStream
from towline.wire import link, sealed, streams

WEB = "services:\n  web:\n    image: shop/web:1\n"
HERE = "/api/v1/clusters/edge/deployments/shop"
SECRET = "planted-secret-77aa"


class Store:
    """What the agent does with bundles: says which it has, and keeps what it is sent."""

    def __init__(self, agent: ScriptedAgent) -> None:
        self.kept: dict[str, bytes] = {}
        self.offers = 0
        self._agent = agent
        agent.on_stream = self.offered

    def offered(self, incoming: IncomingStream) -> None:
        assert isinstance(incoming.target, streams.Bundle)
        self.offers += 1
        self._agent.owner.spawn("bundle", self._take(incoming, incoming.target))

    async def _take(self, incoming: IncomingStream, target: streams.Bundle) -> None:
        stream = incoming.accept_stream(have=target.digest in self.kept)
        if target.digest not in self.kept:
            content = b""
            while data := await stream.read():
                content += data
            assert len(content) == target.size
            self.kept[target.digest] = content
        await stream.aclose()


class Bench:
    """A control plane, an agent of cluster `edge`, and somebody who deploys."""

    def __init__(self, app: ControlApp, agent: ScriptedAgent, url: str, client: httpx.AsyncClient) -> None:
        self.app, self.agent, self.url, self.client = app, agent, url, client

    async def connect(self) -> None:
        await self.agent.connect(self.url)
        await self.agent.synced()

    async def deploy(self, compose: str = WEB, **more: Any) -> dict[str, Any]:
        answer = await self.client.post(f"{HERE}/revisions", json={"compose": compose, **more})
        assert answer.status_code == 202, answer.text
        made: dict[str, Any] = answer.json()
        return made

    async def order(self) -> tuple[link.Job, dict[str, Any]]:
        """Take the next order, as the agent does: it is in its journal now."""
        order = await self.agent.next(link.Job)
        await self.agent.send(link.JobAccepted(job_id=order.job_id, fence=order.fence))
        payload: dict[str, Any] = msgspec.json.decode(order.payload)
        return order, payload

    async def finish(self, order: link.Job, outcome: Any = "succeeded", **more: Any) -> None:
        await self.agent.send(link.JobResult(job_id=order.job_id, fence=order.fence, outcome=outcome, **more))
        assert (await self.agent.next(link.JobStored)).job_id == order.job_id

    def open(self, payload: dict[str, Any], name: str) -> Any:
        identity = self.agent.identity
        info = sealed.context(self.app.control.default_org, payload["deployment_id"], identity.agent_id)
        key = identity.sealing_key.private_bytes_raw()
        return msgspec.json.decode(sealed.open_sealed(key, info, base64.b64decode(payload[name])))

    async def shown(self) -> dict[str, Any]:
        answer = await self.client.get(HERE)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def until(self, **wanted: Any) -> dict[str, Any]:
        """Wait until the deployment shows some values."""
        async with asyncio.timeout(10), self.app.control.bus.subscribe("deployment", "job", "inventory") as events:
            while not wanted.items() <= (shown := await self.shown()).items():
                try:
                    async with asyncio.timeout(0.5):
                        await anext(events)
                except TimeoutError:
                    continue
        return shown


@pytest.fixture
async def bench(control_app: ControlApp) -> AsyncIterator[Bench]:
    client = await control_app.user("dora", Role.DEPLOYER)
    async with link_listener(control_app.control) as url, await enrolled(control_app, cluster_name="edge") as agent:
        yield Bench(control_app, agent, url, client)


async def test_a_deploy_reaches_the_agent_and_its_result_becomes_the_state(bench: Bench) -> None:
    await bench.connect()
    made = await bench.deploy(secrets={"key": SECRET})
    order, payload = await bench.order()
    assert (order.job_id, order.kind) == (made["job"]["id"], "compose.deploy")
    assert (payload["project"], payload["revision_id"]) == ("shop", made["revision"]["id"])
    assert bench.open(payload, "sealed_secrets") == {"key": SECRET}
    await bench.agent.send(
        link.JobProgress(
            job_id=order.job_id,
            fence=order.fence,
            events=(link.JobEvent(seq=1, at=1.0, stage="pulling", text="pulling shop/web:1"),),
        )
    )
    working = await bench.until(reason="deploying revision 1: pulling")
    assert (working["state"], working["job_id"]) == ("working", order.job_id)
    running = link.Container(
        id="c1", name="shop-web-1", project="shop", service="web", image="shop/web:1", state="running"
    )
    project = link.Project(name="shop", managed=True, revision=1)
    await bench.agent.send(link.Inventory(full=False, containers=(running,), projects=(project,)))
    await bench.finish(order, detail={"images": {"web": f"shop/web@sha256:{1:064x}"}})
    shown = await bench.until(state="healthy")
    assert (shown["revision"], shown["last_good_revision"], shown["job_id"]) == (1, 1, None)
    jobs = (await bench.client.get("/api/v1/jobs")).json()["items"]
    assert [(job["deployment"]["name"], job["state"]) for job in jobs] == [("shop", "succeeded")]


async def test_nothing_that_was_planted_is_in_the_database_or_in_an_answer(bench: Bench) -> None:
    await bench.connect()
    ada = await bench.app.user("ada", Role.ADMIN)
    body = {"name": "ghcr", "host": "registry.example", "username": "bot", "password": SECRET}
    assert (await ada.post("/api/v1/registries", json=body)).status_code == 201
    await bench.deploy(secrets={"key": SECRET}, env=f"A={SECRET}\n", registries=["ghcr"])
    order, payload = await bench.order()
    assert bench.open(payload, "sealed_registries")[0]["password"] == SECRET
    await bench.finish(order, "failed", error="web: exited with 1", code="unhealthy")
    await nothing_planted(bench)
    for url in ("/api/v1/jobs", f"/api/v1/jobs/{order.job_id}", f"/api/v1/jobs/{order.job_id}/events", HERE):
        assert SECRET not in (await ada.get(url)).text


async def test_a_bundle_is_sent_once_and_only_when_the_agent_lacks_it(bench: Bench) -> None:
    store = Store(bench.agent)
    await bench.connect()
    sent = await bench.client.put("/api/v1/bundles", content=tar(**{"app.env": b"A=1", "big": bytes(3_000_000)}))
    digest = sent.json()["digest"]
    for _ in range(2):
        await bench.deploy(WEB + "    env_file: app.env\n", bundle=digest)
        order, payload = await bench.order()
        assert payload["bundle"] == digest
        await bench.finish(order)
    assert store.offers == 2
    assert list(store.kept) == [digest]
    assert len(store.kept[digest]) == sent.json()["size"]


async def test_an_agent_that_refuses_a_bundle_fails_the_deploy_with_its_words(bench: Bench) -> None:
    bench.agent.on_stream = lambda incoming: incoming.refuse("busy", "no room on the disk")
    await bench.connect()
    sent = await bench.client.put("/api/v1/bundles", content=tar(**{"app.env": b"A=1"}))
    await bench.deploy(bundle=sent.json()["digest"])
    async with asyncio.timeout(10), bench.app.control.bus.subscribe("job") as events:
        async for event in events:
            if event.ids.get("change") == "ended":
                break
    revision = (await bench.client.get(f"{HERE}/revisions/1")).json()
    assert revision["outcome"] == "failed"
    assert "no room on the disk" in revision["error"]


async def test_work_for_an_agent_that_is_away_waits_and_says_so(bench: Bench) -> None:
    made = await bench.deploy()
    assert made["job"]["state"] == "waiting"
    assert (await bench.shown())["reason"].endswith("deploying revision 1 waits for it")
    await bench.connect()
    order, _ = await bench.order()
    assert order.job_id == made["job"]["id"]
    await bench.finish(order)
    await bench.until(revision=1)


async def test_a_newer_deploy_supersedes_one_that_waits(bench: Bench) -> None:
    first = await bench.deploy()
    second = await bench.deploy()
    kept = await bench.deploy(options={"supersede": False})
    outcomes = {
        each["number"]: each["outcome"] for each in (await bench.client.get(f"{HERE}/revisions")).json()["items"]
    }
    assert outcomes == {1: "superseded", 2: "pending", 3: "pending"}
    assert (await bench.client.get(f"/api/v1/jobs/{first['job']['id']}")).json()["state"] == "superseded"
    await bench.connect()
    for made in (second, kept):
        order, _ = await bench.order()
        assert order.job_id == made["job"]["id"]
        await bench.finish(order)
    assert (await bench.shown())["revision"] == 3


async def test_a_cancelled_deploy_that_waited_leaves_what_runs(bench: Bench) -> None:
    made = await bench.deploy()
    answer = await bench.client.post(f"/api/v1/jobs/{made['job']['id']}/cancel")
    assert answer.status_code in (200, 202), answer.text
    revision = (await bench.client.get(f"{HERE}/revisions/1")).json()
    assert (revision["outcome"], (await bench.shown())["revision"]) == ("cancelled", 0)


async def test_a_repeated_key_never_makes_a_second_job(bench: Bench) -> None:
    await bench.connect()
    await bench.deploy()
    order, _ = await bench.order()
    await bench.finish(order)
    key = {"idempotency-key": "once"}
    answers = [await bench.client.post(f"{HERE}/restart", json={}, headers=key) for _ in range(2)]
    assert answers[0].json()["job"]["id"] == answers[1].json()["job"]["id"]
    order, payload = await bench.order()
    assert (order.kind, payload) == ("compose.restart", {"project": "shop"})


async def test_a_check_on_the_host_knows_the_secrets(bench: Bench) -> None:
    await bench.connect()
    await bench.deploy(secrets={"kept": SECRET})
    order, _ = await bench.order()
    await bench.finish(order)
    body = {"compose": WEB, "secrets": {"kept": None, "fresh": "new"}, "on_host": True}
    job = (await bench.client.post(f"{HERE}/validate", json=body)).json()["job"]
    order, payload = await bench.order()
    assert (order.job_id, order.kind) == (job["id"], "compose.validate")
    assert bench.open(payload, "sealed_secrets") == {"kept": SECRET, "fresh": "new"}
    assert (await bench.shown())["job_id"] is None
    await bench.finish(order, detail={"errors": [{"message": "no", "line": 3}], "config": {"services": SECRET}})
    found = (await bench.client.get(f"/api/v1/jobs/{job['id']}")).json()
    assert found["detail"] == {"errors": [{"message": "no", "line": 3}]}


async def test_the_files_of_an_adopted_project_are_in_no_job(bench: Bench) -> None:
    await bench.connect()
    await bench.agent.send(link.Inventory(full=True, projects=(link.Project(name="shop", folder="/srv/shop"),)))
    await bench.agent.synced()
    await bench.app.control.fleet.reports.flush()
    answer = await bench.client.post(f"{HERE}/adopt")
    assert answer.status_code == 202, answer.text
    order, payload = await bench.order()
    assert payload["revision_id"] == answer.json()["revision"]["id"]
    await bench.finish(order, detail={"compose": WEB, "env": f"A={SECRET}\n", "folder": "/srv/shop"})
    assert (await bench.client.get(f"/api/v1/jobs/{order.job_id}")).json()["detail"] == {"folder": "/srv/shop"}
    assert (await bench.client.get(f"{HERE}/revisions/1")).json()["env"] == f"A={SECRET}\n"
    await nothing_planted(bench)


async def nothing_planted(bench: Bench) -> None:
    """Look into every row of every table."""
    async with bench.app.control.db.read() as tx:
        for table in metadata.sorted_tables:
            for row in (await tx.execute(sa.select(table))).all():
                assert SECRET not in repr(tuple(row)), table.name


async def test_a_link_that_is_lost_while_a_bundle_travels_only_delays_the_deploy(bench: Bench) -> None:
    bench.agent.on_stream = lambda incoming: bench.agent.cut()
    await bench.connect()
    sent = await bench.client.put("/api/v1/bundles", content=tar(big=bytes(3_000_000)))
    made = await bench.deploy(bundle=sent.json()["digest"])
    await bench.agent.ended()
    store = Store(bench.agent)
    await bench.connect()
    order, _ = await bench.order()
    assert order.job_id == made["job"]["id"]
    await bench.finish(order)
    assert list(store.kept) == [sent.json()["digest"]]
    assert (await bench.shown())["revision"] == 1
