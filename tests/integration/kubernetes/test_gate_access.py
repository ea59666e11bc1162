"""Roles at the gate, what people are told, what is written down, and the end of what runs when a right ends."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from tests.support.edge import Raw
from tests.support.kubernetes import Access, ApiStream, Sent, StandIn, request
from tests.support.served import https

from towline.aio.streams import EndedThere
from towline.control.access.models import Grant
from towline.control.access.permissions import Reach, Right, Role, ScopeKind

pytestmark = pytest.mark.asyncio(loop_scope="module")

BASE = "/k8s/clusters/prod"
PODS = f"{BASE}/api/v1/namespaces/shop/pods"
EXEC = f"{PODS}/web/exec?command=cat&command=%2Fetc%2Fhosts&stdin=true&stdout=true"
SPDY = ("Connection: Upgrade", "Upgrade: SPDY/3.1", "X-Stream-Protocol-Version: v4.channel.k8s.io")
WEBSOCKET = (
    "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Protocol: v5.channel.k8s.io",
)  # fmt: skip
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n"
WATCH = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n"
CUT_WITHIN = 10.0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def access(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Access]:
    changes = {"kubernetes_host": "k8s.towline.test", "kubernetes_requests_per_user": 5}
    async with Access.begin(tmp_path_factory.mktemp("access"), **changes) as access:
        yield access


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def made(access: Access) -> StandIn:
    return await access.stand_in("prod")


@pytest.fixture
def prod(made: StandIn) -> StandIn:
    made.sent.clear()
    made.script, made.refusal, made.streams = StandIn.script, None, 0
    return made


async def user(access: Access, name: str, role: Role, made: StandIn, namespace: str = "") -> str:
    kind = ScopeKind.NAMESPACE if namespace else ScopeKind.CLUSTER
    return await access.token(name, Right(role, Reach(kind, cluster_id=made.cluster_id, namespace=namespace)))


# -- roles ----------------------------------------------------------------------------------------


async def test_viewer_reads_and_opens_no_shell_by_either_transport(access: Access, prod: StandIn) -> None:
    token = await user(access, "vera", Role.VIEWER, prod)
    for path in (PODS, f"{PODS}?watch=true", f"{BASE}/api/v1/nodes", f"{BASE}/version"):
        assert (await access.get(path, token)).status == 200
    seen = prod.streams
    session = "Kubectl-Session: 7d1b1b0e"
    by_get = await access.get(EXEC, token, *WEBSOCKET, session)
    by_post = await access.ask(request("POST", EXEC, token, *SPDY, session))
    assert by_get.is_status(403)
    assert by_post.is_status(403)
    assert "pods/exec" in by_get.says["message"]
    assert prod.streams == seen
    await access.event("kubernetes.exec", 2)
    events = [event for event in await access.events("kubernetes.exec") if event.actor_name == "vera"]
    assert [event.result for event in events] == ["refused", "refused"]
    assert {event.detail["kubectl_session"] for event in events} == {"7d1b1b0e"}


@pytest.mark.parametrize(
    ("role", "method", "path", "allowed"),
    [
        (Role.VIEWER, "GET", f"{BASE}/api/v1/namespaces/shop/secrets", False),
        (Role.VIEWER, "GET", f"{PODS}/web/log", False),
        (Role.VIEWER, "DELETE", f"{PODS}/web", False),
        (Role.OPERATOR, "GET", f"{PODS}/web/log", True),
        (Role.OPERATOR, "DELETE", f"{PODS}/web", True),
        (Role.OPERATOR, "DELETE", PODS, False),
        (Role.OPERATOR, "GET", f"{BASE}/api/v1/namespaces/shop/secrets", False),
        (Role.DEPLOYER, "GET", f"{BASE}/api/v1/namespaces/shop/secrets", True),
        (Role.DEPLOYER, "GET", f"{BASE}/api/v1/nodes/n1/proxy/pods", False),
        (Role.DEPLOYER, "GET", f"{BASE}/metrics", False),
        (Role.DEPLOYER, "DELETE", f"{BASE}/api/v1/namespaces/shop", False),
        (Role.ADMIN, "GET", f"{BASE}/api/v1/nodes/n1/proxy/pods", True),
        (Role.ADMIN, "GET", f"{BASE}/metrics", True),
    ],
)
async def test_role_is_asked_before_the_tunnel(
    access: Access, prod: StandIn, role: Role, method: str, path: str, allowed: bool
) -> None:
    token = await access.token(f"u{abs(hash((role, method, path)))}", Right(role))
    answer = await access.ask(request(method, path, token))
    assert answer.status == 200 if allowed else answer.is_status(403)
    assert prod.streams == int(allowed)


async def test_grant_on_a_namespace_reaches_nothing_else(access: Access, prod: StandIn) -> None:
    token = await user(access, "nina", Role.DEPLOYER, prod, "shop")
    for path, status in (
        (PODS, 200),
        (f"{BASE}/api", 200),
        (f"{BASE}/api/v1/namespaces/shop/secrets", 200),
        (f"{BASE}/api/v1/namespaces/other/pods", 403),
        (f"{BASE}/api/v1/pods", 403),
        (f"{BASE}/api/v1/nodes", 403),
        (f"{BASE}/api/v1/namespaces", 403),
    ):
        assert (path, (await access.get(path, token)).status) == (path, status)


async def test_role_of_the_request_is_in_its_groups(access: Access, prod: StandIn) -> None:
    token = await access.token(
        "mixed", Right(Role.VIEWER), Right(Role.ADMIN, Reach(ScopeKind.NAMESPACE, namespace="shop"))
    )
    for path in (PODS, f"{BASE}/api/v1/namespaces/other/pods"):
        assert (await access.get(path, token)).status == 200
    assert [sent.target.groups[-1] for sent in prod.sent] == ["towline:role:admin", "towline:role:viewer"]
    refused = await access.ask(request("DELETE", f"{BASE}/api/v1/namespaces/other/pods/x", token))
    assert refused.is_status(403)


async def test_labels_decide_at_once(access: Access, prod: StandIn) -> None:
    token = await access.token("labels", Right(Role.VIEWER, Reach(ScopeKind.SELECTOR, selector=(("env", "prod"),))))
    assert (await access.get(PODS, token)).is_status(404)
    await access.label(prod.cluster_id, env="prod")
    async with asyncio.timeout(CUT_WITHIN):
        while (await access.get(PODS, token)).status != 200:
            await asyncio.sleep(0.05)
    await access.label(prod.cluster_id)


# -- what runs, and its end -------------------------------------------------------------------------


async def forever(stream: ApiStream, sent: Sent) -> None:
    """Answer an exec by a 101 and a watch by one event, then stay."""
    await stream.write(SWITCH if b"/exec?" in sent.line else WATCH)
    while await stream.read():
        pass
    raise EndedThere("over")


async def test_requests_that_begin_during_a_look_at_rights_go_on(access: Access, prod: StandIn) -> None:
    token = await user(access, "hasty", Role.VIEWER, prod)
    is_over = asyncio.Event()

    async def hint() -> None:
        while not is_over.is_set():
            access.running.control.bus.publish("cluster", id=prod.cluster_id)
            await asyncio.sleep(0)

    async def ask() -> set[int]:
        return {(await access.get(PODS, token)).status for _ in range(40)}

    hinting = access.owner.spawn("hints", hint())
    answers = await asyncio.gather(ask(), ask())
    is_over.set()
    await hinting
    assert answers == [{200}, {200}]


async def opened(access: Access, token: str, path: str) -> Raw:
    client = await access.client()
    await client.send(request("POST" if "/exec?" in path else "GET", path, token, *(SPDY if "/exec?" in path else ())))
    await client.until(b"\r\n\r\n" if "/exec?" in path else b"{}\r\n")
    return client


@pytest.mark.parametrize("path", [f"{PODS}?watch=true", EXEC])
@pytest.mark.parametrize("how", ["revoked", "disabled", "role removed", "narrowed"])
async def test_open_watch_and_shell_are_cut_when_the_right_ends(
    access: Access, prod: StandIn, path: str, how: str
) -> None:
    prod.script = forever
    accounts = access.running.control.accounts
    name = f"cut-{how.replace(' ', '')}-{'exec' if 'exec' in path else 'watch'}"
    owner = await access.app.access(f"owner-{name}", Right(Role.OWNER))
    who = await access.app.access(name, Right(Role.ADMIN))
    token = await accounts.create_token(who, "one", kind="user", right=None, lifetime=None)
    client = await opened(access, token.secret, path)
    if how == "revoked":
        await accounts.revoke_token(who, token.token.id)
    elif how == "disabled":
        await accounts.set_active(owner, name, active=False)
    else:
        if how == "narrowed":
            await accounts.grant(owner, "user", name, Right(Role.OPERATOR))
        grants = await access.app.rows(Grant)
        strongest = next(one for one in grants if (one.subject_id, one.role) == (who.actor.user_id, "admin"))
        await accounts.revoke_grant(owner, strongest.id)
    async with asyncio.timeout(CUT_WITHIN):
        rest = await client.to_end()
    assert b"0\r\n\r\n" not in rest  # a cut never looks like an end
    await client.close()


async def test_open_watch_is_cut_when_the_cluster_loses_the_label_that_a_grant_is_on(
    access: Access, prod: StandIn
) -> None:
    prod.script = forever
    await access.label(prod.cluster_id, env="open")
    token = await access.token("labelled", Right(Role.VIEWER, Reach(ScopeKind.SELECTOR, selector=(("env", "open"),))))
    client = await opened(access, token, f"{PODS}?watch=true")
    await access.label(prod.cluster_id)
    async with asyncio.timeout(CUT_WITHIN):
        rest = await client.to_end()
    assert b"0\r\n\r\n" not in rest
    await client.close()


async def test_expiry_of_a_token_ends_what_runs_by_it(access: Access, prod: StandIn) -> None:
    from datetime import timedelta

    prod.script = forever
    who = await access.app.access("expiring", Right(Role.VIEWER))
    made = await access.running.control.accounts.create_token(
        who, "short", kind="user", right=None, lifetime=timedelta(seconds=2)
    )
    client = await opened(access, made.secret, f"{PODS}?watch=true")
    async with asyncio.timeout(2 + CUT_WITHIN):
        await client.to_end()
    await client.close()


async def test_client_that_leaves_takes_its_request_along(access: Access, prod: StandIn) -> None:
    ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def script(stream: ApiStream, sent: Sent) -> None:
        try:
            await forever(stream, sent)
        finally:
            ended.set_result(None)

    prod.script = script
    token = await user(access, "leaver", Role.VIEWER, prod)
    client = await opened(access, token, f"{PODS}?watch=true")
    client.writer.transport.abort()
    async with asyncio.timeout(2):
        await ended


async def test_requests_of_one_user_at_once_are_bounded(access: Access, prod: StandIn) -> None:
    prod.script = forever
    token = await user(access, "hungry", Role.VIEWER, prod)
    clients = [await opened(access, token, f"{PODS}?watch=true") for _ in range(5)]
    assert (await access.get(PODS, token)).is_status(429)
    for client in clients:
        await client.close()


# -- errors of the way ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("refusal", "status", "words"),
    [
        (("forbidden", "the local policy allows reading only"), 403, "local policy"),
        (("unreachable", "connection refused by 10.96.0.1:443"), 504, "connection refused"),
        (("timeout", "no answer in 10 s"), 504, "no answer"),
        (("busy", ""), 503, "too many"),
        (("unsupported", "no cluster here"), 503, "serves no Kubernetes"),
        (("bad_request", "?"), 502, "refused"),
    ],
)
async def test_refusal_of_the_agent_is_a_status_with_its_reason(
    access: Access, prod: StandIn, refusal: tuple[str, str], status: int, words: str
) -> None:
    prod.refusal = refusal
    token = await user(access, f"r-{refusal[0].replace('_', '-')}", Role.VIEWER, prod)
    answer = await access.get(PODS, token)
    assert answer.is_status(status)
    assert words in answer.says["message"]


async def test_connection_that_is_lost_before_the_answer_is_502(access: Access, prod: StandIn) -> None:
    async def script(stream: ApiStream, sent: Sent) -> None:
        stream.stream.abort("cut")

    prod.script = script
    token = await user(access, "cutter", Role.DEPLOYER, prod)
    assert (await access.ask(request("POST", PODS, token))).is_status(502)
    assert len(prod.sent) == 1  # what may have arrived is never sent again


async def test_answer_that_is_cut_never_looks_whole(access: Access, prod: StandIn) -> None:
    seen = asyncio.Event()

    async def script(stream: ApiStream, sent: Sent) -> None:
        await stream.write(WATCH)
        await seen.wait()
        stream.stream.abort("cut")

    prod.script = script
    token = await user(access, "watcher", Role.VIEWER, prod)
    client = await opened(access, token, f"{PODS}?watch=true")
    seen.set()
    assert b"0\r\n" not in await client.to_end()
    await client.close()


async def test_cluster_without_an_agent_is_503_at_once(access: Access) -> None:
    away = await access.stand_in("away", connect=False)
    token = await user(access, "lonely", Role.VIEWER, away)
    async with asyncio.timeout(1):
        answer = await access.get("/k8s/clusters/away/api", token)
    assert answer.is_status(503)
    assert "no agent of away is connected" in answer.fields["warning"]


# -- the record -------------------------------------------------------------------------------------


async def test_every_request_is_on_record_when_it_begins_and_when_it_ends(access: Access, prod: StandIn) -> None:
    token = await user(access, "audited", Role.OPERATOR, prod)
    recorded: list[str] = []

    async def script(stream: ApiStream, sent: Sent) -> None:
        recorded.extend(event.action for event in await access.events() if event.actor_name == "audited")
        await stream.write(SWITCH)
        await stream.write_eof()

    prod.script = script
    fields = ("User-Agent: kubectl/v1.37.1", "Kubectl-Command: kubectl exec", "Kubectl-Session: one", *SPDY)
    async with await access.client() as client:
        await client.send(request("POST", f"{EXEC}&token=hidden", token, *fields))
        await client.to_end()
    assert recorded == ["kubernetes.exec"]  # a shell is on the disk before it opens
    async with asyncio.timeout(10):
        while len(events := [one for one in await access.events() if one.actor_name == "audited"]) < 2:
            await asyncio.sleep(0.05)
    begun, ended = events
    assert begun.detail["argv"] == ["cat", "/etc/hosts"]
    assert (begun.detail["resource"], begun.detail["namespace"], begun.detail["name"]) == ("pods/exec", "shop", "web")
    assert begun.detail["user_agent"] == "kubectl/v1.37.1"
    assert begun.detail["kubectl_command"] == "kubectl exec"
    assert begun.detail["groups"][-1] == "towline:role:operator"
    assert begun.request_id == ended.request_id == prod.sent[0].field("x-request-id")
    assert (ended.action, ended.detail["status"], ended.result) == ("kubernetes.end", 101, "done")
    assert "hidden" not in json.dumps([begun.detail, ended.detail])
    assert token not in json.dumps([begun.detail, ended.detail])


async def test_query_of_a_proxied_workload_is_not_on_record(access: Access, prod: StandIn) -> None:
    token = await user(access, "proxied", Role.OPERATOR, prod)
    path = f"{BASE}/api/v1/namespaces/shop/services/web/proxy/login?password=hidden"
    assert (await access.get(path, token)).status == 200
    event = await access.event("kubernetes.proxy")
    assert "hidden" not in json.dumps(event.detail)


async def test_chain_of_the_audit_log_holds(access: Access) -> None:
    from towline.control.audit.service import verify

    assert (await verify(access.running.control.db)).ok


# -- a host for each cluster --------------------------------------------------------------------------


async def test_cluster_has_a_host_of_its_own_under_a_certificate_of_ours(access: Access, prod: StandIn) -> None:
    token = await user(access, "hostly", Role.VIEWER, prod)
    host = "prod.k8s.towline.test"
    for path in ("/version", "/api/v1/namespaces/shop/pods?limit=1", "/k8s/clusters/prod/api", "/api/v1/agents/link"):
        answer = await access.get(path, token, host=host)
        assert answer.status == (200 if path.startswith(("/version", "/api/v1/namespaces")) else answer.status)
    assert prod.sent[0].line == b"GET /version HTTP/1.1"
    assert prod.sent[1].line == b"GET /api/v1/namespaces/shop/pods?limit=1 HTTP/1.1"
    assert (await access.get("/version", host=host)).is_status(401)
    assert (await access.get("/version", token, host="never.k8s.towline.test")).is_status(404)


async def test_location_on_a_host_of_its_own_needs_no_prefix(access: Access, prod: StandIn) -> None:
    async def script(stream: ApiStream, sent: Sent) -> None:
        await stream.write(b"HTTP/1.1 301 Moved\r\nLocation: /api/v1/x/\r\nContent-Length: 0\r\n\r\n")

    prod.script = script
    token = await user(access, "located", Role.VIEWER, prod)
    answer = await access.get("/api/v1/nodes", token, host="prod.k8s.towline.test")
    assert answer.fields["location"] == "/api/v1/x/"


# -- the API ------------------------------------------------------------------------------------------


async def test_nobody_is_told_what_he_may_do_without_a_token(access: Access, prod: StandIn) -> None:
    async with https(access.running) as client:
        for path in ("/api/v1/clusters/prod/kubernetes/access", "/api/v1/kubernetes/kubeconfig"):
            assert (await client.get(path)).status_code == 401


async def test_api_says_what_one_may_do_and_by_which_rule(access: Access, prod: StandIn) -> None:
    token = await user(access, "asker", Role.OPERATOR, prod)
    async with https(access.running, headers={"authorization": f"Bearer {token}"}) as client:
        asked = {"verb": "create", "resource": "pods/exec", "namespace": "shop"}
        one = (await client.get("/api/v1/clusters/prod/kubernetes/access", params=asked)).json()
        (cell,) = one["answers"]
        assert (one["user"], cell["allowed"], cell["role"]) == ("towline:asker", True, "operator")
        assert cell["rule"] == "operators open shells and port-forwards"
        assert cell["risk"]
        table = (await client.get("/api/v1/clusters/prod/kubernetes/access", params={"namespace": "shop"})).json()
        found = {(cell["resource"], cell["verb"]): cell["allowed"] for cell in table["answers"]}
        assert found["pods", "list"]
        assert not found["secrets", "get"]
        assert (await client.get("/api/v1/clusters/never/kubernetes/access")).status_code == 404


async def test_api_gives_what_a_kubeconfig_needs(access: Access, prod: StandIn) -> None:
    token = await user(access, "configured", Role.VIEWER, prod)
    async with https(access.running, headers={"authorization": f"Bearer {token}"}) as client:
        made = (await client.get("/api/v1/kubernetes/kubeconfig")).json()
    assert [one["name"] for one in made["clusters"]] == ["prod"]
    assert made["clusters"][0]["server"].endswith("/k8s/clusters/prod")
    assert made["clusters"][0]["host_server"].startswith("https://prod.k8s.towline.test:")
    assert made["authority"].startswith("-----BEGIN CERTIFICATE-----")
    assert token not in json.dumps(made)
