"""The story of a public name: three ways to have one, on the real cluster and real Docker, certified by Pebble.

Declared by `towline publish`, asked for by an Ingress that kubectl applies, asked for by the label of a Compose
service; and what becomes of the name when its source is gone. What existed before the cluster joined waits for a yes.
"""

from __future__ import annotations

import json
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support import kubernetes_objects as objects
from tests.support.gateway_story import DOCKER, GATEWAY_DOMAIN, GRACE, GatewayStack
from tests.support.kubernetes_stack import CLUSTER
from tests.support.product import wait_for
from tests.testbed import kubectl, pebble
from tests.testbed.images import WEB, WEB_PAGE
from tests.testbed.kubernetes.cluster import Cluster

pytestmark = [pytest.mark.kubernetes, pytest.mark.docker, pytest.mark.pebble, pytest.mark.timeout(300)]

NAMESPACE, PROJECT, DOMAIN = "gw-story", "gw-story", "shop-story.test"
ROUTED_WITHIN, CERTIFIED_WITHIN = 1.0, 10.0
"""Seconds after a source exists: what the gateway promises."""
SOON = 30.0
COMPOSE = f"""
services:
  web:
    image: {WEB}
    stop_grace_period: 0s
    labels:
      towline.route.main.host: label.{DOMAIN}
      towline.route.main.port: "80"
"""
CONTROLLER = r"""
mkdir -p /www/cgi-bin
cat > /www/cgi-bin/host <<'END'
#!/bin/sh
printf 'Content-Type: text/plain\r\n\r\n'; echo "$HTTP_HOST"
END
chmod +x /www/cgi-bin/host
exec httpd -f -p 8080 -h /www
"""


