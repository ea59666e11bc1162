"""When the API server behind a PipeOps agent may be spoken to, and what of it reaches the agent: no cluster needed."""

import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.support import prepared
from tests.support.pipeops_agent import PlayedAgent
from tests.support.pipeops_plane import Plane, pipeops_plane, registered, until, with_yamux

from towline.control.protocols.pipeops.kube import AUTHORITY_PATH
from towline.tunnel.errors import TargetRefused
from towline.tunnel.opening import IncomingStream
from towline.wire import link, streams

SOMEBODY = streams.Kube(user="towline:ada", groups=("towline:role:viewer",))
AUTHORITY = "-----BEGIN CERTIFICATE-----\n"


class Noted:
    """A stand-in that notes what it is given, and echoes nothing."""

    made: list["Noted"]

    def __init__(self, **given: Any) -> None:
        self.given = given
        self.state = "made"
        self.taken: list[IncomingStream] = []
        self.ordered: list[link.Message] = []
        Noted.made.append(self)

    def take(self, incoming: IncomingStream) -> None:
        self.taken.append(incoming)
        incoming.accept_stream()

    async def start(self) -> None:
        self.state = "started"

    async def order(self, message: link.Message) -> None:
        self.ordered.append(message)

    def forget(self) -> None:
        self.state = "forgotten"

    async def stop(self) -> None:
        self.state = "stopped"


@pytest.fixture
async def plane(prepared_sqlite: Path, tmp_path: Path) -> AsyncIterator[Plane]:
    Noted.made = []
    async with pipeops_plane(prepared.sqlite_copy(prepared_sqlite, tmp_path), tmp_path, Noted) as made:
        yield made


async def allow(plane: Plane, allowed: bool = True) -> None:
    await plane.running.control.protocols.pipeops.tokens.allow(plane.access, "shop", allowed)


async def answer_authority(played: PlayedAgent, *, status: int = 200, text: str = AUTHORITY) -> dict[str, Any]:
    """Answer the question for the cluster's authority as the real agent does; returns the question."""
    asked = await played.next("proxy_request")
    body = json.dumps({"data": {"ca.crt": text}}).encode()
    request_id = asked["request_id"]
    await played.say("proxy_response_header", {"headers": None, "status": status}, request_id=request_id)
    for piece in (body[:7], body[7:]):
        chunk = {"data": base64.b64encode(piece).decode(), "encoding": "base64", "size": len(piece)}
        await played.say("proxy_response_chunk", chunk, request_id=request_id)
    await played.say("proxy_response_end", request_id=request_id)
    payload: dict[str, Any] = asked["payload"]
    return payload


async def ready(plane: Plane, played: PlayedAgent) -> None:
    await registered(played)
    await with_yamux(played)
    await allow(plane)
    await answer_authority(played)
    await until(lambda: not plane.session.kube.reason)


async def test_the_authority_is_asked_once_with_the_registered_token_and_a_streamed_answer(plane: Plane) -> None:
    async with plane.connect() as played:
        await registered(played)
        await with_yamux(played)
        await allow(plane)
        asked = await answer_authority(played)
        assert asked == {
            "method": "GET",
            "path": AUTHORITY_PATH,
            "headers": {"Authorization": "Bearer sa-token-of-the-agent", "Accept": "application/json"},
            "supports_response_streaming": True,
        }
        await until(lambda: not plane.session.kube.reason)
        (stand_in,) = Noted.made
        assert stand_in.state == "started"
        assert stand_in.given["token"]() == "sa-token-of-the-agent"
        assert stand_in.given["authorities"]() == AUTHORITY


async def test_the_cluster_serves_kubernetes_once_it_is_allowed(plane: Plane) -> None:
    async with plane.connect() as played:
        await ready(plane, played)
        assert plane.session.capabilities() == (link.Capability(name="kubernetes", ready=True, version="v1.36.3"),)
        await plane.session.open_stream(SOMEBODY)
        assert [one.target for one in Noted.made[0].taken] == [SOMEBODY]
        assert plane.session.stream_count == 1


async def test_the_way_is_a_raw_stream_to_the_api_servers_service(plane: Plane) -> None:
    async with plane.connect() as played:
        await ready(plane, played)
        line = await Noted.made[0].given["way"]()
        near = line.socket
        assert not line.is_plain
        near.send(b"\x16\x03\x01")
        head = b"\x01\x01\x01\xbb\x00\x0akubernetes\x00\x07default\x00\x07towline"
        assert await played.stream(2, len(head) + 3) == head + b"\x16\x03\x01"
        near.close()


async def test_the_switch_turned_off_stops_everything(plane: Plane) -> None:
    async with plane.connect() as played:
        await ready(plane, played)
        stream = await plane.session.open_stream(SOMEBODY)
        await allow(plane, False)
        with pytest.raises(Exception, match="may not be used"):
            await stream.read()
        assert Noted.made[0].state == "stopped"
        with pytest.raises(TargetRefused, match="--use-registered-token"):
            await plane.session.open_stream(SOMEBODY)


async def test_the_end_of_the_connection_stops_everything(plane: Plane) -> None:
    async with plane.connect() as played:
        await ready(plane, played)
    await until(lambda: Noted.made[0].state == "stopped")


async def test_a_token_registered_anew_is_used_from_then_on(plane: Plane) -> None:
    async with plane.connect() as played:
        await ready(plane, played)
        await registered(played, k8s_service_token="a-newer-one")
        await until(lambda: Noted.made[0].state == "forgotten")
        assert Noted.made[0].given["token"]() == "a-newer-one"


async def test_an_authority_that_cannot_be_read_is_told_by_its_status(plane: Plane) -> None:
    async with plane.connect() as played:
        await registered(played)
        await with_yamux(played)
        await allow(plane)
        await answer_authority(played, status=401)
        await until(lambda: "answers 401" in plane.session.kube.reason)
        assert not Noted.made


async def test_an_agent_that_registered_no_token_says_so(plane: Plane) -> None:
    async with plane.connect() as played:
        await registered(played, k8s_service_token="")
        await with_yamux(played)
        await allow(plane)
        await until(lambda: "registered no token" in plane.session.kube.reason)


async def test_the_switch_holds_when_the_agent_comes_back(plane: Plane) -> None:
    async with plane.connect() as played:
        await ready(plane, played)
    await until(lambda: not plane.links)
    async with plane.connect() as played:
        assert (await played.next("ping"))["request_id"] == "tw-probe"
        await played.say("pong", {"timestamp": ""}, request_id="tw-probe")
        await with_yamux(played)
        await answer_authority(played)
        await until(lambda: plane.links and not plane.session.kube.reason)


async def test_a_command_is_given_to_the_stand_in_and_refused_without_one(plane: Plane) -> None:
    job = link.Job(job_id="job_1", kind="command.run", fence=1, attempt=1, timeout=1, payload=msgspec.Raw(b"{}"))
    async with plane.connect() as played:
        await registered(played)
        await until(lambda: "may not be used" in plane.session.kube.reason)
        told: list[link.Message] = []
        session = plane.session
        plain, session.tell = session.tell, lambda message, size=0: told.append(message)
        await session.send(job)
        session.tell = plain
        (result,) = told
        assert isinstance(result, link.JobResult)
        assert (result.outcome, "--use-registered-token" in result.error) == ("refused", True)
        await with_yamux(played)
        await allow(plane)
        await answer_authority(played)
        await until(lambda: not session.kube.reason)
        await session.send(job)
        assert Noted.made[0].ordered == [job]
