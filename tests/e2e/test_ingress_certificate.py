"""An Ingress that kubectl applies in a private cluster is a public name with a certificate, within seconds."""

import http.client
import json
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.conftest import need
from tests.support import kubernetes_stack
from tests.support.kube_agent import Admin
from tests.support.kubernetes_stack import CLUSTER, Stack
from tests.support.product import wait_for
from tests.testbed import pebble
from tests.testbed.kubernetes.configuration import SHELL_IMAGE

pytestmark = [pytest.mark.kubernetes, pytest.mark.pebble, pytest.mark.timeout(240)]

NAMESPACE = "gw-certs"
DOMAIN = "gw-certs.example.net"
HOST = f"shop.{DOMAIN}"
ROUTED_WITHIN = 1.0
CERTIFIED_WITHIN = 10.0
CORE = f"/api/v1/namespaces/{NAMESPACE}"


def service() -> list[tuple[str, dict[str, object]]]:
    """A pod with a web server, and a service in front of it."""
    container = {
        "name": "main", "image": SHELL_IMAGE, "imagePullPolicy": "Never",
        "command": ["sh", "-c", "mkdir -p /www && echo private > /www/index.html && httpd -f -p 8080 -h /www"],
        "ports": [{"name": "http", "containerPort": 8080}],
        "readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1},
    }  # fmt: skip
    meta = {"namespace": NAMESPACE, "labels": {"app": "shop"}}
    pod: dict[str, object] = {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "shop-0", **meta},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 0},
    }  # fmt: skip
    front: dict[str, object] = {
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "shop", **meta},
        "spec": {"selector": {"app": "shop"}, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]},
    }  # fmt: skip
    return [("pods", pod), ("services", front)]


INGRESS = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "Ingress",
    "metadata": {"name": "shop", "namespace": NAMESPACE},
    "spec": {
        "rules": [
            {
                "host": HOST,
                "http": {
                    "paths": [
                        {
                            "path": "/",
                            "pathType": "Prefix",
                            "backend": {"service": {"name": "shop", "port": {"name": "http"}}},
                        }
                    ]
                },
            }
        ]
    },
}


@pytest.fixture
def authority(tmp_path_factory: pytest.TempPathFactory) -> Iterator[pebble.Authority]:
    running = pebble.start(tmp_path_factory.mktemp("pebble"))
    yield running
    running.stop()


@pytest.fixture
def stack(
    request: pytest.FixtureRequest, authority: pebble.Authority, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Stack]:
    cluster, clients = need(request.config, "kubernetes"), need(request.config, "kubectl")
    for name, value in {
        "GATEWAY_LISTEN_HTTP": f"127.0.0.1:{authority.ports.http}",
        "ACME_DIRECTORY": authority.directory,
        "ACME_CA_FILE": str(authority.ca_file),
        "ACME_HTTP_PORT": str(authority.ports.http),
        "ACME_TLS_PORT": str(authority.ports.tls),
        "DNS_RESOLVERS": authority.dns,
    }.items():
        monkeypatch.setitem(kubernetes_stack.SERVER, name, value)
    admin = Admin(cluster)
    admin.apply("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    for kind, body in service():
        admin.apply(f"{CORE}/{kind}", body)
    wait_for(lambda: is_ready(admin), "the pod to be ready")
    with Stack(tmp_path, cluster, clients, port=authority.ports.tls) as running:
        yield running
    admin.ask("DELETE", f"/api/v1/namespaces/{NAMESPACE}")


def is_ready(admin: Admin) -> bool:
    conditions = admin.ask("GET", f"{CORE}/pods/shop-0").get("status", {}).get("conditions", [])
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def own_the_domain(stack: Stack, authority: pebble.Authority) -> None:
    """Prove the domain as its owner does: by a record in DNS."""
    with stack.http(stack.owner.token) as client:
        record = client.post("/api/v1/domains", json={"name": DOMAIN}).json()["record"]
        authority.set_record("set-txt", host=f"{record['name']}.", value=record["value"])
        verified = client.post(f"/api/v1/domains/{DOMAIN}/verify")
        assert verified.json()["state"] == "verified", verified.text
        answer = client.patch(f"/api/v1/clusters/{CLUSTER}/gateway", json={"watch_ingresses": "on"})
        assert answer.status_code == 200, answer.text


def ask(stack: Stack, root: str) -> tuple[int, bytes]:
    """Ask for the public name as a browser does that trusts the authority and nobody else."""
    trust = ssl.create_default_context(cadata=root)
    with (
        socket.create_connection(("127.0.0.1", stack.port), 10) as plain,
        trust.wrap_socket(plain, server_hostname=HOST) as secured,
    ):
        secured.sendall(f"GET / HTTP/1.1\r\nHost: {HOST}:{stack.port}\r\nConnection: close\r\n\r\n".encode())
        answer = http.client.HTTPResponse(secured)
        answer.begin()
        return answer.status, answer.read()


def kubectl(stack: Stack, *words: str, stdin: str = "") -> None:
    command = [str(stack.clients.kubectl()), "--kubeconfig", str(stack.cluster.kubeconfig), *words]
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def routed(stack: Stack) -> bool:
    """Whether the name is a route that is served."""
    with stack.http(stack.owner.token) as client:
        rows = client.get("/api/v1/routes", params={"search": HOST}).json()["items"]
    assert all(row["state"] == "active" for row in rows), rows
    return bool(rows)


def test_an_applied_ingress_is_reached_over_https_and_a_removed_one_is_not(
    stack: Stack, authority: pebble.Authority
) -> None:
    own_the_domain(stack, authority)
    root = authority.root()
    wait_for(lambda: stack.is_served(CLUSTER), "the cluster")

    kubectl(stack, "apply", "-f", "-", stdin=json.dumps(INGRESS))
    began = time.monotonic()
    wait_for(lambda: routed(stack), f"the route; the agent says:\n{stack.log('agent')}", 20)
    assert time.monotonic() - began < ROUTED_WITHIN
    status, body = wait_for(lambda: certified(stack, root), f"a certificate:\n{stack.log('server')}", 30)
    assert time.monotonic() - began < CERTIFIED_WITHIN
    assert (status, body) == (200, b"private\n")
    assert authority.orders() == 1

    kubectl(stack, "delete", "ingress", "shop", "-n", NAMESPACE)
    wait_for(lambda: ask(stack, root)[0] == 404, "the name to be gone", 30)


def certified(stack: Stack, root: str) -> tuple[int, bytes] | None:
    try:
        return ask(stack, root)
    except (ssl.SSLError, ConnectionError):
        return None
