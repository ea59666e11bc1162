"""From a service, its endpoints or a pod, and a port, to addresses."""

from typing import Any

import msgspec
import pytest

from towline.agent.kubernetes.ports import External, Headless, is_dialable, of_pod, of_service, of_slices
from towline.agent.streams.refusal import Refused
from towline.kube import traffic

PORTS = [
    {"name": "http", "port": 80, "targetPort": 8080},
    {"name": "metrics", "port": 9090},
    {"name": "dns", "port": 53, "protocol": "UDP"},
]


def service(ports: list[dict[str, Any]] = PORTS, **spec: Any) -> traffic.Service:
    value = {
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"clusterIP": "10.0.0.7", "ports": ports, **spec},
    }
    return msgspec.convert(value, traffic.Service)


def pod(phase: str = "Running", address: str = "10.1.0.5") -> traffic.Pod:
    ports = [{"name": "http", "containerPort": 8080}, {"name": "dns", "containerPort": 53, "protocol": "UDP"}]
    side = [{"name": "side", "containerPort": 15}]
    value = {
        "metadata": {"name": "web-0", "namespace": "shop"},
        "spec": {"containers": [{"ports": ports}, {}], "initContainers": [{"ports": side}]},
        "status": {"phase": phase, "podIP": address},
    }  # fmt: skip
    return msgspec.convert(value, traffic.Pod)


def slices(*endpoints: dict[str, Any], port: int = 8080, kind: str = "IPv4") -> traffic.EndpointSlice:
    value = {"addressType": kind, "endpoints": endpoints, "ports": [{"name": "http", "port": port, "protocol": "TCP"}]}
    return msgspec.convert(value, traffic.EndpointSlice)


@pytest.mark.parametrize(("word", "expected"), [("80", 80), ("http", 80), ("metrics", 9090), ("9090", 9090)])
def test_port_of_a_service_by_number_or_name(word, expected):
    assert of_service(service(), word) == ("10.0.0.7", expected)


@pytest.mark.parametrize("word", ["8080", "dns", "53", "https", "0", "70000", ""])
def test_port_that_a_service_does_not_have_is_refused_with_those_it_has(word):
    with pytest.raises(
        Refused, match=r"service shop/web has no TCP port .*; it has 80 \(http\), 9090 \(metrics\)"
    ) as caught:
        of_service(service(), word)
    assert caught.value.code == "not_found"


def test_service_without_ports_says_so():
    with pytest.raises(Refused, match="it has none"):
        of_service(service([]), "80")


def test_headless_service_is_reached_by_its_endpoints():
    found = of_service(service(clusterIP="None"), "http")
    assert isinstance(found, Headless)
    ready, unknown = {"addresses": ["10.1.0.1"], "conditions": {"ready": True}}, {"addresses": ["10.1.0.2"]}
    starting = {"addresses": ["10.1.0.3"], "conditions": {"ready": False}}
    places = of_slices(
        [slices(ready, unknown, starting), slices({"addresses": ["10.1.0.4"]}, port=9000)], found.port, "s"
    )
    assert places == [("10.1.0.1", 8080), ("10.1.0.2", 8080), ("10.1.0.4", 9000)]


@pytest.mark.parametrize(
    "found",
    [
        [],
        [slices({"addresses": ["10.1.0.1"], "conditions": {"ready": False}})],
        [slices({"addresses": ["a.example.com"]}, kind="FQDN")],
        [slices({"addresses": ["169.254.169.254"]}, {"addresses": ["127.0.0.1"]})],
    ],
)
def test_headless_service_without_endpoints_to_dial_is_unreachable(found):
    port = traffic.ServicePort(name="http", port=80)
    with pytest.raises(Refused, match="service shop/web has no ready endpoints"):
        of_slices(found, port, "service shop/web")


def test_service_for_a_name_outside_is_told_apart():
    found = service([], type="ExternalName", externalName="db.example.com", clusterIP="")
    assert of_service(found, "5432") == External("db.example.com", 5432)
    named = service(PORTS, type="ExternalName", externalName="db.example.com", clusterIP="")
    assert of_service(named, "http") == External("db.example.com", 80)
    with pytest.raises(Refused):
        of_service(found, "http")


@pytest.mark.parametrize(("word", "expected"), [("8080", 8080), ("http", 8080), ("side", 15), ("9999", 9999)])
def test_port_of_a_pod(word, expected):
    assert of_pod(pod(), word) == ("10.1.0.5", expected)


def test_pod_without_that_name_names_its_ports():
    with pytest.raises(Refused, match="pod shop/web-0 has no TCP port 'dns'; it has http, side"):
        of_pod(pod(), "dns")


@pytest.mark.parametrize(("phase", "address"), [("Pending", ""), ("Succeeded", "10.1.0.5"), ("Failed", "10.1.0.5")])
def test_pod_that_does_not_run_is_unreachable(phase, address):
    with pytest.raises(Refused, match="does not run") as caught:
        of_pod(pod(phase, address), "80")
    assert caught.value.code == "unreachable"


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("10.0.0.1", True),
        ("fd00::1", True),
        ("8.8.8.8", True),
        ("127.0.0.1", False),
        ("::1", False),
        ("169.254.169.254", False),
        ("fe80::1", False),
        ("224.0.0.1", False),
        ("0.0.0.0", False),
        ("web", False),
    ],
)
def test_addresses_that_are_never_dialled(address, expected):
    assert is_dialable(address) is expected
