"""An agent's routes on the real cluster: what kubectl applies is claimed, and streams reach real pods."""

from __future__ import annotations

import asyncio
import time
import urllib.error
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from tests.conftest import need
from tests.support.kube_agent import Admin, make_agent_account, write_kubeconfig
from tests.support.tunnel_pair import TunnelPair, loopback_tunnel
from tests.testbed import gateway_api, processes
from tests.testbed.images import WEB_PAGE
from tests.testbed.kubernetes.configuration import SHELL_IMAGE

from towline.agent.kubernetes.api import Api
from towline.agent.kubernetes.credentials import Credentials, find_source
from towline.agent.kubernetes.directory import Directory
from towline.agent.policy import GatewayRules, LocalPolicy
from towline.agent.routes.cluster import ClusterRoutes
from towline.agent.routes.telling import RouteTeller
from towline.agent.settings import AgentSettings
from towline.agent.streams.kube_service import KubeServiceServer
from towline.agent.streams.router import StreamRouter
from towline.aio.tasks import TaskOwner
from towline.tunnel.errors import TargetRefused
from towline.wire.link import RouteClaim, Routes
from towline.wire.streams import KubeService

pytestmark = pytest.mark.kubernetes

NAMESPACE = "gw-agent"
CORE = f"/api/v1/namespaces/{NAMESPACE}"
NETWORKING = f"/apis/networking.k8s.io/v1/namespaces/{NAMESPACE}"
GATEWAYS = f"/apis/gateway.networking.k8s.io/v1/namespaces/{NAMESPACE}"
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
TIMEOUT = 60.0
LEAVES_WITHIN = 0.3
"""Seconds from the moment the API server has confirmed a change."""


def made(kind: str, version: str, name: str, **more: Any) -> dict[str, Any]:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": NAMESPACE}, **more}


def ingress(name: str, host: str, port: dict[str, Any]) -> dict[str, Any]:
    paths = [{"path": "/", "pathType": "Prefix", "backend": {"service": {"name": "web", "port": port}}}]
    rules = [{"host": host, "http": {"paths": paths}}]
    return made("Ingress", "networking.k8s.io/v1", name, spec={"rules": rules})


def service(name: str, *, headless: bool = False, **spec: Any) -> dict[str, Any]:
    ports = [{"name": "http", "port": 8080 if headless else 80, "targetPort": "http"}]
    clusterless = {"clusterIP": "None"} if headless else {}
    return made("Service", "v1", name, spec={"selector": {"app": "web"}, "ports": ports, **clusterless, **spec})


@pytest.fixture(scope="module")
def admin(request: pytest.FixtureRequest) -> Admin:
    return Admin(need(request.config, "kubernetes"))


@pytest.fixture(scope="module")
def token(admin: Admin) -> str:
    return make_agent_account(admin, NAMESPACE, inventory=True)


@pytest.fixture(scope="module")
def web(admin: Admin, token: str) -> str:
    """A pod with an HTTP server behind a service and a headless one. Returns: its name."""
    container = {
        "name": "main", "image": SHELL_IMAGE, "imagePullPolicy": "Never",
        "command": ["httpd", "-f", "-p", "8080", "-h", "/www"], "ports": [{"name": "http", "containerPort": 8080}],
        "readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1},
    }  # fmt: skip
    pod = made("Pod", "v1", "web-0", spec={"containers": [container], "terminationGracePeriodSeconds": 0})
    pod["metadata"]["labels"] = {"app": "web"}
    admin.apply(f"{CORE}/pods", pod)
    admin.apply(f"{CORE}/services", service("web"))
    admin.apply(f"{CORE}/services", service("pods", headless=True))
    deadline = time.monotonic() + TIMEOUT
    address = admin.ask("GET", f"{CORE}/services/web")["spec"]["clusterIP"]
    while not (any(one["addresses"] for one in ready_endpoints(admin, "pods")) and processes.accepts(80, address)):
        assert time.monotonic() < deadline, "the pod does not become ready, or kube-proxy does not hear of it"
        time.sleep(0.1)
    return "web-0"


