"""Host names, and which of them an organisation may publish."""

import pytest

from towline.control.domains.names import (
    NameRefused,
    Ownership,
    host_name,
    is_public_suffix,
    registrable,
    shares_domain,
)

OWNERSHIP = Ownership("apps.example.net", frozenset({"towline.example.com"}), "k8s.example.com", frozenset({"s.x.io"}))


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Shop.Example.COM.", "shop.example.com"),
        ("bücher.example", "xn--bcher-kva.example"),
        (" a.b ", "a.b"),
        ("_dmarc.a.b", "_dmarc.a.b"),
    ],
)
def test_names_are_kept_as_lower_case_a_labels(text: str, name: str) -> None:
    assert host_name(text) == name


@pytest.mark.parametrize(
    "text",
    ["", "localhost", "10.0.0.1", "[::1]", "*.a.b", "a..b", "-a.b", "a b.c", "a.b/c", "a:80", "x" * 64 + ".a", "a.*.b"],
)
def test_what_is_no_name_is_refused(text: str) -> None:
    with pytest.raises(NameRefused):
        host_name(text)


def test_a_wildcard_is_a_name_only_where_it_may_be() -> None:
    assert host_name("*.Example.com", wildcard=True) == "*.example.com"
    with pytest.raises(NameRefused):
        host_name("*.", wildcard=True)
    with pytest.raises(NameRefused):
        host_name("*.*.a.b", wildcard=True)


@pytest.mark.parametrize(
    ("host", "words"),
    [
        ("shop.example.org", ""),
        ("*.example.org", ""),
        ("example.org", ""),
        ("example.orgs.com", "no verified domain"),
        ("notexample.org", "no verified domain"),
        ("*.org", "no verified domain"),
        ("towline.example.com", "server's own name"),
        ("*.example.com", "server's own name towline.example.com"),
        ("a.k8s.example.com", "access to clusters"),
        ("s.x.io", "published by the server's settings"),
        ("web-edge-1.apps.example.net", ""),
        ("web-other.apps.example.net", "NAME-edge-1.apps.example.net"),
        ("-edge-1.apps.example.net", "NAME-edge-1"),
        ("a.web-edge-1.apps.example.net", "NAME-edge-1"),
        ("*.apps.example.net", "NAME-edge-1"),
        ("apps.example.net", "NAME-edge-1"),
    ],
)
def test_who_may_publish_a_name(host: str, words: str) -> None:
    problem = OWNERSHIP.problem(host, {"example.org", "example.com.au"}, ["edge-1"])
    assert (words in problem) if words else problem == ""


def test_a_verified_parent_gives_no_names_of_the_gateway() -> None:
    assert OWNERSHIP.problem("web-other.apps.example.net", {"example.net"}, ["edge-1"])


def test_a_name_is_given_out_for_a_route_and_its_cluster() -> None:
    assert OWNERSHIP.given_name("web", "Edge.1") == "web-edge-1.apps.example.net"
    long = OWNERSHIP.given_name("x" * 80, "edge-1").partition(".")[0]
    assert len(long) == 63 and long.endswith("-edge-1")
    with pytest.raises(NameRefused, match="gateway_domain"):
        Ownership("", frozenset()).given_name("web", "edge-1")


def test_registrable_domains_follow_the_public_suffix_list() -> None:
    assert registrable("a.b.example.co.uk") == "example.co.uk"
    assert is_public_suffix("co.uk") and not is_public_suffix("example.co.uk")


@pytest.mark.parametrize(
    ("gateway", "dashboard", "shared"),
    [
        ("apps.example.com", "towline.example.com", "example.com"),
        ("apps.example.net", "towline.example.com", ""),
        ("a.github.io", "b.github.io", ""),
        ("apps.example.com", "192.0.2.1", ""),
        ("apps.example.com", "localhost", ""),
        ("example.com", "example.com", "example.com"),
    ],
)
def test_a_shared_registrable_domain_is_found(gateway: str, dashboard: str, shared: str) -> None:
    assert shares_domain(gateway, dashboard) == shared
