"""What is understood of a request, which ones wait for their record, and what the record leaves out."""

import pytest

from towline.control.kubernetes import addresses, tokens
from towline.control.kubernetes.requests import Asked, understand
from towline.gateway.interfaces import Peer
from towline.kube.errors import RequestRefused
from towline.wire.http1 import RequestHead, parse_request_head

PEER = Peer("192.0.2.1", 1, "https", "192.0.2.1")
POD = "/k8s/clusters/prod/api/v1/namespaces/shop/pods/web"
UPGRADE = ("Connection: Upgrade", "Upgrade: SPDY/3.1")


def head(line: str, *fields: str, host: str = "towline.test") -> RequestHead:
    return parse_request_head("\r\n".join([f"{line} HTTP/1.1", f"Host: {host}", *fields, "", ""]).encode("latin-1"))


def asked(line: str, *fields: str) -> Asked:
    found = head(line, *fields)
    address = addresses.find(found, "")
    assert address is not None
    return understand(found, PEER, "req-1", address)


@pytest.mark.parametrize(
    ("target", "host", "found"),
    [
        ("/k8s/clusters/prod", "towline.test", ("prod", b"/", b"/", b"/k8s/clusters/prod")),
        ("/k8s/clusters/prod?x=1", "towline.test", ("prod", b"/", b"/?x=1", b"/k8s/clusters/prod")),
        ("/k8s/clusters/a-1/api?x?y", "towline.test", ("a-1", b"/api", b"/api?x?y", b"/k8s/clusters/a-1")),
        ("/k8s/clusters/a/k8s/b", "towline.test", ("a", b"/k8s/b", b"/k8s/b", b"/k8s/clusters/a")),
        ("/api", "prod.k8s.towline.test", ("prod", b"/api", b"/api", b"")),
        ("/k8s/clusters/x/api", "prod.k8s.towline.test", ("prod", b"/k8s/clusters/x/api", b"/k8s/clusters/x/api", b"")),
        ("/api", "a.b.k8s.towline.test", None),
        ("/api", "k8s.towline.test", None),
        ("/k8s/clusters/Prod/api", "towline.test", None),
        ("/k8s/clusters/-a/api", "towline.test", None),
        ("/k8s/clusters/p%72od/api", "towline.test", None),
        ("/k8s/clustersprod", "towline.test", None),
    ],
)
def test_address_names_the_cluster_and_leaves_the_rest_as_it_was(
    target: str, host: str, found: tuple[str, bytes, bytes, bytes] | None
) -> None:
    address = addresses.find(head(f"GET {target}", host=host), "k8s.towline.test")
    if found is None:
        assert address is None
    else:
        assert address is not None
        assert (address.cluster, address.path, address.target, address.prefix) == found


@pytest.mark.parametrize(
    ("line", "fields", "must", "is_long"),
    [
        (f"GET {POD}", (), False, False),
        (f"GET {POD}?watch=true", (), False, False),
        ("GET /k8s/clusters/prod/api/v1/pods?watch=1", (), False, True),
        (f"GET {POD}/log?follow=true", (), False, True),
        (f"GET {POD}/log", (), False, False),
        (f"DELETE {POD}", (), True, False),
        (f"PATCH {POD}", (), True, False),
        (f"POST {POD}/exec?command=sh", UPGRADE, True, True),
        (f"POST {POD}/portforward", UPGRADE, True, True),
        (f"GET {POD}/proxy/", (), True, False),
        ("GET /k8s/clusters/prod/api/v1/secrets", (), True, False),
        ("GET /k8s/clusters/prod/version", (), False, False),
        ("HEAD /k8s/clusters/prod/version", (), False, False),
        ("POST /k8s/clusters/prod/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", (), False, False),
    ],
)
def test_changes_shells_and_secrets_wait_for_their_record(
    line: str, fields: tuple[str, ...], must: bool, is_long: bool
) -> None:
    found = asked(line, *fields)
    assert (found.must_be_recorded, found.is_long) == (must, is_long)


def test_record_keeps_the_argument_list_and_drops_what_may_be_a_secret() -> None:
    found = asked(
        f"POST {POD}/exec?command=sh&command=-c&command=echo%20a%26b&container=main&sudo=hidden", *UPGRADE,
        "Kubectl-Session: s", "Authorization: Bearer hidden", "X-Other: hidden",
    )  # fmt: skip
    detail = found.detail()
    assert detail["argv"] == ["sh", "-c", "echo a&b"]
    assert detail["query"] == {"container": "main"}
    assert detail["kubectl_session"] == "s"
    assert "hidden" not in repr(detail)


def test_record_of_a_proxied_workload_has_no_query_at_all() -> None:
    assert "query" not in asked(f"GET {POD}/proxy/?limit=1&token=hidden").detail()


def test_long_words_are_cut_before_they_are_written_down() -> None:
    many = "&".join(f"command={'a' * 3000}" for _ in range(200))
    detail = asked(f"POST {POD}/exec?{many}"[:60000], *UPGRADE).detail()
    assert len(repr(detail)) < 150_000


@pytest.mark.parametrize("path", ["/api/v1/../x", "/api%2Fv1", "/api/v1/pods%00"])
def test_bad_path_is_no_request_at_all(path: str) -> None:
    with pytest.raises(RequestRefused):
        asked(f"GET /k8s/clusters/prod{path}")


@pytest.mark.parametrize(
    ("fields", "token"),
    [
        (("Authorization: Bearer twl_x",), "twl_x"),
        (("authorization: bearer  twl_x",), "twl_x"),
        (("Authorization: Bearer a", "Authorization: Bearer b"), ""),
        (("Authorization: Basic eA==",), ""),
        (("Authorization: Bearer",), ""),
        (("Proxy-Authorization: Bearer twl_x",), ""),
        ((), ""),
    ],
)
def test_only_one_bearer_token_is_a_token(fields: tuple[str, ...], token: str) -> None:
    assert tokens.of(head("GET /", *fields).fields) == token
