"""HTTPRoutes as a table: what the gateway can do, what it tells instead."""

from typing import Any

import msgspec
import pytest

from towline.agent.routes import httproute
from towline.gateway.route_options import parse_options
from towline.kube import traffic
from towline.wire.link import RouteClaim
from towline.wire.streams import KubeService

HOST = "shop.example.com"
WEB = {"name": "web", "port": 80}


def route(*rules: dict[str, Any], hostnames: tuple[str, ...] = (HOST,)) -> traffic.HttpRoute:
    value = {"metadata": {"name": "web", "namespace": "shop"}, "spec": {"hostnames": hostnames, "rules": rules}}
    return msgspec.convert(value, traffic.HttpRoute)


def claims(one: traffic.HttpRoute, *gateways: traffic.Gateway) -> tuple[RouteClaim, ...]:
    return httproute.claims(one, {f"{each.metadata.namespace}/{each.metadata.name}": each for each in gateways})


def gateway(*listeners: dict[str, Any], namespace: str = "shop") -> traffic.Gateway:
    value = {"metadata": {"name": "edge", "namespace": namespace}, "spec": {"listeners": listeners}}
    return msgspec.convert(value, traffic.Gateway)


def heir(*parents: dict[str, Any]) -> traffic.HttpRoute:
    """A route without hosts of its own."""
    value = {"metadata": {"name": "web", "namespace": "shop"}, "spec": {"parentRefs": parents, "rules": [rule()]}}
    return msgspec.convert(value, traffic.HttpRoute)


def rule(*matches: dict[str, Any], backends: tuple[dict[str, Any], ...] = (WEB,), **more: Any) -> dict[str, Any]:
    return {**({"matches": matches} if matches else {}), "backendRefs": backends, **more}


def match(value: str = "/", kind: str = "PathPrefix", **more: Any) -> dict[str, Any]:
    return {"path": {"type": kind, "value": value}, **more}


def target(name: str = "web", port: str = "80") -> KubeService:
    return KubeService(namespace="shop", name=name, port=port)


@pytest.mark.parametrize(
    ("matches", "expected"),
    [
        ((), [("prefix", "/")]),
        (({},), [("prefix", "/")]),
        ((match("/api"),), [("prefix", "/api")]),
        ((match("/api/"),), [("prefix", "/api")]),
        ((match("/api", "Exact"),), [("exact", "/api")]),
        ((match("/a"), match("/b", "Exact")), [("prefix", "/a"), ("exact", "/b")]),
    ],
)
def test_paths(matches, expected):
    found = claims(route(rule(*matches)))
    assert [(claim.path_type, claim.path) for claim in found] == expected
    assert all(claim.target == target() and not claim.problem for claim in found)


def test_each_host_is_a_claim_of_its_own():
    found = claims(route(rule(), hostnames=(HOST, "*.example.org")))
    assert [claim.host for claim in found] == [HOST, "*.example.org"]
    assert found[0].ref == f"httproute/shop/web/{HOST}/prefix/"


HTTP = {"name": "http", "protocol": "HTTP", "port": 80, "hostname": "A.example.com"}
HTTPS = {"name": "https", "protocol": "HTTPS", "port": 443, "hostname": "*.example.com"}
ANYBODYS = {"allowedRoutes": {"namespaces": {"from": "All"}}}


@pytest.mark.parametrize(
    ("parents", "hosts"),
    [
        (({"name": "edge"},), ["a.example.com", "*.example.com"]),
        (({"name": "edge", "sectionName": "http"},), ["a.example.com"]),
        (({"name": "edge", "port": 443},), ["*.example.com"]),
        (({"name": "edge", "sectionName": "http"}, {"name": "edge", "port": 80}), ["a.example.com"]),
        (({"name": "edge", "sectionName": "other"},), [""]),
        (({"name": "another"},), [""]),
        (({"name": "edge", "kind": "Service", "group": ""},), [""]),
        ((), [""]),
    ],
)
def test_route_without_hosts_has_those_of_the_listeners_that_it_attaches_to(parents, hosts):
    found = claims(heir(*parents), gateway(HTTP, HTTPS))
    assert [claim.host for claim in found] == hosts
    assert not any(claim.problem for claim in found)


@pytest.mark.parametrize(
    ("listener", "namespace", "host"),
    [
        (HTTP, "infra", ""),
        ({**HTTP, **ANYBODYS}, "infra", "a.example.com"),
        ({**HTTP, "allowedRoutes": {"namespaces": {"from": "Selector"}}}, "shop", ""),
        ({**HTTP, "allowedRoutes": {"kinds": [{"kind": "GRPCRoute"}]}}, "shop", ""),
        ({**HTTP, "allowedRoutes": {"kinds": [{"kind": "HTTPRoute"}]}}, "shop", "a.example.com"),
        ({**HTTP, "protocol": "TLS"}, "shop", ""),
        ({"name": "any", "protocol": "HTTP", "port": 80}, "shop", ""),
    ],
)
def test_only_a_listener_that_takes_the_route_gives_it_a_host(listener, namespace, host):
    found = claims(heir({"name": "edge", "namespace": namespace}), gateway(listener, namespace=namespace))
    assert [claim.host for claim in found] == [host]


def test_route_with_hosts_inherits_none():
    one = msgspec.structs.replace(heir({"name": "edge"}).spec, hostnames=(HOST,))
    assert [c.host for c in claims(msgspec.structs.replace(heir(), spec=one), gateway(HTTP))] == [HOST]


