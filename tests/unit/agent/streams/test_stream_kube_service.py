"""Where a stream to a service or pod goes, before anything is dialled."""

import pytest
from tests.support.played_api import Played, PlayedApi, answer

from towline.agent.errors import PolicyRefused
from towline.agent.kubernetes.api import Api
from towline.agent.kubernetes.directory import Directory
from towline.agent.policy import ForwardRules, GatewayRules, LocalPolicy
from towline.agent.streams.kube_service import MOST_TRIED, KubeServiceServer
from towline.agent.streams.refusal import Refused
from towline.aio.clock import SimulatedClock
from towline.wire.streams import KubeService

SERVICE = "/api/v1/namespaces/shop/services/web"
SLICES = "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices"
PORTS = [{"name": "http", "port": 80}]


def target(name: str = "web", port: str = "http", *, namespace: str = "shop", pod: bool = False) -> KubeService:
    return KubeService(namespace=namespace, name=name, port=port, resource="pod" if pod else "service")


def server(policy: LocalPolicy | None = None, **script: list[Played]) -> KubeServiceServer:
    clock = SimulatedClock()
    api = PlayedApi(script)
    directory = Directory(Api(api.credentials(clock), connect=api.connect), clock=clock)
    return KubeServiceServer(
        directory, lambda: policy or LocalPolicy(), resolve=outside, shuffle=lambda places: places.reverse()
    )


async def outside(host: str, port: int) -> list[str]:
    assert (host, port) == ("db.example.com", 80)
    return ["192.0.2.7"]


async def test_service_is_dialled_at_its_cluster_address():
    found = server(**{SERVICE: [answer({"spec": {"clusterIP": "10.0.0.7", "ports": PORTS}})]})
    assert await found.find(target()) == [("10.0.0.7", 80)]


async def test_headless_service_is_dialled_at_some_of_its_endpoints():
    endpoints = [{"addresses": [f"10.1.0.{number}"]} for number in range(1, 6)]
    slices = {"items": [{"endpoints": endpoints, "ports": [{"name": "http", "port": 8080}]}]}
    found = server(**{SERVICE: [answer({"spec": {"clusterIP": "None", "ports": PORTS}})], SLICES: [answer(slices)]})
    assert await found.find(target()) == [(f"10.1.0.{number}", 8080) for number in (5, 4, 3)]
    assert MOST_TRIED == 3


async def test_pod_is_dialled_at_its_address():
    pod = {"status": {"phase": "Running", "podIP": "10.1.0.5"}}
    found = server(**{"/api/v1/namespaces/shop/pods/web-0": [answer(pod)]})
    assert await found.find(target("web-0", "8080", pod=True)) == [("10.1.0.5", 8080)]


@pytest.mark.parametrize(
    "policy",
    [
        LocalPolicy(gateway=GatewayRules(enabled=False)),
        LocalPolicy(gateway=GatewayRules(namespaces=("web", "api-*"))),
        LocalPolicy(capabilities=("kubernetes",)),
    ],
)
async def test_policy_comes_before_everything(policy):
    with pytest.raises(PolicyRefused):
        await server(policy).find(target())


async def test_api_server_is_not_published():
    with pytest.raises(Refused, match="API server is not published"):
        await server().find(target("kubernetes", "443", namespace="default"))


@pytest.mark.parametrize(
    ("targets", "allowed"),
    [(("192.0.2.0/24:*",), True), (("db.example.com:80",), True), (("192.0.2.7:81",), False), (("own:*",), False)],
)
async def test_name_outside_needs_the_policys_consent(targets, allowed):
    spec = {"type": "ExternalName", "externalName": "db.example.com", "ports": PORTS}
    found = server(LocalPolicy(forward=ForwardRules(targets=targets)), **{SERVICE: [answer({"spec": spec})]})
    if allowed:
        assert await found.find(target()) == [("192.0.2.7", 80)]
    else:
        with pytest.raises(Refused, match=r"stands for db\.example\.com, and the policy"):
            await found.find(target())
