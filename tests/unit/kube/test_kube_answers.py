"""Fields of answers: what the API server says passes, and nobody behind it speaks for our origin."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from towline.kube.access import AccessTuple, derive
from towline.kube.heads import BadAnswer, answer, switched, without_origin

PODS = derive(b"GET", b"/api/v1/namespaces/a/pods", b"")
PROXY = derive(b"GET", b"/api/v1/namespaces/a/services/s/proxy/", b"")
PREFIX, ORIGIN = b"/k8s/clusters/prod", b"https://10.96.0.1:443"
SANDBOX = [(b"Content-Security-Policy", b"sandbox"), (b"X-Content-Type-Options", b"nosniff")]
KEPT = [
    (b"Content-Type", b"application/json"), (b"Content-Encoding", b"gzip"), (b"ETag", b'"abc"'),
    (b"Last-Modified", b"Sat, 21 Nov 2026 10:00:00 GMT"), (b"Vary", b"Accept-Encoding"), (b"Vary", b"Accept"),
    (b"Cache-Control", b"no-cache, private"), (b"Warning", b'299 - "deprecated"'), (b"Warning", b'299 - "really"'),
    (b"Audit-Id", b"7b"), (b"X-Kubernetes-Pf-Flowschema-Uid", b"u"), (b"X-Kubernetes-Pf-Prioritylevel-Uid", b"v"),
    (b"Retry-After", b"1"), (b"Date", b"Sat, 21 Nov 2026 10:00:00 GMT"),
]  # fmt: skip
REMOVED = [
    b"Connection", b"Keep-Alive", b"Proxy-Authenticate", b"Proxy-Connection", b"TE", b"Trailer", b"Transfer-Encoding",
    b"Upgrade", b"Content-Length", b"Set-Cookie", b"Set-Cookie2", b"Access-Control-Allow-Origin",
    b"Access-Control-Allow-Credentials", b"Clear-Site-Data", b"Refresh", b"Alt-Svc", b"Service-Worker-Allowed",
    b"Strict-Transport-Security", b"WWW-Authenticate", b"X-Towline-Anything",
]  # fmt: skip


def fields(*lines: tuple[bytes, bytes]) -> list[tuple[bytes, bytes, bytes]]:
    return [(name.lower(), name, value) for name, value in lines]


def location(value: bytes, *, access: AccessTuple = PODS, prefix: bytes = PREFIX, origin: bytes = ORIGIN) -> bytes:
    told = without_origin(value, (origin,) if origin else ())  # as the agent passes it on
    lines = answer(fields((b"Location", told)), prefix=prefix, access=access)
    return dict(lines)[b"Location"]


def test_fields_of_the_api_server_pass_as_sent_in_order_and_repeated() -> None:
    assert answer(fields(*KEPT), prefix=PREFIX, access=PODS) == KEPT


@pytest.mark.parametrize("name", REMOVED)
@pytest.mark.parametrize("access", [PODS, PROXY])
def test_field_that_speaks_for_our_origin_or_one_hop_is_removed(name: bytes, access: AccessTuple) -> None:
    for sent in (name, name.lower(), name.upper()):
        lines = answer(fields((b"A", b"1"), (sent, b"x"), (sent, b"y")), prefix=PREFIX, access=access)
        assert [line for line in lines if line not in SANDBOX] == [(b"A", b"1")]


def test_what_the_answers_connection_names_is_removed() -> None:
    lines = fields((b"Connection", b"close, X-Hop"), (b"X-Hop", b"1"), (b"X-End", b"2"))
    assert answer(lines, prefix=PREFIX, access=PODS) == [(b"X-End", b"2")]


@pytest.mark.parametrize("access", [PODS, PROXY])
@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"/api/v1/nodes/n1/proxy/", PREFIX + b"/api/v1/nodes/n1/proxy/"),
        (b"/", PREFIX + b"/"),
        (b"/a?next=/../x", PREFIX + b"/a?next=/../x"),
        (b"/a?next=https://elsewhere.test/", PREFIX + b"/a?next=https://elsewhere.test/"),
        (b"https://10.96.0.1:443/api", PREFIX + b"/api"),
        (b"HTTPS://10.96.0.1:443/api", PREFIX + b"/api"),
        (b"https://10.96.0.1:443", PREFIX + b"/"),
        (b"https://10.96.0.1:443?x", PREFIX + b"/?x"),
        (b"login", b"login"),
        (b"?page=2", b"?page=2"),
        (b"a/b#c", b"a/b#c"),
    ],
)
def test_location_inside_the_cluster_gets_the_prefix_back(value: bytes, expected: bytes, access: AccessTuple) -> None:
    assert location(value, access=access) == expected


def test_location_on_a_host_of_its_own_gets_no_prefix() -> None:
    assert location(b"/api/v1/", prefix=b"") == b"/api/v1/"
    assert location(b"https://10.96.0.1:443/api", prefix=b"") == b"/api"


@pytest.mark.parametrize(
    "value",
    [
        b"https://elsewhere.test/", b"http://10.96.0.1:443/", b"https://10.96.0.1:4430/", b"https://10.96.0.1:443@evil.test/",
        b"https://10.96.0.1:443.evil.test/", b"//evil.test/", b"https://10.96.0.1:443//evil.test",
        b"javascript:alert(1)", b"data:text/html,x", b"HTTPS:evil.test", b"", b"/\\evil.test", b"\\\\evil.test",
        b"/\tx", b"/ x", b"/a\r\nSet-Cookie:x", b"/\x00", b"/\xff", b"/../login", b"..",
        b"../../login", b"/a/%2e%2e/%2E./login",
        b"/a/..%2flogin", b"/./x", b".", b"a/..?x", b"..#x",
    ],
)  # fmt: skip
@pytest.mark.parametrize("prefix", [PREFIX, b""])
def test_location_that_leads_a_client_away_is_refused_on_api_paths(value: bytes, prefix: bytes) -> None:
    with pytest.raises(BadAnswer):
        location(value, prefix=prefix)


@pytest.mark.parametrize(
    "value", [b"javascript:alert(1)", b"//evil.test/", b"data:x", b"../x", b"https:///x", b"/\\x", b"ftp://a/"]
)
def test_workload_may_not_redirect_to_a_trick_either(value: bytes) -> None:
    with pytest.raises(BadAnswer):
        location(value, access=PROXY)


def test_workload_may_send_people_to_another_site() -> None:
    assert location(b"https://sso.example.test/login?a", access=PROXY) == b"https://sso.example.test/login?a"


def test_unknown_origin_of_the_api_server_is_another_site() -> None:
    with pytest.raises(BadAnswer):
        location(b"https://10.96.0.1:443/api", origin=b"")


def test_any_name_of_the_api_server_is_taken_off() -> None:
    names = (ORIGIN, b"https://10.96.0.1")
    assert without_origin(b"https://10.96.0.1/api", names) == b"/api"
    assert without_origin(b"https://10.96.0.1:443/api", names) == b"/api"
    for other in (b"https://10.96.0.1:8443/api", b"https://10.96.0.10/api", b"https://10.96.0.1//evil.test", b""):
        assert without_origin(other, names) == other


def test_second_location_is_refused() -> None:
    with pytest.raises(BadAnswer):
        answer(fields((b"Location", b"/a"), (b"location", b"/b")), prefix=PREFIX, access=PODS)


@pytest.mark.parametrize("kind", [b"pods", b"services"])
def test_answers_of_proxied_workloads_are_sandboxed(kind: bytes) -> None:
    access = derive(b"GET", b"/api/v1/namespaces/a/" + kind + b"/s/proxy/", b"")
    theirs = [
        (b"Content-Type", b"text/html"),
        (b"Content-Security-Policy", b"sandbox allow-scripts"),
        (b"X-Content-Type-Options", b"x"),
    ]
    lines = answer(fields(*theirs), prefix=PREFIX, access=access)
    assert lines == [*theirs[:2], *SANDBOX]  # every policy of an answer is enforced: theirs cannot widen ours


def test_answers_of_kubelets_are_sandboxed() -> None:
    access = derive(b"GET", b"/api/v1/nodes/n/proxy/", b"")
    assert answer([], prefix=PREFIX, access=access) == SANDBOX


@pytest.mark.parametrize(
    "kind", [b"text/html", b"Text/HTML; charset=utf-8", b"image/svg+xml", b"application/xhtml+xml", b"text/xml"]
)
def test_pages_from_anywhere_else_are_sandboxed_too(kind: bytes) -> None:
    access = derive(b"GET", b"/logs/", b"")
    lines = answer(fields((b"Content-Type", kind)), prefix=PREFIX, access=access)
    assert lines == [(b"Content-Type", kind), *SANDBOX]


def test_switching_head_is_verbatim_but_for_cookies() -> None:
    head = [
        (b"Connection", b"Upgrade"), (b"Upgrade", b"SPDY/3.1"), (b"X-Stream-Protocol-Version", b"v5.channel.k8s.io"),
        (b"Sec-WebSocket-Accept", b"a"), (b"Sec-WebSocket-Protocol", b"v5.channel.k8s.io"),
    ]  # fmt: skip
    assert switched(fields(*head, (b"set-COOKIE", b"a=b"))) == head


@given(st.text("/.%2eEfF:\\?#a@h", max_size=12).map(str.encode))
def test_location_that_passes_stays_under_the_prefix(value: bytes) -> None:
    try:
        result = location(value)
    except BadAnswer:
        return
    path = result.split(b"?")[0].split(b"#")[0]
    assert not path.startswith(b"/") or path.startswith(PREFIX + b"/")
    segments = path.lower().replace(b"%2e", b".").replace(b"%2f", b"/").split(b"/")
    assert not {b".", b".."} & set(segments)
