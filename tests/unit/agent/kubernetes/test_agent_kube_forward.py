"""Both ends of a stream to the API server, on a tunnel in memory and a scripted connection: ends and pauses."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import pytest
from tests.support.tunnel_pair import TunnelPair, memory_tunnel

from towline.agent.errors import KubernetesAbsent, KubernetesError, PolicyRefused
from towline.agent.kubernetes.credentials import ApiServer, Credentials
from towline.agent.kubernetes.forward import DRAIN_TIMEOUT, SILENCE_TIMEOUT, FarEnd, KubeServer
from towline.agent.kubernetes.material import Material
from towline.agent.policy import KubernetesRules, LocalPolicy
from towline.agent.streams.router import StreamRouter
from towline.aio.clock import SimulatedClock, settle
from towline.aio.streams import EndedThere
from towline.tunnel.errors import TargetRefused
from towline.tunnel.opening import TunnelStream
from towline.wire.streams import Kube

ALICE = Kube(user="towline:alice", groups=("towline:role:admin",))
GET = b"GET /api/v1/pods HTTP/1.1\r\nHost: agent\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
UPGRADE = (
    b"GET /api/v1/namespaces/a/pods/b/exec HTTP/1.1\r\nHost: agent\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
)
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


class ScriptedApi(asyncio.Transport):
    """A TLS connection to an API server, which the test plays: it records what is written, and cannot half-close."""

    def __init__(self) -> None:
        super().__init__()
        self.far: FarEnd
        self.written = bytearray()
        self.unsent_bytes = 0
        self.is_paused = False
        self.ended = ""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.ended
        self.written += data

    def can_write_eof(self) -> bool:
        return False

    def write_eof(self) -> None:
        raise NotImplementedError

    def get_write_buffer_size(self) -> int:
        return self.unsent_bytes

    def pause_reading(self) -> None:
        self.is_paused = True

    def resume_reading(self) -> None:
        self.is_paused = False

    def is_closing(self) -> bool:
        return bool(self.ended)

    def close(self) -> None:
        self._end("closed", None)

    def abort(self) -> None:
        self._end("aborted", None)

    def lose(self, error: Exception | None) -> None:
        """The API server ends the connection, cleanly or not."""
        if error is None:
            assert not self.far.eof_received()
        self._end("lost", error)

    def send(self, data: bytes) -> None:
        """The API server sends."""
        assert not self.is_paused
        self.far.data_received(data)

    def _end(self, how: str, error: Exception | None) -> None:
        if not self.ended:
            self.ended = how
            asyncio.get_running_loop().call_soon(self.far.connection_lost, error)


@dataclass
class Bed:
    """The control plane's end, and the API server as it is played."""

    pair: TunnelPair
    router: StreamRouter
    clock: SimulatedClock
    server: KubeServer
    apis: list[ScriptedApi] = field(default_factory=list)
    policy: LocalPolicy = field(default_factory=LocalPolicy)
    failure: Exception | None = None

    async def dial(self, server: ApiServer, factory: Callable[[], FarEnd]) -> tuple[asyncio.Transport, FarEnd]:
        if self.failure is not None:
            raise self.failure
        api = ScriptedApi()
        self.apis.append(api)
        api.far = factory()
        api.far.connection_made(api)
        return api, api.far

    async def open(self, data: bytes = b"") -> tuple[TunnelStream, ScriptedApi]:
        stream = await self.pair.server.open_stream(ALICE)
        if data:
            await stream.write(data)
        await settle()
        return stream, self.apis[-1]

    async def over(self) -> bool:
        await settle()
        return self.router.open == 0


@pytest.fixture
async def bed() -> AsyncIterator[Bed]:
    clock = SimulatedClock()
    async with memory_tunnel() as pair:
        material = Material(server="http://127.0.0.1:8001", token="secret")
        credentials = Credentials(lambda: material, clock=clock)
        server = KubeServer(credentials, lambda: made.policy, clock=clock, dial=lambda *args: made.dial(*args))
        router = StreamRouter({Kube: server.serve}, pair.owner, limit=8)
        made = Bed(pair, router, clock, server)
        pair.agent.on_stream = router.take
        yield made