def ready_endpoints(admin: Admin, name: str) -> list[dict[str, Any]]:
    path = f"/apis/discovery.k8s.io/v1/namespaces/{NAMESPACE}/endpointslices"
    found = admin.ask("GET", f"{path}?labelSelector=kubernetes.io/service-name={name}")["items"]
    return [one for each in found for one in each.get("endpoints") or () if one["conditions"]["ready"]]


@pytest.fixture(scope="module")
def http_routes(admin: Admin) -> Iterator[None]:
    """The kind HTTPRoute, as long as tests need it: others list what kinds there are."""
    body = yaml.safe_load(gateway_api.http_routes().read_text())
    admin.apply(CRDS, body)
    deadline = time.monotonic() + TIMEOUT
    while not is_served(admin, f"{GATEWAYS}/httproutes"):
        assert time.monotonic() < deadline, "the API server does not serve the new kind"
        time.sleep(0.1)
    yield
    admin.ask("DELETE", f"{CRDS}/{body['metadata']['name']}")


def is_served(admin: Admin, path: str) -> bool:
    try:
        admin.ask("GET", path)
    except urllib.error.HTTPError:
        return False
    return True


class Session:
    """A link that keeps what is sent, and what is known by it."""

    def __init__(self) -> None:
        self.messages: list[Routes] = []
        self.known: dict[str, RouteClaim] = {}
        self._news = asyncio.Event()

    async def send(self, message: Routes) -> None:
        self.messages.append(message)
        if message.full and not message.more:
            self.known.clear()
        for ref in message.removed:
            del self.known[ref]
        self.known |= {claim.ref: claim for claim in message.claims}
        self._news.set()

    async def until(self, condition: Callable[[], bool]) -> float:
        """Wait. Returns: how many seconds that took."""
        began = time.monotonic()
        async with asyncio.timeout(TIMEOUT):
            while not condition():
                self._news.clear()
                await self._news.wait()
        return time.monotonic() - began

    def hosts(self) -> set[str]:
        return {claim.host for claim in self.known.values() if f"/{NAMESPACE}/" in claim.ref}


@dataclass
class Bed:
    session: Session
    pair: TunnelPair
    routes: ClusterRoutes

    async def get(self, target: KubeService) -> bytes:
        """Ask the target for its page."""
        stream = await self.pair.server.open_stream(target)
        await stream.write(b"GET /index.html HTTP/1.0\r\nHost: web\r\n\r\n")
        parts = []
        while data := await stream.read():
            parts.append(data)
        await stream.aclose()
        head, _, body = b"".join(parts).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.") and b" 200 " in head, head
        return body


@pytest.fixture
async def bed(admin: Admin, token: str, tmp_path: Path) -> AsyncIterator[Bed]:
    """An agent's routes and its streams, with the rights of the default profile."""
    config = write_kubeconfig(tmp_path / "config", admin.cluster, token)
    settings = msgspec.structs.replace(AgentSettings(), kubeconfig=config)
    credentials = Credentials(find_source(settings, {}))
    policy = LocalPolicy(gateway=GatewayRules(namespaces=(f"{NAMESPACE}*",), sources=("ingress", "httproute")))
    async with loopback_tunnel() as pair, TaskOwner("routes") as owner:
        api, teller, session = Api(credentials), RouteTeller(), Session()
        directory = Directory(api)
        routes = ClusterRoutes(credentials, lambda: policy, teller, directory, api=api)
        routes.choice = "on"
        teller.connected(session)
        router = StreamRouter({KubeService: KubeServiceServer(directory, lambda: policy).serve}, owner, limit=16)
        pair.agent.on_stream = router.take
        owner.spawn("teller", teller.run())
        owner.spawn("routes", routes.run())
        await session.until(lambda: bool(session.messages))
        yield Bed(session, pair, routes)


async def applied(admin: Admin, path: str, body: dict[str, Any]) -> None:
    await asyncio.to_thread(admin.apply, path, body)


async def deleted(admin: Admin, path: str) -> None:
    await asyncio.to_thread(admin.ask, "DELETE", path)


