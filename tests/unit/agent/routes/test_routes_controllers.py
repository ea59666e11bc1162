"""Which services are controllers, and whether the public reaches them."""

from typing import Any

import msgspec
import pytest

from towline.agent.routes.controllers import ADDRESS_TIMEOUT, Controller, is_private, recognise
from towline.kube import traffic

HTTP, HTTPS = {"name": "http", "port": 80}, {"name": "https", "port": 443}


def service(
    name: str, *ports: dict[str, Any], label: str = "", kind: str = "ClusterIP", address: str = "10.0.0.1",
    given: tuple[dict[str, str], ...] = (),
) -> traffic.Service:  # fmt: skip
    labels = {"app.kubernetes.io/name": label} if label else {}
    value = {
        "metadata": {"name": name, "namespace": "in", "labels": labels},
        "spec": {"type": kind, "clusterIP": address, "ports": ports or [HTTP, HTTPS]},
        "status": {"loadBalancer": {"ingress": given}},
    }
    return msgspec.convert(value, traffic.Service)


@pytest.mark.parametrize(
    ("name", "label", "word"),
    [
        ("ingress-nginx-controller", "", "nginx"),
        ("rke2-ingress-nginx-controller", "", "nginx"),
        ("my-release-controller", "ingress-nginx", "nginx"),
        ("traefik", "", "traefik"),
        ("edge", "traefik", "traefik"),
        ("kong-proxy", "", "kong"),
        ("istio-ingressgateway", "", "istio"),
        ("haproxy", "kubernetes-ingress", "haproxy"),
    ],
)
def test_controllers_are_known_by_name_or_label(name, label, word):
    found = recognise(service(name, label=label))
    assert found is not None
    assert (found.kind.word, found.http_port, found.https_port) == (word, 80, 443)


@pytest.mark.parametrize(
    "found",
    [
        service("web"),
        service("ingress-nginx-controller-admission", {"name": "https-webhook", "port": 443}, label="ingress-nginx"),
        service("traefik", {"name": "metrics", "port": 9100}, label="traefik"),
        service("traefik", address="None"),
        service("traefik", kind="ExternalName", address=""),
    ],
)
def test_other_services_are_none(found):
    assert recognise(found) is None


def test_ports_are_known_by_name_before_number():
    found = recognise(service("traefik", {"name": "web", "port": 8000}, {"name": "websecure", "port": 8443}))
    assert found is not None
    assert (found.http_port, found.https_port) == (8000, 8443)


def controllers(kind: str, *given: dict[str, str]) -> list[Controller]:
    found = recognise(service("ingress-nginx-controller", kind=kind, given=given))
    assert found is not None
    return [found]


@pytest.mark.parametrize(
    ("found", "seconds", "expected"),
    [
        ([], 0.0, True),
        (controllers("ClusterIP"), 0.0, True),
        (controllers("NodePort"), 0.0, True),
        (controllers("LoadBalancer"), 0.0, None),
        (controllers("LoadBalancer"), ADDRESS_TIMEOUT - 1, None),
        (controllers("LoadBalancer"), ADDRESS_TIMEOUT, True),
        (controllers("LoadBalancer", {"ip": "8.8.8.8"}), 0.0, False),
        (controllers("LoadBalancer", {"ip": "2606:4700::1111"}), 0.0, False),
        (controllers("LoadBalancer", {"hostname": "a.elb.example.com"}), 0.0, False),
        (controllers("LoadBalancer", {"ip": "192.168.1.240"}), 0.0, True),
        (controllers("LoadBalancer", {"ip": "10.1.2.3"}), 500.0, True),
        (controllers("LoadBalancer", {"ip": "fd00::1"}), 0.0, True),
        (controllers("LoadBalancer", {"ip": "100.64.0.1"}), 0.0, True),
        (controllers("LoadBalancer", {"hostname": "localhost"}), 0.0, True),
        (controllers("LoadBalancer", {"ip": "192.168.1.2"}, {"ip": "8.8.4.4"}), 0.0, False),
    ],
)
def test_cluster_is_public_by_a_balancer_with_a_public_address_alone(found, seconds, expected):
    assert is_private(found, {one.key: seconds for one in found}) is expected
