"""Every detail of an Ingress, as a table: what it says, and what is claimed."""

from typing import Any

import msgspec
import pytest

from towline.agent.routes.controllers import recognise
from towline.agent.routes.ingress import Surroundings, claims
from towline.kube import traffic
from towline.wire.link import RouteClaim
from towline.wire.streams import KubeService

HOST = "shop.example.com"
NGINX = "nginx.ingress.kubernetes.io/"


def ingress(*rules: dict[str, Any], annotations: dict[str, str] | None = None, **spec: Any) -> traffic.Ingress:
    metadata = {"name": "web", "namespace": "shop", "annotations": annotations or {}}
    return msgspec.convert({"metadata": metadata, "spec": {"rules": rules, **spec}}, traffic.Ingress)


def rule(*paths: dict[str, Any], host: str = HOST) -> dict[str, Any]:
    return {**({"host": host} if host else {}), "http": {"paths": paths}}


def path(text: str = "/", kind: str = "Prefix", *, service: str = "web", port: int | str | None = 80) -> dict[str, Any]:
    return {"path": text, "pathType": kind, "backend": backend(service, port)}


def backend(service: str = "web", port: int | str | None = 80) -> dict[str, Any]:
    known = {} if port is None else {"name": port} if isinstance(port, str) else {"number": port}
    return {"service": {"name": service, "port": known}}


def a_class(name: str = "nginx", controller: str = "k8s.io/ingress-nginx", *, default: bool = False) -> Any:
    marks = {"ingressclass.kubernetes.io/is-default-class": "true"} if default else {}
    value = {"metadata": {"name": name, "annotations": marks}, "spec": {"controller": controller}}
    return msgspec.convert(value, traffic.IngressClass)


def service(
    name: str = "ingress-nginx-controller", namespace: str = "ingress-nginx", *, https: bool = True
) -> traffic.Service:
    ports = [{"name": "http", "port": 80}, *([{"name": "https", "port": 443}] if https else [])]
    value = {
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"type": "LoadBalancer", "clusterIP": "10.0.0.9", "ports": ports},
    }
    return msgspec.convert(value, traffic.Service)


def around(*classes: traffic.IngressClass, services: tuple[traffic.Service, ...] = ()) -> Surroundings:
    found = [one for each in services if (one := recognise(each)) is not None]
    return Surroundings({one.metadata.name: one for one in classes}, found)


NOTHING = around()
WITH_NGINX = around(a_class(), services=(service(),))
WITH_TRAEFIK = around(
    a_class("traefik", "traefik.io/ingress-controller"), services=(service("traefik", "kube-system"),)
)


def places(found: tuple[RouteClaim, ...]) -> list[tuple[str, str, str]]:
    return [(claim.host, claim.path_type, claim.path) for claim in found]


def backends(found: tuple[RouteClaim, ...]) -> list[str]:
    return [f"{target.name}:{target.port}" for claim in found if isinstance(target := claim.target, KubeService)]


@pytest.mark.parametrize(
    ("text", "kind", "expected"),
    [
        ("/", "Prefix", ("prefix", "/")),
        ("/api", "Prefix", ("prefix", "/api")),
        ("/api/", "Prefix", ("prefix", "/api")),
        ("/api", "Exact", ("exact", "/api")),
        ("/api/", "Exact", ("exact", "/api/")),
        ("/api", "ImplementationSpecific", ("prefix", "/api")),
        ("/", "ImplementationSpecific", ("prefix", "/")),
        ("", "ImplementationSpecific", ("prefix", "/")),
        ("/*", "ImplementationSpecific", ("prefix", "/")),
        ("/api/*", "ImplementationSpecific", ("prefix", "/api")),
        ("/v1.2/files", "ImplementationSpecific", ("prefix", "/v1.2/files")),
    ],
)
def test_path_types_mean_what_the_documentation_says(text, kind, expected):
    (claim,) = claims(ingress(rule(path(text, kind))), NOTHING)
    assert (claim.path_type, claim.path) == expected
    assert not claim.problem


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/api(/|$)(.*)", "/api"),
        ("/api/(.*)", "/api"),
        ("/api/?(.*)", "/"),
        ("/(?:a|b)", "/"),
        ("/shop/item[0-9]+", "/shop"),
        ("/img/.*\\.png$", "/img"),
        ("^/old", "/"),
    ],
)
def test_regular_expressions_go_to_the_controller_below_what_is_certain(text, expected):
    annotations = {NGINX + "use-regex": "true"}
    found = ingress(rule(path(text, "ImplementationSpecific")), annotations=annotations, ingressClassName="nginx")
    (claim,) = claims(found, WITH_NGINX)
    assert (claim.path_type, claim.path, claim.problem) == ("prefix", expected, "")
    assert "regular expression" in claim.notes[0]


