"""Labels of Compose services."""

import pytest

from towline.agent.routes.compose import Labelled, claims
from towline.gateway.route_options import parse_options
from towline.wire.streams import Service

HOST = "shop.example.com"


def labelled(ports: tuple[int, ...] = (), **labels: str) -> Labelled:
    named = {f"towline.route.{key.replace('__', '.')}": value for key, value in labels.items()}
    return Labelled("shop", "web", {**named, "com.example": "x"}, ports)


def test_label_is_a_claim_of_its_service():
    (claim,) = claims([labelled(main__host=HOST, main__port="8080", main__path="/api")])
    assert claim.ref == "compose/shop/web/main"
    assert claim.target == Service(project="shop", service="web", port=8080)
    assert (claim.host, claim.path, claim.path_type, claim.problem) == (HOST, "/api", "prefix", "")


def test_several_containers_of_a_service_claim_once():
    assert len(claims([labelled((80,), main__host=HOST)] * 3)) == 1


def test_several_hosts_are_a_claim_each():
    found = claims([labelled((80,), main__host=f"{HOST}, www.example.com")])
    assert [(claim.host, claim.ref) for claim in found] == [
        (HOST, f"compose/shop/web/main/{HOST}"),
        ("www.example.com", "compose/shop/web/main/www.example.com"),
    ]


def test_several_routes_of_a_service():
    found = claims([labelled((80,), a__host=HOST, b__host="b.example.com", b__path_type="exact", b__path="/x")])
    assert [(claim.ref, claim.path_type) for claim in found] == [
        ("compose/shop/web/a", "prefix"),
        ("compose/shop/web/b", "exact"),
    ]


def test_host_may_be_left_to_somebody():
    assert claims([labelled(main__port="80")])[0].host == ""


@pytest.mark.parametrize(
    ("port", "exposed", "expected", "problem"),
    [
        ("8080", (), 8080, ""),
        ("", (3000,), 3000, ""),
        ("8080", (3000,), 8080, ""),
        ("", (), 0, "exposes no port"),
        ("", (80, 443), 0, "several ports (80, 443)"),
        ("http", (80,), 0, "which is no port"),
        ("70000", (80,), 0, "which is no port"),
    ],
)
def test_ports(port, exposed, expected, problem):
    labels = {"main__host": HOST, **({"main__port": port} if port else {})}
    (claim,) = claims([labelled(exposed, **labels)])
    assert claim.target == Service(project="shop", service="web", port=expected)
    assert problem in claim.problem
    assert bool(problem) == bool(claim.problem)


def test_further_labels_are_options():
    (claim,) = claims(
        [labelled((80,), main__host=HOST, main__body_limit="1048576", **{"main__https-redirect": "false"})]
    )
    options = parse_options(claim.options)
    assert (options.body_limit, options.https_redirect) == (1048576, False)


def test_route_can_be_switched_off():
    assert claims([labelled((80,), main__host=HOST, main__enabled="false")]) == ()


@pytest.mark.parametrize("labels", [{"main__host": "no host"}, {"main__host": HOST, "main__path_type": "regex"}])
def test_labels_that_say_nothing_are_told(labels):
    assert claims([labelled((80,), **labels)])[0].problem


def test_labels_without_a_name_or_a_key_are_none():
    assert claims([Labelled("shop", "web", {"towline.route.host": HOST, "towline.route.": "x"}, (80,))]) == ()
