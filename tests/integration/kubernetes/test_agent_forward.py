"""The agent's Kubernetes side against the real API server: bytes, identities, streams, and what they cost."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.conftest import need
from tests.support.kube_agent import (
    Admin,
    KubeBed,
    KubeClient,
    kube_agent,
    make_agent_account,
    make_pod,
    until,
    write_kubeconfig,
)

from towline.agent.kubernetes.probe import find_version
from towline.agent.policy import KubernetesRules, LocalPolicy
from towline.aio.streams import EndedThere
from towline.tunnel.errors import TargetRefused
from towline.wire.streams import Kube

pytestmark = pytest.mark.kubernetes

NAMESPACE = "k3-agent"
POD = "sleeper"
CORE = f"/api/v1/namespaces/{NAMESPACE}"
TIMEOUT = 60.0
CUT_WITHIN = 10.0
ADMIN = Kube(user="towline:alice", groups=("towline:role:admin",), extra={"towline.dev/session": ("ses_1",)})
VIEWER = Kube(user="towline:vera", groups=("towline:role:viewer",))
WEBSOCKET = (
    "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Protocol: v5.channel.k8s.io",
)  # fmt: skip
STDIN, STDOUT, STATUS = 0, 1, 3


@pytest.fixture(scope="module")
def admin(request: pytest.FixtureRequest) -> Admin:
    return Admin(need(request.config, "kubernetes"))


@pytest.fixture(scope="module")
def token(admin: Admin) -> str:
    return make_agent_account(admin, NAMESPACE)


@pytest.fixture(scope="module")
def pod(admin: Admin, token: str) -> str:
    make_pod(admin, NAMESPACE, POD)
    return POD


@pytest.fixture
async def bed(admin: Admin, token: str, tmp_path: Path) -> AsyncIterator[KubeBed]:
    kubeconfig = write_kubeconfig(tmp_path / "kubeconfig", admin.cluster, token)
    async with asyncio.timeout(TIMEOUT), kube_agent(kubeconfig) as made:
        yield made


def new_id() -> str:
    return f"req-{secrets.token_hex(8)}"


def memory() -> int:
    """Resident bytes of this process, which is both ends of the tunnel."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def frame(channel: int, data: bytes, opcode: int = 2) -> bytes:
    """A WebSocket message of a client; a mask of zeros is as good as any to a server."""
    body = bytes([channel]) + data if opcode == 2 else data
    size = bytes([0x80 | len(body)]) if len(body) < 126 else bytes([0x80 | 126]) + len(body).to_bytes(2, "big")
    return bytes([0x80 | opcode]) + size + bytes(4) + body


class Frames:
    """WebSocket messages of a server, out of raw bytes."""

    def __init__(self, client: KubeClient) -> None:
        self._client = client
        self._data = client.rest()

    async def _take(self, size: int) -> bytes:
        while len(self._data) < size:
            data = await self._client.stream.read()
            assert data, "the stream ended within a message"
            self._data += data
        taken, self._data = self._data[:size], self._data[size:]
        return taken

    async def read(self) -> tuple[int, bytes]:
        """Return opcode and body of one frame."""
        first, second = await self._take(2)
        size = second & 0x7F
        if size >= 126:
            size = int.from_bytes(await self._take(2 if size == 126 else 8), "big")
        return first & 0x0F, await self._take(size)


async def exec_in(bed: KubeBed, *command: str, stdin: bool = False) -> tuple[KubeClient, Frames]:
    client = await bed.open(ADMIN)
    words = "&".join(f"command={word}" for word in command)
    query = f"container=main&stdout=true&stdin={str(stdin).lower()}&{words}"
    await client.send("GET", f"{CORE}/pods/{POD}/exec?{query}", *WEBSOCKET)
    head = await client.read_head()
    assert (head.status, head.get(b"sec-websocket-protocol")) == (101, b"v5.channel.k8s.io")
    return client, Frames(client)


async def test_version_is_that_of_the_cluster(bed: KubeBed) -> None:
    assert (await find_version(bed.credentials)).startswith("v1.")


