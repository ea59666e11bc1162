"""Shells through the gate are recorded in both protocols, said so, unchanged, and refused when they cannot be."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio
from tests.support.kubernetes import Access, ApiStream, Script, Sent, StandIn, request
from tests.support.served import https
from tests.unit.kube.test_kube_channels import Client, data, frame, reply
from websockets.asyncio.client import connect
from websockets.utils import accept_key

from towline.control.access.permissions import Right, Role
from towline.control.audit.models import AuditEvent
from towline.control.clusters.models import Cluster
from towline.control.recordings.models import Recording
from towline.kube.channels import said
from towline.wire.streams import EXIT, STDERR, STDOUT, encode_frame

pytestmark = pytest.mark.asyncio(loop_scope="module")

EXEC = "/k8s/clusters/prod/api/v1/namespaces/shop/pods/web/exec?command=sh&stdin=true&stdout=true&tty=true"
WEBSOCKET = (
    "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Protocol: v5.channel.k8s.io",
)  # fmt: skip
SPDY = ("Connection: Upgrade", "Upgrade: SPDY/3.1", "Content-Length: 0")
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n%s\r\n"
V5 = b"Sec-WebSocket-Protocol: v5.channel.k8s.io\r\n"
MASK = b"\x01\x02\x03\x04"
NOTE = b"Everything shown here is recorded and kept for 90 days.\r\n"
SIZE = b'\x04{"Width":111,"Height":33}\n'


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def access(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Access]:
    async with Access.begin(tmp_path_factory.mktemp("recordings"), recording="interactive") as access:
        yield access


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def prod(access: Access) -> StandIn:
    return await access.stand_in("prod")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def token(access: Access, prod: StandIn) -> str:
    return await access.token("ada", Right(Role.OPERATOR))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def root(access: Access) -> AsyncIterator[httpx.AsyncClient]:
    token = await access.token("root", Right(Role.OWNER))
    async with https(access.running, headers={"authorization": f"Bearer {token}"}) as client:
        yield client


def switches(upgrade: bytes, lines: bytes, expected: bytes, shown: bytes) -> Script:
    """An API server that switches, takes what the client says, and shows something."""

    async def script(stream: ApiStream, sent: Sent) -> None:
        await stream.write(SWITCH % (upgrade, lines))
        held = b""
        while len(held) < len(expected):
            piece = await stream.read()
            assert piece, held
            held += piece
        assert held == expected
        await stream.write(shown)
        await stream.write_eof()
        while await stream.read():
            continue

    return script


async def talk(
    access: Access, token: str, fields: tuple[str, ...], sent: bytes, path: str = EXEC
) -> tuple[bytes, bytes]:
    """Open a shell. Returns: the head of the answer, and everything behind it."""
    async with await access.client() as client:
        await client.send(request("GET", path, token, *fields))
        head = await client.until(b"\r\n\r\n")
        if b" 101 " not in head.split(b"\r\n")[0]:
            return head, b""
        await client.send(sent)
        return head, await client.to_end()


async def recording(access: Access, count: int) -> Recording:
    """Wait for the newest recording, of so many, to be finished."""
    async with asyncio.timeout(10):
        while True:
            rows: list[Recording] = sorted(await access.app.rows(Recording), key=lambda row: str(row.id))
            if len(rows) == count and rows[-1].state != "running":
                return rows[-1]
            await asyncio.sleep(0.02)


async def cast(root: httpx.AsyncClient, row: Recording) -> list[Any]:
    answer = await root.get(f"/api/v1/recordings/{row.id}/cast")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/x-asciicast"
    return [json.loads(one) for one in answer.text.splitlines()]


async def set_policy(root: httpx.AsyncClient, **rules: Any) -> None:
    answer = await root.put("/api/v1/clusters/prod/recording-policy", json=rules)
    assert answer.status_code == 200, answer.text


@pytest_asyncio.fixture(loop_scope="module")
async def count(access: Access, root: httpx.AsyncClient) -> AsyncIterator[int]:
    """How many recordings there are after one more; policies end with the test."""
    yield len(await access.app.rows(Recording)) + 1
    await set_policy(root)


async def test_a_shell_on_a_websocket_is_recorded_and_its_bytes_are_unchanged(
    access: Access, prod: StandIn, token: str, root: httpx.AsyncClient, count: int
) -> None:
    sent = frame(SIZE, mask=MASK) + frame(b"\x00id\r", mask=MASK)
    shown = frame(b"\x01uid=0") + frame(b"\x01\r\n") + frame(b'\x03{"status":"Success"}')
    prod.script = switches(b"websocket", V5, sent, shown)
    head, out = await talk(access, token, WEBSOCKET, sent)
    assert b'Warning: 299 - "Everything shown here is recorded' in head
    assert out == said("v5.channel.k8s.io", 1, NOTE) + shown
    row = await recording(access, count)
    names = (row.user_name, row.cluster_name, row.namespace, row.target, row.command, row.exit, row.state)
    assert names == ("ada", "prod", "shop", "web", "sh", "0", "whole")
    first, *events = await cast(root, row)
    assert (first["version"], first["width"], first["height"]) == (2, 111, 33)
    assert "".join(one[2] for one in events) == "uid=0\r\n"
    event = (await access.events("kubernetes.exec"))[-1]
    assert event.detail["recording"] == row.id


async def test_a_shell_over_spdy_is_recorded_and_says_so_in_its_place(
    access: Access, prod: StandIn, token: str, root: httpx.AsyncClient, count: int
) -> None:
    client = Client()
    sent = b"".join(client.open(word) for word in ("error", "stdin", "stdout", "resize"))
    sent += data(7, SIZE[1:]) + data(3, b"id\r")
    begin, shown = reply(1) + reply(3) + reply(5) + reply(7), data(5, b"uid=0\r\n")
    prod.script = switches(b"SPDY/3.1", b"", sent, begin + shown)
    _, out = await talk(access, token, SPDY, sent)
    assert out == (begin + shown).replace(reply(5), reply(5) + data(5, NOTE))
    first, *events = await cast(root, await recording(access, count))
    assert (first["width"], [one[1:] for one in events]) == (111, [["o", "uid=0\r\n"]])


async def test_errors_get_the_sentence_where_output_is_for_programs(
    access: Access, prod: StandIn, token: str, count: int
) -> None:
    prod.script = switches(b"websocket", V5, b"", frame(b"\x01data"))
    _, out = await talk(access, token, WEBSOCKET, b"", EXEC.replace("&tty=true", "&stderr=true"))
    assert out == said("v5.channel.k8s.io", 2, NOTE) + frame(b"\x01data")
    await recording(access, count)


async def test_a_command_without_input_is_recorded_only_when_all_are(
    access: Access, prod: StandIn, token: str, root: httpx.AsyncClient, count: int
) -> None:
    quiet = EXEC.replace("&stdin=true", "").replace("&tty=true", "")
    prod.script = switches(b"websocket", V5, b"", frame(b"\x01one"))
    _, out = await talk(access, token, WEBSOCKET, b"", quiet)
    assert out == frame(b"\x01one")
    await set_policy(root, mode="all", namespaces=["bank"])
    _, out = await talk(access, token, WEBSOCKET, b"", quiet)
    assert out == frame(b"\x01one")
    await set_policy(root, mode="all", namespaces=["shop"], keep_days=7)
    _, out = await talk(access, token, WEBSOCKET, b"", quiet)
    assert out.endswith(frame(b"\x01one"))
    assert b"kept for 7 days" in out
    row = await recording(access, count)
    assert (row.expires_at - row.began_at).days == 7


async def test_what_cannot_be_read_is_refused_or_let_through_and_on_record_either_way(
    access: Access, prod: StandIn, token: str, root: httpx.AsyncClient, count: int
) -> None:
    odd = (*WEBSOCKET[:-1], "Sec-WebSocket-Protocol: v9.channel.k8s.io")
    prod.script = switches(b"websocket", V5.replace(b"v5", b"v9"), b"", frame(b"\x01one"))
    head, _ = await talk(access, token, odd, b"")
    assert head.startswith(b"HTTP/1.1 403 ")
    assert b"cannot be" in head
    await set_policy(root, on_unreadable="unrecorded")
    _, out = await talk(access, token, odd, b"")
    assert out == frame(b"\x01one")
    missing = [row for row in await access.app.rows(AuditEvent) if row.action == "recording.missing"]
    assert [row.result for row in sorted(missing, key=lambda row: row.seq)] == ["refused", "done"]
    assert len(await access.app.rows(Recording)) == count - 1


async def test_an_api_server_that_switches_to_something_else_is_cut(
    access: Access, prod: StandIn, token: str, count: int
) -> None:
    prod.script = switches(b"websocket", V5 + b"Sec-WebSocket-Extensions: permessage-deflate\r\n", b"", frame(b"\x01x"))
    head, _ = await talk(access, token, WEBSOCKET, b"")
    assert head.startswith(b"HTTP/1.1 403 ")


async def test_a_session_whose_bytes_make_no_sense_is_cut(
    access: Access, prod: StandIn, token: str, count: int
) -> None:
    sent = frame(SIZE, mask=MASK)
    prod.script = switches(b"websocket", V5, sent, b"\xf2\x01nonsense")
    await talk(access, token, WEBSOCKET, sent)
    row = await recording(access, count)
    assert "cannot be read along" in row.reason


async def test_a_shell_that_never_opens_leaves_nothing(access: Access, prod: StandIn, token: str, count: int) -> None:
    async def missing(stream: ApiStream, sent: Sent) -> None:
        await stream.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")

    prod.script = missing
    head, _ = await talk(access, token, WEBSOCKET, b"")
    assert head.startswith(b"HTTP/1.1 404 ")
    folder = access.running.control.settings.data_folder / "recordings"
    async with asyncio.timeout(10):
        while len(await access.app.rows(Recording)) >= count or len(list(folder.iterdir())) >= count:
            await asyncio.sleep(0.02)


async def test_a_kubelet_that_runs_commands_past_the_api_server_is_refused(
    access: Access, prod: StandIn, root: httpx.AsyncClient, count: int
) -> None:
    path = "/k8s/clusters/prod/api/v1/nodes/n1/proxy/run/shop/web/app?cmd=id"
    answer = await root.post(path)
    assert (answer.status_code, "cannot be" in answer.text) == (403, True)


async def test_people_play_their_own_sessions_and_administrators_all(
    access: Access, prod: StandIn, token: str, root: httpx.AsyncClient, count: int
) -> None:
    prod.script = switches(b"websocket", V5, b"", frame(b"\x01mine"))
    await talk(access, token, WEBSOCKET, b"")
    row = await recording(access, count)
    other = await access.token("eve", Right(Role.DEPLOYER))
    async with https(access.running) as client:
        for secret, status in ((token, 200), (other, 404), ("", 401)):
            headers = {"authorization": f"Bearer {secret}"} if secret else {}
            for path in (row.id, f"{row.id}/cast"):
                answer = await client.get(f"/api/v1/recordings/{path}", headers=headers)
                assert answer.status_code == status, path
            if secret == other:
                listed = await client.get("/api/v1/recordings", headers=headers)
                assert listed.json()["total"] == 0
        denied = await client.delete(f"/api/v1/recordings/{row.id}", headers={"authorization": f"Bearer {token}"})
        assert denied.status_code == 403
    played = [one for one in await access.app.rows(AuditEvent) if one.action == "recording.play"]
    assert [one.actor_name for one in played if one.target_id == row.id] == ["ada"]
    assert (await root.get("/api/v1/recordings", params={"target": "web", "cluster": "prod"})).json()["total"] >= 1
    assert (await root.delete(f"/api/v1/recordings/{row.id}")).status_code == 204
    assert (await root.get(f"/api/v1/recordings/{row.id}")).status_code == 404
    assert not (access.running.control.settings.data_folder / "recordings" / row.id).exists()


async def test_what_its_policy_keeps_no_longer_goes(
    access: Access, prod: StandIn, token: str, root: httpx.AsyncClient, count: int
) -> None:
    prod.script = switches(b"websocket", V5, b"", frame(b"\x01old"))
    await talk(access, token, WEBSOCKET, b"")
    row = await recording(access, count)
    control = access.running.control
    async with control.db.begin() as tx:
        held = await tx.get(Recording, row.id)
        assert held is not None
        held.expires_at = held.began_at
    assert (await control.retention.sweep())["recordings"] == 1
    assert (await root.get(f"/api/v1/recordings/{row.id}")).status_code == 404
    assert not (control.settings.data_folder / "recordings" / row.id).exists()


async def test_a_disk_that_takes_nothing_ends_strict_sessions_before_they_begin(
    access: Access, prod: StandIn, token: str, root: httpx.AsyncClient, count: int
) -> None:
    folder = access.running.control.settings.data_folder / "recordings"
    held = folder.rename(folder.with_name("held"))
    folder.write_text("no folder")
    try:
        prod.script = switches(b"websocket", V5, b"", frame(b"\x01one"))
        _, out = await talk(access, token, WEBSOCKET, b"")
        assert out == frame(b"\x01one")
        await set_policy(root, on_loss="end")
        head, _ = await talk(access, token, WEBSOCKET, b"")
        assert head.startswith(b"HTTP/1.1 403 ")
    finally:
        folder.unlink()
        held.rename(folder)


async def test_a_terminal_of_our_own_pages_is_recorded_and_says_so_first(
    access: Access, prod: StandIn, token: str, root: httpx.AsyncClient, count: int
) -> None:
    async def script(stream: ApiStream, sent: Sent) -> None:
        accepted = accept_key(sent.field("sec-websocket-key")).encode()
        await stream.write(SWITCH % (b"websocket", V5 + b"Sec-WebSocket-Accept: " + accepted + b"\r\n"))
        assert await stream.read()  # the size
        failed = b'{"status":"Failure","details":{"causes":[{"reason":"ExitCode","message":"3"}]}}'
        await stream.write(frame(b"\x01hello") + frame(b"\x03" + failed))
        while await stream.read():
            continue

    prod.script = script
    async with asyncio.timeout(10):
        while not any(row.capabilities for row in await access.app.rows(Cluster)):
            await asyncio.sleep(0.02)
    path = "/clusters/prod/kubernetes/shop/pods/web/shell?container=app&columns=90&rows=20"
    address = f"wss://localhost:{access.port}{path}"
    fields = {"authorization": f"Bearer {token}"}
    async with connect(address, ssl=access.trust, additional_headers=fields) as socket:
        first, second, last = await socket.recv(), await socket.recv(), await socket.recv()
    assert first == encode_frame(STDERR, NOTE)
    assert second == encode_frame(STDOUT, b"hello")
    assert isinstance(last, bytes)
    assert last[0] == EXIT
    row = await recording(access, count)
    assert (row.target, row.container, row.exit, row.columns, row.rows) == ("web", "app", "3", 90, 20)
    _, *events = await cast(root, row)
    assert "".join(one[2] for one in events) == "hello"
