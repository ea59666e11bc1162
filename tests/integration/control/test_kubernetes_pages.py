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
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Frame
from websockets.protocol import SERVER, Protocol, State
from websockets.typing import Origin
from websockets.utils import accept_key

from towline.control.access.models import ApiToken, User
from towline.control.access.permissions import Reach, Right, Role, ScopeKind
from towline.control.access.service import COOKIE
from towline.control.clusters.models import Cluster
from towline.wire import kube_inventory as inventory
from towline.wire import link
from towline.wire.streams import EVENT, EXIT, SOURCE, STDIN, STDOUT, FrameReader, encode_frame

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


async def session(access: Access, name: str, role: Role) -> str:
    """The cookie of somebody who signed in with a browser."""
    control = access.running.control
    await access.token(name, Right(role))
    async with control.db.begin() as tx:
        user = next(row for row in await access.app.rows(User) if row.username == name)
        made = await control.accounts.open_session(tx, user, address="127.0.0.1", browser="Chromium", request_id="")
    return f"{COOKIE}={made.secret}"


async def test_a_page_of_another_site_opens_no_shell_and_changes_nothing(access: Access, prod: StandIn) -> None:
    cookie = await session(access, "cleo", Role.OWNER)
    address = f"wss://localhost:{access.port}{SHELL}"
    with pytest.raises(InvalidStatus) as refused:
        async with connect(
            address, ssl=access.trust, origin=Origin("https://evil.test"), additional_headers={"cookie": cookie}
        ):
            pass  # pragma: no cover
    assert refused.value.response.status_code == 403
    async with https(
        access.running, headers={"cookie": cookie, "origin": f"https://localhost:{access.port}"}
    ) as client:
        for path in POSTS:
            assert (await client.post(path, data={"confirm": "web"})).status_code == 403, path
    assert prod.sent == []


async def test_search_finds_what_the_searcher_may_see(access: Access, prod: StandIn) -> None:
    async with await somebody(access, "sam", Role.VIEWER, prod) as client:
        assert "/kubernetes/vault/deployments/cellar" in (await client.get("/search?q=cell")).text
        assert "/clusters/prod/nodes/node-1" in (await client.get("/search?q=node-1")).text
    async with await somebody(access, "sid", Role.VIEWER, prod, namespace="shop") as client:
        assert "/kubernetes/shop/pods/web-1" in (await client.get("/search?q=web")).text
        for text in ("cell", "node-1"):
            assert "Nothing found" in (await client.get(f"/search?q={text}")).text


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
        (row,) = [row for row in await access.app.rows(ApiToken) if row.name == "ewan"]
        async with control.db.begin() as tx:
            await tx.delete(await tx.get(ApiToken, row.id))
            tx.publish("access", id=row.id)
        async with asyncio.timeout(10):
            told = b"".join([piece async for piece in pieces])
    assert b"revoked" in told
    await until(lambda: len(visits) == 0)


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


async def test_a_list_that_the_cluster_refuses_says_why(access: Access, prod: StandIn) -> None:
    async def refuses(stream: ApiStream, sent: Sent) -> None:
        await stream.write(answer(failure(403, "pods is forbidden"), "403 Forbidden"))

    prod.script = refuses
    async with await somebody(access, "pete", Role.VIEWER, prod) as client:
        told = json.loads((await client.get("/clusters/prod/pods/rows")).text)
        shown = await client.get("/clusters/prod/pods")
    assert told["error"] == "pods is forbidden"
    assert (shown.status_code, "cannot be asked for its pods" in shown.text) == (200, True)


# -- what changes something --------------------------------------------------------------------------------


async def bodied(stream: ApiStream, sent: Sent) -> bytes:
    """Read the body of a request."""
    data = b""
    while len(data) < int(sent.field("content-length") or 0):
        data += await stream.read()
    return data


