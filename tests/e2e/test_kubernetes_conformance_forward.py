"""Conformance 37 to 42: port-forwards over both transports, and the proxies of pods, services and nodes."""

from __future__ import annotations

import os
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.support import kubernetes_objects as objects
from tests.support.kubectl_streams import Forward
from tests.support.kubernetes_stack import CLUSTER, Stack, User
from tests.testbed.kubectl import VERSIONS
from tests.testbed.kubernetes.configuration import NODE_NAME

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(180)]

MEBIBYTE = 1024 * 1024
POD = "ports"
BOTH = ("1.28", "1.37")  # SPDY alone, and SPDY inside a WebSocket
QUIET_SECONDS = 20.0
SERVES = """\
mkdir -p /www/cgi-bin
printf '#!/bin/sh\\necho "Content-Type: text/plain"; echo "Set-Cookie: theirs=1"; echo\\n' > /www/cgi-bin/tell
printf 'echo "$REQUEST_METHOD $REQUEST_URI $QUERY_STRING"; cat\\n' >> /www/cgi-bin/tell
printf '#!/bin/sh\\necho "Status: 302 Found"; echo "Location: /moved/here"; echo\\n' > /www/cgi-bin/move
printf '#!/bin/sh\\nprintf "HTTP/1.1 101 Switching Protocols\\\\r\\\\nUpgrade: websocket\\\\r\\\\n"\\n' > /switch
printf 'printf "Connection: Upgrade\\\\r\\\\n\\\\r\\\\n"; cat\\n' >> /switch
chmod +x /www/cgi-bin/* /switch
nc -ll -p 7000 -e cat & nc -ll -p 7001 -e cat & nc -ll -p 7002 -e /switch &
exec httpd -f -p 8080 -h /www
"""


@pytest.fixture(scope="module")
def home(stack: Stack) -> Iterator[str]:
    """A namespace with a pod that echoes on two ports, switches protocols on a third and serves pages."""
    with stack.empty_namespace("k8-forward") as name:
        pod = objects.pod("ports", "sh", "-c", SERVES)
        check = {"tcpSocket": {"port": 8080}, "periodSeconds": 1}
        pod["spec"]["containers"][0]["readinessProbe"] = check
        ports = [{"name": "http", "port": 80, "targetPort": 8080}]
        service = objects.named("Service", "ports", spec={"selector": {"app": "ports"}, "ports": ports})
        objects.apply(stack.direct(), name, pod, service)
        objects.wait_for_pods(stack.direct(), name, "pod/ports")
        yield name


# 40: begins first, is looked at last
@pytest.fixture(scope="module")
def idle(home: str, ada: User) -> Iterator[list[tuple[float, Forward, socket.socket]]]:
    """A forward with a connection on which nothing happens, for each transport."""
    with Forward(ada.client(BOTH[0]), home, POD, 7000) as old, Forward(ada.client(BOTH[1]), home, POD, 7000) as new:
        made = [(time.monotonic(), each, each.connect(7000)) for each in (old, new)]
        yield made
        for _, _, sock in made:
            sock.close()


# 37, 38
@pytest.mark.parametrize("version", BOTH)
def test_connections_to_two_ports_carry_bytes_and_ends_both_ways(
    version: str, idle: object, home: str, ada: User
) -> None:
    data = os.urandom(MEBIBYTE) * 20
    with Forward(ada.client(version), home, POD, 7000, 7001) as forward, ThreadPoolExecutor(3) as threads:
        sent = [(7000, b"small"), (7001, b"other"), (7000, data)]
        back = list(threads.map(lambda each: forward.echo(*each), sent))
    assert [len(each) for each in back] == [len(each) for _, each in sent]
    assert back == [each for _, each in sent]


# 39
@pytest.mark.parametrize("version", BOTH)
def test_dead_port_is_told_and_what_follows_is_as_without_towline(
    version: str, home: str, ada: User, stack: Stack
) -> None:
    outcomes = []
    for client in (ada.client(version), stack.direct(version=version)):
        with Forward(client, home, POD, 7000, 7009) as forward:
            with forward.connect(7009) as sock:
                sock.sendall(b"x")
                assert read_all(sock) == b""
            forward.going.says("7009")
            threading.Event().wait(0.3)
            outcomes.append((forward.going.process.poll(), "refused" in forward.going.stderr))
            if forward.going.process.poll() is None:
                assert forward.echo(7000, b"alive") == b"alive"
    assert outcomes[0] == outcomes[1]


