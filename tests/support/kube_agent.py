"""An agent's Kubernetes side against the real cluster: a ServiceAccount that may impersonate, a tunnel, a raw client.

The objects live in a namespace of their own; the control plane's side is a bare session, so that a test can misbehave.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import yaml
from tests.support.tunnel_pair import TunnelPair, loopback_tunnel
from tests.testbed.kubernetes.cluster import Cluster
from tests.testbed.kubernetes.configuration import SHELL_IMAGE

from towline.agent.kubernetes.credentials import Credentials, find_source
from towline.agent.kubernetes.forward import KubeServer
from towline.agent.policy import LocalPolicy
from towline.agent.settings import AgentSettings
from towline.agent.streams.router import StreamRouter
from towline.aio.tasks import TaskOwner
from towline.control.kubernetes import profiles
from towline.tunnel.opening import TunnelStream
from towline.wire import streams
from towline.wire.http1 import ResponseBuffer, ResponseHead, parse_response_head
from towline.wire.http1_body import BodyReader, body_reader

ROLES = ("viewer", "operator", "deployer", "admin", "owner")
READY_TIMEOUT = 60.0


class Admin:
    """Speaks to the API server as the administrator, without the agent."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self._token = (cluster.home / "tokens.csv").read_text().split(",")[0]
        self._trust = ssl.create_default_context(cafile=str(cluster.home / "authority.crt"))

    def ask(self, method: str, path: str, body: Any = None, kind: str = "application/json") -> Any:
        """Return the decoded answer. Raises: urllib.error.HTTPError."""
        request = urllib.request.Request(
            f"https://127.0.0.1:{self.cluster.api_port}{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self._token}", "Content-Type": kind},
        )
        with urllib.request.urlopen(request, timeout=30, context=self._trust) as answer:
            return json.loads(answer.read())

    def apply(self, path: str, body: dict[str, Any]) -> Any:
        """Make an object what it should be."""
        wanted = f"{path}/{body['metadata']['name']}?fieldManager=tests&force=true"
        return self.ask("PATCH", wanted, body, "application/apply-patch+yaml")

    def audit(self, request_id: str) -> list[dict[str, Any]]:
        """The audit log's records of requests with this id, as the agent passed it on."""
        found = []
        for line in (self.cluster.home / "log" / "audit.log").read_text().splitlines():
            if request_id in line:
                record = json.loads(line)
                extra = record.get("impersonatedUser", {}).get("extra", {})
                if request_id in extra.get("towline.dev/request-id", []):
                    found.append(record)
        return found


def make_agent_account(admin: Admin, namespace: str, *, inventory: bool = False) -> str:
    """Make a namespace with the agent's ServiceAccount that may impersonate and read a little. Returns: its token.

    Args: inventory: may read what the default profile lets an agent read, too.
    """
    rbac, core = "/apis/rbac.authorization.k8s.io/v1", f"/api/v1/namespaces/{namespace}"
    groups = [f"towline:role:{role}" for role in ROLES]
    extras = ["userextras/towline.dev/session", "userextras/towline.dev/request-id"]
    rules = [
        {"apiGroups": [""], "resources": ["groups"], "verbs": ["impersonate"], "resourceNames": groups},
        {"apiGroups": [""], "resources": ["users"], "verbs": ["impersonate"]},
        {"apiGroups": ["authentication.k8s.io"], "resources": extras, "verbs": ["impersonate"]},
        {"apiGroups": [""], "resources": ["nodes", "pods", "secrets"], "verbs": ["get", "list", "watch"]},
    ]
    if inventory:
        rules += [
            {"apiGroups": list(one.groups), "resources": list(one.resources), "verbs": list(one.verbs)}
            for one in (*profiles.INVENTORY, *profiles.NODE_STATS)
        ]
    subject = {"kind": "ServiceAccount", "name": "agent", "namespace": namespace}
    admin.apply("/api/v1/namespaces", _object("v1", "Namespace", namespace))
    admin.apply(f"{core}/serviceaccounts", _object("v1", "ServiceAccount", "agent"))
    admin.apply(f"{rbac}/clusterroles", _object("rbac.authorization.k8s.io/v1", "ClusterRole", namespace, rules=rules))
    _bind(admin, f"{rbac}/clusterrolebindings", "ClusterRoleBinding", namespace, subject, namespace)
    for role, granted in (("viewer", "view"), ("admin", "cluster-admin")):
        group = {"kind": "Group", "name": f"towline:role:{role}", "apiGroup": "rbac.authorization.k8s.io"}
        _bind(admin, f"{rbac}/namespaces/{namespace}/rolebindings", "RoleBinding", role, group, granted)
    wanted = {"spec": {"expirationSeconds": 3600}}
    token: str = admin.ask("POST", f"{core}/serviceaccounts/agent/token", wanted)["status"]["token"]
    return token


