"""What is followed when, on a played API server: the cluster's reach, settings, policy, rights."""

from typing import Any

import pytest
from tests.support.played_api import Played, PlayedApi, change, page, refusal, thing, watch

from towline.agent.kubernetes.api import Api
from towline.agent.kubernetes.directory import Directory
from towline.agent.policy import GatewayRules, KubernetesRules, LocalPolicy
from towline.agent.routes.cluster import LOOK_INTERVAL, ClusterRoutes
from towline.agent.routes.controllers import ADDRESS_TIMEOUT
from towline.agent.routes.following import PATIENCE
from towline.agent.routes.telling import RouteTeller
from towline.aio.clock import SimulatedClock
from towline.aio.tasks import TaskOwner
from towline.wire.link import RouteClaim, Routes
from towline.wire.streams import KubeService

SERVICES = "/api/v1/services"
CLASSES = "/apis/networking.k8s.io/v1/ingressclasses"
INGRESSES = "/apis/networking.k8s.io/v1/ingresses"
ROUTES = "/apis/gateway.networking.k8s.io/v1/httproutes"
GATEWAYS = "/apis/gateway.networking.k8s.io/v1/gateways"
HOST = "shop.example.com"


def ingress(name: str = "web", *, host: str = HOST, service: str = "web", **spec: Any) -> dict[str, Any]:
    backend = {"service": {"name": service, "port": {"number": 80}}}
    paths = [{"path": "/", "pathType": "Prefix", "backend": backend}]
    return thing(name, namespace="shop", spec={"rules": [{"host": host, "http": {"paths": paths}}], **spec})


def controller(kind: str = "ClusterIP", *given: dict[str, str]) -> dict[str, Any]:
    ports = [{"name": "http", "port": 80}, {"name": "https", "port": 443}]
    spec = {"type": kind, "clusterIP": "10.0.0.9", "ports": ports}
    return thing(
        "ingress-nginx-controller", namespace="ingress-nginx", spec=spec, status={"loadBalancer": {"ingress": given}}
    )


NGINX_CLASS = {
    "metadata": {"name": "nginx", "resourceVersion": "1"}, "spec": {"controller": "k8s.io/ingress-nginx"}
}  # fmt: skip
HTTP_ROUTE = thing(
    "web",
    namespace="shop",
    spec={"hostnames": ["r.example.com"], "rules": [{"backendRefs": [{"name": "w", "port": 1}]}]},
)
HEIR = thing(
    "heir",
    namespace="shop",
    spec={"parentRefs": [{"name": "edge"}], "rules": [{"backendRefs": [{"name": "w", "port": 1}]}]},
)
DENIED = refusal(403, "Forbidden", "ingresses is forbidden")


class Session:
    def __init__(self) -> None:
        self.sent: list[Routes] = []

    async def send(self, message: Routes) -> None:
        self.sent.append(message)


