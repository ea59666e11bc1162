"""What the dashboard is made of, on a socket: the page and its headers, what is used, jobs and how they go on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
from tests.support.event_reader import EventReader
from tests.support.scripted_agent import until
from tests.support.small_api import SmallApi, pod
from tests.support.surface import Served, make_parts, served

from towline.agent.journal import Journal
from towline.agent.kubernetes.usage import METRICS as METRICS_API
from towline.agent.surface import dashboard
from towline.agent.surface.live import LIVE
from towline.wire import link

METRICS = {
    f"{METRICS_API}/nodes": [{"metadata": {"name": "n1"}, "usage": {"cpu": "250m", "memory": "1Gi"}}],
    f"{METRICS_API}/pods": [
        {
            "metadata": {"name": "a", "namespace": "web"},
            "containers": [{"name": "app", "usage": {"cpu": "1", "memory": "1Mi"}}],
        }
    ],
}


def measure(api: SmallApi) -> None:
    for path, items in METRICS.items():
        api.answers[path] = (200, "application/json", json.dumps({"items": items}).encode())


def journal_of(surface: Served) -> Journal:
    assert surface.parts.journal is not None
    return surface.parts.journal


def accept(surface: Served, job_id: str) -> None:
    payload = msgspec.Raw(b'{"project":"shop"}')
    order = link.Job(job_id=job_id, kind="compose.stop", fence=1, attempt=1, timeout=60, payload=payload)
    journal_of(surface).accept(order, "shop", 1.0)


# -- the page ------------------------------------------------------------------------------------


async def test_page_is_open_and_may_run_itself_alone(surface: Served) -> None:
    async with surface.client.get(f"{surface.url}/") as got:
        body = await got.read()

    assert (got.status, got.content_type) == (200, "text/html")
    assert got.headers["Content-Security-Policy"] == dashboard.policy(body)
    assert got.headers["X-Frame-Options"] == "DENY"
    assert got.headers["Referrer-Policy"] == "no-referrer"
    assert got.headers["Cache-Control"] == "no-store"
    assert surface.read not in body.decode()
    assert surface.operate not in body.decode()


async def test_page_is_not_for_pages_of_other_origins(surface: Served) -> None:
    async with surface.client.get(f"{surface.url}/", headers={"Origin": "http://evil.example"}) as got:
        assert got.status == 403
    async with surface.client.get(f"{surface.url}/", headers={"Host": "evil.example"}) as got:
        assert got.status == 403


# -- what is used ----------------------------------------------------------------------------------


async def test_usage_is_told_by_node_and_pod_and_with_each_pod(api: SmallApi, surface: Served) -> None:
    measure(api)
    api.put("pods", pod("a"))
    api.put("pods", pod("b"))

    status, found = await surface.get("/api/k8s/usage")
    _, listed = await surface.get("/api/k8s/pods")

    assert (status, found["state"], found["reason"]) == (200, "measured", "")
    assert found["at"] > 0
    assert found["nodes"] == [{"name": "n1", "cpu": 0.25, "memory_bytes": 2**30}]
    assert found["pods"] == [{"namespace": "web", "name": "a", "cpu": 1.0, "memory_bytes": 2**20}]
    used = {each["name"]: each["usage"] for each in listed["items"]}
    assert used == {"a": {"cpu": 1.0, "memory_bytes": 2**20}, "b": None}
    assert (await surface.get("/api/k8s/usage?namespace=other"))[1]["pods"] == []


async def test_usage_is_unknown_with_the_reason_where_nothing_measures(api: SmallApi, surface: Served) -> None:
    for path in METRICS:
        api.answers[path] = (404, "application/json", b'{"kind": "Status", "reason": "NotFound"}')

    status, found = await surface.get("/api/k8s/usage")

    assert (status, found["state"], found["at"]) == (200, "unknown", None)
    assert found["reason"] == "this cluster serves no metrics API"
    assert (found["nodes"], found["pods"]) == ([], [])


async def test_usage_is_unknown_while_the_api_server_is_down(api: SmallApi, surface: Served) -> None:
    await api.end()

    status, found = await surface.get("/api/k8s/usage")

    assert (status, found["state"]) == (200, "unknown")
    assert found["reason"]


async def test_usage_is_unavailable_without_a_cluster(tmp_path: Path) -> None:
    async with served(make_parts(tmp_path / "agent")) as alone:
        status, body = await alone.get("/api/k8s/usage")

    assert (status, body["error"]["code"]) == (503, "unavailable")


# -- jobs ------------------------------------------------------------------------------------------


async def test_jobs_are_told_with_what_became_of_them(surface: Served) -> None:
    accept(surface, "job_1")
    accept(surface, "job_2")
    ended = link.JobResult(job_id="job_1", fence=1, outcome="succeeded", finished_at=9.0)
    journal_of(surface).finish(ended)

    status, found = await surface.get("/api/jobs")

    assert status == 200
    told: list[Any] = [(each["id"], each["outcome"]) for each in found["items"]]
    assert told == [("job_2", None), ("job_1", "succeeded")]


async def test_job_that_goes_on_is_an_event(surface: Served) -> None:
    address = f"{surface.url}/api/realtime/events?types=event"
    runner = surface.surface._runner
    assert runner is not None
    feed = runner.app[LIVE].feed
    async with surface.client.get(address, headers=surface.reader) as got:
        reader = EventReader(got)
        await reader.next("status")
        await until(lambda: feed.status()["kubernetes"]["state"] == "connected")
        accept(surface, "job_1")
        while (event := await reader.next("event")).data["object"] != "job":
            pass

    assert event.data["source"] == "agent"
    assert (event.data["item"]["id"], event.data["item"]["outcome"]) == ("job_1", None)


async def test_jobs_are_unavailable_while_the_journal_cannot_be_read(surface: Served) -> None:
    journal_of(surface).close()

    status, body = await surface.get("/api/jobs")

    assert (status, body["error"]["code"]) == (503, "unavailable")
