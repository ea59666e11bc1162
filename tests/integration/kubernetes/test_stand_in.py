"""The agent's own code in place of an older agent, against the real cluster: all it is given is a way to bytes."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from tests.conftest import need
from tests.support.kube_agent import Admin, KubeClient, make_agent_account
from tests.testbed.kubernetes.cluster import Cluster

from towline.agent.standin import StandIn
from towline.aio.bridge import Bridge, join
from towline.aio.clock import REAL_CLOCK
from towline.aio.sockets import Line
from towline.aio.streams import ByteStream, EndedThere
from towline.control.protocols.standins import socket_of
from towline.tunnel.errors import TargetRefused, TunnelClosed
from towline.tunnel.opening import IncomingStream, open_answered
from towline.tunnel.pair import Pair
from towline.wire import link, orders, streams

pytestmark = pytest.mark.kubernetes

NAMESPACE = "stand-in"
WAIT = 30.0
SOMEBODY = streams.Kube(user="towline:ada", groups=("towline:role:viewer",))


class OlderAgent:
    """What an older agent carries: bytes to its API server. `is_away` is what its stream's refusal looks like."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.is_away = False
        self.ends: list[Bridge] = []
        self.told: asyncio.Queue[link.Message] = asyncio.Queue()

    async def way(self) -> Line:
        if self.is_away:
            raise EndedThere("the agent's end was closed")
        near, far = socket.socketpair()
        near.setblocking(False)
        far.setblocking(False)
        loop = asyncio.get_running_loop()
        _, there = await loop.create_connection(Bridge, "127.0.0.1", self.cluster.api_port)
        _, here = await loop.create_connection(Bridge, sock=far)
        join(here, there)
        self.ends += [here, there]
        return Line(near)

    async def tell(self, message: link.Message) -> None:
        self.told.put_nowait(message)


@pytest.fixture(scope="module")
def cluster(request: pytest.FixtureRequest) -> Cluster:
    found: Cluster = need(request.config, "kubernetes")
    return found


