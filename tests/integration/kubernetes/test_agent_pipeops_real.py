"""Our agent at a PipeOps control plane, beside the real cluster: a shell, both ways, and TLS through a raw stream."""

from __future__ import annotations

import base64
import json
import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from tests.conftest import need
from tests.support.kube_agent import Admin, make_agent_account, make_pod, write_kubeconfig
from tests.support.older_agent import older_agent
from tests.support.older_planes import TOKEN, PlaneLine
from tests.support.spoken_pipeops import PipeOpsPlane, Raw, raw_of, request, said, whole
from tests.testbed.kubernetes.cluster import Cluster

from towline.agent.kubernetes.credentials import find_source
from towline.agent.settings import AgentSettings
from towline.wire import pipeops_frames as frames

pytestmark = pytest.mark.kubernetes

NAMESPACE, POD = "ag-pipeops", "shell"
CORE = f"/api/v1/namespaces/{NAMESPACE}"
RBAC = "/apis/rbac.authorization.k8s.io/v1"
GROUP = "towline:role:operator"


@pytest.fixture(scope="module")
def cluster(request: pytest.FixtureRequest) -> Cluster:
    found: Cluster = need(request.config, "kubernetes")
    return found


@pytest.fixture(scope="module")
def token(cluster: Cluster) -> Iterator[str]:
    """Of an agent; operators run commands in the namespace."""
    admin = Admin(cluster)
    token = make_agent_account(admin, NAMESPACE, inventory=True)
    version = "rbac.authorization.k8s.io/v1"
    rules = [{"apiGroups": [""], "resources": ["pods", "pods/exec"], "verbs": ["get", "create"]}]
    role = {"apiVersion": version, "kind": "Role", "metadata": {"name": "operator"}, "rules": rules}
    binding = {
        "apiVersion": version, "kind": "RoleBinding", "metadata": {"name": "operator"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "operator"},
        "subjects": [{"kind": "Group", "name": GROUP, "apiGroup": "rbac.authorization.k8s.io"}],
    }  # fmt: skip
    admin.apply(f"{RBAC}/namespaces/{NAMESPACE}/roles", role)
    admin.apply(f"{RBAC}/namespaces/{NAMESPACE}/rolebindings", binding)
    make_pod(admin, NAMESPACE, POD)
    yield token
    admin.ask("DELETE", f"{CORE}/pods/{POD}")