def test_regular_expression_without_a_controller_is_no_route():
    (claim,) = claims(ingress(rule(path("/api(/|$)(.*)", "ImplementationSpecific"))), NOTHING)
    assert "regular expression" in claim.problem


def test_use_regex_makes_prefixes_expressions_too():
    found = ingress(rule(path("/a[0-9]", "Prefix")), annotations={NGINX + "use-regex": "true"})
    assert "regular expression" in claims(found, NOTHING)[0].problem


@pytest.mark.parametrize("port", [80, "http"])
def test_ports_go_to_the_agent_as_they_are_written(port):
    (claim,) = claims(ingress(rule(path(port=port))), NOTHING)
    assert claim.target == KubeService(namespace="shop", name="web", port=str(port))


def test_several_hosts_and_paths_are_a_claim_each():
    found = claims(
        ingress(
            rule(path("/"), path("/api", service="api")),
            rule(path("/"), host="www.example.com"),
            rule(path("/"), host="*.example.com"),
        ),
        NOTHING,
    )
    assert places(found) == [
        (HOST, "prefix", "/"),
        (HOST, "prefix", "/api"),
        ("www.example.com", "prefix", "/"),
        ("*.example.com", "prefix", "/"),
    ]
    assert backends(found) == ["web:80", "api:80", "web:80", "web:80"]


def test_refs_are_those_of_host_and_path_wherever_the_rule_stands():
    first = claims(ingress(rule(path("/a")), rule(path("/b"), host="b.example.com")), NOTHING)
    other = claims(ingress(rule(path("/b"), host="b.example.com"), rule(path("/a"))), NOTHING)
    assert {claim.ref for claim in first} == {claim.ref for claim in other}
    assert first[0].ref == f"ingress/shop/web/{HOST}/prefix/a"


def test_of_two_rules_for_one_path_the_first_stays():
    found = claims(ingress(rule(path("/a", service="one"), path("/a/", service="two"))), NOTHING)
    assert backends(found) == ["one:80"]


def test_hosts_are_lower_case_and_without_the_root_dot():
    found = claims(ingress(rule(path(), host="Shop.Example.COM.")), NOTHING)
    assert found[0].host == HOST


@pytest.mark.parametrize("host", ["shop example", "a.*.example.com", "x" * 64 + ".example.com", "-a.example.com"])
def test_host_that_is_none_is_told_as_a_problem(host):
    assert "host name" in claims(ingress(rule(path(), host=host)), NOTHING)[0].problem


def test_rule_without_a_host_leaves_the_name_to_somebody():
    (claim,) = claims(ingress(rule(path("/api"), host="")), NOTHING)
    assert (claim.host, claim.ref) == ("", "ingress/shop/web/*/prefix/api")


def test_rule_without_a_host_answers_for_the_hosts_of_its_certificates():
    found = claims(ingress(rule(path("/api"), host=""), tls=[{"hosts": [HOST, "b.example.com"]}]), NOTHING)
    assert places(found) == [(HOST, "prefix", "/api"), ("b.example.com", "prefix", "/api")]
    assert all(claim.tls for claim in found)