class Play:
    """A cluster's routes on a played API server. Kinds are given as their answers; left out: nothing is there."""

    def __init__(self, policy: LocalPolicy | None = None, tmp: Any = None, **script: list[Played]) -> None:
        paths = {
            "services": SERVICES, "classes": CLASSES, "ingresses": INGRESSES, "routes": ROUTES, "gateways": GATEWAYS,
        }  # fmt: skip
        by_path = {path: script.get(name, [page([]), watch()]) for name, path in paths.items()}
        by_path |= {path: answers for path, answers in script.items() if path.startswith("/")}
        self.clock = SimulatedClock()
        self.server = PlayedApi(by_path)
        self.policy = policy or LocalPolicy()
        credentials = self.server.credentials(self.clock)
        api = Api(credentials, connect=self.server.connect)
        self.teller = RouteTeller(clock=self.clock)
        self.directory = Directory(api, clock=self.clock)
        self.routes = ClusterRoutes(
            credentials, lambda: self.policy, self.teller, self.directory, api=api,
            clock=self.clock, draw=lambda: 0.5, **({"service_account": tmp} if tmp else {}),
        )  # fmt: skip
        self.session: Any = Session()
        self.owner = TaskOwner("test")
        self.known: dict[str, RouteClaim] = {}

    async def __aenter__(self) -> "Play":
        self.teller.connected(self.session)
        self.owner.spawn("teller", self.teller.run())
        self.owner.spawn("routes", self.routes.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.owner.close()

    async def told(self, seconds: float = 1.0) -> list[Routes]:
        """Let time pass in small steps; return what was told meanwhile."""
        before = len(self.session.sent)
        for _ in range(int(seconds * 4)):
            await self.clock.advance(0.25)
        found: list[Routes] = self.session.sent[before:]
        return found


def refs(messages: list[Routes]) -> list[str]:
    return sorted(claim.ref for message in messages for claim in message.claims)


WEB = f"ingress/shop/web/{HOST}/prefix/"


async def test_private_cluster_is_followed_and_told_whole_at_first():
    async with Play(ingresses=[page([ingress()]), watch()], routes=[page([HTTP_ROUTE]), watch()]) as play:
        (message,) = await play.told()
        assert (message.full, message.sources) == (True, ("httproute", "ingress"))
        assert refs([message]) == ["httproute/shop/web/r.example.com/prefix/", WEB]
        assert play.routes.is_private is True


async def test_changes_are_told_as_they_come():
    events = (change("ADDED", ingress("two", host="b.example.com")), change("DELETED", ingress()))
    async with Play(ingresses=[page([ingress()]), watch(end="clean"), watch(*events)]) as play:
        first, message = await play.told(3)
        assert refs([first]) == [WEB]
        assert (refs([message]), message.removed) == (["ingress/shop/two/b.example.com/prefix/"], (WEB,))


async def test_public_cluster_is_not_followed():
    script = {"services": [page([controller("LoadBalancer", {"ip": "8.8.8.8"})]), watch()]}
    async with Play(ingresses=[page([ingress()]), watch()], **script) as play:
        assert await play.told() == [Routes(full=True, sequence=1, sources=())]
        assert play.routes.is_private is False
        assert play.server.asked(INGRESSES) == []


async def test_load_balancer_has_two_minutes_for_its_address():
    script = {"services": [page([controller("LoadBalancer")]), watch()]}
    async with Play(ingresses=[page([ingress()]), watch()], **script) as play:
        assert refs(await play.told()) == []
        assert play.routes.is_private is None
        assert refs(await play.told(ADDRESS_TIMEOUT - 10)) == []
        messages = await play.told(LOOK_INTERVAL)
        assert play.routes.is_private is True
        assert refs(messages[-1:]) == [WEB]
        assert (messages[-1].full, messages[-1].sources) == (True, ("httproute", "ingress"))


async def test_address_in_time_makes_it_public():
    later = change("MODIFIED", controller("LoadBalancer", {"hostname": "a.elb.example.com"}))
    script = {"services": [page([controller("LoadBalancer")]), watch(later)]}
    async with Play(ingresses=[page([ingress()]), watch()], **script) as play:
        await play.told()
        assert play.routes.is_private is False
        assert refs(play.session.sent) == []


async def test_settings_override_what_was_found_both_ways():
    script = {"services": [page([controller("LoadBalancer", {"ip": "8.8.8.8"})]), watch()]}
    async with Play(ingresses=[page([ingress()]), watch(), page([ingress()]), watch()], **script) as play:
        await play.told()
        play.routes.choice = "on"
        assert refs((await play.told())[-1:]) == [WEB]
        play.routes.choice = "off"
        (message,) = await play.told()
        assert (message.full, message.claims, message.removed) == (True, (), ())


async def test_waiting_for_an_address_ends_nothing_that_goes_on():
    later = change("ADDED", controller("LoadBalancer"))
    async with Play(services=[page([]), watch(later)], ingresses=[page([ingress()]), watch()]) as play:
        play.routes.choice = "on"
        await play.told()
        play.routes.choice = "auto"
        await play.told()
        assert play.routes.is_private is None
        assert len(play.teller.book) == 1


async def test_controller_takes_the_requests_of_its_class():
    script = {"services": [page([controller()]), watch()], "classes": [page([NGINX_CLASS]), watch()]}
    async with Play(ingresses=[page([ingress(ingressClassName="nginx")]), watch()], **script) as play:
        (message,) = await play.told()
        assert message.claims[0].target == KubeService(
            namespace="ingress-nginx", name="ingress-nginx-controller", port="80"
        )


async def test_controller_that_comes_changes_the_claims_and_one_that_vanishes_has_time_to_come_back():
    events = (change("ADDED", controller()), change("DELETED", controller()))
    script = {"services": [page([]), watch(*events)], "classes": [page([NGINX_CLASS]), watch()]}
    async with Play(ingresses=[page([ingress(ingressClassName="nginx")]), watch()], **script) as play:
        await play.told()
        assert play.session.sent[-1].claims[0].target.namespace == "ingress-nginx"
        (message,) = await play.told(PATIENCE + 1)
        assert message.claims[0].target.namespace == "shop"


async def test_controller_in_a_namespace_that_may_not_be_published_is_passed_by():
    policy = LocalPolicy(gateway=GatewayRules(namespaces=("shop*",)))
    script = {"services": [page([controller()]), watch()], "classes": [page([NGINX_CLASS]), watch()]}
    async with Play(policy, ingresses=[page([ingress(ingressClassName="nginx")]), watch()], **script) as play:
        (message,) = await play.told()
        assert message.claims[0].target == KubeService(namespace="shop", name="web", port="80")


# -- policy and rights -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "policy",
    [
        LocalPolicy(gateway=GatewayRules(enabled=False)),
        LocalPolicy(capabilities=("compose", "kubernetes")),
        LocalPolicy(kubernetes=KubernetesRules(enabled=False)),
    ],
)
async def test_policy_that_forbids_it_is_obeyed(policy):
    async with Play(policy, ingresses=[page([ingress()]), watch()]) as play:
        assert await play.told() == [Routes(full=True, sequence=1, sources=())]