def ingress(name: str) -> dict[str, Any]:
    backend = {"service": {"name": "web", "port": {"name": "http"}}}
    rules = [{"host": f"{name}.{DOMAIN}", "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}}]
    return objects.named("Ingress", name, version="networking.k8s.io/v1", spec={"rules": rules})


def web() -> list[dict[str, Any]]:
    """A pod with an HTTP server, and its service with a named port."""
    container = objects.container("main", "httpd", "-f", "-p", "8080", "-h", "/www")
    container["ports"] = [{"name": "http", "containerPort": 8080}]
    pod = objects.named("Pod", "web", spec={"containers": [container], "terminationGracePeriodSeconds": 0})
    ports = [{"name": "http", "port": 80, "targetPort": "http"}]
    return [pod, objects.named("Service", "web", spec={"selector": {"app": "web"}, "ports": ports})]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Iterator[pebble.Authority]:
    found = pebble.start(tmp_path_factory.mktemp("pebble"))
    yield found
    found.stop()


@pytest.fixture(scope="module")
def story(
    tmp_path_factory: pytest.TempPathFactory, authority: pebble.Authority, docker_engine: str
) -> Iterator[GatewayStack]:
    """Everything up; one Ingress was there before the cluster joined, and the domain is verified afterwards."""
    stack = GatewayStack(tmp_path_factory.mktemp("gateway"), Cluster(), kubectl.ensure(), authority)
    with stack.empty_namespace(NAMESPACE):
        direct = stack.direct()
        direct.succeed("apply", "-n", NAMESPACE, "-f", "-", stdin=objects.as_list([*web(), ingress("old")]))
        direct.succeed("-n", NAMESPACE, "wait", "--for=condition=Ready", "--timeout=60s", "pod/web", timeout=70)
        with stack:
            stack.prove(DOMAIN)
            yield stack


@pytest.fixture
def controller(story: GatewayStack) -> Iterator[str]:
    """What looks like ingress-nginx, and answers with the Host that it is asked for. Returns: its class."""
    container = objects.container("main", "sh", "-c", CONTROLLER)
    pod = objects.named("Pod", "controller", spec={"containers": [container], "terminationGracePeriodSeconds": 0})
    ports = [{"name": "http", "port": 80, "targetPort": 8080}]
    service = objects.named(
        "Service", "ingress-nginx-controller", spec={"selector": {"app": "controller"}, "ports": ports}
    )
    kind = objects.named(
        "IngressClass", NAMESPACE, version="networking.k8s.io/v1", spec={"controller": "k8s.io/ingress-nginx"}
    )
    direct = story.direct()
    direct.succeed("apply", "-f", "-", stdin=json.dumps(kind))
    direct.succeed("apply", "-n", NAMESPACE, "-f", "-", stdin=objects.as_list([pod, service]))
    direct.succeed("-n", NAMESPACE, "wait", "--for=condition=Ready", "--timeout=60s", "pod/controller", timeout=70)
    yield NAMESPACE
    direct.succeed("-n", NAMESPACE, "delete", "service/ingress-nginx-controller", "pod/controller")
    direct.succeed("delete", "ingressclass", NAMESPACE)


def seconds_until(condition: Callable[[], bool], what: str) -> float:
    """Wait. Returns: how long that took."""
    began = time.monotonic()
    wait_for(condition, what, SOON)
    return time.monotonic() - began


def assert_soon(story: GatewayStack, host: str, path: str, body: bytes) -> None:
    """Wait for an answer; what came instead is said at the end."""

    def answered() -> bool:
        found = story.answer(host, path)
        assert found.body == body, (found, story.route(host))
        return True

    wait_for(answered, f"{host}{path}", SOON)


def is_certified(story: GatewayStack, host: str) -> bool:
    try:
        return story.visit(host).body == WEB_PAGE
    except (ssl.SSLError, ConnectionError):
        return False


def apply(story: GatewayStack, body: dict[str, Any]) -> None:
    """As people do: by kubectl, through Towline."""
    admin = story.direct()
    admin.succeed("apply", "-n", NAMESPACE, "-f", "-", stdin=json.dumps(body))


def compose(folder: Path, *words: str) -> None:
    (folder / "compose.yaml").write_text(COMPOSE)
    command = ["docker", "compose", "--project-name", PROJECT, "--project-directory", str(folder), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_a_declared_service_has_its_name_and_certificate(story: GatewayStack) -> None:
    host = f"declared.{DOMAIN}"
    assert story.answer(host).status == 404
    story.cli("publish", "declared", "--to", f"service/{NAMESPACE}/web:80", "--host", host, "--cluster", CLUSTER)
    routed = seconds_until(lambda: story.answer(host).body == WEB_PAGE, "the declared route")
    certified = seconds_until(lambda: is_certified(story, host), "the certificate")
    story.cli("unpublish", "declared", "--yes")
    gone = seconds_until(lambda: story.answer(host).status == 404, "the end of the route")
    print(f"routed after {routed:.2f} s, certified after {certified:.2f} s, gone after {gone:.2f} s")
    assert max(routed, gone) < ROUTED_WITHIN
    assert certified < CERTIFIED_WITHIN


def test_a_service_gets_a_name_under_the_gateways_domain_when_none_is_given(story: GatewayStack) -> None:
    story.cli("publish", "given", "--to", f"pod/{NAMESPACE}/web:http", "--cluster", CLUSTER)
    host = f"given-{CLUSTER}.{GATEWAY_DOMAIN}"
    wait_for(lambda: story.answer(host).body == WEB_PAGE, "the route", SOON)
    story.cli("unpublish", "given", "--yes")


def test_an_ingress_is_routed_within_a_second_certified_within_ten_and_gone_with_it(story: GatewayStack) -> None:
    host = f"fresh.{DOMAIN}"
    assert story.answer(host).status == 404
    apply(story, ingress("fresh"))
    began = time.monotonic()
    routed = seconds_until(lambda: story.answer(host).body == WEB_PAGE, "the route of the Ingress")
    wait_for(lambda: is_certified(story, host), "the certificate of the Ingress", SOON)
    certified = time.monotonic() - began
    assert story.route(host)["source"] == "ingress"
    story.direct().succeed("-n", NAMESPACE, "delete", "ingress", "fresh")
    gone = seconds_until(lambda: story.answer(host).status == 404, "the end of the route")
    print(f"routed after {routed:.2f} s, certified after {certified:.2f} s, gone after {gone:.2f} s")
    assert max(routed, gone) < ROUTED_WITHIN
    assert certified < CERTIFIED_WITHIN


def test_an_ingress_of_a_controller_goes_there_with_its_host(story: GatewayStack, controller: str) -> None:
    host = f"ruled.{DOMAIN}"
    body = ingress("ruled")
    body["spec"]["ingressClassName"] = controller
    apply(story, body)
    assert_soon(story, host, "/cgi-bin/host", f"{host}\n".encode())
    assert story.route(host)["targets"][0]["to"] == f"service/{NAMESPACE}/ingress-nginx-controller:80"
    story.direct().succeed("-n", NAMESPACE, "delete", "ingress", "ruled")
    wait_for(lambda: story.answer(host).status == 404, "the end of the route", SOON)


def test_a_label_of_a_compose_service_is_routed_and_gone_with_it(story: GatewayStack, tmp_path: Path) -> None:
    host = f"label.{DOMAIN}"
    try:
        compose(tmp_path, "up", "--detach")
        routed = seconds_until(lambda: story.answer(host).body == WEB_PAGE, "the route of the label")
        wait_for(lambda: is_certified(story, host), "the certificate of the label", SOON)
        assert story.route(host)["cluster"]["name"] == DOCKER
    finally:
        compose(tmp_path, "down", "--timeout", "0")
    gone = seconds_until(lambda: story.answer(host).status == 404, "the end of the route")
    print(f"routed after {routed:.2f} s, gone after {gone:.2f} s")
    assert routed < ROUTED_WITHIN
    assert gone < GRACE + SOON / 2


def test_what_was_there_before_the_cluster_joined_waits_for_a_yes(story: GatewayStack) -> None:
    host = f"old.{DOMAIN}"
    found = story.route(host)
    assert (found["state"], found["source"]) == ("proposed", "ingress")
    assert story.answer(host).status == 404
    story.call("POST", f"routes/{found['id']}/accept")
    wait_for(lambda: story.answer(host).body == WEB_PAGE, "the accepted route", SOON)


def test_an_agent_that_is_away_is_said_to_be_and_its_routes_come_back(story: GatewayStack) -> None:
    host = f"steady.{DOMAIN}"
    apply(story, ingress("steady"))
    wait_for(lambda: story.answer(host).body == WEB_PAGE, "the route", SOON)
    story.kill("agent")
    wait_for(lambda: story.answer(host).status == 503, "the page that says so", SOON)
    assert story.route(host)["state"] == "active"
    story.start_agent()
    wait_for(lambda: story.answer(host).body == WEB_PAGE, "the route after the agent came back", SOON)