def read_all(sock: socket.socket) -> bytes:
    held = b""
    try:
        while piece := sock.recv(65536):
            held += piece
    except ConnectionResetError:
        return held
    return held


# 41
def test_workloads_are_reached_by_the_proxies_of_pods_and_services(home: str, ada: User) -> None:
    with ada.http() as api:
        for place in ("services/ports:http", "pods/ports:8080"):
            path = f"/api/v1/namespaces/{home}/{place}/proxy/cgi-bin/tell"
            got = api.get(f"{path}?a=1&b=x;y")
            assert (got.status_code, got.text) == (200, "GET /cgi-bin/tell?a=1&b=x;y a=1&b=x;y\n")
            assert "set-cookie" not in got.headers
            assert got.headers["content-security-policy"].startswith("sandbox")
            assert got.headers["x-content-type-options"] == "nosniff"
            posted = api.post(path, content=b"the body")
            assert posted.text.splitlines() == ["POST /cgi-bin/tell ", "the body"]


def test_location_of_a_workload_gets_the_prefix_back(home: str, ada: User) -> None:
    with ada.http() as api:
        place = f"/api/v1/namespaces/{home}/services/ports:http/proxy"
        moved = api.get(f"{place}/cgi-bin/move")
    assert moved.status_code == 302
    assert moved.headers["location"] == f"/k8s/clusters/{CLUSTER}{place}/moved/here"


def test_encoded_slashes_in_the_tail_stay_as_they_are(home: str, ada: User, stack: Stack) -> None:
    path = f"/api/v1/namespaces/{home}/pods/ports:8080/proxy/cgi-bin/tell/a%2Fb"
    with ada.http() as api, stack.direct_http() as direct:
        answers = [(each.status_code, each.text) for each in (api.get(path), direct.get(path))]
    assert answers[0] == answers[1]
    assert answers[0][0] == 200


def test_upgrade_inside_a_proxied_workload_is_a_pipe(home: str, ada: User, stack: Stack) -> None:
    target = f"/k8s/clusters/{CLUSTER}/api/v1/namespaces/{home}/pods/ports:7002/proxy/talk"
    fields = [
        f"Host: 127.0.0.1:{stack.port}", f"Authorization: Bearer {ada.token}", "Connection: Upgrade",
        "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ]  # fmt: skip
    with (
        socket.create_connection(("127.0.0.1", stack.port), timeout=20) as plain,
        stack.trust().wrap_socket(plain, server_hostname="127.0.0.1") as sock,
    ):
        sock.sendall("\r\n".join([f"GET {target} HTTP/1.1", *fields, "", ""]).encode())
        held = receive_until(sock, b"\r\n\r\n")
        assert held.startswith(b"HTTP/1.1 101"), held
        sock.sendall(b"\x00any bytes\xff")
        receive_until(sock, b"\x00any bytes\xff")


def receive_until(sock: ssl.SSLSocket, word: bytes) -> bytes:
    held = b""
    while word not in held:
        piece = sock.recv(65536)
        assert piece, held
        held += piece
    return held


# 42
@pytest.mark.parametrize("version", VERSIONS)
def test_nodes_are_proxied_for_admins_only(version: str, ada: User, stack: Stack, dora: User) -> None:
    path = f"/api/v1/nodes/{NODE_NAME}/proxy/pods"
    with ada.http() as api, dora.http() as other:
        assert api.get(path).status_code == 200
        refused = other.get(path)
    assert refused.status_code == 403
    assert "nodes/proxy" in refused.json()["message"]


# 40
def test_quiet_forwards_still_work_and_end_with_an_error_when_the_agent_dies(
    idle: list[tuple[float, Forward, socket.socket]], stack: Stack
) -> None:
    for began, forward, sock in idle:
        threading.Event().wait(max(0.0, QUIET_SECONDS - (time.monotonic() - began)))
        sock.sendall(b"late")
        assert sock.recv(100) == b"late"
        assert forward.echo(7000, b"another") == b"another"
    stack.kill("agent")
    try:
        for _, forward, _ in idle:
            assert forward.going.wait(20) != 0
            assert "lost connection" in forward.going.stderr
    finally:
        stack.start_agent()