async def test_requests_run_as_the_user_and_say_so_in_the_audit_log(bed: KubeBed, admin: Admin) -> None:
    client, request_id = await bed.open(ADMIN), new_id()
    answer = await client.ask("GET", f"{CORE}/serviceaccounts/agent", f"X-Request-Id: {request_id}")
    assert (answer.status, answer.json["metadata"]["name"]) == (200, "agent")
    await until(lambda: bool(admin.audit(request_id)))
    record = admin.audit(request_id)[-1]
    assert record["user"]["username"] == f"system:serviceaccount:{NAMESPACE}:agent"
    assert record["impersonatedUser"]["username"] == "towline:alice"
    assert set(record["impersonatedUser"]["groups"]) == {"towline:role:admin", "system:authenticated"}
    assert record["impersonatedUser"]["extra"]["towline.dev/session"] == ["ses_1"]


async def test_claims_of_identity_in_a_request_change_nothing(bed: KubeBed, admin: Admin) -> None:
    client, request_id = await bed.open(VIEWER), new_id()
    answer = await client.ask(
        "GET",
        f"{CORE}/configmaps",
        "Authorization: Bearer stolen",
        "Impersonate-User: system:admin",
        "impersonate-group: system:masters",
        "Impersonate_Group: system:masters",
        "Connection: Impersonate-User, Impersonate-Group, Authorization",
        "X-Remote-User: root",
        f"X-Request-Id: {request_id}",
    )
    assert answer.status == 200
    await until(lambda: bool(admin.audit(request_id)))
    seen = admin.audit(request_id)[-1]["impersonatedUser"]
    assert (seen["username"], "system:masters" in seen["groups"]) == ("towline:vera", False)


async def test_requests_follow_each_other_on_one_stream_refused_ones_included(bed: KubeBed) -> None:
    client = await bed.open(VIEWER)
    assert (await client.ask("GET", f"{CORE}/pods?limit=500")).json["kind"] == "PodList"
    refused = await client.ask("GET", "/api/v1/namespaces/kube-system/secrets")
    assert (refused.status, refused.json["reason"]) == (403, "Forbidden")
    head = await client.ask("HEAD", f"{CORE}/pods")
    assert (head.status, head.body) == (405, b"")  # as the API server has it
    assert (await client.ask("GET", "/version")).json["major"] == "1"


async def test_answer_to_an_encoding_passes_untouched(bed: KubeBed) -> None:
    client = await bed.open(ADMIN)
    answer = await client.ask("GET", "/openapi/v2", "Accept-Encoding: gzip", "Accept: application/json")
    assert answer.head.get(b"content-encoding") == b"gzip"
    assert answer.body[:2] == b"\x1f\x8b"
    assert len(answer.body) > 100_000


async def test_chunked_body_is_passed_on(bed: KubeBed, admin: Admin) -> None:
    client, name = await bed.open(ADMIN), f"chunked-{secrets.token_hex(4)}"
    text = "x" * 200_000
    whole = json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"t": text}})
    parts = [whole[at : at + 7001].encode() for at in range(0, len(whole), 7001)]
    body = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    fields = ("Content-Type: application/json", "Transfer-Encoding: chunked")
    answer = await client.ask("POST", f"{CORE}/configmaps", *fields, body=body, framed=False)
    assert (answer.status, answer.json["data"]["t"]) == (201, text)
    answer = await client.ask("DELETE", f"{CORE}/configmaps/{name}")
    assert answer.status == 200


async def test_body_waits_for_100_continue(bed: KubeBed) -> None:
    client = await bed.open(ADMIN)
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    body = json.dumps(review).encode()
    fields = ("Content-Type: application/json", "Expect: 100-continue", f"Content-Length: {len(body)}")
    await client.send("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", *fields)
    assert (await client.read_head()).status == 100
    await client.stream.write(body)
    head = await client.read_head()
    answer = json.loads(b"".join([piece async for piece in client.pieces(head, "POST")]))
    assert (head.status, answer["status"]["userInfo"]["username"]) == (201, "towline:alice")


async def test_watch_brings_events_and_ends_at_the_api_server_when_the_client_goes(bed: KubeBed, admin: Admin) -> None:
    client, request_id, name = await bed.open(ADMIN), new_id(), f"watched-{secrets.token_hex(4)}"
    target = f"{CORE}/configmaps?watch=true&fieldSelector=metadata.name={name}"
    await client.send("GET", target, f"X-Request-Id: {request_id}")
    pieces = client.pieces(await client.read_head(), "GET")
    created = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}}
    await asyncio.to_thread(admin.ask, "POST", f"{CORE}/configmaps", created)
    event = json.loads(await anext(pieces))
    assert (event["type"], event["object"]["metadata"]["name"]) == ("ADDED", name)
    client.stream.abort("gone")
    await until(lambda: any(each["stage"] == "ResponseComplete" for each in admin.audit(request_id)), timeout=2.0)
    await until(lambda: bed.router.open == 0)
    await asyncio.to_thread(admin.ask, "DELETE", f"{CORE}/configmaps/{name}")


