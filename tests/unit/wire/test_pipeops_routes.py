"""REST bodies of PipeOps WebSocket agents: the recorded ones, and any others."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.pipeops_traces import recorded

from towline.wire import lenient
from towline.wire import pipeops_routes as routes

READERS: list[lenient.Reader[Any]] = [
    routes.REGISTER_ROUTE, routes.UNREGISTER_ROUTE, routes.SYNC_INGRESSES, routes.TUNNEL, routes.SYNC_TUNNELS,
]  # fmt: skip


def bodies(path: str) -> list[str]:
    return [entry["body"] for entry in recorded("pipeops-routes") if entry.get("path") == path]


def test_recorded_registrations_are_read():
    first, second = [routes.REGISTER_ROUTE.read(body.encode()) for body in bodies(routes.REGISTER_PATH)]
    assert (first.hostname, first.ingress_name, first.path, first.tls) == ("shop.example.com", "shop", "/api", True)
    assert (second.path, second.service_name, second.service_port) == ("/v2", "ingress-nginx-controller", 80)
    assert first.annotations["pipeops.io/managed"] == "true"


def test_a_recorded_end_of_a_route_names_the_host_alone():
    (body,) = bodies(routes.UNREGISTER_PATH)
    assert routes.UNREGISTER_ROUTE.read(body.encode()) == routes.UnregisterRoute(hostname="shop.example.com")


def test_a_full_list_without_optional_parts_is_read():
    rule = {"host": "a.example", "tls": False, "paths": [{"path": "/", "service_name": "s", "service_port": 80.0}]}
    body = {"cluster_uuid": "c", "ingresses": [{"namespace": "n", "ingress_name": "i", "rules": [rule]}]}
    read = routes.SYNC_INGRESSES.read(json.dumps(body).encode())
    assert read.ingress_controller is None
    assert read.ingresses[0].rules[0].paths[0] == routes.RulePath(
        path="/", path_type="", service_name="s", service_port=80
    )


def test_an_empty_body_is_an_empty_object():
    assert routes.UNREGISTER_ROUTE.read(b"").hostname == ""


@pytest.mark.parametrize("body", [b"[]", b"{", b'{"ingresses":[7]}', b'{"ingresses":{}}'])
def test_another_shape_is_refused(body):
    with pytest.raises(lenient.Unfit):
        routes.SYNC_INGRESSES.read(body)


@given(st.binary(max_size=60))
def test_any_bytes_are_a_body_or_refused(data):
    for reader in READERS:
        try:
            reader.read(data)
        except lenient.Unfit as error:
            assert str(error)
