"""The surface's questions about a cluster, on an API server that a test fills: lists, the proxy, logs as text."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.small_api import SmallApi, pod, thing
from tests.support.surface import Served, make_parts, served

from towline.agent.policy import KubernetesRules, LocalPolicy
from towline.agent.surface import proxy

LISTS = ["nodes", "pods", "namespaces", "deployments", "services"]


@pytest.fixture
async def alone(tmp_path: Path) -> AsyncIterator[Served]:
    """Neither a cluster nor Docker."""
    async with served(make_parts(tmp_path / "agent")) as one:
        yield one


async def ask_proxy(surface: Served, *, operate: bool = False, **body: Any) -> tuple[int, Any]:
    headers = surface.operator if operate else surface.reader
    async with surface.client.post(f"{surface.url}/api/k8s/proxy", json=body, headers=headers) as got:
        return got.status, await got.json()


async def read_log(surface: Served, path: str) -> tuple[int, str]:
    async with surface.client.get(f"{surface.url}/api/k8s/logs/{path}", headers=surface.operator) as got:
        return got.status, await got.text()


# -- without what is needed ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [*(f"/api/k8s/{kind}" for kind in LISTS), "/api/docker/projects", "/api/docker/containers"],
)
async def test_question_is_unavailable_without_what_it_is_about(alone: Served, path: str) -> None:
    status, body = await alone.get(path)

    assert (status, body["error"]["code"]) == (503, "unavailable")


@pytest.mark.parametrize(
    "path",
    [
        "/api/k8s/logs/web/a", "/api/docker/logs/a", "/api/realtime/logs?namespace=web", "/api/realtime/logs?project=p",
        "/api/realtime/logs?container=c",
    ],
)  # fmt: skip
async def test_log_is_unavailable_without_what_writes_it(alone: Served, path: str) -> None:
    status, body = await alone.get(path, headers=alone.operator)

    assert (status, body["error"]["code"]) == (503, "unavailable")


async def test_proxy_is_unavailable_without_a_cluster(alone: Served) -> None:
    status, body = await ask_proxy(alone, method="GET", path="/version")

    assert (status, body["error"]["code"]) == (503, "unavailable")


async def test_everything_about_the_cluster_is_unavailable_while_the_api_server_is_down(
    api: SmallApi, surface: Served
) -> None:
    await api.end()

    for kind in LISTS:
        assert (await surface.get(f"/api/k8s/{kind}"))[0] == 503
    assert (await ask_proxy(surface, method="GET", path="/version"))[0] == 503
    assert (await read_log(surface, "web/a"))[0] == 503


# -- lists ---------------------------------------------------------------------------------------


async def test_every_kind_is_listed_with_the_age_of_what_is_known(api: SmallApi, surface: Served) -> None:
    for kind in LISTS:
        api.put(kind, pod("a") if kind == "pods" else thing("a"))

    for kind in LISTS:
        status, body = await surface.get(f"/api/k8s/{kind}")
        assert status == 200, body
        assert [item["name"] for item in body["items"]] == ["a"]
        assert body["cache"] == {"age": 0.0, "state": "following", "reason": "", "namespaces": []}


async def test_pods_are_chosen_by_namespace_and_labels_and_come_in_pages(api: SmallApi, surface: Served) -> None:
    for at in range(7):
        api.put("pods", pod(f"p{at}", app="x" if at % 2 else "y"))
    api.put("pods", pod("other", namespace="shop", app="x"))
    names: list[str] = []
    position = ""
    while True:
        query = {"namespace": "web", "labelSelector": "app=x", "limit": "2", "continue": position}
        _, body = await surface.get("/api/k8s/pods", params=query)
        names += [item["name"] for item in body["items"]]
        position = body["continue"]
        if not position:
            break
        assert body["remaining"] == 1

    assert names == ["p1", "p3", "p5"]


async def test_list_follows_the_cluster(api: SmallApi, surface: Served) -> None:
    _, before = await surface.get("/api/k8s/pods")
    api.put("pods", pod("a", waiting="ImagePullBackOff"))
    items: list[Any] = []
    while not items:
        items = (await surface.get("/api/k8s/pods"))[1]["items"]

    assert before["items"] == []
    assert (items[0]["healthy"], "ImagePullBackOff" in items[0]["reason"]) == (False, True)


@pytest.mark.parametrize(
    "query",
    [
        "labelSelector=a%20b", "limit=0", "limit=many", "limit=5001", "continue=%C3%A4", "continue=x",
        "namespace=a&namespace=b",
    ],
)  # fmt: skip
async def test_bad_parameter_of_a_list_is_refused(surface: Served, query: str) -> None:
    status, body = await surface.get(f"/api/k8s/pods?{query}")

    assert (status, body["error"]["code"]) == (400, "bad_request")


async def test_policy_hides_namespaces_from_lists_logs_and_the_proxy(api: SmallApi, tmp_path: Path) -> None:
    policy = LocalPolicy(kubernetes=KubernetesRules(namespaces=("web*",)))
    api.put("pods", pod("a"))
    api.put("pods", pod("b", namespace="kube-system"))
    async with served(make_parts(tmp_path / "agent", cluster=api.material, policy=policy)) as surface:
        _, body = await surface.get("/api/k8s/pods")
        status, _ = await ask_proxy(surface, method="GET", path="/api/v1/namespaces/kube-system/pods")

        assert [item["name"] for item in body["items"]] == ["a"]
        assert status == 403
        assert (await read_log(surface, "kube-system/b"))[0] == 403


# -- the proxy -----------------------------------------------------------------------------------


async def test_proxy_hands_on_status_header_and_body_and_asks_as_local(api: SmallApi, surface: Served) -> None:
    api.answers["/version"] = (200, "application/json", b'{"gitVersion": "v1.36.3"}')

    status, body = await ask_proxy(surface, method="GET", path="/version?pretty=1")

    assert status == 200
    assert (body["status"], body["body"]) == (200, {"gitVersion": "v1.36.3"})
    assert body["headers"]["content-type"] == "application/json"
    method, target, fields = api.asked[-1]
    assert (method, target) == ("GET", "/version?pretty=1")
    assert fields["impersonate-user"] == "towline:local"
    assert fields["impersonate-group"] == "towline:role:viewer"
    assert surface.read not in json.dumps(fields)


async def test_refusal_of_the_api_server_is_an_answer_like_others(surface: Served) -> None:
    status, body = await ask_proxy(surface, method="GET", path="/api/v1/nodes/none")

    assert (status, body["status"], body["body"]["reason"]) == (200, 404, "NotFound")


@pytest.mark.parametrize(
    ("kind", "content", "shown"),
    [
        ("text/plain", b"ok", {"body": "ok"}),
        ("application/json", b"{broken", {"body": "{broken"}),
        ("application/json", b"", {"body": None}),
        (
            "application/octet-stream",
            b"\xff\x00",
            {"body": None, "body_base64": base64.b64encode(b"\xff\x00").decode()},
        ),
    ],
)
async def test_body_is_shown_as_what_it_is(
    api: SmallApi, surface: Served, kind: str, content: bytes, shown: Any
) -> None:
    api.answers["/healthz"] = (200, kind, content)

    _, body = await ask_proxy(surface, method="GET", path="/healthz")

    assert {name: value for name, value in body.items() if name.startswith("body")} == shown


async def test_change_needs_the_token_that_operates(api: SmallApi, surface: Served) -> None:
    path = "/api/v1/namespaces/web/pods/a"
    api.answers[path] = (200, "application/json", b"{}")

    assert (await ask_proxy(surface, method="DELETE", path=path))[0] == 403
    assert api.asked == []
    assert (await ask_proxy(surface, operate=True, method="DELETE", path=path))[0] == 200
    assert api.asked[-1][2]["impersonate-group"] == "towline:role:operator"


async def test_answer_that_is_too_large_points_to_the_control_plane(
    api: SmallApi, surface: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proxy, "ANSWER_BYTES", 1000)
    api.answers["/version"] = (200, "text/plain", b"x" * 1001)

    status, body = await ask_proxy(surface, method="GET", path="/version")

    assert (status, body["error"]["code"]) == (413, "too_large")
    assert "/k8s/clusters/NAME" in body["error"]["hint"]


@pytest.mark.parametrize(
    "body",
    [
        {}, {"method": "GET"}, {"path": "/version"}, {"method": "TRACE", "path": "/version"},
        {"method": "GET", "path": "version"}, {"method": "GET", "path": "http://evil.example/version"},
        {"method": "GET", "path": "/version", "body": {"a": 1}}, {"method": "GET", "path": "/version", "extra": 1},
        {"method": "GET", "path": "/api/v1/pods?watch=1"}, {"method": "GET", "path": "/api/v1/pods?w%61tch=true"},
        {"method": "GET", "path": "/api/v1/namespaces/web/pods/a/log?follow=true"},
        {"method": "GET", "path": "/api/v1/namespaces/web/pods/a/exec?command=sh"},
        {"method": "GET", "path": "/api/../version"}, {"method": "GET", "path": "/version\r\nX: y"},
        {"method": "GET", "path": "/version", "accept": "a\r\nImpersonate-User: root"},
        {"method": "GET", "path": "/" + "x" * 9000}, {"method": 1, "path": "/version"},
    ],
)  # fmt: skip
async def test_bad_request_to_the_proxy_reaches_nobody(api: SmallApi, surface: Served, body: dict[str, Any]) -> None:
    status, answer = await ask_proxy(surface, operate=True, **body)

    assert (status, answer["error"]["code"]) == (400, "bad_request")
    assert api.asked == []


# -- logs as text --------------------------------------------------------------------------------


async def test_log_is_text_with_as_many_lines_as_asked_for(api: SmallApi, surface: Served) -> None:
    api.put("pods", pod("a"))
    await api.write("web/a/app", "one", "two", "three")

    assert await read_log(surface, "web/a") == (200, "one\ntwo\nthree\n")
    assert await read_log(surface, "web/a?tailLines=1&container=app") == (200, "three\n")
    assert (await read_log(surface, "web/a?timestamps"))[1].startswith("2026-01-01T00:00:00.000000000Z one\n")
    assert api.asked[-1][2]["impersonate-group"] == "towline:role:operator"


async def test_log_that_is_followed_comes_line_by_line(api: SmallApi, surface: Served) -> None:
    api.put("pods", pod("a"))
    path = f"{surface.url}/api/k8s/logs/web/a?follow=true"
    async with surface.client.get(path, headers=surface.operator) as got:
        for word in ("one", "two"):
            await api.write("web/a/app", word)
            assert await got.content.readline() == f"{word}\n".encode()
        await api.finish("web/a/app")
        assert await got.content.read() == b""


async def test_log_of_no_pod_is_not_found(surface: Served) -> None:
    status, text = await read_log(surface, "web/none")

    assert (status, json.loads(text)["error"]["message"]) == (404, 'pods "none" not found')


@pytest.mark.parametrize(
    "path",
    ["web/a?since=yesterday", "web/a?tailLines=-1", "web/a?tailLines=x", "web/a?container=a%2Fb", "W/a", "web/.."],
)
async def test_bad_parameter_of_a_log_is_refused(surface: Served, path: str) -> None:
    assert (await read_log(surface, path))[0] in (400, 404)


@pytest.mark.parametrize(
    ("since", "asked"),
    [("90s", "sinceSeconds=90"), ("10m", "sinceSeconds=600"), ("2h", "sinceSeconds=7200"), ("5", "sinceSeconds=5"),
     ("2026-01-01T01:00:00%2B01:00", "sinceTime=2026-01-01T00%3A00%3A00.000000000Z")],
)  # fmt: skip
async def test_since_is_a_span_or_a_time(api: SmallApi, surface: Served, since: str, asked: str) -> None:
    api.put("pods", pod("a"))

    await read_log(surface, f"web/a?since={since}")

    assert asked in api.asked[-1][1]
