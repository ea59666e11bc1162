"""Annotations where no controller reads them: options, notes, and what makes cautious."""

import pytest

from towline.agent.routes.asked import MOST_NOTES, ask
from towline.gateway.route_options import parse_options

NGINX = "nginx.ingress.kubernetes.io/"


@pytest.mark.parametrize(
    ("name", "value", "options"),
    [
        ("proxy-body-size", "8m", {"body_limit": "8388608"}),
        ("proxy-body-size", "0", {"body_limit": "0"}),
        ("proxy-body-size", "512K", {"body_limit": "524288"}),
        ("proxy-read-timeout", "120", {"request_timeout": "120"}),
        ("proxy-read-timeout", "90s", {"request_timeout": "90"}),
        ("whitelist-source-range", "10.0.0.0/8", {"allow": "10.0.0.0/8"}),
        ("denylist-source-range", "192.0.2.7", {"deny": "192.0.2.7"}),
        ("upstream-vhost", "inner.example.com", {"host": "inner.example.com"}),
        ("limit-rps", "5", {"rate_limit": "5"}),
        ("ssl-redirect", "false", {"https_redirect": "false"}),
        ("force-ssl-redirect", "TRUE", {"https_redirect": "true"}),
    ],
)
def test_what_the_gateway_can_do_becomes_an_option_that_it_understands(name, value, options):
    asked = ask({NGINX + name: value})
    assert asked.options == options
    assert (asked.notes, asked.caution) == ([], "")
    parse_options(asked.options)


@pytest.mark.parametrize(
    ("name", "value"), [("proxy-body-size", "much"), ("limit-rps", "-1"), ("ssl-redirect", "perhaps")]
)
def test_value_that_cannot_be_read_is_told(name, value):
    asked = ask({NGINX + name: value})
    assert asked.options == {}
    assert NGINX + name in asked.notes[0]


@pytest.mark.parametrize(
    "key",
    [
        NGINX + "auth-url",
        NGINX + "auth-type",
        NGINX + "auth-tls-secret",
        NGINX + "server-snippet",
        NGINX + "enable-modsecurity",
        "traefik.ingress.kubernetes.io/router.middlewares",
        "konghq.com/plugins",
        "haproxy.org/allow-list",
        "haproxy-ingress.github.io/auth-secret",
        "alb.ingress.kubernetes.io/scheme",
        "alb.ingress.kubernetes.io/inbound-cidrs",
        "nginx.org/policies",
    ],
)
def test_what_may_protect_makes_cautious(key):
    asked = ask({key: "x"})
    assert key in asked.caution
    assert len(asked.notes) == 1


@pytest.mark.parametrize("key", [NGINX + "rewrite-target", NGINX + "enable-cors", "haproxy.org/timeout-server"])
def test_other_annotations_of_controllers_are_told(key):
    asked = ask({key: "x"})
    assert asked.caution == ""
    assert asked.notes == [f"{key} is not honoured: no controller that reads it serves this ingress"]


@pytest.mark.parametrize(
    "key", ["cert-manager.io/cluster-issuer", "meta.helm.sh/release-name", "external-dns.alpha.kubernetes.io/hostname"]
)
def test_annotations_for_others_are_none_of_our_business(key):
    asked = ask({key: "x"})
    assert (asked.notes, asked.caution, asked.options) == ([], "", {})


@pytest.mark.parametrize(
    ("protocol", "uses_tls", "notes"), [("HTTP", False, 0), ("https", True, 0), ("GRPC", False, 1), ("GRPCS", True, 1)]
)
def test_backend_protocols(protocol, uses_tls, notes):
    asked = ask({NGINX + "backend-protocol": protocol})
    assert (asked.uses_tls, len(asked.notes)) == (uses_tls, notes)


def test_many_annotations_are_counted_instead_of_listed():
    asked = ask({f"{NGINX}custom-{number:03}": "x" for number in range(50)})
    assert len(asked.notes) == MOST_NOTES + 1
    assert asked.notes[-1] == "and 30 annotations more are not honoured"
