"""Fuzzing of paths and tuples: only declared refusals come out, and what is accepted reads as the server reads it."""

import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.kube import server_algorithm

from towline.kube.access import EXEC_FAMILY, BadPath, BadRequest, derive
from towline.kube.paths import check_path
from towline.kube.rules import ROLES, allows, is_high_risk

SOAK_SECONDS = 3600.0
SEED = 20261121
METHODS = [b"GET", b"POST", b"PUT", b"PATCH", b"DELETE", b"HEAD", b"OPTIONS", b"get", b""]
SEEDS = [
    b"/api/v1/namespaces/default/pods/web-1/log",
    b"/api/v1/namespaces/default/pods/web-1/exec",
    b"/api/v1/namespaces/default/services/https:web:443/proxy/a/b%2Fc/%2e%2e",
    b"/api/v1/nodes/n1/proxy/run/default/web-1/c",
    b"/apis/apps/v1/namespaces/default/deployments/web/scale",
    b"/apis/rbac.authorization.k8s.io/v1/clusterroles",
    b"/api/v1/watch/namespaces/default/secrets",
    b"/api/v1/namespaces/default/status",
    b"/openapi/v3/apis/apps/v1",
    b"/version",
]
QUERIES = [
    b"", b"watch=true", b"watch=false&watch=1", b"fieldSelector=metadata.name%3Dweb", b"limit=5&%77atch=0",
    b"fieldSelector=a%3Db%5C%2Cc%2Cmetadata.name%3D%3Dd&watch", b"watch=1;fieldSelector=x",
]  # fmt: skip
WORDS = [
    b"/", b"//", b"%2f", b"%2F", b"%2e", b".", b"..", b"%", b"%25", b"%00", b"\\", b"%5c", b";", b"\xff", b"%c3%a4",
    b"namespaces/", b"pods/", b"nodes/", b"/proxy/", b"/exec", b"watch/", b"proxy/", b"status", b"finalize", b"api",
    b"apis", b"&", b"=", b"watch", b"fieldSelector", b"metadata.name", b"%3D", b"%2C", b"!", b"+", b"#", b" ",
]  # fmt: skip


def check(method: bytes, path: bytes, query: bytes) -> None:
    """Assert everything that must hold for any request."""
    try:
        decoded = check_path(path)
        access = derive(method, decoded, query)
    except (BadPath, BadRequest):
        return
    assert server_algorithm.unescape(path, plus=False) == decoded
    expected = server_algorithm.read(method.decode("ascii", "replace"), decoded.decode(), query)
    assert expected is not None
    is_exec = expected.is_resource and expected.subresource in EXEC_FAMILY
    assert access.verb == ("create" if is_exec else expected.verb)
    for name in ("group", "version", "resource", "subresource", "namespace", "name", "is_resource"):
        assert getattr(access, name) == getattr(expected, name), name
    if b"%2f" in path.lower():  # only behind the part that was authorised
        head = path[: path.index(b"/proxy/") + len(b"/proxy/")]
        assert derive(method, check_path(head), query).kind == access.kind
    is_high_risk(access)
    allowed = [allows(role, access).allowed for role in ROLES]
    assert allowed == sorted(allowed)


def mutate(generator: random.Random, data: bytes) -> bytes:
    """Return bytes after a few small accidents."""
    out = bytearray(data)
    for _ in range(generator.randrange(5)):
        at = generator.randrange(len(out) + 1)
        kind = generator.randrange(4)
        if kind == 0:
            out[at:at] = generator.choice(WORDS)
        elif kind == 1:
            del out[at : at + generator.randrange(1, 8)]
        elif kind == 2 and at < len(out):
            out[at] = generator.randrange(256)
        else:
            other = generator.choice(SEEDS)
            out[at:at] = other[generator.randrange(len(other)) :][:40]
    return bytes(out)


def accident(generator: random.Random) -> tuple[bytes, bytes, bytes]:
    path = mutate(generator, generator.choice(SEEDS))
    return generator.choice(METHODS[:6] * 3 + METHODS), path, mutate(generator, generator.choice(QUERIES))


@pytest.mark.parametrize("part", range(4))
def test_mutated_requests_are_refused_or_read_as_the_server_does(part: int) -> None:
    generator = random.Random(SEED + part)
    for _ in range(5000):
        check(*accident(generator))


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(METHODS),
    st.lists(st.sampled_from([*WORDS, b"/v1", b"/default", b"/web"]) | st.binary(max_size=4), max_size=10),
    st.lists(st.sampled_from([*WORDS, *QUERIES]) | st.binary(max_size=4), max_size=8),
)
def test_any_words_are_refused_or_read_as_the_server_does(method: bytes, path: list[bytes], query: list[bytes]) -> None:
    check(method, b"/api/" + b"".join(path), b"".join(query))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(["a", "\\", ",", "=", "!", "==", "metadata.name", "metadata.name=", "/", "%", "."])))
def test_field_selectors_name_what_the_server_finds(parts: list[str]) -> None:
    selector = "".join(parts).replace("%", "%25").replace("=", "%3D").replace(",", "%2C")
    check(b"GET", b"/api/v1/pods", b"fieldSelector=" + selector.encode())


@pytest.mark.soak
@pytest.mark.timeout(SOAK_SECONDS + 120)
def test_mutated_requests_are_refused_or_read_for_an_hour() -> None:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    generator = random.Random(seed)
    end = time.monotonic() + SOAK_SECONDS
    while time.monotonic() < end:
        request = accident(generator)
        try:
            check(*request)
        except Exception as error:
            raise AssertionError(f"seed {seed}, input {request!r}") from error