@pytest.fixture(scope="module")
def token(cluster: Cluster) -> str:
    admin = Admin(cluster)
    admin.apply("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    return make_agent_account(admin, NAMESPACE, inventory=True)


@pytest.fixture
async def older(cluster: Cluster) -> AsyncIterator[OlderAgent]:
    agent = OlderAgent(cluster)
    yield agent
    for end in agent.ends:
        end.transport.abort()
        await end.over


@pytest.fixture
async def stand_in(older: OlderAgent, cluster: Cluster, token: str, tmp_path: Path) -> AsyncIterator[StandIn]:
    authority = (cluster.home / "authority.crt").read_text()
    made = StandIn(
        folder=tmp_path / "a", way=older.way, token=lambda: token, authorities=lambda: authority, tell=older.tell,
        clock=REAL_CLOCK,
    )  # fmt: skip
    yield made
    await made.stop()


async def _client(pair: Pair, target: streams.Kube) -> KubeClient:
    return KubeClient(await open_answered(pair.create_stream, target, 10))


async def test_a_request_arrives_as_whoever_asked(stand_in: StandIn) -> None:
    pair = Pair(stand_in.take)
    client = await _client(pair, SOMEBODY)
    review = b'{"apiVersion":"authentication.k8s.io/v1","kind":"SelfSubjectReview"}'
    path = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
    answer = await client.ask("POST", path, "Content-Type: application/json", body=review)
    assert answer.status == 201
    assert answer.json["status"]["userInfo"]["username"] == "towline:ada"


async def test_a_stream_without_an_identity_is_refused(stand_in: StandIn) -> None:
    pair = Pair(stand_in.take)
    with pytest.raises(TargetRefused, match="forbidden"):
        await _client(pair, streams.Kube(user="system:admin", groups=("system:masters",)))


async def test_the_inventory_of_its_cluster_is_told(stand_in: StandIn, older: OlderAgent) -> None:
    await stand_in.start()
    async with asyncio.timeout(WAIT):
        while True:
            message = await older.told.get()
            if isinstance(message, link.KubeInventory) and message.full:
                break
    assert NAMESPACE in {one.name for one in message.namespaces}
    assert message.about is not None
    assert message.about.version.startswith("v1.")


def _command(job_id: str, *arguments: str, program: str = "kubectl") -> link.Job:
    order = orders.Command(
        project="",
        program=program,
        arguments=arguments,
        user="towline:ada",
        groups=("towline:role:viewer",),
        namespace=NAMESPACE,
    )
    return link.Job(
        job_id=job_id, kind="command.run", fence=1, attempt=1, timeout=30.0,
        payload=msgspec.Raw(msgspec.json.encode(order)),
    )  # fmt: skip


async def _result(older: OlderAgent) -> tuple[link.JobResult, str]:
    """The next result, and the output that came before it."""
    text = ""
    async with asyncio.timeout(WAIT):
        while True:
            message = await older.told.get()
            if isinstance(message, link.JobProgress):
                text += "".join(event.text for event in message.events)
            elif isinstance(message, link.JobResult):
                return message, text


async def test_a_command_is_done_as_whoever_asked_and_its_result_is_kept_until_it_is_stored(
    stand_in: StandIn, older: OlderAgent
) -> None:
    await stand_in.start()
    await stand_in.order(_command("job_1", "get", "serviceaccounts"))
    result, text = await _result(older)
    assert result.outcome == "succeeded", result
    assert "agent" in text
    await stand_in.order(link.Lead())
    assert (await _result(older))[0] == result
    await stand_in.order(link.JobStored(job_id="job_1"))
    await stand_in.order(_command("job_2", "delete", "serviceaccount", "agent"))
    assert (await _result(older))[0].outcome == "failed", "a viewer may not delete"


async def test_nothing_of_this_host_is_reached_by_a_command(stand_in: StandIn, older: OlderAgent) -> None:
    await stand_in.start()
    await stand_in.order(_command("job_1", "ps", program="docker"))
    result, _ = await _result(older)
    assert (result.outcome, result.code) == ("refused", "forbidden")


async def test_an_older_agent_without_a_way_is_told_as_unreachable(stand_in: StandIn, older: OlderAgent) -> None:
    older.is_away = True
    with pytest.raises(TargetRefused, match="carries no stream to its API server"):
        await _client(Pair(stand_in.take), SOMEBODY)


async def test_the_end_of_the_pair_ends_every_stream(stand_in: StandIn) -> None:
    pair = Pair(stand_in.take)
    client = await _client(pair, SOMEBODY)
    await client.send("GET", "/api/v1/namespaces?watch=true")
    await client.read_head()
    pair.close(TunnelClosed("the older agent went away"))
    with pytest.raises(TunnelClosed):
        while await client.stream.read():
            pass
    with pytest.raises(TunnelClosed):
        await _client(pair, SOMEBODY)


async def test_a_socket_is_joined_to_a_stream_both_ways_to_its_end() -> None:
    """What is written into the socket arrives at the other end of the stream, and back; each end passes on."""
    echoed: list[bytes] = []

    def take(incoming: IncomingStream) -> None:
        tasks.append(asyncio.ensure_future(_echo(incoming.accept_stream(), echoed)))

    tasks: list[asyncio.Future[None]] = []
    pair = Pair(take)
    near = await socket_of(lambda factory: pair.create_stream(streams.Kube(direct=True), factory))
    reader, writer = await asyncio.open_connection(sock=near)
    writer.write(b"x" * 300_000)
    writer.write_eof()
    assert await reader.read(-1) == b"y" * 300_000
    await asyncio.gather(*tasks)
    writer.close()
    assert sum(map(len, echoed)) == 300_000


async def _echo(stream: ByteStream, seen: list[bytes]) -> None:
    while data := await stream.read():
        seen.append(data)
        await stream.write(b"y" * len(data))
    await stream.write_eof()
