"""Fields of requests: what a client cannot say, cannot take away, and what only we say."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from towline.kube.access import derive
from towline.kube.heads import (
    claims_impersonation,
    towards_agent,
    towards_api,
    towards_api_direct,
    upgrade_lines,
    upgrade_wanted,
)
from towline.kube.identity import BadIdentity, Identity

ANA = Identity("towline:ana", ("towline:role:viewer", "towline:team:a,b"), {"towline.dev/session": ("s-1",)})
SAID = [
    (b"Authorization", b"Bearer agent"),
    (b"Impersonate-User", b"towline:ana"),
    (b"Impersonate-Group", b"towline:role:viewer"),
    (b"Impersonate-Group", b"towline:team:a,b"),
    (b"Impersonate-Extra-towline.dev%2Fsession", b"s-1"),
    (b"Impersonate-Extra-towline.dev%2Frequest-id", b"r-1"),
]
KUBECTL = [
    (b"User-Agent", b"kubectl/v1.37.1"), (b"Kubectl-Command", b"kubectl get"), (b"Kubectl-Session", b"5e5510"),
    (b"Accept", b"application/json;as=Table;v=v1;g=meta.k8s.io,application/json"), (b"Accept-Encoding", b"gzip"),
    (b"Content-Type", b"application/apply-patch+yaml"), (b"If-None-Match", b'"abc"'),
    (b"Sec-WebSocket-Key", b"k"), (b"Sec-WebSocket-Version", b"13"), (b"Sec-WebSocket-Protocol", b"v5.channel.k8s.io"),
    (b"X-Stream-Protocol-Version", b"v5.channel.k8s.io"), (b"X-Stream-Protocol-Version", b"v4.channel.k8s.io"),
    (b"x-custom", b"kept as sent"),
]  # fmt: skip
REMOVED = [
    b"Authorization", b"Proxy-Authorization", b"Cookie", b"Connection", b"Keep-Alive", b"Proxy-Connection", b"TE",
    b"Trailer", b"Upgrade", b"Impersonate-User", b"Impersonate-Group", b"Impersonate-Uid", b"Impersonate-Extra-Scopes",
    b"Impersonate-Anything", b"X-Remote-User", b"X-Remote-Group", b"X-Remote-Extra-A", b"X-Remote-Uid", b"Forwarded",
    b"X-Forwarded-For", b"X-Forwarded-Host", b"X-Forwarded-Client-Cert", b"X-Real-Ip", b"X-Original-Url",
    b"X-Original-Uri", b"X-Rewrite-Url", b"X-HTTP-Method-Override", b"X-Towline-Peer", b"X-Request-Id", b"Origin",
    b"Host", b"Content-Length", b"Transfer-Encoding", b"Expect", b"HTTP2-Settings",
]  # fmt: skip


def fields(*lines: tuple[bytes, bytes]) -> list[tuple[bytes, bytes, bytes]]:
    return [(name.lower(), name, value) for name, value in lines]


def to_api(*lines: tuple[bytes, bytes]) -> list[tuple[bytes, bytes]]:
    return towards_api(
        fields(*lines), authorization=b"Bearer agent", host=b"10.0.0.1:6443", identity=ANA, request_id="r-1"
    )


def spellings(name: bytes) -> list[bytes]:
    return [name, name.lower(), name.upper(), name.swapcase(), name.replace(b"-", b"_"), name.replace(b"-", b"_", 1)]


def test_fields_of_kubernetes_clients_pass_as_sent_in_order_and_repeated() -> None:
    assert towards_agent(fields(*KUBECTL)) == KUBECTL
    assert to_api(*KUBECTL) == [(b"Host", b"10.0.0.1:6443"), *KUBECTL, *SAID]


@pytest.mark.parametrize("name", REMOVED)
def test_field_that_a_client_may_not_send_is_removed_in_any_spelling(name: bytes) -> None:
    for sent in spellings(name):
        lines = [(b"Accept", b"*/*"), (sent, b"evil"), (b"X", b"y"), (sent, b"worse")]
        assert towards_agent(fields(*lines)) == [(b"Accept", b"*/*"), (b"X", b"y")]
        assert to_api(*lines) == [(b"Host", b"10.0.0.1:6443"), (b"Accept", b"*/*"), (b"X", b"y"), *SAID]


@pytest.mark.parametrize(
    "connection",
    [
        [b"Impersonate-User"],
        [b"keep-alive , Impersonate-Group"],
        [b"impersonate-user,IMPERSONATE-GROUP", b"Authorization"],
        [b"\tImpersonate-Extra-towline.dev%2Frequest-id\t", b"close", b"Host"],
        [b",, ,Impersonate_User,"],
    ],
)
def test_connection_field_never_takes_our_identity_away(connection: list[bytes]) -> None:
    assert to_api(*[(b"Connection", value) for value in connection]) == [(b"Host", b"10.0.0.1:6443"), *SAID]


def test_what_connection_names_is_removed_and_so_is_connection() -> None:
    lines = [
        (b"connection", b"close, X-Hop"), (b"CONNECTION", b" x-other"), (b"x_hop", b"1"), (b"X-Other", b"2"),
        (b"X-End", b"3"),
    ]  # fmt: skip
    assert towards_agent(fields(*lines)) == [(b"X-End", b"3")]


def test_identity_comes_last_and_nothing_is_added_to_it() -> None:
    own = [(b"Content-Length", b"3"), *upgrade_lines(b"websocket")]
    lines = towards_api(
        fields(*KUBECTL), authorization=b"Bearer agent", host=b"h", identity=ANA, request_id="r-1", own=own
    )
    assert lines == [(b"Host", b"h"), *KUBECTL, *own, *SAID]


@pytest.mark.parametrize(
    "bad", [Identity("", ("towline:role:viewer",)), Identity("towline:a", ()), Identity("system:x", ("a",))]
)
def test_no_head_is_made_for_an_identity_that_is_refused(bad: Identity) -> None:
    with pytest.raises(BadIdentity):
        towards_api([], authorization=b"Bearer agent", host=b"h", identity=bad, request_id="r-1")


def test_direct_request_carries_no_identity_of_a_client_either() -> None:
    lines = towards_api_direct(
        fields((b"Impersonate-User", b"a"), (b"Accept", b"*/*")), authorization=b"Bearer agent", host=b"h"
    )
    assert lines == [(b"Host", b"h"), (b"Accept", b"*/*"), (b"Authorization", b"Bearer agent")]


@pytest.mark.parametrize(
    "name", [b"Impersonate-User", b"Impersonate-Group", b"Impersonate-Uid", b"Impersonate-Extra-A", b"Impersonate-"]
)
def test_clients_impersonation_is_noticed_in_any_spelling(name: bytes) -> None:
    for sent in spellings(name):
        assert claims_impersonation(fields((b"Accept", b"*/*"), (sent, b"")))


def test_other_fields_claim_no_impersonation() -> None:
    assert not claims_impersonation(fields(*KUBECTL, (b"X-Impersonate-User", b"a"), (b"Impersonated", b"b")))


@given(
    st.lists(st.tuples(st.sampled_from(REMOVED), st.integers(0, 5), st.binary(max_size=5)), max_size=6),
    st.permutations(KUBECTL),
)
def test_identity_is_ours_whatever_a_client_mixes_in(
    evil: list[tuple[bytes, int, bytes]], good: list[tuple[bytes, bytes]]
) -> None:
    mixed = [*good[:5], *[(spellings(name)[kind], value) for name, kind, value in evil], *good[5:]]
    lines = to_api(*mixed)
    assert lines[-len(SAID) :] == SAID
    said = [
        line for line in lines if line[0].lower().replace(b"_", b"-").startswith((b"impersonate-", b"authorization"))
    ]
    assert said == SAID
    assert sum(name.lower() == b"host" for name, _ in lines) == 1


@pytest.mark.parametrize(
    ("method", "path", "upgrade", "wanted"),
    [
        (b"GET", b"/api/v1/namespaces/a/pods/p/exec", b"websocket", True),
        (b"GET", b"/api/v1/namespaces/a/pods/p/attach", b"WebSocket", True),
        (b"POST", b"/api/v1/namespaces/a/pods/p/exec", b"SPDY/3.1", True),
        (b"POST", b"/api/v1/namespaces/a/pods/p/portforward", b"spdy/3.1", True),
        (b"GET", b"/api/v1/namespaces/a/pods/p/portforward", b"websocket", True),
        (b"GET", b"/api/v1/namespaces/a/services/s/proxy/ws", b"websocket", True),
        (b"GET", b"/api/v1/nodes/n/proxy/exec/a/p/c", b"websocket", True),
        (b"POST", b"/api/v1/nodes/n/proxy/exec/a/p/c", b"SPDY/3.1", True),
        (b"POST", b"/api/v1/namespaces/a/pods/p/exec", b"websocket", False),
        (b"DELETE", b"/api/v1/namespaces/a/pods/p/exec", b"SPDY/3.1", False),
        (b"GET", b"/api/v1/namespaces/a/pods/p/exec", None, False),
        (b"GET", b"/api/v1/namespaces/a/pods/p/exec", b"h2c", False),
        (b"GET", b"/api/v1/namespaces/a/pods/p/exec", b"websocket, h2c", False),
        (b"GET", b"/api/v1/namespaces/a/pods/p/exec", b"SPDY/3", False),
        (b"GET", b"/api/v1/namespaces/a/pods/p/exec", b"", False),
        (b"GET", b"/api/v1/namespaces/a/pods/p/log", b"websocket", False),
        (b"GET", b"/api/v1/namespaces/a/pods/p", b"websocket", False),
        (b"GET", b"/api/v1/pods", b"websocket", False),
        (b"GET", b"/api/v1/namespaces/exec/pods/proxy", b"websocket", False),
        (b"GET", b"/version", b"websocket", False),
        (b"GET", b"/exec", b"websocket", False),
    ],
)  # fmt: skip
def test_upgrade_passes_only_for_streams(method: bytes, path: bytes, upgrade: bytes | None, wanted: bool) -> None:
    assert upgrade_wanted(derive(method, path, b""), method, upgrade) is wanted


def test_connection_field_is_our_own() -> None:
    assert upgrade_lines(b"SPDY/3.1") == [(b"Connection", b"Upgrade"), (b"Upgrade", b"SPDY/3.1")]
    assert upgrade_lines(None) == []
