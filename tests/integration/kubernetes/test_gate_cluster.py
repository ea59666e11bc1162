"""The whole way to a real API server, by a raw client that tries to be somebody else. kubectl is in tests/e2e."""

import json
import socket
import ssl
from collections.abc import Iterator
from typing import Any

import pytest
from tests.conftest import need
from tests.support.edge import DEADLINE
from tests.support.kubernetes_stack import Stack, User

pytestmark = pytest.mark.kubernetes

NAMESPACE = "k2-gate"
REVIEW = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
BODY = b'{"kind":"SelfSubjectReview","apiVersion":"authentication.k8s.io/v1"}'


@pytest.fixture(scope="module")
def stack(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    cluster, clients = need(request.config, "kubernetes"), need(request.config, "kubectl")
    with Stack(tmp_path_factory.mktemp("stack"), cluster, clients, namespace=NAMESPACE) as stack:
        yield stack


@pytest.fixture(scope="module")
def ada(stack: Stack) -> User:
    return stack.user("k2-ada", "admin", bound_to="cluster-admin")


def talk(stack: Stack, data: bytes) -> bytes:
    """Send bytes on a connection of their own; return everything until its end."""
    trust = ssl.create_default_context(cafile=str(stack.authority))
    plain = socket.create_connection(("127.0.0.1", stack.port), DEADLINE)
    with trust.wrap_socket(plain, server_hostname="127.0.0.1") as sock:
        sock.sendall(data)
        got = b""
        while piece := sock.recv(65536):
            got += piece
        return got


def request(user: User, method: str, path: str, *fields: str, body: bytes = b"") -> bytes:
    lines = [f"{method} /k8s/clusters/prod-1{path} HTTP/1.1", "Host: 127.0.0.1", f"Authorization: Bearer {user.token}"]
    lines += [*fields, f"Content-Length: {len(body)}"]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


def who_is(stack: Stack, user: User, *fields: str) -> dict[str, Any]:
    """Ask the API server itself who it takes a request for."""
    kind = ("Content-Type: application/json", "Connection: close")
    got = talk(stack, request(user, "POST", REVIEW, *kind, *fields, body=BODY))
    head, _, body = got.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 201 "), got
    found: dict[str, Any] = json.loads(body[body.index(b"{") : body.rindex(b"}") + 1])["status"]["userInfo"]
    return found


@pytest.mark.parametrize(
    "fields",
    [
        (),
        ("Connection: Impersonate-User",),
        ("Connection: keep-alive , Impersonate-Group", "Connection: impersonate-user, Impersonate-Extra-Scopes"),
        ("Connection: Authorization, Host, X-Request-Id",),
        ("X-Remote-User: system:admin", "X-Remote-Group: system:masters", "X_Remote_User: root"),
        ("TE: trailers", "Trailer: Impersonate-User"),
        ("Cookie: a=b", "Origin: https://evil.example", "X-Forwarded-User: root"),
    ],
)
def test_api_server_takes_every_request_for_who_sent_it(stack: Stack, ada: User, fields: tuple[str, ...]) -> None:
    found = who_is(stack, ada, *fields)
    assert found["username"] == "towline:k2-ada"
    roles = [f"towline:role:{role}" for role in ("viewer", "operator", "deployer", "admin")]
    assert found["groups"] == [*roles, "system:authenticated"]
    assert set(found["extra"]) == {"towline.dev/session", "towline.dev/request-id"}


def test_cluster_s_audit_shows_the_agent_and_for_whom_it_asked(stack: Stack, ada: User) -> None:
    found = who_is(stack, ada)
    (request_id,) = found["extra"]["towline.dev/request-id"]
    (session,) = found["extra"]["towline.dev/session"]
    records = stack.admin.audit(request_id)
    assert records
    for record in records:
        assert record["user"]["username"] == f"system:serviceaccount:{NAMESPACE}:agent"
        assert record["impersonatedUser"]["username"] == "towline:k2-ada"
    assert session == ada.token_id


def test_failed_upgrade_leaves_no_connection_to_the_api_server(stack: Stack, ada: User) -> None:
    maps = f"/api/v1/namespaces/{NAMESPACE}/configmaps"
    stack.admin.apply(maps, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "stays"}})
    upgrade = ("Connection: Upgrade", "Upgrade: SPDY/3.1", "X-Stream-Protocol-Version: v4.channel.k8s.io")
    path = f"/api/v1/namespaces/{NAMESPACE}/pods/never/exec?command=sh&stdout=true"
    got = talk(stack, request(ada, "POST", path, *upgrade) + request(ada, "DELETE", f"{maps}/stays"))
    assert got.startswith(b"HTTP/1.1 404 ")
    assert got.count(b"HTTP/1.1 ") == 1
    assert stack.admin.ask("GET", f"{maps}/stays")["metadata"]["name"] == "stays"


def test_role_that_the_gate_lets_through_is_still_judged_by_the_cluster(stack: Stack) -> None:
    stranger = stack.user("k2-stranger", "admin")  # an admin of ours to whom the cluster gave nothing outside of here
    got = talk(stack, request(stranger, "GET", "/api/v1/nodes", "Connection: close"))
    assert got.startswith(b"HTTP/1.1 403 ")
    assert b'User \\"towline:k2-stranger\\" cannot list resource' in got