async def test_watch_ends_cleanly_when_the_opener_ends_its_side(bed: KubeBed, admin: Admin) -> None:
    client, request_id = await bed.open(ADMIN), new_id()
    await client.send("GET", f"{CORE}/configmaps?watch=true", f"X-Request-Id: {request_id}")
    await client.read_head()
    await client.stream.write_eof()
    while await client.stream.read():
        pass
    await until(lambda: any(each["stage"] == "ResponseComplete" for each in admin.audit(request_id)))
    await until(lambda: bed.router.open == 0)


async def test_shell_runs_over_a_websocket_as_raw_bytes(bed: KubeBed, pod: str) -> None:
    client, frames = await exec_in(bed, "cat", stdin=True)
    await client.stream.write(frame(STDIN, b"first ") + frame(STDIN, b"second") + frame(255, b"\x00"))
    out = b""
    while True:
        opcode, body = await frames.read()
        if opcode == 8:
            break
        if body[:1] == bytes([STATUS]):
            assert json.loads(body[1:])["status"] == "Success"
        elif body[:1] == bytes([STDOUT]):
            out += body[1:]
    assert out == b"first second"
    await client.stream.aclose()
    await until(lambda: bed.router.open == 0)


async def test_shell_begins_over_spdy(bed: KubeBed, pod: str) -> None:
    client = await bed.open(ADMIN)
    offers = [f"X-Stream-Protocol-Version: {version}.channel.k8s.io" for version in ("v5", "v4", "v3")]
    fields = ("Connection: Upgrade", "Upgrade: SPDY/3.1", "Content-Length: 0", *offers)
    await client.send("POST", f"{CORE}/pods/{POD}/exec?command=true&container=main&stdout=true", *fields)
    head = await client.read_head()
    assert (head.status, head.upgrade) == (101, b"SPDY/3.1")
    assert head.get(b"x-stream-protocol-version") == b"v4.channel.k8s.io"  # not the first of the repeated lines
    client.stream.abort()
    await until(lambda: bed.router.open == 0)


async def test_streams_that_come_and_go_leave_nothing_behind(bed: KubeBed, pod: str) -> None:
    async def use(number: int) -> None:
        client = await bed.open(ADMIN)
        if number % 3 == 0:
            await client.send("GET", f"{CORE}/pods?watch=true")
            await client.read_head()
            client.stream.abort()
        elif number % 3 == 1:
            assert (await client.ask("GET", f"{CORE}/pods")).status == 200
            await client.stream.aclose()
        else:
            await client.send("GET", f"{CORE}/pods/{POD}/exec?command=cat&stdin=true&stdout=true", *WEBSOCKET)
            assert (await client.read_head()).status == 101
            await client.stream.aclose()

    await use(1)
    await until(lambda: bed.router.open == 0)
    before = len(os.listdir("/proc/self/fd"))
    for at in range(0, 60, 20):
        await asyncio.gather(*(use(number) for number in range(at, at + 20)))
        await until(lambda: bed.router.open == 0)
    await until(lambda: len(os.listdir("/proc/self/fd")) <= before)


async def test_failed_upgrade_ends_the_stream_and_what_follows_reaches_nobody(
    bed: KubeBed, admin: Admin, pod: str
) -> None:
    client, first, second = await bed.open(ADMIN), new_id(), new_id()
    smuggled = f"GET {CORE}/pods HTTP/1.1\r\nHost: agent\r\nX-Request-Id: {second}\r\n\r\n"
    await client.send(
        "GET", f"{CORE}/pods/nobody/exec?command=sh", *WEBSOCKET, f"X-Request-Id: {first}", body=smuggled.encode(),
        framed=False,
    )  # fmt: skip
    head = await client.read_head()
    assert head.status == 404
    [piece async for piece in client.pieces(head, "GET")]
    assert await client.stream.read() == b""
    await client.stream.aclose()
    await until(lambda: bool(admin.audit(first)))
    await until(lambda: bed.router.open == 0)
    assert admin.audit(second) == []


