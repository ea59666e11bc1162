"""Our agent at a PipeOps WebSocket control plane: registration, requests, WebSockets, raw streams, bad manners."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from tests.support.older_agent import OlderAgent, older_agent
from tests.support.older_planes import TOKEN
from tests.support.small_api import SmallApi
from tests.support.spoken_fixtures import agent, api, names, plane
from tests.support.spoken_pipeops import PipeOpsPlane, raw_of, request, said, whole

from towline.agent.policy import KubernetesRules, LocalPolicy
from towline.wire import pipeops_frames as frames

PODS = "/api/v1/namespaces/web/pods"


__all__ = ["agent", "api", "names", "plane"]


@asynccontextmanager
async def application() -> AsyncIterator[int]:
    """A service of the cluster: what it is sent it sends back, over HTTP and over WebSockets. Gives its port."""

    async def echo(asked: web.Request) -> web.StreamResponse:
        body = await asked.read()
        return web.json_response({"host": asked.host, "path": asked.raw_path, "body": body.decode()})

    async def socket(asked: web.Request) -> web.StreamResponse:
        opened = web.WebSocketResponse(protocols=("chat",))
        await opened.prepare(asked)
        async for message in opened:
            if message.data == "end":
                break
            await opened.send_str(f"you said {message.data}")
        await opened.close()
        return opened

    app = web.Application()
    app.router.add_get("/socket", socket)
    app.router.add_route("*", "/{path:.*}", echo)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def publish(api: SmallApi, port: int) -> dict[str, Any]:
    """Make a service of that port known; returns the fields that name it in a request."""
    spec = {"type": "ClusterIP", "clusterIP": "127.0.0.1", "ports": [{"port": port, "protocol": "TCP"}]}
    service = {"metadata": {"name": "shop", "namespace": "web"}, "spec": spec}
    api.answers["/api/v1/namespaces/web/services/shop"] = (200, "application/json", json.dumps(service).encode())
    return {"service_name": "shop", "namespace": "web", "service_port": port}


# -- registration --------------------------------------------------------------------------------


async def test_register_is_the_first_message_and_a_heartbeat_follows(plane: PipeOpsPlane, agent: OlderAgent) -> None:
    line = await plane.connected()
    assert line.path == "/api/v1/clusters/agent/ws"
    asked = await line.next()
    assert asked["type"] == "register" and asked["payload"]["agent_id"] == "agent-1"
    assert asked["payload"]["k8s_service_token"] == "secret-of-the-agent"
    assert asked["payload"]["metadata"]["registration_mode"] == "fresh"
    await line.send({"type": "register_success", "request_id": "another", "payload": {"cluster_id": "x"}})
    await line.send({"type": "register_success", "request_id": asked["request_id"], "payload": {"cluster_id": "clu-1"}})
    beat = await said(line, "heartbeat")
    assert (beat["payload"]["cluster_id"], beat["payload"]["agent_id"]) == ("clu-1", "agent-1")


async def test_the_token_of_the_cluster_is_kept_where_the_policy_limits_it(
    plane: PipeOpsPlane, agent: OlderAgent
) -> None:
    line = await plane.registered()
    agent.host.policy = LocalPolicy(kubernetes=KubernetesRules(read_only=True))
    await line.send({"type": "error", "payload": {"error": "cluster not registered"}})
    assert "k8s_service_token" not in (await said(line, "register"))["payload"]


async def test_the_cluster_is_resumed_after_a_restart(plane: PipeOpsPlane, api: SmallApi, tmp_path: Path) -> None:
    async with older_agent("pipeops-ws", plane.url, tmp_path, cluster=api.material):
        await said(await plane.registered(), "heartbeat")
    async with older_agent("pipeops-ws", plane.url, tmp_path, cluster=api.material):
        payload = (await (await plane.connected()).next())["payload"]
        assert (payload["cluster_id"], payload["metadata"]["registration_mode"]) == ("clu-1", "resume")


async def test_an_error_that_it_is_not_registered_leads_to_a_fresh_registration(
    plane: PipeOpsPlane, agent: OlderAgent
) -> None:
    line = await plane.registered()
    await line.send({"type": "error", "payload": {"error": "Cluster NOT FOUND"}})
    again = await said(line, "register")
    assert "cluster_id" not in again["payload"]


async def test_the_agent_goes_to_the_gateway_that_it_is_told(plane: PipeOpsPlane, agent: OlderAgent) -> None:
    await plane.registered(gateway_ws_url=f"ws://{plane.address}/gate?zone=a", cluster_uuid="uuid-1")
    gateway = await plane.connected()
    path, _, query = gateway.path.partition("?")
    assert path == "/gate" and {"zone=a", "cluster_uuid=uuid-1", "supports_yamux=true"} <= set(query.split("&"))
    assert (await gateway.next())["type"] == "heartbeat"
    await gateway.send({"type": "error", "payload": {"error": "agent not registered"}})
    assert (await (await plane.connected()).next())["type"] == "register", "a gateway never loses it"


async def test_a_refused_token_is_tried_again(plane: PipeOpsPlane, api: SmallApi, tmp_path: Path) -> None:
    plane.token = "another"
    async with older_agent("pipeops-ws", plane.url, tmp_path, cluster=api.material):
        async with asyncio.timeout(20):
            while plane.refused < 2:
                await asyncio.sleep(0.01)
        plane.token = TOKEN
        await plane.registered()


async def test_a_ping_is_answered_with_its_id(plane: PipeOpsPlane, agent: OlderAgent) -> None:
    line = await plane.registered()
    await line.send({"type": "ping", "request_id": "p1", "payload": {}})
    assert (await said(line, "pong"))["request_id"] == "p1"


# -- requests ------------------------------------------------------------------------------------


async def test_a_request_to_the_api_server_is_streamed_back(plane: PipeOpsPlane, agent: OlderAgent) -> None:
    line = await plane.registered()
    await line.send(request("r1", "/api/v1/pods"))
    status, body = await whole(line, "r1")
    assert status == 200 and json.loads(body)["items"][0]["metadata"]["name"] == "a"


async def test_a_request_passes_with_the_token_that_it_names_and_no_other(
    plane: PipeOpsPlane, agent: OlderAgent, api: SmallApi
) -> None:
    line = await plane.registered()
    await line.send(request("r1", "/api/v1/pods", headers={"Authorization": "Bearer theirs"}))
    await whole(line, "r1")
    await line.send(request("r2", "/api/v1/pods", headers={}))
    await whole(line, "r2")
    asked = [headers.get("authorization") for _, path, headers in api.asked if path == "/api/v1/pods"]
    assert asked == ["Bearer theirs", None]


async def test_the_policy_of_the_host_judges_requests(plane: PipeOpsPlane, agent: OlderAgent) -> None:
    agent.host.policy = LocalPolicy(kubernetes=KubernetesRules(secrets=False))
    line = await plane.registered()
    await line.send(request("r1", "/api/v1/namespaces/web/secrets"))
    assert "secrets" in (await said(line, "proxy_response_abort", "r1"))["payload"]["error"]
    await line.send(request("r2", "/api/v1/../v1/secrets"))
    await said(line, "proxy_response_abort", "r2")


async def test_a_buffered_answer_is_one_message(plane: PipeOpsPlane, agent: OlderAgent) -> None:
    line = await plane.registered()
    await line.send(request("r1", "/api/v1/pods", supports_response_streaming=False))
    answer = (await said(line, "proxy_response", "r1"))["payload"]
    body = base64.b64decode(answer["body"])
    assert json.loads(frames.inflate(body) if answer["encoding"] == "gzip" else body)["items"]


async def test_a_service_gets_host_path_and_a_body_in_chunks(
    plane: PipeOpsPlane, agent: OlderAgent, api: SmallApi
) -> None:
    line = await plane.registered()
    async with application() as port:
        where = publish(api, port) | {"headers": {"Host": "shop.example.com"}}
        await line.send(request("r1", "/a b/ä", method="POST", query="x=1;y=2", use_streaming=True, **where))
        for piece in (b"one ", b"two"):
            data = base64.b64encode(piece).decode()
            await line.send({"type": "proxy_request_chunk", "request_id": "r1", "payload": {"data": data}})
        await line.send({"type": "proxy_request_stream_end", "request_id": "r1", "payload": {}})
        status, body = await whole(line, "r1")
        found = json.loads(body)
        assert status == 200 and found == {
            "host": "shop.example.com",
            "path": "/a%20b/%C3%A4?x=1;y=2",
            "body": "one two",
        }


async def test_a_followed_log_goes_on_until_it_is_cancelled(
    plane: PipeOpsPlane, agent: OlderAgent, api: SmallApi
) -> None:
    line = await plane.registered()
    await api.write("web/a/app", "first")
    await line.send(request("r1", f"{PODS}/a/log", query="follow=true&container=app"))
    await said(line, "proxy_response_chunk", "r1")
    await api.write("web/a/app", "second")
    chunk = await said(line, "proxy_response_chunk", "r1")
    assert base64.b64decode(chunk["payload"]["data"]) == b"second\n"
    assert len(api.log_connections) == 1
    await line.send({"type": "proxy_cancel", "request_id": "r1", "payload": {}})
    async with asyncio.timeout(10):
        while api.log_connections:
            await asyncio.sleep(0.01)


# -- WebSockets ----------------------------------------------------------------------------------


async def test_an_applications_socket_carries_frames_in_order_and_tells_its_end(
    plane: PipeOpsPlane, agent: OlderAgent, api: SmallApi
) -> None:
    line = await plane.registered()
    async with application() as port:
        where = publish(api, port)
        await line.send(request("w1", "/socket", is_websocket=True, protocol="chat", **where))
        header = (await said(line, "proxy_response_header", "w1"))["payload"]
        assert header["status"] == 101 and header["headers"]["Sec-Websocket-Protocol"] == ["chat"]
        await said(line, "proxy_response_end", "w1")
        for word in ("a", "b", "c"):
            await line.send(_frame("w1", frames.TEXT, word.encode()))
        got = [(await said(line, "proxy_websocket_data", "w1"))["payload"] for _ in range(3)]
        assert [base64.b64decode(each["data"])[1:] for each in got] == [b"you said a", b"you said b", b"you said c"]
        assert got[0]["message_type"] == 1
        await line.send(_frame("w1", frames.TEXT, b"end"))
        await said(line, "proxy_websocket_close", "w1")


def _frame(stream: str, kind: int, payload: bytes) -> dict[str, Any]:
    data = base64.b64encode(frames.websocket_data(kind, payload)).decode()
    return {"type": "proxy_websocket_data", "request_id": stream, "payload": {"stream_id": stream, "data": data}}


async def test_a_start_that_cannot_be_is_refused_and_closed(plane: PipeOpsPlane, agent: OlderAgent) -> None:
    line = await plane.registered()
    for stream, path in (("s1", f"{PODS}/nobody/exec"), ("s2", "/etc/passwd")):
        await line.send({"type": "ws_start", "request_id": stream, "payload": {"stream_id": stream, "path": path}})
        assert (await said(line, "proxy_error", stream))["payload"]["error"]


# -- raw streams ---------------------------------------------------------------------------------


async def test_a_raw_stream_reaches_a_service_and_the_api_server(
    plane: PipeOpsPlane, agent: OlderAgent, api: SmallApi
) -> None:
    raw = await raw_of(await plane.registered())
    get = b"GET /api/v1/pods HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    async with application() as port:
        publish(api, port)
        shop = frames.StreamHeader(service="shop", namespace="web", port=port)
        assert b'"path": "/api/v1/pods"' in await raw.ask(shop, get)
    kubernetes = frames.StreamHeader(service="kubernetes", namespace="default", port=443)
    assert b'"items"' in await raw.ask(kubernetes, get)


async def test_a_raw_stream_that_may_not_or_cannot_be_ends_without_a_byte(
    plane: PipeOpsPlane, agent: OlderAgent
) -> None:
    agent.host.policy = LocalPolicy(kubernetes=KubernetesRules(secrets=False))
    raw = await raw_of(await plane.registered())
    for header in (
        frames.StreamHeader(service="kubernetes", namespace="default", port=443),
        frames.StreamHeader(service="nothing", namespace="web", port=80),
        frames.StreamHeader(service="shop", namespace="web", port=53, protocol=frames.UDP),
    ):
        assert await raw.ask(header, b"hello") == b""


# -- bad manners ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "message",
    [
        "not json", "[]", "{}", '{"type":7}', '{"type":"proxy_request"}', b"", b"\x00\xff",
        '{"type":"proxy_request","request_id":"x","payload":{"headers":7}}',
        '{"type":"proxy_stream_data","request_id":"x","payload":{"data":"AA=="}}',
        '{"type":"tcp_tunnel_start","request_id":"x","payload":{}}', '{"type":"udp_tunnel_data","payload":{}}',
        '{"type":"proxy_request_chunk","request_id":"x","payload":{"data":"AA=="}}',
        '{"type":"proxy_websocket_data","request_id":"x","payload":{"data":"AA=="}}',
        '{"type":"proxy_websocket_close","payload":{}}', '{"type":"proxy_cancel","request_id":"x","payload":{}}',
        '{"type":"register_success","request_id":"x","payload":{"cluster_id":""}}',
        '{"type":"no_such_thing","request_id":"x","payload":{}}', '{"type":"gateway_hello","payload":{}}',
    ],
)  # fmt: skip
async def test_no_message_costs_the_connection(plane: PipeOpsPlane, agent: OlderAgent, message: str | bytes) -> None:
    line = await plane.registered()
    await line.send(message)
    await line.send({"type": "ping", "request_id": "after", "payload": {}})
    assert (await said(line, "pong"))["request_id"] == "after"


async def test_an_unknown_type_is_told_once(plane: PipeOpsPlane, agent: OlderAgent) -> None:
    line = await plane.registered()
    for _ in range(3):
        await line.send({"type": "no_such_thing", "request_id": "x", "payload": {}})
    await line.send({"type": "ping", "request_id": "after", "payload": {}})
    told = await said(line, "protocol_fallback")
    assert told["payload"]["unknown_type"] == "no_such_thing"
    while (message := await line.next())["type"] != "pong":
        assert message["type"] != "protocol_fallback"