@pytest.mark.parametrize(
    ("rules", "tls", "expected"),
    [
        ((), [], [("", "prefix", "/", "rest:80")]),
        ((), [{"hosts": [HOST]}], [(HOST, "prefix", "/", "rest:80")]),
        ((rule(path("/api")),), [], [(HOST, "prefix", "/api", "web:80"), (HOST, "prefix", "/", "rest:80")]),
        ((rule(path("/", "Exact")),), [], [(HOST, "exact", "/", "web:80"), (HOST, "prefix", "/", "rest:80")]),
        ((rule(path("/")),), [], [(HOST, "prefix", "/", "web:80")]),
        (({"host": HOST},), [], [(HOST, "prefix", "/", "rest:80")]),
    ],
)
def test_default_backend_answers_for_what_no_rule_names(rules, tls, expected):
    found = claims(ingress(*rules, tls=tls, defaultBackend=backend("rest")), NOTHING)
    assert [(*place, where) for place, where in zip(places(found), backends(found), strict=True)] == expected


def test_ingress_without_rules_and_backend_claims_nothing():
    assert claims(ingress(), NOTHING) == ()
    assert claims(ingress({"host": HOST}), NOTHING) == ()


@pytest.mark.parametrize(
    ("tls", "host", "expected"),
    [
        ([], HOST, False),
        ([{"hosts": [HOST]}], HOST, True),
        ([{"hosts": ["other.example.com"]}], HOST, False),
        ([{"hosts": ["*.example.com"]}], HOST, True),
        ([{"secretName": "default"}], HOST, True),
        ([{"hosts": ["*.example.com"]}], "*.example.com", True),
        ([{"hosts": ["*.example.com"]}], "a.b.example.com", False),
    ],
)
def test_tls_counts_for_its_hosts(tls, host, expected):
    assert claims(ingress(rule(path(), host=host), tls=tls), NOTHING)[0].tls is expected


def test_backend_that_is_no_service_is_a_problem():
    bucket = {"resource": {"apiGroup": "storage", "kind": "Bucket", "name": "static"}}
    (claim,) = claims(ingress({"host": HOST, "http": {"paths": [{"path": "/", "backend": bucket}]}}), NOTHING)
    assert claim.problem == "its backend is a Bucket, not a service"


def test_backend_without_a_port_is_a_problem():
    assert claims(ingress(rule(path(port=None))), NOTHING)[0].problem == "its backend web names no port"


def test_api_server_is_never_published():
    found = ingress(rule(path(service="kubernetes", port=443)))
    found = msgspec.structs.replace(found, metadata=msgspec.structs.replace(found.metadata, namespace="default"))
    assert claims(found, NOTHING)[0].problem == "the API server is never published"


# -- classes and controllers -----------------------------------------------------------------------

CONTROLLER = KubeService(namespace="ingress-nginx", name="ingress-nginx-controller", port="80")
BACKEND = KubeService(namespace="shop", name="web", port="80")


@pytest.mark.parametrize(
    ("spec", "annotations", "surroundings", "target", "note"),
    [
        ({}, {}, NOTHING, BACKEND, ""),
        ({"ingressClassName": "nginx"}, {}, WITH_NGINX, CONTROLLER, ""),
        ({}, {"kubernetes.io/ingress.class": "nginx"}, WITH_NGINX, CONTROLLER, ""),
        ({}, {"kubernetes.io/ingress.class": "nginx"}, around(services=(service(),)), CONTROLLER, ""),
        ({}, {}, around(a_class(default=True), services=(service(),)), CONTROLLER, ""),
        ({}, {}, WITH_NGINX, BACKEND, "it names no class, so that nginx does not serve it"),
        ({"ingressClassName": "nginx"}, {}, around(a_class()), BACKEND,
         "no running controller k8s.io/ingress-nginx was found for its class nginx"),
        ({"ingressClassName": "other"}, {}, WITH_NGINX, BACKEND, "there is no ingress class other"),
        ({"ingressClassName": "own"}, {}, around(a_class("own", "towline.dev/gateway"), services=(service(),)),
         BACKEND, ""),
        ({"ingressClassName": "odd"}, {}, around(a_class("odd", "example.com/odd"), services=(service(),)), BACKEND,
         "no running controller example.com/odd was found for its class odd"),
    ],
)  # fmt: skip
def test_class_decides_who_serves_an_ingress(spec, annotations, surroundings, target, note):
    (claim,) = claims(ingress(rule(path()), annotations=annotations, **spec), surroundings)
    assert claim.target == target
    assert claim.notes == ((note,) if note else ())