def make_pod(admin: Admin, namespace: str, name: str) -> None:
    """Start a pod that sleeps, and wait until it runs."""
    container = {
        "name": "main", "image": SHELL_IMAGE, "imagePullPolicy": "Never",
        "command": ["/bin/sh", "-c", "echo started; sleep 100000"],
    }  # fmt: skip
    spec = {"containers": [container], "terminationGracePeriodSeconds": 0}
    path = f"/api/v1/namespaces/{namespace}/pods"
    admin.apply(path, _object("v1", "Pod", name, spec=spec))
    watch = f"{path}?watch=1&fieldSelector=metadata.name={name}&timeoutSeconds=60"
    request = urllib.request.Request(
        f"https://127.0.0.1:{admin.cluster.api_port}{watch}", headers={"Authorization": f"Bearer {admin._token}"}
    )
    with urllib.request.urlopen(request, timeout=READY_TIMEOUT, context=admin._trust) as events:
        for line in events:
            if json.loads(line)["object"]["status"].get("phase") == "Running":
                return
    raise AssertionError(f"the pod {name} does not run")


def write_kubeconfig(path: Path, cluster: Cluster, token: str, *, port: int | None = None) -> Path:
    """Write the agent's kubeconfig, its token in a file of its own."""
    (path.parent / "token").write_text(token)
    config = {
        "apiVersion": "v1", "kind": "Config", "current-context": "main",
        "contexts": [{"name": "main", "context": {"cluster": "main", "user": "agent"}}],
        "clusters": [{"name": "main", "cluster": {
            "server": f"https://127.0.0.1:{port or cluster.api_port}",
            "certificate-authority": str(cluster.home / "authority.crt"),
        }}],
        "users": [{"name": "agent", "user": {"tokenFile": "token"}}],
    }  # fmt: skip
    path.write_text(yaml.safe_dump(config))
    return path


def _object(api: str, kind: str, name: str, **more: Any) -> dict[str, Any]:
    return {"apiVersion": api, "kind": kind, "metadata": {"name": name}, **more}


def _bind(admin: Admin, path: str, kind: str, name: str, subject: dict[str, str], role: str) -> None:
    reference = {"kind": "ClusterRole", "name": role, "apiGroup": "rbac.authorization.k8s.io"}
    binding = _object("rbac.authorization.k8s.io/v1", kind, name, subjects=[subject], roleRef=reference)
    admin.apply(path, binding)


# -- the agent, and a client that sends raw bytes ------------------------------------------------


@dataclass
class Answer:
    """One whole answer."""

    head: ResponseHead
    body: bytes

    @property
    def status(self) -> int:
        return self.head.status

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class KubeClient:
    """Requests one after the other on one stream, byte for byte as written."""

    def __init__(self, stream: TunnelStream) -> None:
        self.stream = stream
        self._buffer = ResponseBuffer()
        self._reader: BodyReader | None = None

    async def send(self, method: str, target: str, *fields: str, body: bytes = b"", framed: bool = True) -> None:
        """Write one request; `framed` adds its Content-Length."""
        lines = [f"{method} {target} HTTP/1.1", "Host: agent", *fields]
        if body and framed:
            lines.append(f"Content-Length: {len(body)}")
        await self.stream.write("\r\n".join([*lines, "", ""]).encode() + body)

    async def read_head(self) -> ResponseHead:
        """Read the next head, an interim one included."""
        data = self._buffer.take()
        while (raw := self._buffer.feed_and_cut(data)) is None:
            data = await self.stream.read()
            assert data, "the stream ended before an answer"
        return parse_response_head(raw)

    async def pieces(self, head: ResponseHead, method: str) -> AsyncIterator[bytes]:
        """The body as it comes."""
        reader = body_reader(head.framing_for(method.encode()), head.content_length or 0)
        data = self._buffer.take()
        while True:
            for piece in reader.feed(data):
                yield piece
            if reader.is_done:
                return
            data = await self.stream.read()
            assert data, "the body is cut off"

    async def ask(self, method: str, target: str, *fields: str, body: bytes = b"", framed: bool = True) -> Answer:
        """Send a request, read its whole answer."""
        await self.send(method, target, *fields, body=body, framed=framed)
        head = await self.read_head()
        return Answer(head, b"".join([piece async for piece in self.pieces(head, method)]))

    def rest(self) -> bytes:
        """Bytes behind the last head, e.g. behind a 101."""
        return self._buffer.take()


@dataclass
class KubeBed:
    """A control plane's bare session, and the agent's side of it."""

    pair: TunnelPair
    router: StreamRouter
    credentials: Credentials
    policy: LocalPolicy = field(default_factory=LocalPolicy)

    async def open(self, target: streams.Kube) -> KubeClient:
        """Raises: TargetRefused."""
        return KubeClient(await self.pair.server.open_stream(target))


@asynccontextmanager
async def kube_agent(kubeconfig: Path, *, capacity: int = 32) -> AsyncIterator[KubeBed]:
    """Serve `Kube` targets by a kubeconfig, behind a real tunnel on loopback."""
    settings = msgspec.structs.replace(AgentSettings(), kubeconfig=kubeconfig)
    credentials = Credentials(find_source(settings, {}))
    async with loopback_tunnel() as pair, TaskOwner("kube-agent") as owner:
        server = KubeServer(credentials, lambda: bed.policy)
        router = StreamRouter({streams.Kube: server.serve}, owner, limit=capacity)
        bed = KubeBed(pair, router, credentials)
        pair.agent.on_stream = router.take
        yield bed


async def until(condition: Callable[[], bool], timeout: float = 20.0) -> None:
    """Wait for what another task or process does."""
    async with asyncio.timeout(timeout):
        while not condition():
            await asyncio.sleep(0.02)