async def test_restart_scale_and_delete_send_what_kubectl_would(access: Access, prod: StandIn) -> None:
    bodies: list[Any] = []

    async def takes(stream: ApiStream, sent: Sent) -> None:
        if not sent.line.startswith(b"GET "):
            bodies.append(json.loads(await bodied(stream, sent)))
        await stream.write(answer(DEPLOYMENT))

    prod.script = takes
    async with await somebody(access, "dora", Role.DEPLOYER, prod) as client:
        for word, form in (("restart", {}), ("scale", {"replicas": "5"}), ("delete", {"confirm": "web"})):
            answered = await client.post(f"{OBJECT}/{word}", data=form)
            assert (answered.status_code, "error" in answered.headers["set-cookie"]) == (303, False), word
    lines = [sent.line.decode() for sent in prod.sent if not sent.line.startswith(b"GET ")]
    path = "/apis/apps/v1/namespaces/shop/deployments/web"
    assert [line.split("?")[0] for line in lines] == [f"PATCH {path}", f"PATCH {path}/scale", f"DELETE {path} HTTP/1.1"]
    assert "restartedAt" in str(bodies[0]["spec"]["template"]["metadata"]["annotations"])
    assert bodies[1:] == [
        {"spec": {"replicas": 5}}, {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"}
    ]  # fmt: skip


async def test_nothing_is_deleted_unless_its_name_was_typed(access: Access, prod: StandIn) -> None:
    async with await somebody(access, "dana", Role.DEPLOYER, prod) as client:
        for typed in ("", "WEB", "web-1"):
            assert (await client.post(f"{OBJECT}/delete", data={"confirm": typed})).status_code == 303
    assert prod.sent == []


async def test_an_operator_scales_and_deletes_pods_but_applies_nothing(access: Access, prod: StandIn) -> None:
    async with await somebody(access, "otto", Role.OPERATOR, prod) as client:
        assert (await client.post(f"{OBJECT}/yaml", data={"yaml": "{}"})).status_code == 403
        for word in ("restart", "delete"):
            refused = await client.post(f"{OBJECT}/{word}", data={"confirm": "web"})
            assert "may%20not" in refused.headers["set-cookie"], word
        assert prod.sent == []
        shown = (await client.get(OBJECT)).text
        assert f"{OBJECT}/scale" in shown
        assert f"{OBJECT}/restart" not in shown
        assert "Edit YAML" not in shown


async def test_an_apply_that_meets_other_owners_shows_them_and_keeps_what_was_typed(
    access: Access, prod: StandIn
) -> None:
    cause = {
        "reason": "FieldManagerConflict", "message": 'conflict with "argocd" using apps/v1', "field": ".spec.replicas",
    }  # fmt: skip
    conflict = failure(409, "Apply failed with 1 conflict", details={"causes": [cause]})

    async def conflicts(stream: ApiStream, sent: Sent) -> None:
        if sent.line.startswith(b"GET "):
            await stream.write(answer(DEPLOYMENT))
            return
        await bodied(stream, sent)
        forced = b"force=true" in sent.line
        await stream.write(answer(DEPLOYMENT) if forced else answer(conflict, "409 Conflict"))

    prod.script = conflicts
    wanted = {**DEPLOYMENT, "spec": {**DEPLOYMENT["spec"], "replicas": 7}}
    async with await somebody(access, "dirk", Role.DEPLOYER, prod) as client:
        shown = await client.post(f"{OBJECT}/yaml", data={"yaml": json.dumps(wanted), "go": "apply"})
        assert shown.status_code == 200
        for words in ("argocd", ".spec.replicas", "Take the field over", "&#34;replicas&#34;: 7"):
            assert words in shown.text, words
        taken = await client.post(f"{OBJECT}/yaml", data={"yaml": json.dumps(wanted), "force": "1"})
        assert taken.status_code == 303
    applied = [sent for sent in prod.sent if sent.line.startswith(b"PATCH ")]
    assert [sent.field("content-type") for sent in applied] == ["application/apply-patch+yaml"] * 2
    assert all(b"fieldManager=towline" in sent.line for sent in applied)


async def test_an_apply_stays_with_the_object_of_its_page(access: Access, prod: StandIn) -> None:
    bad = (
        "a: [", "- 1", "!!python/object/apply:os.system [id]", "kind: Pod\nmetadata: {name: web}",
        "kind: Deployment\nmetadata: {name: other}", "kind: Deployment\nmetadata: {name: web, namespace: vault}",
    )  # fmt: skip
    async with await somebody(access, "drew", Role.DEPLOYER, prod) as client:
        for text in bad:
            shown = await client.post(f"{OBJECT}/yaml", data={"yaml": text})
            assert "It was not applied" in shown.text, text
    assert [sent.line for sent in prod.sent if not sent.line.startswith(b"GET ")] == []


# -- terminals ---------------------------------------------------------------------------------------------


async def test_a_terminal_speaks_the_numbered_channels_and_tells_the_exit_code(access: Access, prod: StandIn) -> None:
    heard: list[bytes] = []

    async def execs(stream: ApiStream, sent: Sent) -> None:
        accepted = accept_key(sent.field("sec-websocket-key")).encode()
        await stream.write(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Accept: " + accepted + b"\r\nSec-WebSocket-Protocol: v5.channel.k8s.io\r\n\r\n"
        )
        peer = Protocol(SERVER, state=State.OPEN)
        for message in (b"\x01", b"\x01hello"):
            peer.send_binary(message)
        await stream.write(b"".join(peer.data_to_send()))
        while b"\x00exit\n" not in heard:
            peer.receive_data(await stream.read())
            heard.extend(bytes(event.data) for event in peer.events_received() if isinstance(event, Frame))
        cause = {"reason": "ExitCode", "message": "3"}
        peer.send_binary(b"\x03" + json.dumps(failure(500, "", details={"causes": [cause]})).encode())
        await stream.write(b"".join(peer.data_to_send()))

    prod.script = execs
    token = await access.token("olaf", Right(Role.OPERATOR))
    address = f"wss://localhost:{access.port}{SHELL}&columns=100&rows=30"
    fields = {"authorization": f"Bearer {token}"}
    async with connect(address, ssl=access.trust, additional_headers=fields) as socket:
        first = await socket.recv()
        await socket.send(encode_frame(STDIN, b"exit\n"))
        last = await socket.recv()
    assert isinstance(first, bytes)
    assert isinstance(last, bytes)
    assert [(frame.kind, frame.body) for frame in FrameReader().feed(first)] == [(STDOUT, b"hello")]
    (ended,) = FrameReader().feed(last)
    assert (ended.kind, json.loads(ended.body)["code"]) == (EXIT, 3)
    assert heard[0] == b'\x04{"Width": 100, "Height": 30}\n'
    event = await access.event("kubernetes.exec")
    assert (event.actor_name, event.detail["argv"][0]) == ("olaf", "sh")


async def test_a_shell_that_the_cluster_refuses_says_why(access: Access, prod: StandIn) -> None:
    async def refuses(stream: ApiStream, sent: Sent) -> None:
        await stream.write(answer(failure(403, "pods/exec is forbidden"), "403 Forbidden"))

    prod.script = refuses
    token = await access.token("odin", Right(Role.OPERATOR))
    fields = {"authorization": f"Bearer {token}"}
    async with connect(f"wss://localhost:{access.port}{SHELL}", ssl=access.trust, additional_headers=fields) as socket:
        with pytest.raises(ConnectionClosed) as closed:
            await socket.recv()
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4502, "pods/exec is forbidden")