def test_traefik_serves_ingresses_without_a_class():
    (claim,) = claims(ingress(rule(path())), WITH_TRAEFIK)
    assert claim.target == KubeService(namespace="kube-system", name="traefik", port="80")


def test_host_with_a_certificate_goes_to_the_controllers_port_with_tls():
    found = ingress(rule(path()), ingressClassName="nginx", tls=[{"hosts": [HOST]}])
    (claim,) = claims(found, WITH_NGINX)
    assert claim.target == KubeService(
        namespace="ingress-nginx", name="ingress-nginx-controller", port="443", tls=True, server_name=HOST
    )


def test_wildcard_with_a_certificate_goes_there_without_a_name():
    found = ingress(rule(path(), host="*.example.com"), ingressClassName="nginx", tls=[{"hosts": ["*.example.com"]}])
    target = claims(found, WITH_NGINX)[0].target
    assert isinstance(target, KubeService)
    assert (target.tls, target.server_name) == (True, "")


def test_controller_without_tls_gets_everything_at_its_plain_port():
    found = ingress(rule(path()), ingressClassName="nginx", tls=[{"hosts": [HOST]}])
    (claim,) = claims(found, around(a_class(), services=(service(https=False),)))
    assert claim.target == CONTROLLER


@pytest.mark.parametrize(
    "annotation",
    [
        {NGINX + "force-ssl-redirect": "true"},
        {"traefik.ingress.kubernetes.io/router.entrypoints": "websecure"},
        {"traefik.ingress.kubernetes.io/router.tls": "true"},
    ],
)
def test_what_a_controller_serves_by_tls_alone_goes_there_by_tls(annotation):
    target = claims(ingress(rule(path()), annotations=annotation), WITH_TRAEFIK)[0].target
    assert isinstance(target, KubeService)
    assert target.tls


def test_annotations_are_the_controllers_business_where_one_serves():
    annotations = {NGINX + "auth-url": "https://login.example.com", NGINX + "rewrite-target": "/$1"}
    (claim,) = claims(ingress(rule(path()), annotations=annotations, ingressClassName="nginx"), WITH_NGINX)
    assert (claim.caution, claim.notes, claim.options) == ("", (), {})


def test_lists_of_addresses_are_held_by_the_gateway_even_before_a_controller():
    annotations = {NGINX + "whitelist-source-range": "10.0.0.0/8,192.0.2.0/24"}
    (claim,) = claims(ingress(rule(path()), annotations=annotations, ingressClassName="nginx"), WITH_NGINX)
    assert claim.options == {"allow": "10.0.0.0/8,192.0.2.0/24"}
    assert "the controller sees the agent's address" in claim.notes[0]


def test_annotations_without_a_controller_are_told_and_protection_makes_cautious():
    annotations = {NGINX + "auth-url": "https://login.example.com", NGINX + "rewrite-target": "/$1", "a.b/c": "d"}
    (claim,) = claims(ingress(rule(path()), annotations=annotations), NOTHING)
    assert len(claim.notes) == 2
    assert "auth-url" in claim.caution


def test_backend_with_tls_is_spoken_to_by_tls():
    found = ingress(rule(path(port=443)), annotations={NGINX + "backend-protocol": "HTTPS"})
    target = claims(found, NOTHING)[0].target
    assert isinstance(target, KubeService)
    assert target.tls


def test_long_paths_have_refs_that_fit():
    found = claims(ingress(rule(path("/" + "a" * 900), path("/" + "a" * 901))), NOTHING)
    assert len({claim.ref for claim in found}) == 2
    assert all(len(claim.ref) < 600 for claim in found)