async def test_slow_reader_holds_back_a_flood_without_memory(bed: KubeBed, pod: str) -> None:
    client, frames = await exec_in(bed, "cat", "/dev/zero")
    await frames.read()
    before, got = memory(), 0
    while got < 64 * 1024 * 1024:
        got += len((await frames.read())[1])
    assert memory() - before < 24 * 1024 * 1024
    other = await bed.open(VIEWER)
    async with asyncio.timeout(5.0):
        assert (await other.ask("GET", "/version")).status == 200
    client.stream.abort("enough")
    await until(lambda: bed.router.open == 1)


@pytest.mark.parametrize(
    "target",
    [
        Kube(),
        Kube(user="towline:alice"),
        Kube(groups=("towline:role:admin",)),
        Kube(user="alice", groups=("towline:role:admin",)),
        Kube(user="system:admin", groups=("towline:role:admin",)),
        Kube(user="towline:alice", groups=("system:masters",)),
        Kube(user="towline:a\r\nImpersonate-Group: system:masters", groups=("towline:role:admin",)),
        Kube(user="towline:alice", groups=("towline:role:admin",), direct=True),
        Kube(direct=True, extra={"towline.dev/session": ("s",)}),
    ],
)
async def test_identity_that_nobody_may_have_is_refused(bed: KubeBed, target: Kube) -> None:
    with pytest.raises(TargetRefused) as refused:
        await bed.open(target)
    assert refused.value.code == "forbidden"


async def test_direct_streams_read_with_the_rights_of_the_agent_and_no_more(bed: KubeBed) -> None:
    client = await bed.open(Kube(direct=True))
    assert (await client.ask("GET", "/api/v1/nodes")).status == 200
    assert (await client.ask("GET", f"{CORE}/secrets")).json["message"].startswith("without an identity")
    assert (await client.ask("DELETE", f"{CORE}/pods/{POD}")).status == 403
    assert (await client.ask("GET", "/api/v1/pods?limit=1")).status == 200


async def test_policy_of_the_host_is_asked_for_each_request(bed: KubeBed) -> None:
    bed.policy = LocalPolicy(kubernetes=KubernetesRules(secrets=False, exec=False))
    client = await bed.open(ADMIN)
    assert (await client.ask("GET", f"{CORE}/configmaps")).status == 200
    refused = await client.ask("GET", f"{CORE}/secrets")
    assert (refused.status, refused.json["kind"], refused.json["reason"]) == (403, "Status", "Forbidden")
    assert refused.head.get(b"warning") == b'299 - "the policy of this host does not allow secrets"'
    assert (await client.ask("GET", f"{CORE}/configmaps")).status == 200
    refused = await client.ask("GET", f"{CORE}/pods/{POD}/exec?command=sh", *WEBSOCKET)
    assert refused.status == 403
    assert await client.stream.read() == b""


async def test_policy_that_is_narrowed_ends_an_open_watch_and_an_open_shell(bed: KubeBed, pod: str) -> None:
    watch = await bed.open(ADMIN)
    await watch.send("GET", f"{CORE}/pods?watch=1")
    assert (await watch.read_head()).status == 200
    shell, frames = await exec_in(bed, "cat", stdin=True)
    await shell.stream.write(frame(STDIN, b"hello"))
    while (await frames.read())[1] != bytes([STDOUT]) + b"hello":
        pass
    bed.policy = LocalPolicy(kubernetes=KubernetesRules(namespaces=("elsewhere",)))
    for client in (watch, shell):
        async with asyncio.timeout(CUT_WITHIN):
            with pytest.raises(EndedThere):
                while await client.stream.read():
                    pass
    await until(lambda: bed.router.open == 0)


async def test_api_server_that_is_away_is_named(admin: Admin, token: str, tmp_path: Path) -> None:
    kubeconfig = write_kubeconfig(tmp_path / "kubeconfig", admin.cluster, token, port=1)
    async with kube_agent(kubeconfig) as away:
        with pytest.raises(TargetRefused, match=r"127\.0\.0\.1:1 cannot be reached: connection refused") as refused:
            await away.open(ADMIN)
    assert refused.value.code == "unreachable"


async def test_token_that_is_refused_is_named_with_the_fix(admin: Admin, tmp_path: Path) -> None:
    kubeconfig = write_kubeconfig(tmp_path / "kubeconfig", admin.cluster, "wrong")
    async with kube_agent(kubeconfig) as refused:
        with pytest.raises(Exception, match=r"refuses the agent's credentials \(401\): renew the token"):
            await find_version(refused.credentials)
