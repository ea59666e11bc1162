"""A PipeOps agent without yamux serves Kubernetes by messages: a played agent, the real server, our agent's code."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.support import prepared
from tests.support.kube_agent import KubeClient
from tests.support.pipeops_agent import TEXT, Gone, PlayedAgent
from tests.support.pipeops_plane import Plane, pipeops_plane, registered, until

from towline.agent.standin import StandIn
from towline.control.protocols.pipeops import connection
from towline.control.protocols.pipeops.kube import AUTHORITY_PATH
from towline.tunnel.errors import TargetRefused
from towline.wire import link, streams

SOMEBODY = streams.Kube(user="towline:ada", groups=("towline:role:viewer",))
FALLBACK = {"unknown_type": "gateway_hello", "agent_version": "pipeops-k8-agent"}
DENIED = b'{"kind":"Status","status":"Failure","reason":"Forbidden","code":403}'
Answer = Callable[[dict[str, Any]], tuple[int, bytes]]


@pytest.fixture
async def plane(prepared_sqlite: Path, tmp_path: Path) -> AsyncIterator[Plane]:
    async with pipeops_plane(prepared.sqlite_copy(prepared_sqlite, tmp_path), tmp_path, StandIn) as made:
        yield made


async def allow(plane: Plane, allowed: bool = True) -> None:
    await plane.running.control.protocols.pipeops.tokens.allow(plane.access, "shop", allowed)


class Proxy:
    """The played agent's half: answers what is asked of the cluster, and keeps it."""

    def __init__(self, played: PlayedAgent, answer: Answer) -> None:
        self.played = played
        self.answer = answer
        self.asked: list[dict[str, Any]] = []
        self.others: list[dict[str, Any]] = []

    async def serve(self) -> None:
        try:
            while True:
                kind, text = await self.played.next_frame()
                if kind != TEXT:
                    continue  # yamux, which nobody answers here
                message = json.loads(text)
                if message["type"] == "proxy_request":
                    self.asked.append(message["payload"])
                    await self.tell(message["request_id"], *self.answer(message["payload"]))
                else:
                    self.others.append(message)
        except Gone:
            return

    async def tell(self, request_id: str, status: int, body: bytes) -> None:
        headers = {"Content-Type": ["application/json"]}
        await self.played.say("proxy_response_header", {"headers": headers, "status": status}, request_id=request_id)
        data = {"data": base64.b64encode(body).decode(), "encoding": "base64", "size": len(body)}
        await self.played.say("proxy_response_chunk", data, request_id=request_id)
        await self.played.say("proxy_response_end", {}, request_id=request_id)


def nothing(asked: dict[str, Any]) -> tuple[int, bytes]:
    return 403, DENIED


def version(asked: dict[str, Any]) -> tuple[int, bytes]:
    return (200, b'{"major":"1"}') if asked["path"] == "/version" else (403, DENIED)


@asynccontextmanager
async def served(plane: Plane, answer: Answer = version) -> AsyncIterator[Proxy]:
    """An agent without yamux, whose token may be used."""
    async with plane.connect() as played:
        await registered(played)
        await played.next("gateway_hello")
        await allow(plane)
        proxy = Proxy(played, answer)
        task = asyncio.ensure_future(proxy.serve())
        await played.say("protocol_fallback", FALLBACK)
        try:
            await until(lambda: not plane.session.kube.reason)
            yield proxy
        finally:
            played.writer.close()
            await task


async def test_an_agent_that_does_not_know_the_offer_serves_kubernetes_all_the_same(plane: Plane) -> None:
    async with served(plane) as proxy:
        client = KubeClient(await plane.session.open_stream(SOMEBODY))
        answer = await client.ask("GET", "/version")
        assert (answer.status, answer.json) == (200, {"major": "1"})
        (asked,) = [one for one in proxy.asked if "Impersonate-User" in one["headers"]]
        assert asked["headers"]["Authorization"] == "Bearer sa-token-of-the-agent"
        assert asked["headers"]["Impersonate-User"] == "towline:ada"
        assert asked["headers"]["Impersonate-Group"] == "towline:role:viewer"
        assert asked["supports_response_streaming"] is True
        assert not {"Host", "Content-Length", "Connection"} & set(asked["headers"])
        assert AUTHORITY_PATH not in [one["path"] for one in proxy.asked]
        assert plane.session.capabilities() == (link.Capability(name="kubernetes", ready=True, version="v1.36.3"),)