async def test_single_sources_may_be_forbidden():
    policy = LocalPolicy(gateway=GatewayRules(sources=("httproute",)))
    script = {"ingresses": [page([ingress()]), watch()], "routes": [page([HTTP_ROUTE]), watch()]}
    async with Play(policy, **script) as play:
        (message,) = await play.told()
        assert (message.sources, len(message.claims)) == (("httproute",), 1)


async def test_namespaces_that_may_not_be_published_claim_nothing():
    policy = LocalPolicy(gateway=GatewayRules(namespaces=("web*",)))
    async with Play(policy, ingresses=[page([ingress()]), watch()]) as play:
        (message,) = await play.told()
        assert message.claims == ()


async def test_policy_that_changes_is_followed_without_losing_what_stays_allowed():
    script = {"services": [page([]), watch(), page([]), watch()]}
    lists = [page([ingress()]), watch(), page([ingress()]), watch()]
    async with Play(ingresses=lists, routes=[page([]), watch(), page([]), watch()], **script) as play:
        await play.told()
        play.policy = LocalPolicy(kubernetes=KubernetesRules(read_only=True))
        messages = await play.told(LOOK_INTERVAL * 2)
        assert all(not message.removed for message in messages)
        assert all(refs([message]) == [WEB] for message in messages if message.full)
        assert len(play.teller.book) == 1


async def test_cluster_without_httproutes_follows_the_rest():
    missing = [refusal(404, "NotFound", "the server could not find the requested resource")]
    async with Play(ingresses=[page([ingress()]), watch()], routes=missing) as play:
        (message,) = await play.told()
        assert (message.sources, refs([message])) == (("ingress",), [WEB])


async def test_kind_that_is_installed_later_makes_a_new_list():
    missing = [refusal(404, "NotFound", "no such kind"), page([HTTP_ROUTE]), watch()]
    async with Play(routes=missing) as play:
        await play.told()
        messages = await play.told(100)
        assert [(message.full, message.sources) for message in messages][-1] == (True, ("httproute", "ingress"))


