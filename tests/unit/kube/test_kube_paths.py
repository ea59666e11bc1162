"""Paths: the prefix is taken off and nothing else, and whatever two readers could read in two ways is refused."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from towline.kube.paths import BadPath, check_path, split_prefix

NAMESPACED = b"/api/v1/namespaces/default/pods/p1"


def refusal(path: bytes) -> str:
    with pytest.raises(BadPath) as caught:
        check_path(path)
    return caught.value.code


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"/k8s/clusters/prod", ("prod", b"/")),
        (b"/k8s/clusters/prod/", ("prod", b"/")),
        (b"/k8s/clusters/prod/api", ("prod", b"/api")),
        (b"/k8s/clusters/prod-eu-1/api/v1/pods", ("prod-eu-1", b"/api/v1/pods")),
        (b"/k8s/clusters/7/version", ("7", b"/version")),
        (b"/k8s/clusters/a//api", ("a", b"//api")),
        (b"/k8s/clusters/a/k8s/clusters/b/api", ("a", b"/k8s/clusters/b/api")),
        (b"/k8s/clusters/a/api%2Fv1", ("a", b"/api%2Fv1")),
        (b"/k8s/clusters/" + b"a" * 63 + b"/api", ("a" * 63, b"/api")),
    ],
)
def test_prefix_is_split_from_the_path(raw: bytes, expected: tuple[str, bytes]) -> None:
    assert split_prefix(raw) == expected


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"/", b"/k8s", b"/k8s/clusters", b"/k8s/clusters/", b"/k8s/clusters//api", b"k8s/clusters/a/api",
        b"/k8s/clusters/A/api", b"/k8s/clusters/-a/api", b"/k8s/clusters/a-/api", b"/k8s/clusters/a_b/api",
        b"/k8s/clusters/a.b/api", b"/k8s/clusters/%61/api", b"/k8s/clusters/a%2fapi", b"/k8s/clusters/a%00/api",
        b"/K8s/clusters/a/api", b"/k8s%2Fclusters/a/api", b"/k8s/./clusters/a/api", b"/x/k8s/clusters/a/api",
        b"//k8s/clusters/a/api", b"/k8s/clusters/a;x/api", b"/k8s/clusters/a\n", b"/k8s/clusters/a?x",
        b"/k8s/clusters/../clusters/a", "/k8s/clusters/ä/api".encode(), b"/k8s/clusters/" + b"a" * 64 + b"/api",
    ],
)  # fmt: skip
def test_anything_but_the_exact_prefix_is_no_prefix(raw: bytes) -> None:
    assert split_prefix(raw) is None


@given(st.from_regex(rb"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", fullmatch=True), st.binary(max_size=40))
def test_every_name_and_every_rest_comes_back_as_sent(name: bytes, rest: bytes) -> None:
    assert split_prefix(b"/k8s/clusters/" + name + b"/" + rest) == (name.decode(), b"/" + rest)


@pytest.mark.parametrize(
    "path",
    [
        b"/", b"/version", b"/api", b"/api/v1/pods/", b"/apis/apps/v1/namespaces/a/deployments/b/scale",
        b"/api/v1/namespaces/a/pods/p1;x=1", b"/.well-known/openid-configuration", b"/api/v1/pods/a..b",
        b"/api/v1/pods/...", b"/api/v1/pods/a.", b"/api/v1/services/https:web:443/proxy/", b"/a!$&'()*+,=:@[]~",
        b"/apis/rbac.authorization.k8s.io/v1/clusterroles/system:node",
    ],
)  # fmt: skip
def test_plain_path_comes_back_as_it_is(path: bytes) -> None:
    assert check_path(path) == path


@pytest.mark.parametrize(
    ("path", "decoded"),
    [
        (b"/api/v1/services/https%3Aweb%3A443", b"/api/v1/services/https:web:443"),
        (b"/api/v1/pods/a%2eb", b"/api/v1/pods/a.b"),
        (b"/api/v1/pods/%2e%2e%2e", b"/api/v1/pods/..."),
        (b"/%61pi/v1", b"/api/v1"),
        ("/api/v1/pods/ä".encode(), "/api/v1/pods/ä".encode()),
        (b"/api/v1/pods/%C3%A4", "/api/v1/pods/ä".encode()),
    ],
)
def test_path_is_decoded_once(path: bytes, decoded: bytes) -> None:
    assert check_path(path) == decoded


@pytest.mark.parametrize(
    ("path", "code"),
    [
        (b"/api/v1/namespaces/default/pods/p1%2Flog", "encoded_slash"),
        (b"/api/v1/namespaces/default/pods/p1%2flog", "encoded_slash"),
        (b"/api%2Fv1/pods", "encoded_slash"),
        (b"/api/v1/namespaces/default%2Fpods/p1", "encoded_slash"),
        (b"/api/v1/nodes/n1%2fproxy%2frun", "encoded_slash"),
        (b"/api/v1/nodes/n1%2fproxy/proxy/x", "encoded_slash"),
        (b"/api/v1/pods/a%5cb", "backslash"),
        (b"/api/v1/pods/a%5Cb", "backslash"),
        (b"/api/v1/pods/a\\b", "backslash"),
        (b"/api/v1/pods/a%00", "control_character"),
        (b"/api/v1/pods/a%0d%0aX:y", "control_character"),
        (b"/api/v1/pods/a%7F", "control_character"),
        (b"/api/v1/pods/a\x00", "control_character"),
        (b"/api/v1/pods/a b", "control_character"),
        (b"/api/v1/pods/a#b", "control_character"),
        (b"/api/v1/../v1/pods", "dot_segment"),
        (b"/api/v1/./pods", "dot_segment"),
        (b"/api/v1/pods/..", "dot_segment"),
        (b"/api/v1/pods/.", "dot_segment"),
        (b"/..", "dot_segment"),
        (b"/api/v1/%2e%2e/v1/pods", "dot_segment"),
        (b"/api/v1/%2E./pods", "dot_segment"),
        (b"/api/v1/.%2e/pods", "dot_segment"),
        (b"/api/v1/pods/%2e", "dot_segment"),
        (b"//api/v1", "empty_segment"),
        (b"/api//v1", "empty_segment"),
        (b"/api/v1/pods//", "empty_segment"),
        (b"/api/v1/pods/%", "bad_escape"),
        (b"/api/v1/pods/%2", "bad_escape"),
        (b"/api/v1/pods/%zz", "bad_escape"),
        (b"/api/v1/pods/%u002f", "bad_escape"),
        (b"/api/v1/pods/%252f", "double_encoding"),
        (b"/api/v1/pods/%25", "double_encoding"),
        (b"/api/v1/pods/\xff", "not_utf8"),
        (b"/api/v1/pods/%ff", "not_utf8"),
        (b"/api/v1/pods/%c0%af", "not_utf8"),
        (b"/api/v1/pods/%ed%a0%80", "not_utf8"),
        (b"", "not_a_path"),
        (b"*", "not_a_path"),
        (b"api/v1", "not_a_path"),
        (b"https://10.0.0.1/api/v1", "not_a_path"),
    ],
)
def test_ambiguous_path_is_refused(path: bytes, code: str) -> None:
    assert refusal(path) == code


@pytest.mark.parametrize(
    "head",
    [
        b"/api/v1/namespaces/a/pods/p:8080/proxy/", b"/api/v1/namespaces/a/services/https:s:443/proxy/",
        b"/api/v1/nodes/n1/proxy/", b"/api/v1/namespaces/pods/pods/proxy/proxy/",
    ],
)  # fmt: skip
def test_tail_of_a_proxy_may_hold_encoded_slashes_and_dots(head: bytes) -> None:
    assert check_path(head + b"a%2Fb/%2e%2e/%2e/100%25/x%2f%2fy") == head + b"a/b/.././100%/x//y"


@pytest.mark.parametrize("tail", [b"a//b", b"a/../b", b"a%00", b"a\\b", b"a%5cb", b"%ff", b"%", b"a%0ab", b".."])
def test_tail_of_a_proxy_may_hold_nothing_else(tail: bytes) -> None:
    refusal(b"/api/v1/namespaces/a/pods/p/proxy/" + tail)


@pytest.mark.parametrize(
    "path",
    [
        b"/apis/example.test/v1/namespaces/a/pods/p/proxy/%2e%2e%2fsecrets",
        b"/api/v1/namespaces/a/secrets/s/proxy/a%2fb",
        b"/api/v1/namespaces/a/pods/p/exec/proxy/a%2fb",
        b"/api/v1/namespaces/a/configmaps/pods/p/proxy/a%2fb",
        b"/api/v1/watch/nodes/n/proxy/a%2fb",
        b"/api/v1/proxy/nodes/n/a%2fb",
        b"/api/v1/namespaces/a/pods/p/proxyx/a%2fb",
        b"/api/v1/namespaces/a/pods/p/proxy%2fa",
        b"/proxy/a%2fb",
        b"/logs/api/v1/nodes/n/proxy/a%2fb",
    ],
)
def test_other_paths_that_look_like_a_proxy_have_no_exception(path: bytes) -> None:
    assert refusal(path) == "encoded_slash"


@given(st.binary(max_size=30))
@example(b"/api/v1/pods/\xc3\xa4")
def test_accepted_path_reads_the_same_raw_and_decoded(tail: bytes) -> None:
    try:
        decoded = check_path(NAMESPACED + tail)
    except BadPath:
        return
    raw = NAMESPACED + tail
    assert decoded.count(b"/") == raw.count(b"/")
    assert not {b".", b"..", b""} & set(decoded.rstrip(b"/").split(b"/")[1:])
    assert check_path(decoded) == decoded