async def test_an_agent_that_says_nothing_of_the_offer_is_taken_for_one_without_yamux(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "YAMUX_PATIENCE", 0.05)
    async with plane.connect() as played:
        await registered(played)
        await allow(plane)
        await until(lambda: plane.session.connection.declines_yamux and not plane.session.kube.reason)


async def test_without_the_switch_nothing_is_asked(plane: Plane) -> None:
    async with plane.connect() as played:
        await registered(played)
        await played.say("protocol_fallback", FALLBACK)
        await until(lambda: "may not be used" in plane.session.kube.reason)
        with pytest.raises(TargetRefused, match="--use-registered-token"):
            await plane.session.open_stream(SOMEBODY)


async def test_a_body_reaches_the_agent_whole(plane: Plane) -> None:
    body = json.dumps({"kind": "ConfigMap", "data": {"a": "x" * 200_000}}).encode()

    def made(asked: dict[str, Any]) -> tuple[int, bytes]:
        return (201, base64.b64decode(asked["body"])) if asked["method"] == "POST" else (403, DENIED)

    async with served(plane, made):
        client = KubeClient(await plane.session.open_stream(SOMEBODY))
        path = "/api/v1/namespaces/default/configmaps"
        answer = await client.ask("POST", path, "Content-Type: application/json", body=body)
        assert (answer.status, answer.body) == (201, body)


async def test_a_token_that_the_cluster_does_not_take_is_told_as_that(plane: Plane) -> None:
    async with served(plane, lambda asked: (401, b'{"reason":"Unauthorized"}')):
        client = KubeClient(await plane.session.open_stream(SOMEBODY))
        answer = await client.ask("GET", "/version")
        assert answer.status == 503 and b"credentials" in answer.body


async def test_the_switch_turned_off_ends_what_runs(plane: Plane) -> None:
    async with served(plane):
        stream = await plane.session.open_stream(SOMEBODY)
        await allow(plane, False)
        with pytest.raises(Exception, match="may not be used"):
            await stream.read()
        await until(lambda: not plane.session.kube._fallback.lines)


async def test_an_opener_that_goes_away_leaves_nothing_behind(plane: Plane) -> None:
    async with served(plane, nothing) as proxy:
        proxy.answer = lambda asked: (200, b"{")
        client = KubeClient(await plane.session.open_stream(SOMEBODY))
        await client.ask("GET", "/version")
        lines = len(plane.session.kube._fallback.lines)
        client.stream.abort("done")
        await until(lambda: len(plane.session.kube._fallback.lines) == lines - 1)


async def test_a_late_answer_to_the_offer_is_taken(plane: Plane) -> None:
    async with served(plane) as proxy:
        first = plane.session.kube._stand_in
        proxy.answer = lambda asked: (
            (200, b'{"data":{"ca.crt":"-----BEGIN CERTIFICATE-----"}}')
            if asked["path"] == AUTHORITY_PATH
            else (403, DENIED)
        )
        await proxy.played.say("gateway_hello_ack", {"use_yamux": True})
        await until(lambda: plane.session.connection.mux is not None)
        await until(lambda: plane.session.kube._authorities)
        assert plane.session.kube._stand_in is first and not plane.session.kube.reason


async def test_services_say_what_they_need(plane: Plane) -> None:
    async with served(plane):
        target = streams.KubeService(namespace="default", name="web", port="80")
        with pytest.raises(TargetRefused, match="yamux"):
            await plane.session.open_stream(target)