async def test_ingress_that_kubectl_applies_is_claimed_at_once_and_taken_back_when_it_is_gone(
    bed: Bed, admin: Admin
) -> None:
    host = "claimed.example.com"
    await applied(admin, f"{NETWORKING}/ingresses", ingress("claimed", host, {"name": "http"}))
    took = await bed.session.until(lambda: host in bed.session.hosts())
    claim = bed.session.known[f"ingress/{NAMESPACE}/claimed/{host}/prefix/"]
    assert claim.target == KubeService(namespace=NAMESPACE, name="web", port="http")
    await deleted(admin, f"{NETWORKING}/ingresses/claimed")
    gone = await bed.session.until(lambda: host not in bed.session.hosts())
    print(f"claimed after {took * 1000:.0f} ms, taken back after {gone * 1000:.0f} ms")
    assert max(took, gone) < LEAVES_WITHIN


async def test_http_route_is_claimed_as_well(http_routes: None, bed: Bed, admin: Admin) -> None:
    spec = {"hostnames": ["routed.example.com"], "rules": [{"backendRefs": [{"name": "web", "port": 80}]}]}
    body = made("HTTPRoute", "gateway.networking.k8s.io/v1", "routed", spec=spec)
    await applied(admin, f"{GATEWAYS}/httproutes", body)
    took = await bed.session.until(lambda: "routed.example.com" in bed.session.hosts())
    await deleted(admin, f"{GATEWAYS}/httproutes/routed")
    gone = await bed.session.until(lambda: "routed.example.com" not in bed.session.hosts())
    assert max(took, gone) < LEAVES_WITHIN


async def test_controller_with_a_public_address_makes_the_cluster_public(bed: Bed, admin: Admin) -> None:
    name = "ingress-nginx-controller"
    body = service(name, type="LoadBalancer")
    await bed.session.until(lambda: bed.routes.is_private is True)
    await applied(admin, f"{CORE}/services", body)
    try:
        await until(lambda: bed.routes.is_private is None)
        status = {"status": {"loadBalancer": {"ingress": [{"ip": "8.8.8.8"}]}}}
        await asyncio.to_thread(
            admin.ask, "PATCH", f"{CORE}/services/{name}/status", status, "application/merge-patch+json"
        )
        await until(lambda: bed.routes.is_private is False)
    finally:
        await deleted(admin, f"{CORE}/services/{name}")


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(TIMEOUT):
        while not condition():
            await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    ("name", "port", "resource"),
    [
        ("web", "80", "service"),
        ("web", "http", "service"),
        ("pods", "http", "service"),
        ("web-0", "8080", "pod"),
        ("web-0", "http", "pod"),
    ],
)
async def test_stream_reaches_a_real_pod(bed: Bed, web: str, name: str, port: str, resource: Any) -> None:
    target = KubeService(namespace=NAMESPACE, name=name, port=port, resource=resource)
    async with asyncio.timeout(TIMEOUT):
        assert await bed.get(target) == WEB_PAGE


@pytest.mark.parametrize(
    ("target", "code", "reason"),
    [
        (KubeService(namespace=NAMESPACE, name="web", port="https"), "not_found",
         f"service {NAMESPACE}/web has no TCP port 'https'; it has 80 (http)"),
        (KubeService(namespace=NAMESPACE, name="nothing", port="80"), "not_found",
         f"there is no service {NAMESPACE}/nothing"),
        (KubeService(namespace="kube-system", name="dns", port="53"), "forbidden",
         "the policy of this host does not publish the namespace 'kube-system'"),
        (KubeService(namespace=NAMESPACE, name="web-0", port="8081", resource="pod"), "unreachable",
         "connection refused by "),
    ],
)  # fmt: skip
async def test_what_cannot_be_reached_is_told_in_words(
    bed: Bed, web: str, target: KubeService, code: str, reason: str
) -> None:
    with pytest.raises(TargetRefused) as caught:
        await bed.pair.server.open_stream(target)
    assert caught.value.code == code
    assert caught.value.reason.startswith(reason)


async def test_service_for_a_name_outside_is_refused(bed: Bed, admin: Admin) -> None:
    body = made("Service", "v1", "outside", spec={"type": "ExternalName", "externalName": "localhost"})
    await applied(admin, f"{CORE}/services", body)
    with pytest.raises(TargetRefused, match="stands for localhost, and the policy of this host does not allow"):
        # Loopback is allowed to `towline forward`, and no service of a cluster ever means it.
        await bed.pair.server.open_stream(KubeService(namespace=NAMESPACE, name="outside", port="22"))