async def test_rights_that_are_missing_keep_ingresses_from_being_named():
    async with Play(ingresses=[DENIED]) as play:
        (message,) = await play.told()
        assert (message.sources, message.claims) == (("httproute",), ())


async def test_refusals_of_an_api_server_that_starts_remove_nothing():
    script = [page([ingress()]), watch(end="clean"), DENIED, DENIED, watch()]
    async with Play(ingresses=script) as play:
        messages = await play.told(60)
        assert len(play.teller.book) == 1
        assert all(not message.removed for message in messages)


async def test_refusals_that_last_let_the_claims_go_softly():
    script = [page([ingress()]), watch(end="clean"), *[DENIED] * 200]
    async with Play(ingresses=script) as play:
        messages = await play.told(PATIENCE + 60)
        assert messages[-1] == Routes(full=True, sequence=messages[-1].sequence, sources=("httproute",), claims=())
        assert all(not message.removed for message in messages)


async def test_agent_with_rights_in_its_namespace_alone_follows_that(tmp_path):
    (tmp_path / "namespace").write_text("shop")
    narrow = "/apis/networking.k8s.io/v1/namespaces/shop/ingresses"
    script = {
        "/api/v1/namespaces/shop/services": [page([]), watch()],
        narrow: [page([ingress()]), watch()],
        "/apis/gateway.networking.k8s.io/v1/namespaces/shop/httproutes": [page([]), watch()],
    }
    denied: dict[str, list[Played]] = {name: [DENIED] * 20 for name in ("services", "classes", "ingresses", "routes")}
    async with Play(None, tmp_path, **denied, **script) as play:
        (message,) = await play.told()
        assert refs([message]) == [WEB]
        assert play.routes.is_private is True


async def test_right_that_comes_later_makes_what_was_there_no_news(tmp_path):
    """An agent in a pod that was updated before its manifest: its own namespace is no more readable than the rest."""
    (tmp_path / "namespace").write_text("towline")
    narrow = "/apis/gateway.networking.k8s.io/v1/namespaces/towline/httproutes"
    lists = [DENIED, DENIED, page([HTTP_ROUTE]), page([HTTP_ROUTE]), watch()]
    async with Play(None, tmp_path, routes=lists, **{narrow: [DENIED] * 9}) as play:
        assert [message.sources for message in await play.told()] == [("ingress",)]
        messages = await play.told(300)
        assert (messages[0].full, messages[0].sources) == (True, ("httproute", "ingress"))
        assert refs(messages[:1]) == ["httproute/shop/web/r.example.com/prefix/"]


async def test_services_are_kept_for_streams():
    async with Play(services=[page([controller()]), watch()]) as play:
        await play.told()
        found = await play.directory.service("ingress-nginx", "ingress-nginx-controller")
        assert found.spec.cluster_ip == "10.0.0.9"


def gateway(host: str) -> dict[str, Any]:
    listener = {"name": "http", "protocol": "HTTP", "port": 80, "hostname": host}
    return thing("edge", namespace="shop", spec={"gatewayClassName": "x", "listeners": [listener]})


async def test_route_takes_its_hosts_from_its_gateway_and_changes_with_it():
    gateways = [
        page([gateway("a.example.com")]),
        watch(end="clean"),
        watch(change("MODIFIED", gateway("b.example.com"))),
    ]
    async with Play(routes=[page([HEIR]), watch()], gateways=gateways) as play:
        messages = await play.told(3)
        assert refs(messages[:1]) == ["httproute/shop/heir/a.example.com/prefix/"]
        assert refs(messages[1:]) == ["httproute/shop/heir/b.example.com/prefix/"]
        assert [ref for message in messages for ref in message.removed] == ["httproute/shop/heir/a.example.com/prefix/"]


async def test_gateways_that_may_not_be_read_give_no_host_and_keep_nothing_from_being_told():
    async with Play(routes=[page([HEIR, HTTP_ROUTE]), watch()], gateways=[DENIED] * 9) as play:
        (message,) = await play.told()
        assert refs([message]) == ["httproute/shop/heir/*/prefix/", "httproute/shop/web/r.example.com/prefix/"]
