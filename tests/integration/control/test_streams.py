"""Forward, exec, logs and events: through the real link, and through uvicorn where WebSockets matter."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import httpx
import msgspec
import pytest
import uvicorn
from sqlalchemy import update
from tests.support.control_app import ControlApp
from tests.support.scripted_agent import ScriptedAgent, enrolled, link_listener, until
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from towline.control.access.models import ApiToken
from towline.control.access.permissions import Reach, Right, Role, ScopeKind
from towline.control.audit.models import AuditEvent
from towline.control.db import now
from towline.control.recordings.models import Recording
from towline.tunnel.opening import IncomingStream, TunnelStream
from towline.wire import link, streams
from towline.wire.streams import EXIT, RESIZE, SOURCE, STDERR, STDIN, STDOUT, LogSource, encode_frame

Serve = Callable[[IncomingStream, TunnelStream], Any]


class Scene:
    """A control plane behind uvicorn, and an agent whose streams are served by the test."""

    def __init__(self, app: ControlApp, agent: ScriptedAgent, port: int) -> None:
        self.app, self.agent, self.port = app, agent, port
        self.targets: list[streams.Target] = []

    def serve(self, handler: Serve) -> None:
        """Answer every stream with a coroutine function."""

        def opened(incoming: IncomingStream) -> None:
            self.targets.append(incoming.target)
            self.agent.owner.spawn("serve", self._quietly(handler, incoming))

        assert self.agent.session is not None
        self.agent.session.on_stream = opened

    def refuse(self, code: str, reason: str) -> None:
        assert self.agent.session is not None
        self.agent.session.on_stream = lambda incoming: incoming.refuse(code, reason)

    async def _quietly(self, handler: Serve, incoming: IncomingStream) -> None:
        with contextlib.suppress(Exception):
            await handler(incoming, incoming.accept_stream())

    async def token(self, name: str, *rights: Right) -> str:
        return await self.app.token(name, *rights)

    def socket(self, path: str, token: str = "", **headers: str) -> Any:
        if token:
            headers["authorization"] = f"Bearer {token}"
        url = f"ws://127.0.0.1:{self.port}/api/v1/clusters/edge-1/{path}"
        return connect(url, additional_headers=headers, compression=None, max_size=None, proxy=None)

    def client(self, token: str) -> httpx.AsyncClient:
        client = httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{self.port}", headers={"authorization": f"Bearer {token}"}, timeout=30
        )
        self.app.clients.append(client)
        return client

    async def audited(self, *actions: str) -> list[AuditEvent]:
        """Wait until there is a record of each action, and return them."""
        async with asyncio.timeout(10):
            while True:
                found = [event for event in await self.app.rows(AuditEvent) if event.action in actions]
                if {event.action for event in found} == set(actions):
                    return found
                await asyncio.sleep(0.02)


OPERATOR = Right(Role.OPERATOR)


@pytest.fixture
async def scene(control_app: ControlApp) -> AsyncIterator[Scene]:
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    config = uvicorn.Config(
        control_app.app, ws="websockets-sansio", log_config=None, lifespan="off", timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    server.capture_signals = contextlib.nullcontext
    running = asyncio.get_running_loop().create_task(server.serve(sockets=[listening]))
    async with link_listener(control_app.control) as url, await enrolled(control_app, cluster_name="edge-1") as agent:
        await agent.connect(url)
        web = link.Container(id="c" * 64, name="shop-web-1", project="shop", service="web", state="running")
        await agent.send(link.Inventory(full=True, containers=(web,)))
        await agent.synced()
        await control_app.control.fleet.reports.flush()
        await until(lambda: server.started)
        yield Scene(control_app, agent, listening.getsockname()[1])
    server.should_exit = True
    await running
    listening.close()


async def _echo(incoming: IncomingStream, stream: TunnelStream) -> None:
    while data := await stream.read():
        await stream.write(data)
    await stream.write_eof()


async def _closed(ws: ClientConnection) -> ConnectionClosed:
    with pytest.raises(ConnectionClosed) as caught:
        async with asyncio.timeout(10):
            while True:
                await ws.recv()
    return caught.value


# -- forward -------------------------------------------------------------------------------------


async def test_a_forward_needs_a_token_and_the_permission(scene: Scene) -> None:
    for token, status in (("", 401), (await scene.token("vera", Right(Role.VIEWER)), 403)):
        with pytest.raises(InvalidStatus) as caught:
            async with scene.socket("forward?host=127.0.0.1&port=22", token):
                pass
        assert caught.value.response.status_code == status


async def test_bytes_travel_both_ways_and_each_way_ends_alone(scene: Scene) -> None:
    scene.serve(_echo)
    token = await scene.token("olga", OPERATOR)
    async with scene.socket("forward?host=127.0.0.1&port=5432", token) as ws:
        await ws.send(b"hello")
        assert await ws.recv() == b"hello"
        await ws.send('{"eof":true}')
        assert await ws.recv() == '{"eof":true}'
        assert (await _closed(ws)).rcvd.code == 1000
    (target,) = scene.targets
    assert isinstance(target, streams.Tcp)
    assert (target.host, target.port, target.actor.user) == ("127.0.0.1", 5432, "olga")
    opened, ended = sorted(await scene.audited("forward.open", "forward.end"), key=lambda event: event.seq)
    assert (opened.actor_name, opened.detail["port"], opened.result) == ("olga", 5432, "done")
    assert (ended.detail["up_bytes"], ended.detail["down_bytes"]) == (5, 5)


async def test_eight_megabytes_arrive_whole(scene: Scene) -> None:
    scene.serve(_echo)
    sent = bytes(range(256)) * (8 * 4096)
    async with scene.socket("forward?host=127.0.0.1&port=1", await scene.token("olga", OPERATOR)) as ws:

        async def send() -> None:
            for at in range(0, len(sent), 65536):
                await ws.send(sent[at : at + 65536])
            await ws.send('{"eof":true}')

        sending = asyncio.get_running_loop().create_task(send())
        got = bytearray()
        async for message in ws:
            if isinstance(message, bytes):
                got += message
        await sending
    assert bytes(got) == sent


async def test_a_reader_that_does_not_read_holds_the_other_end_back(scene: Scene) -> None:
    written = 0

    async def flood(incoming: IncomingStream, stream: TunnelStream) -> None:
        nonlocal written
        while True:
            await stream.write(bytes(65536))
            written += 65536

    scene.serve(flood)
    async with scene.socket("forward?host=127.0.0.1&port=1", await scene.token("olga", OPERATOR)):
        before = -1
        while written != before or not written:
            before = written
            await asyncio.sleep(0.3)
        assert written < 64 * 1024 * 1024


@pytest.mark.parametrize(("code", "close_code"), [("forbidden", 4403), ("unreachable", 4502)])
async def test_a_refused_target_closes_with_the_agents_reason(scene: Scene, code: str, close_code: int) -> None:
    scene.refuse(code, "the host's policy does not allow 10.0.0.1:22")
    async with scene.socket("forward?host=10.0.0.1&port=22", await scene.token("olga", OPERATOR)) as ws:
        closed = (await _closed(ws)).rcvd
    assert closed is not None
    assert (closed.code, closed.reason) == (close_code, "the host's policy does not allow 10.0.0.1:22")
    (event,) = await scene.audited("forward.open")
    assert event.result == "refused"


async def test_an_agent_that_is_away_is_named_before_anything_opens(scene: Scene) -> None:
    await scene.agent.stop()
    await until(lambda: not len(scene.app.control.fleet.links))
    with pytest.raises(InvalidStatus) as caught:
        async with scene.socket("forward?host=127.0.0.1&port=22", await scene.token("olga", OPERATOR)):
            pass
    assert caught.value.response.status_code == 503
    assert json.loads(caught.value.response.body or b"{}")["error"]["code"] == "agent_away"


async def test_a_lost_link_ends_a_forward(scene: Scene) -> None:
    scene.serve(_echo)
    async with scene.socket("forward?host=127.0.0.1&port=22", await scene.token("olga", OPERATOR)) as ws:
        await ws.send(b"x")
        await ws.recv()
        scene.agent.cut()
        closed = (await _closed(ws)).rcvd
    assert closed is not None and closed.code == 4503


async def test_a_client_that_leaves_ends_the_stream_at_the_agent(scene: Scene) -> None:
    ended = asyncio.Event()

    async def wait(incoming: IncomingStream, stream: TunnelStream) -> None:
        try:
            while await stream.read():
                pass
        finally:
            ended.set()

    scene.serve(wait)
    ws = await scene.socket("forward?host=127.0.0.1&port=22", await scene.token("olga", OPERATOR))
    await ws.send(b"x")
    ws.transport.abort()
    async with asyncio.timeout(5):
        await ended.wait()


async def test_a_revoked_token_ends_its_streams(scene: Scene) -> None:
    scene.serve(_echo)
    token = await scene.token("olga", OPERATOR)
    async with scene.socket("forward?host=127.0.0.1&port=22", token) as ws:
        await ws.send(b"x")
        await ws.recv()
        async with scene.app.control.db.begin() as tx:
            await tx.execute(update(ApiToken).where(ApiToken.name == "olga").values(revoked_at=now()))
            scene.app.control.access.changed(tx)
        closed = (await _closed(ws)).rcvd
    assert closed is not None and closed.code == 4403


@pytest.mark.parametrize(
    "query", ["host=&port=1", "host=a&port=0", "host=a&port=70000", "host=a%0d%0ab&port=1", "port=1"]
)
async def test_senseless_targets_are_refused(scene: Scene, query: str) -> None:
    with pytest.raises(InvalidStatus) as caught:
        async with scene.socket(f"forward?{query}", await scene.token("olga", OPERATOR)):
            pass
    assert caught.value.response.status_code == 422


# -- exec ----------------------------------------------------------------------------------------


async def _shell(incoming: IncomingStream, stream: TunnelStream) -> None:
    reader = streams.FrameReader()
    while data := await stream.read():
        for frame in reader.feed(data):
            if frame.kind == STDIN and frame.body == b"exit 3\n":
                await stream.write(encode_frame(EXIT, b'{"code":3}'))
                await stream.aclose()
                return
            await stream.write(encode_frame(STDOUT, bytes([frame.kind]) + frame.body))


async def test_a_terminal_passes_keys_size_and_the_exit_code(scene: Scene) -> None:
    scene.serve(_shell)
    query = "exec?project=shop&service=web&tty=1&columns=120&rows=40&arg=sh&arg=-c&arg=echo%20hi"
    async with scene.socket(query, await scene.token("olga", OPERATOR)) as ws:
        await ws.send(encode_frame(STDIN, b"ls"))
        assert await ws.recv() == encode_frame(STDOUT, bytes([STDIN]) + b"ls")
        await ws.send(encode_frame(RESIZE, b'{"columns":80,"rows":24}'))
        assert await ws.recv() == encode_frame(STDOUT, bytes([RESIZE]) + b'{"columns":80,"rows":24}')
        await ws.send(encode_frame(STDIN, b"exit 3\n"))
        assert await ws.recv() == encode_frame(EXIT, b'{"code":3}')
        assert (await _closed(ws)).rcvd.code == 1000
    (target,) = scene.targets
    assert isinstance(target, streams.Exec)
    assert (target.container, target.argv, target.tty) == ("c" * 64, ("sh", "-c", "echo hi"), True)
    assert (target.columns, target.rows) == (120, 40)
    opened, ended = sorted(await scene.audited("exec.open", "exec.end"), key=lambda event: event.seq)
    assert opened.detail["argv"] == ["sh", "-c", "echo hi"]
    assert ended.detail["exit"] == '{"code":3}'


async def _recording(scene: Scene) -> Recording:
    async with asyncio.timeout(10):
        while True:
            rows = await scene.app.rows(Recording)
            if rows and rows[-1].state != "running":
                return cast(Recording, rows[-1])
            await asyncio.sleep(0.02)


async def test_a_terminal_is_recorded_and_says_so_first(scene: Scene) -> None:
    scene.serve(_shell)
    client = scene.client(await scene.token("root", Right(Role.OWNER)))
    answer = await client.put("/api/v1/clusters/edge-1/recording-policy", json={"mode": "interactive", "keep_days": 3})
    assert answer.json()["now"]["keep_days"] == 3
    query = "exec?project=shop&service=web&tty=1&columns=120&rows=40&arg=sh"
    async with scene.socket(query, await scene.token("olga", OPERATOR)) as ws:
        assert await ws.recv() == encode_frame(STDERR, b"Everything shown here is recorded and kept for 3 days.\r\n")
        await ws.send(encode_frame(STDIN, b"secret"))
        await ws.recv()
        await ws.send(encode_frame(RESIZE, b'{"columns":80,"rows":24}'))
        await ws.recv()
        await ws.send(encode_frame(STDIN, b"exit 3\n"))
        assert await ws.recv() == encode_frame(EXIT, b'{"code":3}')
    row = await _recording(scene)
    names = (row.kind, row.user_name, row.project, row.target, row.command, row.exit, row.state, row.columns)
    assert names == ("docker", "olga", "shop", "web", "sh", "3", "whole", 120)
    lines = (await client.get(f"/api/v1/recordings/{row.id}/cast")).text.splitlines()
    events = [json.loads(line)[1:] for line in lines[1:]]
    echoed = '{"columns":80,"rows":24}'
    assert events == [["o", "\x00secret"], ["r", "80x24"], ["o", "\x03" + echoed]]
    opened = await scene.audited("exec.open")
    assert opened[0].detail["recording"] == row.id


async def test_a_terminal_ends_when_its_recording_does_and_nothing_may_be_unrecorded(scene: Scene) -> None:
    scene.serve(_shell)
    client = scene.client(await scene.token("root", Right(Role.OWNER)))
    await client.put("/api/v1/clusters/edge-1/recording-policy", json={"mode": "all", "on_loss": "end"})
    async with scene.socket("exec?container=shop-web-1", await scene.token("olga", OPERATOR)) as ws:
        await ws.recv()
        (recorder,) = scene.app.control.recordings._running.values()
        recorder.lose("the disk takes recordings too slowly")
        closed = (await _closed(ws)).rcvd
    assert closed is not None
    assert (closed.code, "nothing unrecorded" in closed.reason) == (4503, True)
    assert (await _recording(scene)).state == "partial"


async def test_a_terminal_that_never_opens_leaves_no_recording(scene: Scene) -> None:
    scene.refuse("forbidden", "no shells here")
    client = scene.client(await scene.token("root", Right(Role.OWNER)))
    await client.put("/api/v1/clusters/edge-1/recording-policy", json={"mode": "all"})
    async with scene.socket("exec?container=shop-web-1", await scene.token("olga", OPERATOR)) as ws:
        assert (await _closed(ws)).rcvd.code == 4403
    async with asyncio.timeout(10):
        while await scene.app.rows(Recording):
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("name", ["shop-web-1", "c" * 64, "c" * 12])
async def test_a_container_is_found_by_name_and_id(scene: Scene, name: str) -> None:
    scene.serve(_shell)
    async with scene.socket(f"exec?container={name}", await scene.token("olga", OPERATOR)) as ws:
        await ws.send(encode_frame(STDIN, b"exit 3\n"))
        await _closed(ws)
    assert isinstance(scene.targets[0], streams.Exec) and scene.targets[0].container == "c" * 64


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("container=nothing", 404),
        ("container=" + "c" * 11, 404),
        ("project=shop&service=db", 404),
        ("project=shop", 422),
        ("", 422),
        ("container=a&project=shop&service=web", 422),
        ("project=shop&service=web&columns=0", 422),
    ],
)
async def test_a_terminal_without_a_place_is_refused(scene: Scene, query: str, status: int) -> None:
    with pytest.raises(InvalidStatus) as caught:
        async with scene.socket(f"exec?{query}", await scene.token("olga", OPERATOR)):
            pass
    assert caught.value.response.status_code == status


async def test_a_grant_on_another_project_opens_no_terminal(scene: Scene) -> None:
    token = await scene.token("paul", Right(Role.OPERATOR, Reach(ScopeKind.PROJECT, project="blog")))
    for query in ("container=shop-web-1", "project=shop&service=web"):
        with pytest.raises(InvalidStatus) as caught:
            async with scene.socket(f"exec?{query}", token):
                pass
        assert caught.value.response.status_code == 404


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\x00",
        encode_frame(STDOUT, b"fake"),
        encode_frame(EXIT, b"{}"),
        encode_frame(STDIN, b"a") + encode_frame(STDIN, b"b"),
        encode_frame(STDIN, b"a")[:-1],
        encode_frame(STDIN, b"a") + b"x",
        "text",
    ],
)
async def test_what_is_not_one_frame_of_a_client_closes_the_terminal(scene: Scene, message: bytes | str) -> None:
    scene.serve(_shell)
    async with scene.socket("exec?container=shop-web-1", await scene.token("olga", OPERATOR)) as ws:
        await ws.send(message)
        closed = (await _closed(ws)).rcvd
    assert closed is not None and closed.code == 4400


# -- logs ----------------------------------------------------------------------------------------


def _log_serve(count: int, *, stay: bool = False) -> Serve:
    async def serve(incoming: IncomingStream, stream: TunnelStream) -> None:
        source = LogSource(container="c" * 64, name="shop-web-1", project="shop", service="web")
        await stream.write(encode_frame(SOURCE, msgspec.json.encode(source), 1))
        for number in range(count):
            await stream.write(encode_frame(STDOUT, f"2026-01-01T00:00:00.{number:09}Z line {number}\n".encode(), 1))
        if stay:
            await stream.read()
        await stream.write_eof()

    return serve


LOGS = "/api/v1/clusters/edge-1/logs"


async def test_logs_need_the_permission(scene: Scene) -> None:
    vera = scene.client(await scene.token("vera", Right(Role.VIEWER)))
    assert (await vera.get(f"{LOGS}?project=shop")).status_code == 403
    assert (await scene.app.client().get(f"{LOGS}?project=shop")).status_code == 401
    paul = scene.client(await scene.token("paul", Right(Role.OPERATOR, Reach(ScopeKind.PROJECT, project="blog"))))
    assert (await paul.get(f"{LOGS}?project=shop")).status_code == 404


async def test_frames_pass_unchanged(scene: Scene) -> None:
    scene.serve(_log_serve(100))
    olga = scene.client(await scene.token("olga", OPERATOR))
    cursor = f"{'c' * 64}=2026-01-01T00:00:00Z/2"
    query = f"project=shop&service=web&tail=5&since=2026-01-01T00:00:00Z&grep=x&cursor={cursor}"
    answer = await olga.get(f"{LOGS}?{query}")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/vnd.towline.logs"
    frames = list(streams.FrameReader().feed(answer.content))
    assert [frame.kind for frame in frames] == [SOURCE] + [STDOUT] * 100
    (target,) = scene.targets
    assert isinstance(target, streams.Logs)
    assert (target.services, target.tail, target.since, target.grep) == (("web",), 5, "2026-01-01T00:00:00Z", "x")
    assert target.cursors == {"c" * 64: "2026-01-01T00:00:00Z/2"}


async def test_programs_get_json_lines(scene: Scene) -> None:
    scene.serve(_log_serve(3))
    olga = scene.client(await scene.token("olga", OPERATOR))
    answer = await olga.get(f"{LOGS}?container=shop-web-1", headers={"accept": "application/x-ndjson"})
    assert [json.loads(line)["text"] for line in answer.text.splitlines()] == ["line 0", "line 1", "line 2"]
    (target,) = scene.targets
    assert isinstance(target, streams.Logs) and target.containers == ("c" * 64,)


async def test_a_followed_line_is_there_at_once(scene: Scene) -> None:
    scene.serve(_log_serve(1, stay=True))
    olga = scene.client(await scene.token("olga", OPERATOR))
    async with asyncio.timeout(5), olga.stream("GET", f"{LOGS}?project=shop&follow=1") as answer:
        assert b"line 0" in b"".join([chunk async for chunk in _first(answer)])


async def _first(answer: httpx.Response) -> AsyncIterator[bytes]:
    async for chunk in answer.aiter_raw():
        yield chunk
        if b"line 0" in chunk:
            return


async def test_a_reader_of_logs_that_leaves_is_noticed_in_silence(scene: Scene) -> None:
    ended = asyncio.Event()

    async def serve(incoming: IncomingStream, stream: TunnelStream) -> None:
        try:
            await _log_serve(1, stay=True)(incoming, stream)
        finally:
            ended.set()

    scene.serve(serve)
    olga = scene.client(await scene.token("olga", OPERATOR))
    async with olga.stream("GET", f"{LOGS}?project=shop&follow=1") as answer:
        async for _ in _first(answer):
            pass
    async with asyncio.timeout(5):
        await ended.wait()


async def test_a_lost_link_does_not_look_like_the_end_of_the_log(scene: Scene) -> None:
    scene.serve(_log_serve(1, stay=True))
    olga = scene.client(await scene.token("olga", OPERATOR))
    with pytest.raises(httpx.RemoteProtocolError):
        async with olga.stream("GET", f"{LOGS}?project=shop&follow=1") as answer:
            async for _ in answer.aiter_raw():
                scene.agent.cut()


async def test_a_refusal_of_the_agent_is_an_answer(scene: Scene) -> None:
    scene.refuse("not_found", "no project shop on this host")
    olga = scene.client(await scene.token("olga", OPERATOR))
    answer = await olga.get(f"{LOGS}?project=shop")
    assert answer.status_code == 404
    assert answer.json()["error"]["message"] == "no project shop on this host"


@pytest.mark.parametrize(
    "query", ["", "project=a&container=b", "project=a&tail=-2", "project=a&since=never", "project=a&cursor=x"]
)
async def test_senseless_log_queries_are_refused(scene: Scene, query: str) -> None:
    olga = scene.client(await scene.token("olga", OPERATOR))
    assert (await olga.get(f"{LOGS}?{query}")).status_code == 422


# -- events and the link -------------------------------------------------------------------------


async def test_hints_show_what_the_viewer_may_see_and_no_more(scene: Scene) -> None:
    bus, cluster = scene.app.control.bus, scene.agent.identity.cluster_id
    alien = await scene.app.user("eve", Role.OWNER, org_id=await scene.app.org("other"))
    own = scene.client(await scene.token("vera", Right(Role.VIEWER)))

    async def read(client: httpx.AsyncClient, until: str) -> list[str]:
        seen = []
        async with asyncio.timeout(10), client.stream("GET", "/api/v1/events") as answer:
            async for line in answer.aiter_lines():
                if line.startswith("event: "):
                    seen.append(line[7:])
                if line == "event: hello":
                    bus.publish("job", id="job_x", cluster_id=cluster)
                    bus.publish("audit", id="aud_x")
                    bus.publish("access", user_id="usr_x")
                if line.startswith("data: "):
                    assert "usr_x" not in line
                if seen and seen[-1] == until:
                    return seen
        return seen

    assert await read(own, "access") == ["hello", "job", "access"]
    eve = scene.client(alien.headers["authorization"].removeprefix("Bearer "))
    assert await read(eve, "access") == ["hello", "audit", "access"]


async def test_hints_since_a_page_was_made_come_first(scene: Scene) -> None:
    bus, cluster = scene.app.control.bus, scene.agent.identity.cluster_id
    own = scene.client(await scene.token("vera", Right(Role.VIEWER)))
    made = bus.position
    bus.publish("job", id="job_between", cluster_id=cluster)
    for way in ({"params": {"after": made}}, {"headers": {"last-event-id": made}}):
        async with asyncio.timeout(10), own.stream("GET", "/api/v1/events", **way) as answer:
            lines = answer.aiter_lines()
            assert [await anext(lines) for _ in range(3)] == ["event: hello", "data: {}", ""]
            found = [await anext(lines) for _ in range(3)]
        assert found[0].startswith(f"id: {made.partition('-')[0]}-")
        assert (found[1], "job_between" in found[2]) == ("event: job", True)


async def test_the_link_is_measured_both_ways(scene: Scene) -> None:
    async def serve(incoming: IncomingStream, stream: TunnelStream) -> None:
        target = incoming.target
        assert isinstance(target, streams.Measure)
        if target.direction == "down":
            while True:
                await stream.write(bytes(65536))
        count = 0
        while data := await stream.read():
            count += len(data)
        await stream.write(count.to_bytes(8, "big"))
        await stream.write_eof()

    scene.serve(serve)
    admin = scene.client(await scene.token("anna", Right(Role.ADMIN)))
    answer = await admin.post("/api/v1/clusters/edge-1/link/test", json={"seconds": 0.5})
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert found["up_bytes_per_second"] > 1_000_000
    assert found["down_bytes_per_second"] > 1_000_000
    olga = scene.client(await scene.token("olga", OPERATOR))
    assert (await olga.post("/api/v1/clusters/edge-1/link/test", json={})).status_code == 403


async def test_the_doctor_says_what_the_server_sees(scene: Scene) -> None:
    vera = scene.client(await scene.token("vera", Right(Role.VIEWER)))
    found = (await vera.get("/api/v1/clusters/edge-1/link/doctor")).json()
    assert {check["name"]: check["ok"] for check in found["checks"]}["link"] is True
    assert found["link"]["connected"] is True
    scene.agent.cut()
    await until(lambda: not len(scene.app.control.fleet.links))
    await scene.app.control.fleet.reports.flush()
    checks = (await vera.get("/api/v1/clusters/edge-1/link/doctor")).json()["checks"]
    assert [check["ok"] for check in checks] == [True, False, False]
    assert "Lost at" in checks[1]["reason"]