async def read_all(stream: TunnelStream) -> bytes:
    data = b""
    while piece := await stream.read():
        data += piece
    return data


async def test_requests_pass_with_the_agents_identity(bed: Bed) -> None:
    stream, api = await bed.open(GET)
    assert b"\r\nHost: 127.0.0.1:8001\r\n" in api.written
    assert b"\r\nAuthorization: Bearer secret\r\nImpersonate-User: towline:alice\r\n" in api.written
    api.send(OK)
    assert await stream.read() == OK


async def test_end_between_requests_closes_both_sides(bed: Bed) -> None:
    stream, api = await bed.open(GET)
    api.send(OK)
    assert await stream.read() == OK
    await stream.aclose()
    assert await bed.over()
    assert api.ended == "aborted"


async def test_reset_by_the_opener_drops_the_connection_at_once(bed: Bed) -> None:
    stream, api = await bed.open(GET)
    stream.abort("gone")
    assert await bed.over()
    assert api.ended == "aborted"


async def test_end_within_a_request_leaves_time_for_its_answer(bed: Bed) -> None:
    stream, api = await bed.open(GET)
    await stream.write_eof()
    await settle()
    await bed.clock.advance(SILENCE_TIMEOUT * 0.9)
    api.send(OK[:-1])
    await bed.clock.advance(SILENCE_TIMEOUT * 0.9)
    assert not api.ended
    api.send(OK[-1:])
    await bed.clock.advance(SILENCE_TIMEOUT * 2)
    assert await read_all(stream) == OK
    assert await bed.over()
    assert api.ended == "aborted"


async def test_end_within_a_pipe_waits_for_silence_and_for_unsent_bytes(bed: Bed) -> None:
    stream, api = await bed.open(UPGRADE)
    api.send(SWITCHED)
    await stream.write(b"last words")
    await stream.write_eof()
    await settle()
    assert api.written.endswith(b"last words")
    api.unsent_bytes = 10
    await bed.clock.advance(SILENCE_TIMEOUT * 5)
    assert not api.ended
    api.unsent_bytes = 0
    await bed.clock.advance(SILENCE_TIMEOUT)
    assert await read_all(stream) == SWITCHED
    assert await bed.over()
    assert api.ended == "closed"


async def test_end_of_the_api_server_passes_on_what_it_sent(bed: Bed) -> None:
    stream, api = await bed.open(GET)
    api.send(b"HTTP/1.1 200 OK\r\n\r\nuntil the end")
    api.lose(None)
    assert await read_all(stream) == b"HTTP/1.1 200 OK\r\n\r\nuntil the end"
    await stream.aclose()
    assert await bed.over()


async def test_broken_connection_is_not_a_clean_end(bed: Bed) -> None:
    stream, api = await bed.open(GET)
    api.send(b"HTTP/1.1 200 OK\r\n\r\nuntil the en")
    api.lose(ConnectionResetError())
    with pytest.raises(EndedThere, match="reset"):
        await read_all(stream)
    assert await bed.over()


@pytest.mark.parametrize("answer", [b"nonsense\r\n", OK + b"more", SWITCHED])
async def test_answer_that_cannot_be_followed_resets_both_sides(bed: Bed, answer: bytes) -> None:
    stream, api = await bed.open(GET)
    api.send(answer)
    with pytest.raises(EndedThere):
        await read_all(stream)
    assert await bed.over()
    assert api.ended == "aborted"


