"""PipeOps WebSocket agents at the real server: who they are, heartbeats, yamux, and what must never happen to them."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import update
from tests.support import prepared
from tests.support.pipeops_agent import BINARY, REGISTER, TEXT, Refused, heartbeat, upgrade
from tests.support.pipeops_plane import Plane, multiplexed, pipeops_plane, registered, until, with_yamux
from tests.support.pipeops_traces import recorded
from tests.support.served import trusting

from towline.control.agents.models import Agent
from towline.control.clusters.models import Cluster
from towline.control.protocols.models import CompatAgent, CompatToken
from towline.control.protocols.pipeops import connection as limits
from towline.control.protocols.pipeops.registered import SEALED_FOR
from towline.control.protocols.pipeops.session import NO_JOBS
from towline.tunnel.errors import TargetRefused
from towline.wire import link, pipeops_frames, streams

WEB = streams.KubeService(namespace="default", name="web", port="80")


@pytest.fixture
async def plane(prepared_sqlite: Path, tmp_path: Path) -> AsyncIterator[Plane]:
    """A served control plane with a token of one agent."""
    async with pipeops_plane(prepared.sqlite_copy(prepared_sqlite, tmp_path), tmp_path) as made:
        yield made


# -- the upgrade -------------------------------------------------------------------------------


@pytest.mark.parametrize("token", ["", "wrong-token-of-nobody"])
async def test_an_unknown_token_is_answered_401_at_the_upgrade(plane: Plane, token: str) -> None:
    with pytest.raises(Refused, match="401"):
        await upgrade(plane.running.port, token, trusting(plane.running))


async def test_the_upgrade_is_answered_without_subprotocol_and_extensions(plane: Plane) -> None:
    async with plane.connect(Sec_WebSocket_Extensions="permessage-deflate") as played:
        assert b"sec-websocket-protocol" not in played.head.lower()
        assert b"sec-websocket-extensions" not in played.head.lower()


async def test_an_agent_in_gateway_mode_is_never_answered_401_or_403(plane: Plane) -> None:
    path = "/api/v1/clusters/agent/ws?cluster_uuid=x&supports_yamux=true"
    with pytest.raises(Refused, match="503"):
        await upgrade(plane.running.port, "wrong-token-of-nobody", trusting(plane.running), path=path)


async def test_a_revoked_agent_is_answered_403_and_so_stays_away(plane: Plane) -> None:
    async with plane.connect() as played:
        await registered(played)
    async with plane.running.control.db.begin() as tx:
        await tx.execute(update(Agent).values(state="revoked"))
    with pytest.raises(Refused, match="403"):
        await upgrade(plane.running.port, plane.token, trusting(plane.running))


async def test_a_revoked_agent_in_gateway_mode_is_answered_503(plane: Plane) -> None:
    async with plane.connect() as played:
        await registered(played)
    async with plane.running.control.db.begin() as tx:
        await tx.execute(update(Agent).values(state="revoked"))
    path = "/api/v1/clusters/agent/ws?cluster_uuid=x"
    with pytest.raises(Refused, match="503"):
        await upgrade(plane.running.port, plane.token, trusting(plane.running), path=path)


# -- registration --------------------------------------------------------------------------------


async def test_register_is_answered_with_the_same_request_id_and_a_cluster_id(plane: Plane) -> None:
    async with plane.connect() as played:
        answer = await registered(played)
        (cluster,) = await plane.rows(Cluster)
        assert answer["cluster_id"] == answer["cluster_uuid"] == cluster.id
        assert answer["name"] == cluster.name == "shop"
        assert "gateway_ws_url" not in answer
        assert plane.session.cluster_id == cluster.id


async def test_a_registration_shows_the_cluster_connected_with_its_facts(plane: Plane) -> None:
    async with plane.connect() as played:
        await registered(played)
        cluster = await plane.cluster_with("facts")
        assert cluster.connected
        assert cluster.facts["hostname"] == "node-1"
        assert cluster.facts["versions"]["kubernetes"] == "v1.36.3"
        (row,) = await plane.rows(Agent)
        assert (row.protocol, row.hostname, row.version) == ("pipeops", "node-1", "1.0.0-dev")


async def test_what_no_database_takes_is_left_out_of_a_registration(prepared_database_url: str, tmp_path: Path) -> None:
    odd = {name: f"odd\0{name}" for name in ("agent_id", "name", "hostname", "region", "k8s_version", "agent_version")}
    async with pipeops_plane(prepared_database_url, tmp_path) as plane, plane.connect() as played:
        await played.say("register", {**REGISTER, **odd}, request_id="req_odd")
        assert (await played.next("register_success"))["request_id"] == "req_odd"
        (compat,) = await plane.rows(CompatAgent)
        assert (compat.external_id, compat.info["region"]) == ("oddagent_id", "oddregion")
        cluster = await plane.cluster_with("facts")
        assert cluster.facts["hostname"] == "oddhostname"


async def test_a_registered_cluster_token_is_sealed_and_stored_nowhere_in_clear(plane: Plane) -> None:
    async with plane.connect() as played:
        await registered(played)
        (compat,) = await plane.rows(CompatAgent)
        assert compat.sealed_secret is not None
        assert not compat.secret_allowed
        opened = plane.running.control.sealer.open(compat.org_id, compat.agent_id, 1, SEALED_FOR, compat.sealed_secret)
        assert opened == b"sa-token-of-the-agent"
        assert "sa-token" not in json.dumps(compat.info)


async def test_registering_again_on_the_same_socket_keeps_the_cluster(plane: Plane) -> None:
    async with plane.connect() as played:
        first = await registered(played)
        session = plane.session
        assert await registered(played, cluster_id=first["cluster_id"]) == first
        assert plane.session is session


async def test_a_newer_connection_replaces_the_older_one_of_the_same_agent(plane: Plane) -> None:
    async with plane.connect() as old, plane.connect() as new:
        first = await registered(old)
        assert (await registered(new))["cluster_id"] == first["cluster_id"]
        assert await old.until_closed() == 1000
        assert len(plane.links) == 1


async def test_a_known_agent_that_comes_back_is_there_before_it_says_a_word(plane: Plane) -> None:
    async with plane.connect() as played:
        await registered(played)
    await until(lambda: not plane.links)
    async with plane.connect():
        await until(lambda: plane.links)


async def test_a_registration_without_an_agent_id_is_refused_and_the_socket_lives(plane: Plane) -> None:
    async with plane.connect() as played:
        await played.say("register", {**REGISTER, "agent_id": ""}, request_id="req_0")
        assert await registered(played)


async def test_an_unregistered_socket_is_kept_open(plane: Plane) -> None:
    async with plane.connect() as played:
        await played.send_frame(9, b"are you there")
        assert await played.next_frame() == (10, b"are you there")
        assert not plane.links


# -- shared tokens ---------------------------------------------------------------------------------


async def test_agents_with_a_shared_token_are_clusters_of_their_own_and_wait_for_approval(plane: Plane) -> None:
    shared = await plane.make_token(shared=True)
    async with shared.connect() as one, shared.connect() as other:
        first, second = await registered(one, agent_id="a"), await registered(other, agent_id="b")
        assert first["cluster_id"] != second["cluster_id"]
        assert first["status"] == "pending"
        assert all(each.pending for each in plane.links)


async def test_one_socket_cannot_speak_for_two_agents(plane: Plane) -> None:
    shared = await plane.make_token(shared=True)
    async with shared.connect() as played:
        first = await registered(played, agent_id="a")
        await played.say("register", {**REGISTER, "agent_id": "b"}, request_id="req_2")
        await played.say("heartbeat", heartbeat("b", first["cluster_id"]))
        await played.say("ping", request_id="sync")
        await played.next("pong")
        assert len(await plane.rows(Agent)) == 1
        assert plane.session.connection.strikes == 2


async def test_a_refused_agent_is_kept_waiting_and_asked_anew_at_its_next_word(plane: Plane) -> None:
    shared = await plane.make_token(shared=True)
    async with shared.connect() as played:
        await registered(played, agent_id="a")
    await until(lambda: not plane.links)
    async with plane.running.control.db.begin() as tx:
        await tx.execute(update(Agent).values(state="suspect"))
    async with shared.connect() as played:
        await played.say("register", {**REGISTER, "agent_id": "a"}, request_id="req_2")
        await played.say("ping", request_id="sync")
        assert (await played.next())["type"] == "pong"
        async with plane.running.control.db.begin() as tx:
            await tx.execute(update(Agent).values(state="active"))
        assert await registered(played, agent_id="a")


# -- heartbeats ------------------------------------------------------------------------------------


async def test_a_heartbeat_of_an_unknown_agent_is_told_to_register(plane: Plane) -> None:
    async with plane.connect() as played:
        await played.say("heartbeat", heartbeat("agent-1", "of another control plane"))
        assert (await played.next())["payload"] == {"error": "cluster not registered"}
        assert await registered(played)


async def test_a_heartbeat_with_another_cluster_id_is_told_to_register(plane: Plane) -> None:
    async with plane.connect() as played:
        await registered(played)
        await played.say("heartbeat", heartbeat("agent-1", "elsewhere"))
        assert (await played.next("error"))["payload"] == {"error": "cluster not registered"}


async def test_an_agent_in_gateway_mode_is_never_told_to_register(plane: Plane) -> None:
    path = "/api/v1/clusters/agent/ws?agent_version=1&cluster_uuid=elsewhere&supports_yamux=true"
    async with plane.connect(path=path) as played:
        await played.say("heartbeat", heartbeat("agent-1", "elsewhere"))
        await until(lambda: plane.links)
        await played.say("heartbeat", heartbeat("agent-1", "elsewhere"))
        await played.say("ping", request_id="sync")
        while (message := await played.next())["type"] != "pong":
            assert message["type"] != "error"


async def test_a_heartbeat_after_a_reconnect_is_enough_for_a_shared_token(plane: Plane) -> None:
    shared = await plane.make_token(shared=True)
    async with shared.connect() as played:
        known = await registered(played, agent_id="a")
    await until(lambda: not plane.links)
    async with shared.connect() as played:
        await played.say("heartbeat", heartbeat("a", known["cluster_id"]))
        await until(lambda: plane.links)
        assert plane.session.cluster_id == known["cluster_id"]


async def test_a_heartbeat_is_acknowledged_and_shows_what_it_says(plane: Plane) -> None:
    async with plane.connect() as played:
        known = await registered(played)
        await played.say("heartbeat", heartbeat("agent-1", known["cluster_id"], gateway_routes=4))
        await played.next("heartbeat_ack")
        cluster = await plane.cluster_with("heartbeat")
        assert cluster.heartbeat["gateway_routes"] == 4
        assert cluster.heartbeat["is_private"] is True


# -- streams ---------------------------------------------------------------------------------------


async def test_yamux_is_offered_after_registration_and_streams_begin_with_the_agents_header(plane: Plane) -> None:
    async with plane.connect() as played:
        await multiplexed(plane, played)
        stream = await plane.session.open_stream(WEB)
        await stream.write(b"GET / HTTP/1.1\r\n\r\n")
        header = pipeops_frames.encode_stream_header(
            pipeops_frames.StreamHeader(service="web", namespace="default", port=80, tunnel_id="towline")
        )
        assert await played.stream(2, len(header) + 18) == header + b"GET / HTTP/1.1\r\n\r\n"
        await played.write(2, b"HTTP/1.1 200 OK\r\n\r\n", end=True)
        assert await stream.read() == b"HTTP/1.1 200 OK\r\n\r\n"
        assert await stream.read() == b""


async def test_a_stream_that_ends_without_a_byte_was_refused(plane: Plane) -> None:
    async with plane.connect() as played:
        await multiplexed(plane, played)
        stream = await plane.session.open_stream(WEB)
        await played.stream(2, 10)
        await played.write(2, b"", end=True)
        with pytest.raises(TargetRefused, match=r"no connection to web\.default:80"):
            await stream.read()


@pytest.mark.parametrize(
    ("target", "says"),
    [
        (streams.Service(project="shop", service="web", port=80), "a PipeOps agent carries no streams to a service"),
        (streams.Logs(project="shop"), "a PipeOps agent carries no streams to a logs"),
        (streams.Tcp(host="10.0.0.1", port=22), "a PipeOps agent carries no streams to a tcp"),
        (streams.KubeService(namespace="default", name="kubernetes", port="443"), "not published"),
        (streams.KubeService(namespace="default", name="web", port="http"), "by its number"),
        (streams.KubeService(namespace="default", name="web-1", port="80", resource="pod"), "not single pods"),
        (streams.KubeService(namespace="default", name="kubernetes.default.svc", port="443"), "DNS labels"),
        (streams.KubeService(namespace="default", name="web", port="443", tls=True), "no TLS to services"),
    ],
)
async def test_what_it_cannot_carry_it_says_by_name(plane: Plane, target: streams.Target, says: str) -> None:
    async with plane.connect() as played:
        await multiplexed(plane, played)
        with pytest.raises(TargetRefused, match=says):
            await plane.session.open_stream(target)


async def test_without_yamux_a_stream_is_refused_with_the_reason(plane: Plane) -> None:
    async with plane.connect() as played:
        await registered(played)
        with pytest.raises(TargetRefused, match="yamux"):
            await plane.session.open_stream(WEB)


async def test_streams_are_lost_with_the_connection(plane: Plane) -> None:
    async with plane.connect() as played:
        await multiplexed(plane, played)
        stream = await plane.session.open_stream(WEB)
    with pytest.raises(Exception, match="tunnel closed"):
        await stream.read()


async def test_a_compose_job_is_refused_with_what_to_do(plane: Plane) -> None:
    async with plane.connect() as played:
        await registered(played)
        told: list[link.Message] = []
        session = plane.session
        session.tell = lambda message, size=0: told.append(message)
        payload = msgspec.Raw(b"{}")
        await session.send(
            link.Job(job_id="job_1", kind="compose.deploy", fence=1, attempt=1, timeout=1, payload=payload)
        )
        assert told == [link.JobResult(job_id="job_1", fence=1, outcome="refused", error=NO_JOBS, code="unsupported")]


# -- what must never be sent ---------------------------------------------------------------------------


async def test_nothing_that_ends_the_agents_process_is_ever_sent(plane: Plane) -> None:
    async with plane.connect() as played:
        await multiplexed(plane, played)
        stream = await plane.session.open_stream(WEB)
        stream.abort()
        await played.say("ping", request_id="sync")
        seen = set()
        while (message := await played.next())["type"] != "pong":
            seen.add(message["type"])
        assert not seen & {"tcp_tunnel_start", "tcp_tunnel_data", "udp_tunnel_data", "proxy_stream_data"}


async def test_no_message_carries_a_timestamp_that_an_agent_would_drop(plane: Plane) -> None:
    async with plane.connect() as played:
        await played.say("register", REGISTER, request_id="req_1")
        for _ in range(2):
            message = await played.next()
            assert "timestamp" not in message
            assert isinstance(message.get("payload", {}), dict)


# -- bad input -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        b"not json",
        b"[]",
        b'{"type":7}',
        b'{"type":"register","payload":[]}',
        b"{" * 5000,
        b'{"type":"heartbeat","payload":7}',
    ],
)
async def test_a_malformed_message_is_answered_and_the_connection_lives(plane: Plane, text: bytes) -> None:
    async with plane.connect() as played:
        await registered(played)
        await played.send(TEXT, text)
        error = await played.next("error")
        assert error["payload"] == {"error": limits.CANNOT_READ}
        await played.say("ping", request_id="sync")
        await played.next("pong")


async def test_too_many_malformed_messages_end_the_connection(plane: Plane) -> None:
    async with plane.connect() as played:
        for _ in range(limits.MAX_STRIKES + 1):
            await played.send(TEXT, b"nonsense")
        assert await played.until_closed() == 1008


async def test_an_unknown_type_is_ignored_and_counted(plane: Plane) -> None:
    async with plane.connect() as played:
        await registered(played)
        await played.say("no_such_thing", {"a": 1})
        await played.say("ping", request_id="sync")
        await played.next("pong")
        assert plane.session.ignored["no_such_thing"] == 1


async def test_a_fragmented_message_of_a_megabyte_is_taken(plane: Plane) -> None:
    async with plane.connect() as played:
        await registered(played)
        chunk = {"data": "AAAA" * 300_000, "encoding": "base64", "size": 900_000}
        await played.say("proxy_response_chunk", chunk, request_id="nobody's")
        await played.say("ping", request_id="sync")
        await played.next("pong")
        assert plane.session.connection.requests.strays == 1


async def test_an_oversized_control_message_is_refused_and_the_connection_lives(plane: Plane) -> None:
    async with plane.connect() as played:
        await played.say("register", {**REGISTER, "name": "x" * limits.MAX_CONTROL_BYTES}, request_id="req_0")
        assert await registered(played)


async def test_an_answer_for_a_request_that_nobody_made_is_dropped(plane: Plane) -> None:
    async with plane.connect() as played:
        await registered(played)
        for name in ("proxy_response_end", "proxy_response_abort", "proxy_websocket_data", "proxy_error"):
            await played.say(name, {"error": "x"}, request_id="another agent's")
        frame = pipeops_frames.ResponseFrame(request_id="r9", status=200, headers=None, body=b"x" * 9000)
        await played.send(BINARY, pipeops_frames.encode_response(frame))
        await played.say("ping", request_id="sync")
        await played.next("pong")
        assert plane.session.connection.requests.strays == 5


async def test_bytes_that_are_no_yamux_end_the_connection(plane: Plane) -> None:
    async with plane.connect() as played:
        await registered(played)
        await with_yamux(played)
        await played.send(BINARY, b"\xff" * 64)
        assert await played.until_closed() == 1008


async def test_an_acknowledgement_nobody_asked_for_is_refused(plane: Plane) -> None:
    async with plane.connect() as played:
        await played.say("gateway_hello_ack", {"use_yamux": True})
        await registered(played)
        assert plane.session.connection.strikes == 1


async def test_many_pings_of_a_reconnecting_agent_are_all_answered(plane: Plane) -> None:
    async with plane.connect() as played:
        for number in range(200):
            await played.send_frame(9, b"%d" % number)
        async with asyncio.timeout(10):
            while len(played.pongs) < 200:
                await played.next_frame()


async def test_ip_intel_is_answered_404_as_the_agent_expects(plane: Plane) -> None:
    path = next(entry["path"] for entry in recorded("pipeops-ws") if entry["dir"] == "rest")
    assert (await plane.call("GET", path, token="")).status_code == 404


async def test_a_revoked_token_lets_nobody_in(plane: Plane) -> None:
    async with plane.running.control.db.begin() as tx:
        await tx.execute(update(CompatToken).values(revoked=True))
    with pytest.raises(Refused, match="401"):
        await upgrade(plane.running.port, plane.token, trusting(plane.running))