@pytest.fixture
async def line(
    cluster: Cluster, token: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[PlaneLine]:
    """The control plane's end of a registered agent."""
    monkeypatch.setenv("PIPEOPS_TOKEN", TOKEN)
    config = write_kubeconfig(tmp_path / "kubeconfig", cluster, token)
    source = find_source(AgentSettings(state_folder=tmp_path, kubeconfig=config), {})
    async with (
        PipeOpsPlane() as plane,
        older_agent("pipeops-ws", plane.url, tmp_path / "agent", cluster=source),
    ):
        line = await plane.connected()
        asked = await line.next()
        assert asked["payload"]["k8s_service_token"] == token
        answer = {"cluster_id": "clu-1"}
        await line.send({"type": "register_success", "request_id": asked["request_id"], "payload": answer})
        yield line


def proofs(token: str) -> dict[str, str]:
    return {
        "Authorization": f"Bearer {token}", "Impersonate-User": "towline:user:ada", "Impersonate-Group": GROUP,
    }  # fmt: skip


async def start(line: PlaneLine, stream: str, token: str, protocol: str, **query: Any) -> None:
    words = urlencode({"container": "main", "stdin": "true", "stdout": "true", **query}, doseq=True)
    payload = {
        "stream_id": stream, "path": f"{CORE}/pods/{POD}/exec", "query": words, "protocol": protocol,
        "headers": proofs(token),
    }  # fmt: skip
    await line.send({"type": "proxy_websocket_start", "request_id": stream, "payload": payload})


async def write(line: PlaneLine, stream: str, payload: bytes) -> None:
    data = base64.b64encode(frames.websocket_data(frames.BINARY, payload)).decode()
    message = {"stream_id": stream, "data": data}
    await line.send({"type": "proxy_websocket_data", "request_id": stream, "payload": message})


async def told(line: PlaneLine, stream: str) -> AsyncIterator[tuple[int, bytes]]:
    """What comes on a stream, to its end."""
    while True:
        message = await line.next()
        if message.get("request_id") != stream:
            continue
        if message["type"] == "proxy_websocket_close":
            return
        assert message["type"] == "proxy_websocket_data", message
        data = base64.b64decode(message["payload"]["data"])
        yield data[0], data[1:]


async def test_a_terminal_keeps_its_channels_its_size_and_its_end_in_base64(line: PlaneLine, token: str) -> None:
    # a size comes on its own way, and may come after what was typed behind it; a terminal may have another one before
    command = ["sh", "-c", 'read x; until stty size 2>&1 | grep "31 97"; do sleep 0.1; done; exit 7']
    await start(line, "s1", token, "v4.base64.channel.k8s.io", tty="true", command=command)
    await write(line, "s1", b"4" + base64.b64encode(b'{"Width":97,"Height":31}'))
    await write(line, "s1", b"0" + base64.b64encode(b"go\n"))
    channels: dict[bytes, bytes] = {}
    async for kind, payload in told(line, "s1"):
        assert kind == frames.TEXT
        channels[payload[:1]] = channels.get(payload[:1], b"") + base64.b64decode(payload[1:])
    assert b"31 97" in channels[b"1"]
    assert b'"message":"7"' in channels[b"3"]


async def test_output_channels_are_text_with_the_plain_protocol_as_the_original_has_it(
    line: PlaneLine, token: str
) -> None:
    await start(line, "s1", token, "v4.channel.k8s.io", stderr="true", command=["sh", "-c", "echo out; echo err >&2"])
    found = [message async for message in told(line, "s1")]
    assert {kind for kind, payload in found if payload} == {frames.TEXT}
    said_in_all = b"".join(payload for _, payload in found)
    assert b"out\n" in said_in_all and b"err\n" in said_in_all and b'"status":"Success"' in said_in_all


async def test_a_request_is_made_as_whom_it_names(line: PlaneLine, token: str) -> None:
    await line.send(request("r1", f"{CORE}/pods/{POD}", headers=proofs(token)))
    status, body = await whole(line, "r1")
    assert (status, json.loads(body)["metadata"]["name"]) == (200, POD)
    await line.send(request("r2", f"{CORE}/secrets", headers=proofs(token)))
    assert (await said(line, "proxy_response_header", "r2"))["payload"]["status"] == 403


async def test_tls_through_a_raw_stream_reaches_the_api_server(line: PlaneLine, token: str, cluster: Cluster) -> None:
    context = ssl.create_default_context(cafile=str(cluster.home / "authority.crt"))
    through = Through(await raw_of(line), context)
    review = b'{"apiVersion":"authentication.k8s.io/v1","kind":"SelfSubjectReview"}'
    headers = "".join(f"{name}: {value}\r\n" for name, value in proofs(token).items())
    head = (
        f"POST /apis/authentication.k8s.io/v1/selfsubjectreviews HTTP/1.1\r\nHost: kubernetes.default.svc\r\n{headers}"
        f"Content-Type: application/json\r\nContent-Length: {len(review)}\r\nConnection: close\r\n\r\n"
    )
    answer = await through.ask(head.encode() + review)
    assert answer.startswith(b"HTTP/1.1 201") and b"towline:user:ada" in answer


class Through:
    """TLS inside of a raw stream, as the control plane speaks it."""

    def __init__(self, raw: Raw, context: ssl.SSLContext) -> None:
        self._raw = raw
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_hostname="kubernetes.default.svc")
        self._stream = raw.end.yamux.open()
        self._taken = 0
        header = frames.StreamHeader(service="kubernetes", namespace="default", port=443)
        raw.end.yamux.write(self._stream, frames.encode_stream_header(header))

    async def _turn(self, wants_more: bool) -> None:
        if data := self._out.read():
            self._raw.end.yamux.write(self._stream, data)
        await self._raw.flush()
        if wants_more:
            await self._raw.take()
            got = bytes(self._raw.end.got.get(self._stream.id, b""))
            self._in.write(got[self._taken :])
            self._taken = len(got)

    async def ask(self, request: bytes) -> bytes:
        """Send bytes; returns all that comes."""
        while True:
            try:
                self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                await self._turn(wants_more=True)
        self._tls.write(request)
        await self._turn(wants_more=False)
        answer = b""
        while True:
            try:
                piece = self._tls.read(65536)
            except ssl.SSLWantReadError:
                await self._turn(wants_more=True)
                continue
            if not piece:
                return answer
            answer += piece
            if b'"kind":"SelfSubjectReview"' in answer and answer.rstrip().endswith(b"}"):
                return answer