async def test_opener_is_not_read_between_an_upgrade_and_its_101(bed: Bed) -> None:
    stream, api = await bed.open(UPGRADE)
    sent = len(api.written)
    await stream.write(b"early")
    await settle()
    api.far.pause_writing()
    api.far.resume_writing()
    await settle()
    assert len(api.written) == sent
    assert api.far.peer is not None
    assert not api.far.peer.transport.is_reading()  # or what follows would pile up here
    api.send(SWITCHED)
    await settle()
    assert api.written[sent:] == b"early"
    await stream.write(b" later")
    await settle()
    assert api.written[sent:] == b"early later"


async def test_101_that_finds_the_connection_full_reads_on_when_there_is_room(bed: Bed) -> None:
    stream, api = await bed.open(UPGRADE)
    sent = len(api.written)
    await stream.write(b"early")
    await settle()
    api.far.pause_writing()
    api.send(SWITCHED)
    await settle()
    assert api.written[sent:] == b""
    api.far.resume_writing()
    await settle()
    assert api.written[sent:] == b"early"


async def test_failed_upgrade_drops_the_connection_and_ends_the_stream(bed: Bed) -> None:
    stream, api = await bed.open(UPGRADE)
    sent = len(api.written)
    await stream.write(GET)
    api.send(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
    assert await read_all(stream) == b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno"
    assert (api.ended, len(api.written)) == ("aborted", sent)
    await stream.aclose()
    assert await bed.over()


async def test_opener_that_does_not_end_after_the_last_answer_is_reset(bed: Bed) -> None:
    stream, _ = await bed.open(b"GET http://elsewhere/ HTTP/1.1\r\nHost: elsewhere\r\n\r\n")
    assert b"400 Bad Request" in await read_all(stream)
    assert not await bed.over()
    await bed.clock.advance(DRAIN_TIMEOUT)
    assert await bed.over()


async def test_what_follows_a_refused_body_is_thrown_away(bed: Bed) -> None:
    bed.policy = LocalPolicy(kubernetes=KubernetesRules(read_only=True))
    stream, api = await bed.open(b"POST /api/v1/pods HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n")
    await stream.write(bytes(90_000))
    answer = await read_all(stream)
    assert b"403 Forbidden" in answer
    assert b"connection: close" in answer
    await stream.write(bytes(10_000))
    await stream.aclose()
    assert await bed.over()
    assert api.written == b""


async def test_slow_opener_holds_the_api_server_back(bed: Bed) -> None:
    stream, api = await bed.open(GET)
    api.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
    sent = 0
    while not api.is_paused:
        api.send(bytes(65536))
        sent += 65536
        await settle()
    assert sent < 1024 * 1024
    while api.is_paused:
        await stream.read()
        await settle()
    stream.abort()


async def test_slow_api_server_holds_the_opener_back(bed: Bed) -> None:
    stream, api = await bed.open(UPGRADE)
    api.send(SWITCHED)
    await settle()
    api.far.pause_writing()
    before = len(api.written)
    await stream.write(bytes(1000))
    await settle()
    assert len(api.written) == before
    api.far.resume_writing()
    await settle()
    assert len(api.written) == before + 1000


async def test_policy_that_forbids_all_refuses_the_stream(bed: Bed) -> None:
    bed.policy = LocalPolicy(kubernetes=KubernetesRules(enabled=False))
    with pytest.raises(TargetRefused) as refused:
        await bed.open()
    assert (refused.value.code, bed.apis) == ("forbidden", [])


async def test_policy_that_changes_counts_within_a_second(bed: Bed) -> None:
    stream, api = await bed.open(GET)
    api.send(OK)
    await stream.read()
    bed.policy = LocalPolicy(kubernetes=KubernetesRules(namespaces=("other",)))
    await bed.clock.advance(1.0)
    await stream.write(GET)
    assert b"403 Forbidden" in await stream.read()
    assert bytes(api.written).count(b"GET ") == 1


async def begin(bed: Bed, request: bytes) -> tuple[TunnelStream, ScriptedApi]:
    """A request that runs: its answer has begun and does not end."""
    stream, api = await bed.open(request)
    api.send(SWITCHED if request is UPGRADE else b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n")
    await stream.read()
    return stream, api


@pytest.mark.parametrize(
    ("request_bytes", "rules"),
    [
        (GET, KubernetesRules(namespaces=("other",))),
        (GET, KubernetesRules(enabled=False)),
        (UPGRADE, KubernetesRules(exec=False)),
        (UPGRADE, KubernetesRules(read_only=True)),
    ],
)
async def test_policy_that_is_narrowed_cuts_what_runs_within_ten_seconds(
    bed: Bed, request_bytes: bytes, rules: KubernetesRules
) -> None:
    stream, api = await begin(bed, request_bytes)
    await bed.clock.advance(10.0)
    assert not api.ended
    bed.policy = LocalPolicy(kubernetes=rules)
    await bed.clock.advance(10.0)
    with pytest.raises(EndedThere):  # never like a whole answer
        await read_all(stream)
    assert await bed.over()
    assert api.ended == "aborted"


async def test_policy_that_cannot_be_read_any_more_cuts_what_runs(bed: Bed) -> None:
    stream, _ = await begin(bed, GET)

    def unreadable() -> LocalPolicy:
        raise PolicyRefused("the policy cannot be read")

    bed.server._read_policy = unreadable
    await bed.clock.advance(10.0)
    with pytest.raises(EndedThere):
        await read_all(stream)
    assert await bed.over()


async def test_policy_that_changes_leaves_what_it_still_allows_and_streams_between_two_requests(bed: Bed) -> None:
    watch, watched = await begin(bed, GET)
    idle, kept = await bed.open(GET)
    kept.send(OK)
    await idle.read()
    bed.policy = LocalPolicy(kubernetes=KubernetesRules(read_only=True, exec=False, secrets=False))
    await bed.clock.advance(10.0)
    bed.policy = LocalPolicy(kubernetes=KubernetesRules(namespaces=("other",)))
    watch.abort()
    await bed.clock.advance(10.0)
    assert (watched.ended, kept.ended) == ("aborted", "")
    await idle.write(GET)
    assert b"403 Forbidden" in await idle.read()


@pytest.mark.parametrize(
    ("failure", "code"), [(KubernetesError("refused"), "unreachable"), (KubernetesAbsent("none"), "unsupported")]
)
async def test_reasons_of_the_agent_reach_the_opener_as_codes(bed: Bed, failure: Exception, code: str) -> None:
    bed.failure = failure
    with pytest.raises(TargetRefused) as refused:
        await bed.open()
    assert (refused.value.code, refused.value.reason) == (code, str(failure))


async def opener_aborts(bed: Bed, stream: TunnelStream, api: ScriptedApi) -> None:
    stream.abort("gone")


async def opener_ends(bed: Bed, stream: TunnelStream, api: ScriptedApi) -> None:
    api.send(OK)
    assert await stream.read() == OK
    await stream.aclose()


async def api_ends(bed: Bed, stream: TunnelStream, api: ScriptedApi) -> None:
    api.lose(None)


async def link_is_lost(bed: Bed, stream: TunnelStream, api: ScriptedApi) -> None:
    bed.pair.agent.channel.abort("lost")


@pytest.mark.parametrize("end", [opener_aborts, opener_ends, api_ends, link_is_lost])
async def test_connection_that_is_over_is_freed_at_once(bed: Bed, end: Callable[..., Awaitable[None]]) -> None:
    """A TLS connection holds 256 KiB and more, and the collector looks at those that lived for long about never."""
    gc.collect()
    gc.disable()
    try:
        stream, api = await bed.open(GET)
        await end(bed, stream, api)
        del stream
        assert await bed.over()
        await settle()
        bed.apis.clear()
        del api.far
        left = weakref.ref(api)
        del api
        assert left() is None
    finally:
        gc.enable()
