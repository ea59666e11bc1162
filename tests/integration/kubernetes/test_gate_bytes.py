"""What reaches the tunnel, byte for byte, and what no spelling brings there: heads, paths, framing, upgrades."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from tests.support.kubernetes import Access, ApiStream, Script, Sent, StandIn, request

from towline.control.access.permissions import Reach, Right, Role, ScopeKind

pytestmark = pytest.mark.asyncio(loop_scope="module")

BASE = "/k8s/clusters/prod"
PODS = f"{BASE}/api/v1/namespaces/shop/pods"
EXEC = f"{PODS}/web/exec?command=sh&command=-c&command=a%20b&stdout=true"
WEBSOCKET = (
    "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Protocol: v5.channel.k8s.io",
)  # fmt: skip
SPDY = ("Connection: Upgrade", "Upgrade: SPDY/3.1", "X-Stream-Protocol-Version: v5.channel.k8s.io",
        "X-Stream-Protocol-Version: v4.channel.k8s.io", "Content-Length: 0")  # fmt: skip
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def access(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Access]:
    async with Access.begin(tmp_path_factory.mktemp("access")) as access:
        yield access


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def made(access: Access) -> StandIn:
    return await access.stand_in("prod")


@pytest.fixture
def prod(made: StandIn) -> StandIn:
    made.sent.clear()
    made.script, made.refusal, made.streams = StandIn.script, None, 0
    return made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def token(access: Access, made: StandIn) -> str:
    return await access.token("ada", Right(Role.ADMIN, Reach(ScopeKind.CLUSTER, cluster_id=made.cluster_id)))


def answers(data: bytes) -> Script:
    async def script(stream: ApiStream, sent: Sent) -> None:
        await stream.write(data)

    return script


# -- heads ----------------------------------------------------------------------------------------


async def test_identity_is_typed_and_no_field_of_it_is_in_the_head(access: Access, prod: StandIn, token: str) -> None:
    assert (await access.get(PODS, token)).status == 200
    (sent,) = prod.sent
    assert sent.target.user == "towline:ada"
    assert sent.target.groups == tuple(f"towline:role:{role}" for role in ("viewer", "operator", "deployer", "admin"))
    assert list(sent.target.extra) == ["towline.dev/session"]
    assert sent.target.direct is False
    assert sorted({name for name, _ in sent.fields}) == ["host", "x-request-id"]


@pytest.mark.parametrize(
    "field",
    [
        "Impersonate-User: root",
        "impersonate-group: system:masters",
        "IMPERSONATE-UID: 1",
        "Impersonate-Extra-Scopes: all",
        "Impersonate_User: root",
        "impersonate-user: a\r\nImpersonate-User: b",
        "Impersonate-Anything: x",
    ],
)
async def test_impersonation_by_the_client_is_refused_in_words(
    access: Access, prod: StandIn, token: str, field: str
) -> None:
    answer = await access.get(PODS, token, field)
    assert answer.is_status(403)
    assert "--as" in answer.says["message"]
    assert prod.streams == 0


@pytest.mark.parametrize(
    "fields",
    [
        ("Connection: Impersonate-User",),
        ("Connection: keep-alive , Impersonate-Group",),
        ("Connection: X-Request-Id", "Connection: Authorization, Host"),
        ("Connection: close, impersonate-user, x-request-id",),
    ],
)
async def test_connection_field_takes_nothing_of_ours_away(
    access: Access, prod: StandIn, token: str, fields: tuple[str, ...]
) -> None:
    assert (await access.get(PODS, token, *fields)).status == 200
    (sent,) = prod.sent
    assert sent.target.user == "towline:ada"
    assert sent.field("x-request-id")
    assert sent.field("host")
    assert sent.field("connection") == ""


async def test_claims_of_proxies_and_cookies_stay_on_this_side(access: Access, prod: StandIn, token: str) -> None:
    fields = (
        "X-Remote-User: root", "X-Remote-Group: system:masters", "X_Remote_Extra_Scopes: x", "Forwarded: for=1.2.3.4",
        "X-Forwarded-For: 1.2.3.4", "X-Forwarded-Host: evil", "X-Real-Ip: 1.2.3.4", "X-Original-Url: /",
        "X-Rewrite-Url: /", "X-HTTP-Method-Override: DELETE", "Cookie: a=b", "Origin: https://evil.example",
        "Proxy-Authorization: Basic eA==", "X-Towline-Peer: 1.1.1.1", "X-Request-Id: chosen", "TE: trailers",
        "Keep-Alive: timeout=9",
    )  # fmt: skip
    assert (await access.get(PODS, token, *fields, "Accept: application/json", "X-Other: kept")).status == 200
    (sent,) = prod.sent
    assert sorted({name for name, _ in sent.fields}) == ["accept", "host", "x-other", "x-request-id"]
    assert sent.field("x-request-id") != "chosen"


async def test_repeated_fields_and_the_query_travel_as_they_were_sent(
    access: Access, prod: StandIn, token: str
) -> None:
    prod.script = answers(SWITCH)
    async with await access.client() as client:
        await client.send(request("POST", EXEC, token, *SPDY))
        await client.until(b"\r\n\r\n")
    (sent,) = prod.sent
    target = b"/api/v1/namespaces/shop/pods/web/exec?command=sh&command=-c&command=a%20b&stdout=true"
    assert sent.line == b"POST " + target + b" HTTP/1.1"
    offered = [value for name, value in sent.fields if name == "x-stream-protocol-version"]
    assert offered == ["v5.channel.k8s.io", "v4.channel.k8s.io"]


async def test_token_in_a_websocket_protocol_is_refused(access: Access, prod: StandIn, token: str) -> None:
    fields = (*WEBSOCKET, "Sec-WebSocket-Protocol: base64url.bearer.authorization.k8s.io.c2VjcmV0")
    assert (await access.get(EXEC, token, *fields)).is_status(400)
    assert prod.streams == 0


# -- paths ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/namespaces/default%2Fpods/p1",
        "/api%2Fv1/pods",
        "/api/v1/pods%2f",
        "/api/v1/%2e%2e/pods",
        "/api/v1/../v1/pods",
        "/api/v1/./pods",
        "/api/v1//pods",
        "//api/v1/pods",
        "/api/v1/pods%00",
        "/api/v1/pods%5c",
        "/api/v1\\pods",
        "/api/v1/pods%",
        "/api/v1/pods%zz",
        "/api/v1/pods%ff",
        "/api/v1/pods%252f",
        "/api/v1/proxy/namespaces/shop/pods/web",
    ],
)
async def test_path_that_two_readers_could_read_in_two_ways_is_refused(
    access: Access, prod: StandIn, token: str, path: str
) -> None:
    assert (await access.get(BASE + path, token)).is_status(400)
    assert prod.streams == 0


@pytest.mark.parametrize("path", ["/k8s/clusters/", "/k8s/clusters", "/k8s/", "/k8s/clusters/Prod/api", "/k8s/x/prod"])
async def test_path_without_a_cluster_is_a_404_that_explains(access: Access, prod: StandIn, path: str) -> None:
    answer = await access.get(path)
    assert answer.is_status(404)
    assert "/k8s/clusters/NAME" in answer.says["message"]


@pytest.mark.parametrize("path", ["/api", "/apis", "/version", "/openapi/v3", "/api/v1/pods"])
async def test_request_without_the_prefix_is_told_what_is_missing(access: Access, path: str) -> None:
    answer = await access.get(path)
    assert answer.status == 404
    assert answer.says["kind"] == "Status"
    assert "/k8s/clusters/NAME" in answer.says["message"]


async def test_trailing_slash_and_bare_cluster_are_the_root_of_its_api(
    access: Access, prod: StandIn, token: str
) -> None:
    for path in (BASE, f"{BASE}/"):
        assert (await access.get(path, token)).status == 200
    assert [sent.line for sent in prod.sent] == [b"GET / HTTP/1.1"] * 2


async def test_tail_of_a_proxied_workload_keeps_its_encoding(access: Access, prod: StandIn, token: str) -> None:
    path = "/api/v1/namespaces/shop/services/web:80/proxy/a%2Fb/%2e?x=%2F;y"
    assert (await access.get(BASE + path, token)).status == 200
    assert prod.sent[0].line == f"GET {path} HTTP/1.1".encode()


@pytest.mark.parametrize("method", ["OPTIONS", "TRACE", "LINK"])
async def test_method_without_a_verb_is_refused(access: Access, prod: StandIn, token: str, method: str) -> None:
    answer = await access.ask(request(method, PODS, token))
    assert answer.status in (400, 501)
    assert not [name for name in answer.fields if name.startswith("access-control-")]
    assert prod.streams == 0


# -- framing --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "lines",
    [
        b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        b"Content-Length: +3\r\n\r\nabc",
        b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"X-Folded: a\r\n b\r\n\r\n",
        b"X-Bare: a\nX-Other: b\r\n\r\n",
        b"X-Blank : a\r\n\r\n",
        b"Host: localhost\r\n\r\n",
        b"X-Long: " + b"a" * 70_000 + b"\r\n\r\n",
    ],
)
async def test_ambiguous_request_is_refused_and_the_connection_ends(
    access: Access, prod: StandIn, token: str, lines: bytes
) -> None:
    smuggled = request("GET", PODS, token)
    head = f"POST {PODS} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n".encode()
    async with await access.client() as client:
        await client.send(head + lines + smuggled)
        got = await client.to_end()
    assert got.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 431 "))
    assert got.count(b"HTTP/1.1 ") == 1
    assert prod.sent == []
    assert (await access.get(PODS, token)).status == 200


async def test_bodies_pass_whole_and_framed_as_they_came(access: Access, prod: StandIn, token: str) -> None:
    bodies: list[bytes] = []

    async def script(stream: ApiStream, sent: Sent) -> None:
        wanted = 5 if sent.field("content-length") else 15
        body = b""
        while len(body) < wanted:
            body += await stream.read()
        bodies.append(body)
        await stream.write(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")

    prod.script = script
    fixed = request("POST", PODS, token, "Content-Type: application/vnd.kubernetes.protobuf", body=b"k8s\x00\xff")
    assert (await access.ask(fixed)).status == 201
    chunked = request("POST", PODS, token, "Transfer-Encoding: chunked") + b"5\r\nhello\r\n0\r\n\r\n"
    assert (await access.ask(chunked)).status == 201
    assert bodies == [b"k8s\x00\xff", b"5\r\nhello\r\n0\r\n\r\n"]
    assert prod.sent[1].field("transfer-encoding") == "chunked"


async def test_client_that_expects_100_sends_its_body_only_once_the_request_may_go(
    access: Access, prod: StandIn, token: str
) -> None:
    viewer = await access.token("vera", Right(Role.VIEWER))

    async def script(stream: ApiStream, sent: Sent) -> None:
        await stream.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert await stream.read() == b"hello"
        await stream.write(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")

    prod.script = script
    for who, first in ((viewer, b"HTTP/1.1 403 "), (token, b"HTTP/1.1 100 ")):
        async with await access.client() as client:
            await client.send(request("POST", PODS, who, "Expect: 100-continue", "Content-Length: 5"))
            assert (await client.until(b"\r\n\r\n")).startswith(first)
            if who is token:
                await client.send(b"hello")
                assert (await client.answer())[0] == 201
    assert len(prod.sent) == 1


# -- upgrades -------------------------------------------------------------------------------------


async def test_101_makes_a_pipe_that_carries_any_bytes_both_ways(access: Access, prod: StandIn, token: str) -> None:
    async def script(stream: ApiStream, sent: Sent) -> None:
        await stream.write(SWITCH + b"\x80\x03hello")
        while piece := await stream.read():
            await stream.write(piece[::-1])

    prod.script = script
    async with await access.client() as client:
        await client.send(request("POST", EXEC, token, *SPDY))
        head = await client.until(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 ")
        assert b"Upgrade: SPDY/3.1\r\n" in head
        assert await client.exactly(7) == b"\x80\x03hello"
        await client.send(b"GET / HTTP/1.1\r\n\r\n")
        assert await client.exactly(18) == b"GET / HTTP/1.1\r\n\r\n"[::-1]


async def test_end_of_either_side_of_a_pipe_reaches_the_other(access: Access, prod: StandIn, token: str) -> None:
    ended: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def script(stream: ApiStream, sent: Sent) -> None:
        await stream.write(SWITCH)
        data = b""
        while piece := await stream.read():
            data += piece
        await stream.write(b"after your end")
        await stream.write_eof()
        ended.set_result(data)

    prod.script = script
    async with await access.plain_client() as client:
        await client.send(request("POST", EXEC, token, *SPDY, host=f"localhost:{access.port}"))
        await client.until(b"\r\n\r\n")
        await client.send(b"all I have")
        client.writer.write_eof()
        assert await client.to_end() == b"after your end"
    async with asyncio.timeout(10):
        assert await ended == b"all I have"


@pytest.mark.parametrize("status", [b"403 Forbidden", b"404 Not Found", b"200 OK"])
async def test_bytes_behind_a_failed_upgrade_are_no_second_request(
    access: Access, prod: StandIn, token: str, status: bytes
) -> None:
    prod.script = answers(b"HTTP/1.1 " + status + b"\r\nContent-Length: 2\r\n\r\nno")
    async with await access.client() as client:
        await client.send(request("POST", EXEC, token, *SPDY) + request("DELETE", f"{PODS}/web", token))
        got = await client.to_end()
    assert got.startswith(b"HTTP/1.1 " + status)
    assert got.count(b"HTTP/1.1 ") == 1
    assert len(prod.sent) == 1


async def test_bytes_that_come_with_an_upgrade_wait_for_the_101(access: Access, prod: StandIn, token: str) -> None:
    early: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def script(stream: ApiStream, sent: Sent) -> None:
        try:
            async with asyncio.timeout(0.3):
                early.set_result(await stream.read())
        except TimeoutError:
            early.set_result(b"")
        await stream.write(SWITCH)
        await stream.write(await stream.read())

    prod.script = script
    async with await access.client() as client:
        await client.send(request("POST", EXEC, token, *SPDY) + b"early bytes")
        await client.until(b"\r\n\r\n")
        assert await client.exactly(11) == b"early bytes"
    assert await early == b""


@pytest.mark.parametrize("path", [PODS, f"{PODS}?watch=true", f"{PODS}/web/log?follow=true", f"{BASE}/version"])
async def test_nothing_else_can_be_upgraded(access: Access, prod: StandIn, token: str, path: str) -> None:
    assert (await access.get(path, token, *WEBSOCKET)).is_status(400)
    assert (await access.ask(request("POST", path, token, *SPDY))).is_status(400)
    assert prod.streams == 0


async def test_redirect_of_an_upgrade_is_never_passed_on(access: Access, prod: StandIn, token: str) -> None:
    prod.script = answers(b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n")
    assert (await access.get(EXEC, token, *WEBSOCKET)).is_status(502)


# -- answers --------------------------------------------------------------------------------------


async def test_answers_pass_as_they_are_but_for_what_is_about_this_origin(
    access: Access, prod: StandIn, token: str
) -> None:
    prod.script = answers(
        b'HTTP/1.1 429 Too Many Requests\r\nRetry-After: 3\r\nAudit-Id: 7\r\nETag: "x"\r\nVary: Accept-Encoding\r\n'
        b'Content-Encoding: gzip\r\nX-Kubernetes-Pf-Flowschema-Uid: u\r\nWarning: 299 - "old"\r\n'
        b"Set-Cookie: a=b\r\nAccess-Control-Allow-Origin: *\r\nContent-Length: 3\r\n\r\n\x1f\x8b\x00"
    )
    answer = await access.get(PODS, token)
    kept = ("retry-after", "audit-id", "etag", "vary", "content-encoding", "x-kubernetes-pf-flowschema-uid", "warning")
    assert answer.status == 429
    assert [answer.fields.get(name) for name in kept] == [
        "3",
        "7",
        '"x"',
        "Accept-Encoding",
        "gzip",
        "u",
        '299 - "old"',
    ]
    assert not {"set-cookie", "access-control-allow-origin"} & set(answer.fields)
    assert answer.body == b"\x1f\x8b\x00"


async def test_location_gets_the_prefix_back_and_leads_nowhere_else(access: Access, prod: StandIn, token: str) -> None:
    proxy = f"{BASE}/api/v1/namespaces/shop/services/web/proxy/"
    for location, path, status, found in (
        ("/api/v1/nodes/n1/proxy/", f"{BASE}/api/v1/nodes/n1/proxy", 301, f"{BASE}/api/v1/nodes/n1/proxy/"),
        ("https://evil.example/", PODS, 502, None),
        ("//evil.example/", proxy, 502, None),
    ):
        data = f"HTTP/1.1 301 Moved\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"
        prod.script = answers(data.encode())
        answer = await access.get(path, token)
        assert (answer.status, answer.fields.get("location")) == (status, found)


async def test_pages_of_workloads_are_in_a_sandbox(access: Access, prod: StandIn, token: str) -> None:
    prod.script = answers(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 2\r\n\r\nhi")
    answer = await access.get(f"{BASE}/api/v1/namespaces/shop/services/web/proxy/", token)
    assert answer.fields["content-security-policy"] == "sandbox"
    assert answer.fields["x-content-type-options"] == "nosniff"


# -- two users ------------------------------------------------------------------------------------


async def test_two_users_never_share_a_stream_nor_an_identity(access: Access, prod: StandIn, token: str) -> None:
    tokens = {"towline:ada": token}
    for name, role in (("bob", Role.VIEWER), ("eve", Role.DEPLOYER)):
        tokens[f"towline:{name}"] = await access.token(name, Right(role))
    by_stream: dict[object, set[str]] = {}  # by the object, which must live on: a number may come again

    async def script(stream: ApiStream, sent: Sent) -> None:
        by_stream.setdefault(stream.stream, set()).add(sent.target.user)
        body = f"{sent.target.user} {sent.line.split()[1].decode()}".encode()
        await stream.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))

    prod.script = script

    async def ask(who: str, number: int) -> None:
        async with await access.client() as client:
            for turn in range(10):
                await client.send(request("GET", f"{PODS}/{number}-{turn}", tokens[who]))
                status, _, body = await client.answer()
                assert (status, body) == (200, f"{who} /api/v1/namespaces/shop/pods/{number}-{turn}".encode())

    for first in range(0, 99, 33):
        async with asyncio.TaskGroup() as group:
            for number in range(first, first + 33):
                group.create_task(ask(list(tokens)[number % 3], number))
    assert len(prod.sent) == 990
    assert all(len(users) == 1 for users in by_stream.values())
    assert prod.streams < 990  # idle streams are used again


async def test_one_connection_with_two_tokens_changes_its_identity_with_each_request(
    access: Access, prod: StandIn, token: str
) -> None:
    other = await access.token("zoe", Right(Role.VIEWER))
    async with await access.client() as client:
        for who in (token, other, token):
            await client.send(request("GET", PODS, who))
            await client.answer()
    assert [sent.target.user for sent in prod.sent] == ["towline:ada", "towline:zoe", "towline:ada"]
