"""Pages of Kubernetes clusters against a stand-in for agent and API server: who gets in, and what reaches the cluster.

The first test of each kind of route is the unauthorised one. The real cluster is in the story of tests/e2e.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio
from tests.support.kubernetes import Access, ApiStream, Sent, StandIn
from tests.support.scripted_agent import until
from tests.support.served import https
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from towline.control.access.permissions import Reach, Right, Role, ScopeKind
from towline.control.clusters.models import Cluster
from towline.wire import kube_inventory as inventory
from towline.wire import link
from towline.wire.streams import EVENT, SOURCE, STDOUT, FrameReader

pytestmark = pytest.mark.asyncio(loop_scope="module")

PAGE = {"accept": "text/html"}
OBJECT = "/clusters/prod/kubernetes/shop/deployments/web"
POD = "/clusters/prod/kubernetes/shop/pods/web-1"
LISTS = ("/clusters/prod/workloads", "/clusters/prod/pods", "/clusters/prod/nodes", "/clusters/prod/events")
LOGS = f"{POD}/log-stream?container=main"
READS = (OBJECT, f"{OBJECT}/yaml", POD, f"{POD}/yaml", "/clusters/prod/pods/rows")
OPERATORS = (f"{POD}/logs", LOGS, f"{POD}/terminal")
POSTS = (f"{OBJECT}/restart", f"{OBJECT}/scale", f"{OBJECT}/delete", f"{OBJECT}/yaml", f"{POD}/delete")
SHELL = f"{POD}/shell?container=main"

THE_POD: dict[str, Any] = {
    "apiVersion": "v1", "kind": "Pod",
    "metadata": {
        "name": "web-1", "namespace": "shop", "uid": "u-1", "managedFields": [{"manager": "kubectl"}],
        "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}", "note": "<b>bold</b>"},
        "ownerReferences": [{"kind": "ReplicaSet", "name": "web", "controller": True}],
    },
    "spec": {"containers": [{"name": "main", "image": "shop:1", "env": [{"name": "KEY", "value": "x"}]}]},
    "status": {
        "phase": "Running", "conditions": [{"type": "Ready", "status": "False", "reason": "ContainersNotReady"}],
        "containerStatuses": [
            {
                "name": "main", "ready": False, "restartCount": 3,
                "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s"}},
                "lastState": {"terminated": {"reason": "OOMKilled", "exitCode": 137}},
            }
        ],
    },
}  # fmt: skip
DEPLOYMENT: dict[str, Any] = {
    "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "shop"},
    "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "web"}}},
    "status": {"readyReplicas": 1, "updatedReplicas": 2},
}  # fmt: skip
TABLE = {
    "kind": "Table", "metadata": {"resourceVersion": "7"},
    "columnDefinitions": [{"name": name} for name in ("Name", "Ready", "Status", "Restarts", "Age", "IP", "Node")],
    "rows": [
        {
            "cells": ["web-1", "0/1", "CrashLoopBackOff", 3, "1m", "10.0.0.7", "node-1"],
            "object": {"metadata": {"name": "web-1", "namespace": "shop", "creationTimestamp": "2026-01-02T03:04:05Z"}},
        }
    ],
}  # fmt: skip


def answer(body: Any, status: str = "200 OK", kind: str = "application/json") -> bytes:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data


def failure(code: int, message: str, **more: Any) -> dict[str, Any]:
    return {"kind": "Status", "status": "Failure", "code": code, "message": message, **more}


async def the_api(stream: ApiStream, sent: Sent) -> None:
    """Answer as an API server with one pod and one deployment."""
    target = sent.line.split(b" ")[1].decode()
    found: Any = failure(404, f"no {target}")
    if "/events" in target:
        found = {"items": [{"reason": "BackOff", "message": "restarting", "type": "Warning", "count": 4}]}
    elif "/pods/web-1" in target:
        found = THE_POD
    elif "/pods" in target:
        found = TABLE
    elif "/deployments/web" in target:
        found = DEPLOYMENT
    await stream.write(answer(found, "404 Not Found" if found.get("code") == 404 else "200 OK"))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def access(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Access]:
    async with Access.begin(tmp_path_factory.mktemp("pages")) as access:
        yield access


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def made(access: Access) -> StandIn:
    made = await access.stand_in("prod")
    control = access.running.control
    control.kube_intake.take(made.cluster_id, control.default_org, told())
    assert await control.kube_intake.flush()
    await announced(access, made)
    return made


def told() -> link.KubeInventory:
    pods = inventory.PodCounts(total=2, running=1, unwell=1)
    return link.KubeInventory(
        full=True, about=inventory.About(version="v1.36.1"),
        nodes=(inventory.Node(name="node-1", ready=True),),
        namespaces=(inventory.Namespace(name="shop", pods=pods), inventory.Namespace(name="vault")),
        workloads=(
            inventory.Workload(
                kind="Deployment", namespace="shop", name="web", state="degraded", reason="1 of 2 ready", desired=2,
                ready=1,
            ),
            inventory.Workload(kind="Deployment", namespace="vault", name="cellar", state="ready", desired=1, ready=1),
        ),
        pods=(inventory.Pod(namespace="shop", name="web-1", reason="CrashLoopBackOff (main): last end: OOMKilled"),),
        events=(
            inventory.Event(
                namespace="shop", kind="Pod", name="web-1", reason="BackOff", message="restarting", count=4,
                last_at=1.7e9,
            ),
        ),
    )  # fmt: skip


@pytest.fixture
def prod(made: StandIn) -> StandIn:
    made.sent.clear()
    made.script, made.refusal, made.streams = the_api, None, 0
    return made


async def somebody(access: Access, name: str, role: Role, made: StandIn, namespace: str = "") -> httpx.AsyncClient:
    kind = ScopeKind.NAMESPACE if namespace else ScopeKind.CLUSTER
    token = await access.token(name, Right(role, Reach(kind, cluster_id=made.cluster_id, namespace=namespace)))
    return https(access.running, headers={"authorization": f"Bearer {token}", **PAGE}, timeout=20)


async def recorded(access: Access, name: str) -> set[str]:
    return {event.detail.get("resource", "") for event in await access.events() if event.actor_name == name}


async def announced(access: Access, made: StandIn, *, connected: bool = True) -> None:
    """Wait until what the agent serves, and whether it is there, is written down."""
    async with asyncio.timeout(10):
        while not any(
            row.id == made.cluster_id and row.capabilities and row.connected is connected
            for row in await access.app.rows(Cluster)
        ):
            await asyncio.sleep(0.02)


# -- who gets in -----------------------------------------------------------------------------------


async def test_nobody_sees_a_page_without_signing_in(access: Access, prod: StandIn) -> None:
    async with https(access.running) as client:
        for path in (*LISTS, *READS, *OPERATORS):
            assert (await client.get(path)).status_code == 401, path
        for path in POSTS:
            assert (await client.post(path, data={"confirm": "web"})).status_code == 401, path
    assert prod.sent == []


async def test_who_has_no_role_on_the_cluster_is_told_that_there_is_none(access: Access, prod: StandIn) -> None:
    elsewhere = Right(Role.OWNER, Reach(ScopeKind.CLUSTER, cluster_id="cls_other"))
    token = await access.token("nora", elsewhere)
    async with https(access.running, headers={"authorization": f"Bearer {token}"}) as client:
        for path in (*LISTS, *READS, *OPERATORS):
            assert (await client.get(path)).status_code == 404, path
        for path in POSTS:
            assert (await client.post(path, data={"confirm": "web"})).status_code == 404, path
    assert prod.sent == []


async def test_a_viewer_reads_pages_but_neither_logs_nor_terminals_and_changes_nothing(
    access: Access, prod: StandIn
) -> None:
    async with await somebody(access, "vera", Role.VIEWER, prod) as client:
        for path in (*LISTS, *READS[:-1]):
            assert (await client.get(path)).status_code == 200, path
        shown = (await client.get(POD)).text
        assert "Terminal" not in shown
        assert "/logs" not in shown
        assert "Delete" not in shown
        assert "Edit YAML" not in shown
        prod.sent.clear()
        for path in OPERATORS:
            assert (await client.get(path)).status_code == 403, path
        for path in POSTS:
            answered = await client.post(path, data={"confirm": path.split("/")[-2], "replicas": "3", "yaml": "{}"})
            assert answered.status_code in (303, 403, 200), path
    assert [sent.line for sent in prod.sent if not sent.line.startswith(b"GET ")] == []


async def test_a_viewer_opens_no_shell(access: Access, prod: StandIn) -> None:
    token = await access.token("vito", Right(Role.VIEWER))
    with pytest.raises(InvalidStatus) as refused:
        async with connect(
            f"wss://localhost:{access.port}{SHELL}",
            ssl=access.trust,
            additional_headers={"authorization": f"Bearer {token}"},
        ):
            pass  # pragma: no cover
    assert refused.value.response.status_code == 403
    assert prod.sent == []


async def test_who_was_granted_a_namespace_sees_that_one_alone(access: Access, prod: StandIn) -> None:
    async with await somebody(access, "nick", Role.OPERATOR, prod, namespace="shop") as client:
        overview = await client.get("/clusters/prod")
        assert overview.status_code == 200
        assert "web-1" in overview.text
        assert "node-1" not in overview.text
        shown = (await client.get("/clusters/prod/workloads")).text
        assert "web" in shown
        assert "cellar" not in shown
        assert (await client.get("/clusters/prod/nodes")).status_code == 403
        assert (await client.get("/clusters/prod/pods")).status_code == 200
        prod.sent.clear()
        assert (await client.get("/clusters/prod/kubernetes/vault/deployments/cellar")).status_code == 403
        assert (await client.get("/clusters/prod/pods/rows?namespace=vault")).status_code == 403
    assert prod.sent == []


async def test_secrets_have_no_page_for_anybody(access: Access, prod: StandIn) -> None:
    async with await somebody(access, "olga", Role.OWNER, prod) as client:
        for path in ("", "/yaml"):
            assert (await client.get(f"/clusters/prod/kubernetes/shop/secrets/password{path}")).status_code == 404
    assert prod.sent == []


# -- what reaches the cluster ------------------------------------------------------------------------


async def test_a_page_asks_as_who_is_signed_in_and_no_cookie_reaches_the_cluster(access: Access, prod: StandIn) -> None:
    async with await somebody(access, "cora", Role.OPERATOR, prod) as client:
        answered = await client.get(POD, headers={"cookie": "towline=secret; x=y", "origin": "https://evil.test"})
    assert answered.status_code == 200
    assert prod.sent
    for sent in prod.sent:
        assert (sent.target.user, sent.target.direct) == ("towline:cora", False)
        assert "towline:role:operator" in sent.target.groups
        assert {name for name, _ in sent.fields} <= {"host", "accept", "user-agent", "x-request-id"}
    async with asyncio.timeout(10):
        while "pods" not in await recorded(access, "cora"):
            await asyncio.sleep(0.02)


async def test_names_in_addresses_cannot_become_other_paths(access: Access, prod: StandIn) -> None:
    async with await somebody(access, "mallory", Role.VIEWER, prod) as client:
        for name in ("..", "a%2Fb", "web-1%3Fx", "WEB", "a%20b", "%2e%2e"):
            answered = await client.get(f"/clusters/prod/kubernetes/shop/pods/{name}")
            assert answered.status_code in (400, 404, 422), name
    assert prod.sent == []


async def test_an_agent_that_is_away_leaves_what_was_known_and_says_how_old_it_is(access: Access) -> None:
    away = await access.stand_in("gone")
    control = access.running.control
    await announced(access, away)
    await away.agent.stop()
    await announced(access, away, connected=False)
    control.kube_intake.take(away.cluster_id, control.default_org, told())
    assert await control.kube_intake.flush()
    async with await somebody(access, "anna", Role.VIEWER, away) as client:
        for path in ("/clusters/gone", "/clusters/gone/workloads", "/clusters/gone/pods"):
            shown = await client.get(path)
            assert shown.status_code == 200, path
            assert "the agent is away" in shown.text, path
        assert "CrashLoopBackOff" in shown.text
        assert (await client.get("/clusters/gone/kubernetes/shop/pods/web-1")).status_code == 503


async def test_what_the_cluster_refuses_is_shown_with_the_hop(access: Access, prod: StandIn) -> None:
    async def refuses(stream: ApiStream, sent: Sent) -> None:
        await stream.write(answer(failure(403, 'pods "web-1" is forbidden: no rule'), "403 Forbidden"))

    prod.script = refuses
    async with await somebody(access, "rita", Role.VIEWER, prod) as client:
        shown = await client.get(POD)
    assert shown.status_code == 403
    assert "is forbidden: no rule" in shown.text


async def test_user_content_is_never_html(access: Access, prod: StandIn) -> None:
    async with await somebody(access, "hugo", Role.VIEWER, prod) as client:
        assert "<b>bold</b>" not in (await client.get(f"{POD}/yaml")).text
        assert "last-applied" not in (await client.get(f"{POD}/yaml")).text
        assert "managedFields" not in (await client.get(f"{POD}/yaml")).text


# -- logs ----------------------------------------------------------------------------------------------


async def test_logs_come_as_frames_and_go_on_behind_the_cursor(access: Access, prod: StandIn) -> None:
    lines = [f"2026-01-02T03:04:05.00000000{n}Z line {n}\n".encode() for n in (1, 2, 2, 3)]

    async def logs(stream: ApiStream, sent: Sent) -> None:
        await stream.write(answer(b"".join(lines), kind="text/plain"))

    prod.script = logs
    async with await somebody(access, "lena", Role.OPERATOR, prod) as client:
        whole = await client.get(LOGS)
        rest = await client.get(LOGS, params={"container": "main", "cursor": "main=2026-01-02T03:04:05.000000002Z/1"})
    assert [frame.kind for frame in FrameReader().feed(whole.content)] == [SOURCE, STDOUT]
    texts = [frame.body for frame in FrameReader().feed(rest.content) if frame.kind == STDOUT]
    assert b"".join(texts) == b"".join(lines[2:])
    assert "sinceTime" in prod.sent[-1].line.decode()


async def test_a_log_that_cannot_be_read_says_why_and_the_others_go_on(access: Access, prod: StandIn) -> None:
    async def logs(stream: ApiStream, sent: Sent) -> None:
        if b"container=side" in sent.line:
            await stream.write(answer(failure(400, "container side is waiting to start"), "400 Bad Request"))
        else:
            await stream.write(answer(b"2026-01-02T03:04:05.1Z hello\n", kind="text/plain"))

    prod.script = logs
    async with await somebody(access, "lars", Role.OPERATOR, prod) as client:
        whole = await client.get(f"{LOGS}&container=side")
    frames = list(FrameReader().feed(whole.content))
    assert [frame.kind for frame in frames].count(SOURCE) == 2
    assert b"waiting to start" in next(frame.body for frame in frames if frame.kind == EVENT)
    assert any(frame.kind == STDOUT for frame in frames)


async def test_a_followed_log_ends_when_the_right_does(access: Access, prod: StandIn) -> None:
    held = asyncio.Event()

    async def logs(stream: ApiStream, sent: Sent) -> None:
        await stream.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nT one\n\r\n")
        held.set()

    prod.script = logs
    token = await access.token("ewan", Right(Role.OPERATOR))
    async with (
        https(access.running, headers={"authorization": f"Bearer {token}"}, timeout=30) as client,
        client.stream("GET", f"{LOGS}&follow=1") as following,
    ):
        pieces = following.aiter_bytes()
        await anext(pieces)
        await held.wait()
        visits = access.running.control.kubernetes.visits
        await until(lambda: len(visits) == 1)
        control = access.running.control
        (row,) = [row for row in await access.app.rows(access_tokens()) if row.name == "ewan"]
        async with control.db.begin() as tx:
            await tx.delete(await tx.get(access_tokens(), row.id))
            tx.publish("access", id=row.id)
        async with asyncio.timeout(10):
            told = b"".join([piece async for piece in pieces])
    assert b"revoked" in told
    await until(lambda: len(visits) == 0)


def access_tokens() -> Any:
    from towline.control.access.models import ApiToken

    return ApiToken


# -- the list of pods -----------------------------------------------------------------------------------


async def test_rows_come_page_by_page_and_then_follow_the_watch(access: Access, prod: StandIn) -> None:
    gone = asyncio.Event()

    async def pods(stream: ApiStream, sent: Sent) -> None:
        if b"watch=1" not in sent.line:
            more = {} if b"continue=" in sent.line else {"continue": "next"}
            await stream.write(answer(TABLE | {"metadata": {"resourceVersion": "7"} | more}))
            return
        events = [
            {"type": "MODIFIED", "object": TABLE},
            {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "9"}}},
            {"type": "DELETED", "object": TABLE},
        ]
        data = b"".join(json.dumps(event).encode() + b"\n" for event in events)
        await stream.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n" % (len(data), data))
        await gone.wait()
        await stream.write(b"0\r\n\r\n")

    prod.script = pods
    told: list[dict[str, Any]] = []
    async with (
        await somebody(access, "paul", Role.VIEWER, prod) as client,
        client.stream("GET", "/clusters/prod/pods/rows?namespace=shop") as rows,
    ):
        async for line in rows.aiter_lines():
            told.append(json.loads(line))
            if "gone" in told[-1]:
                gone.set()
    assert [next(iter(one)) for one in told] == ["rows", "rows", "synced", "put", "gone"]
    assert (told[3]["put"]["tone"], told[3]["put"]["status"]) == ("down", "CrashLoopBackOff")
    assert told[4]["gone"] == "shop/web-1"
