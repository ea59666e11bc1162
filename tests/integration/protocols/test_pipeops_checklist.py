"""Rules for a control plane of PipeOps agents that the real server shows: its first moment, gateway mode, closes."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.support import prepared
from tests.support.pipeops_agent import REGISTER, PlayedAgent, heartbeat, upgrade
from tests.support.pipeops_plane import Plane, pipeops_plane, registered, until, with_yamux
from tests.support.served import served, trusting

from towline.control.clusters.models import Cluster
from towline.wire import streams

GATEWAY = "/api/v1/clusters/agent/ws?cluster_uuid=x&supports_streaming=true&supports_yamux=true"
WEB = streams.KubeService(namespace="default", name="web", port="80")


@pytest.fixture
async def plane(prepared_sqlite: Path, tmp_path: Path) -> AsyncIterator[Plane]:
    async with pipeops_plane(prepared.sqlite_copy(prepared_sqlite, tmp_path), tmp_path) as made:
        yield made


async def test_the_first_connection_that_the_port_takes_is_let_in(prepared_sqlite: Path, tmp_path: Path) -> None:
    """An agent tries its first connection once: one that a server in its start refuses leaves it alone for ever."""
    url = prepared.sqlite_copy(prepared_sqlite, tmp_path)
    async with pipeops_plane(url, tmp_path) as plane:
        async with plane.connect() as played:
            known = await registered(played)
        port, context = plane.running.port, trusting(plane.running)
    first = asyncio.create_task(_first(port, plane.token, context))
    async with served(url, tmp_path, listen=f"127.0.0.1:{port}"):
        played = await first
        assert (await registered(played))["cluster_id"] == known["cluster_id"]
        await played.close()


async def _first(port: int, token: str, context: ssl.SSLContext) -> PlayedAgent:
    """Knock until somebody listens; whatever is answered then is the answer."""
    while True:
        try:
            return await upgrade(port, token, context)
        except ConnectionRefusedError:
            await asyncio.sleep(0)
        except OSError as error:
            if "Multiple exceptions" not in str(error):  # refused by both of the host name's addresses
                raise
            await asyncio.sleep(0)


async def test_yamux_is_offered_and_carries_streams_in_gateway_mode_too(plane: Plane) -> None:
    async with plane.connect() as played:
        known = await registered(played)
    async with plane.connect(path=GATEWAY) as played:
        await played.say("heartbeat", heartbeat("agent-1", known["cluster_id"]))
        asked = await played.next("ping")
        await played.say("pong", request_id=asked["request_id"])
        await with_yamux(played)
        await until(lambda: plane.session.connection.mux)
        await plane.session.open_stream(WEB)
        assert (await played.stream(2, 6))[:4] == b"\x01\x01\x00\x50"


@pytest.mark.parametrize(
    ("name", "payload"),
    [
        ("heartbeat", {"agent_id": "agent-1", "cluster_id": "another", "metadata": {}}),
        ("heartbeat", {"agent_id": "nobody", "cluster_id": "", "metadata": {}}),
        ("heartbeat", {"metadata": 7}),
        ("register", {"agent_id": 7}),
        ("proxy_response_chunk", {"data": 7}),
        ("ingress_routes", {"action": "add", "routes": 7}),
    ],
)
async def test_nothing_that_an_agent_in_gateway_mode_says_makes_it_forget_its_cluster(
    plane: Plane, name: str, payload: dict[str, Any]
) -> None:
    async with plane.connect() as played:
        await registered(played)
    async with plane.connect(path=GATEWAY) as played:
        await played.say(name, payload, request_id="r")
        await played.say("ping", request_id="sync")
        while (message := await played.next())["type"] != "pong":
            words = str(message["payload"].get("error", "")).lower()
            assert "not registered" not in words and "cluster not found" not in words


async def test_a_registration_that_asks_to_resume_an_unknown_cluster_gets_its_own(plane: Plane) -> None:
    async with plane.connect() as played:
        first = await registered(played, cluster_id="11111111-2222-3333-4444-555555555555")
        again = await registered(played, cluster_id=first["cluster_id"])
        assert again["cluster_id"] == first["cluster_id"] == first["cluster_uuid"]
    (cluster,) = await plane.rows(Cluster)
    assert cluster.id == first["cluster_id"]


async def test_the_answer_to_a_registration_sends_nobody_to_a_gateway(plane: Plane) -> None:
    async with plane.connect() as played:
        assert "gateway_ws_url" not in await registered(played)
        assert "token" not in await registered(played)


async def test_the_servers_own_end_closes_with_a_code_that_agents_come_back_from(plane: Plane) -> None:
    async with plane.connect() as played:
        await registered(played)
        plane.session.close(reason="moving")
        assert await played.until_closed() in (1000, 1001)
    async with plane.connect():
        await until(lambda: plane.links)


async def test_messages_before_a_registration_ask_for_nothing_and_are_counted(plane: Plane) -> None:
    async with plane.connect() as played:
        for name in ("pong", "backpressure", "ingress_routes", "gateway_hello_ack", "proxy_websocket_close"):
            await played.say(name, {"reason": "x", "action": "add", "routes": [], "use_yamux": True})
        assert (await registered(played, **REGISTER))["cluster_id"]
        assert not plane.session.connection.mux
        assert plane.session.connection.strikes == 1  # the acknowledgement of what was not offered