def test_route_without_hosts_leaves_the_name_to_somebody():
    assert claims(route(rule(), hostnames=()))[0].host == ""


@pytest.mark.parametrize(
    ("more", "word"),
    [
        ({"headers": [{"name": "x", "value": "y"}]}, "headers"),
        ({"queryParams": [{"name": "x", "value": "y"}]}, "query"),
        ({"method": "POST"}, "method"),
    ],
)
def test_match_that_cannot_be_held_is_no_route_and_hides_none(more, word):
    narrow, plain = claims(route(rule(match("/api", **more)), rule(match("/api"))))
    assert word in narrow.problem
    assert not plain.problem
    assert narrow.ref != plain.ref


def test_regular_expression_is_no_route():
    assert "regular expression" in claims(route(rule(match("/a.*", "RegularExpression"))))[0].problem


# -- backends --------------------------------------------------------------------------------------


def test_backends_of_one_weight_share():
    (claim,) = claims(route(rule(backends=(WEB, {"name": "web2", "port": 8080}))))
    assert (claim.target, claim.also, claim.notes) == (target(), (target("web2", "8080"),), ())


def test_heaviest_backend_takes_all_when_weights_differ():
    backends = ({**WEB, "weight": 10}, {"name": "web2", "port": 80, "weight": 90})
    (claim,) = claims(route(rule(backends=backends)))
    assert (claim.target, claim.also) == (target("web2"), ())
    assert claim.notes == ("shares are not kept (web 10, web2 90): all requests go to web2",)


def test_backend_of_weight_nought_takes_nothing():
    (claim,) = claims(route(rule(backends=({**WEB, "weight": 0}, {"name": "web2", "port": 80}))))
    assert (claim.target, claim.notes) == (target("web2"), ())


@pytest.mark.parametrize(
    ("backends", "problem"),
    [
        ((), "no backend takes its requests"),
        (({**WEB, "weight": 0},), "no backend takes its requests"),
        (({"name": "web"},), "its backend web names no port"),
        (({**WEB, "namespace": "other"},), "its backend is in the namespace other"),
        (({**WEB, "kind": "ServiceImport", "group": "multicluster.x-k8s.io"},), "is a ServiceImport, not a service"),
    ],
)
def test_backends_that_lead_nowhere(backends, problem):
    assert problem in claims(route(rule(backends=backends)))[0].problem


def test_own_namespace_may_be_named():
    assert not claims(route(rule(backends=({**WEB, "namespace": "shop"},))))[0].problem


# -- filters ---------------------------------------------------------------------------------------


def test_header_modifiers_become_options():
    filters = [
        {"type": "RequestHeaderModifier", "requestHeaderModifier": {
            "set": [{"name": "X-A", "value": "1"}], "add": [{"name": "X-B", "value": "2"}], "remove": ["X-C", "X-D"]}},
        {"type": "ResponseHeaderModifier", "responseHeaderModifier": {"set": [{"name": "X-E", "value": "3"}]}},
    ]  # fmt: skip
    (claim,) = claims(route(rule(filters=filters)))
    options = parse_options(claim.options)
    assert options.set_request_headers == (("X-A", "1"), ("X-B", "2"))
    assert options.remove_request_headers == ("X-C", "X-D")
    assert options.set_answer_headers == (("X-E", "3"),)
    assert claim.notes == ("headers to add to the request are set: X-B",)


def test_redirect_to_https_is_what_the_gateway_does_anyway():
    redirect = {"type": "RequestRedirect", "requestRedirect": {"scheme": "https", "statusCode": 301}}
    assert claims(route(rule(backends=(), filters=[redirect]))) == ()


@pytest.mark.parametrize("redirect", [{"hostname": "other.example.com"}, {"scheme": "https", "port": 8443}])
def test_other_redirects_are_told(redirect):
    filters = [{"type": "RequestRedirect", "requestRedirect": redirect}]
    assert "redirects" in claims(route(rule(backends=(), filters=filters)))[0].problem


def test_host_is_rewritten_and_a_path_is_not():
    filters = [{"type": "URLRewrite", "urlRewrite": {"hostname": "inner.example.com"}}]
    (claim,) = claims(route(rule(filters=filters)))
    assert (claim.options, claim.problem) == ({"host": "inner.example.com"}, "")
    filters[0]["urlRewrite"]["path"] = {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/"}
    assert "rewrites the path" in claims(route(rule(filters=filters)))[0].problem


@pytest.mark.parametrize("kind", ["ExtensionRef", "ExternalAuth"])
def test_filter_that_nobody_knows_makes_cautious(kind):
    (claim,) = claims(route(rule(filters=[{"type": kind}])))
    assert kind in claim.caution


def test_mirror_is_told():
    (claim,) = claims(route(rule(filters=[{"type": "RequestMirror"}])))
    assert (claim.notes, claim.caution) == (("the filter RequestMirror is not applied",), "")


@pytest.mark.parametrize(
    ("text", "expected"), [("10s", "10"), ("1m30s", "90"), ("500ms", "0.5"), ("1h", "3600"), ("0s", "0")]
)
def test_timeouts(text, expected):
    (claim,) = claims(route(rule(timeouts={"request": text})))
    assert claim.options == {"request_timeout": expected}


def test_timeout_that_cannot_be_read_is_told():
    assert claims(route(rule(timeouts={"request": "soon"})))[0].notes == ("the timeout soon is not applied",)
