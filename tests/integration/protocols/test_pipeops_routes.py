"""Routes, tunnels and the switch of registered tokens: what PipeOps agents call over REST beside their socket."""

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.support import prepared
from tests.support.control_app import ControlApp
from tests.support.pipeops_plane import Plane, eventually, pipeops_plane, registered, until
from tests.support.pipeops_traces import recorded

from towline.control.access.permissions import Reach, Right, Role
from towline.control.audit.models import AuditEvent
from towline.control.errors import ApiError
from towline.control.protocols.models import CompatAgent
from towline.control.protocols.pipeops.registered import Switch
from towline.control.routes.models import PublishedRoute

SYNC, REGISTER, UNREGISTER = (f"/api/v1/gateway/routes/{word}" for word in ("sync", "register", "unregister"))
ROUTE: dict[str, Any] = {
    "hostname": "shop.example.com", "cluster_uuid": "", "namespace": "ingress-nginx", "ingress_name": "shop",
    "service_name": "ingress-nginx-controller", "service_port": 80, "path": "/", "path_type": "Prefix", "tls": False,
}  # fmt: skip
TUNNEL: dict[str, Any] = {
    "cluster_uuid": "", "protocol": "tcp", "tunnel_id": "tcp-c-gw-5432", "gateway_name": "gw",
    "gateway_namespace": "default", "gateway_port": 5432, "service_name": "db", "service_namespace": "default",
    "service_port": 5432, "routing_mode": "tunnel", "labels": {"a": "b"},
}  # fmt: skip


@pytest.fixture
async def plane(prepared_sqlite: Path, tmp_path: Path) -> AsyncIterator[Plane]:
    async with pipeops_plane(prepared.sqlite_copy(prepared_sqlite, tmp_path), tmp_path) as made:
        yield made


async def hosts(plane: Plane) -> set[tuple[str, str]]:
    return {(row.host, row.path) for row in await plane.rows(PublishedRoute) if not row.missing}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", SYNC),
        ("POST", REGISTER),
        ("POST", UNREGISTER),
        ("GET", "/api/v1/clusters/agent/c/tunnels"),
        ("POST", "/api/v1/clusters/agent/c/tunnels"),
        ("POST", "/api/v1/clusters/agent/c/tunnels/sync"),
        ("DELETE", "/api/v1/clusters/agent/c/tunnels/t"),
        ("GET", "/api/v1/clusters/shop/registered-token"),
        ("PUT", "/api/v1/clusters/shop/registered-token"),
    ],
)
@pytest.mark.parametrize("token", ["", "wrong-token-of-nobody"])
async def test_a_call_without_a_known_token_is_answered_401(plane: Plane, method: str, path: str, token: str) -> None:
    assert (await plane.call(method, path, b"{}" if method != "GET" else None, token=token)).status_code == 401


async def test_a_call_before_the_registration_is_answered_404(plane: Plane) -> None:
    assert (await plane.call("POST", REGISTER, ROUTE)).status_code == 404


async def test_an_ingress_is_published_while_it_is_registered(plane: Plane) -> None:
    async with plane.connect() as played:
        known = await registered(played)
        answer = await plane.call("POST", REGISTER, {**ROUTE, "cluster_uuid": known["cluster_id"]})
        assert answer.status_code == 200
        await eventually(lambda: _has(plane, ("shop.example.com", "/")))
        assert (await plane.call("POST", UNREGISTER, {"hostname": "shop.example.com"})).status_code == 200
        await eventually(lambda: _lacks(plane, "shop.example.com"))


async def _has(plane: Plane, wanted: tuple[str, str]) -> bool:
    return wanted in await hosts(plane)


async def _lacks(plane: Plane, host: str) -> bool:
    return host not in {known for known, _ in await hosts(plane)}


async def test_the_recorded_calls_are_all_answered_200_and_leave_nothing(plane: Plane) -> None:
    async with plane.connect() as played:
        known = await registered(played)
        for entry in recorded("pipeops-routes"):
            body = entry["body"].replace("11111111-2222-3333-4444-555555555555", known["cluster_id"])
            answer = await plane.call(entry["method"], entry["path"], body.encode() or None)
            assert answer.status_code == entry["status"], entry["path"]
            if entry["path"] == REGISTER:
                path = "/api" if '"path":"/api"' in body else "/v2"
                await eventually(partial(_has, plane, ("shop.example.com", path)))
        await eventually(lambda: _lacks(plane, "shop.example.com"))


async def test_a_full_list_is_told_again_when_the_agent_comes_back(plane: Plane) -> None:
    path = {"path": "/", "path_type": "Prefix", "service_name": "web", "service_port": 80}
    rule = {"host": "a.example.com", "tls": False, "paths": [path]}
    async with plane.connect() as played:
        known = await registered(played)
    listing = {
        "cluster_uuid": known["cluster_id"],
        "ingresses": [{"namespace": "default", "ingress_name": "shop", "rules": [rule]}],
    }
    assert (await plane.call("POST", SYNC, listing)).status_code == 200
    async with plane.connect():
        await eventually(lambda: _has(plane, ("a.example.com", "/")))


async def test_routes_told_over_the_socket_are_published_too(plane: Plane) -> None:
    async with plane.connect() as played:
        await registered(played)
        entry = {"host": "b.example.com", "path": "/", "service": "web", "namespace": "default", "port": 80}
        await played.say("ingress_routes", {"action": "add", "cluster_uuid": "c", "routes": [entry]})
        await eventually(lambda: _has(plane, ("b.example.com", "/")))
        await played.say("ingress_routes", {"action": "delete", "cluster_uuid": "c", "routes": [entry]})
        await eventually(lambda: _lacks(plane, "b.example.com"))


async def test_one_of_several_agents_cannot_touch_anothers_routes(plane: Plane) -> None:
    shared = await plane.make_token(shared=True, open_for=3600)
    async with shared.connect() as one, shared.connect() as other:
        first, second = await registered(one, agent_id="a"), await registered(other, agent_id="b")
        await shared.call("POST", REGISTER, {**ROUTE, "hostname": "a.example.com", "cluster_uuid": first["cluster_id"]})
        await eventually(lambda: _has(plane, ("a.example.com", "/")))
        await shared.call("POST", UNREGISTER, {"hostname": "a.example.com", "cluster_uuid": second["cluster_id"]})
        own = await plane.call("POST", REGISTER, {**ROUTE, "cluster_uuid": first["cluster_id"]})
        assert own.status_code == 404  # the other token's agent has not registered
        assert await _has(plane, ("a.example.com", "/"))


@pytest.mark.parametrize("body", [b"", b"not json", b"[]", b'{"ingresses":7}', b'{"service_port":"x"}'])
async def test_a_body_that_cannot_be_read_is_answered_422(plane: Plane, body: bytes) -> None:
    async with plane.connect() as played:
        await registered(played)
        answers = [await plane.call("POST", path, body) for path in (SYNC, REGISTER)]
        assert 422 in {answer.status_code for answer in answers} or not body


async def test_a_body_over_the_limit_is_answered_413(plane: Plane) -> None:
    async with plane.connect() as played:
        await registered(played)
        assert (await plane.call("POST", SYNC, b" " * (4 * 1024 * 1024 + 1))).status_code == 413


async def test_tunnels_are_kept_merged_and_forgotten_with_the_statuses_that_the_agent_accepts(plane: Plane) -> None:
    async with plane.connect() as played:
        known = await registered(played)
        base = f"/api/v1/clusters/agent/{known['cluster_id']}/tunnels"
        made = await plane.call("POST", base, TUNNEL)
        assert made.status_code in (200, 201)
        assert made.json()["tunnel_id"] == "tcp-c-gw-5432"
        blank = {**TUNNEL, "service_name": "", "service_namespace": "", "service_port": 0, "labels": {}}
        synced = await plane.call("POST", f"{base}/sync", {"cluster_uuid": "c", "tunnels": [blank]})
        assert synced.status_code == 200
        assert synced.json()["rejected"] == []
        assert synced.json()["accepted"][0]["service_name"] == "db"
        assert (await plane.call("GET", base)).json()[0]["labels"] == {"a": "b"}
        assert (await plane.call("DELETE", f"{base}/tcp-c-gw-5432")).status_code in (200, 204)
        assert (await plane.call("GET", base)).json() == []


async def test_a_tunnel_that_names_nothing_is_rejected_by_name(plane: Plane) -> None:
    async with plane.connect() as played:
        known = await registered(played)
        path = f"/api/v1/clusters/agent/{known['cluster_id']}/tunnels/sync"
        synced = await plane.call("POST", path, {"tunnels": [{**TUNNEL, "protocol": "icmp"}]})
        assert synced.json()["rejected"] == [
            {"tunnel_id": "tcp-c-gw-5432", "reason": "its protocol is tcp or udp, its port a port's number"}
        ]


# -- the switch ------------------------------------------------------------------------------------


async def test_the_switch_is_off_until_somebody_turns_it_and_that_is_audited(plane: Plane) -> None:
    tokens = plane.running.control.protocols.pipeops.tokens
    async with plane.connect() as played:
        await registered(played)
        assert await tokens.look(plane.access, "shop") == Switch(allowed=False, registered=True)
        await until(lambda: "may not be used" in plane.session.kube.reason)
        switch = await tokens.allow(plane.access, "shop", True)
        assert (switch.allowed, switch.registered) == (True, True)
        (compat,) = await plane.rows(CompatAgent)
        assert compat.secret_allowed
        events = [event for event in await plane.rows(AuditEvent) if event.action == "cluster.registered_token"]
        assert [event.detail["allowed"] for event in events] == [True]


async def test_a_cluster_that_is_not_there_has_no_switch(plane: Plane) -> None:
    with pytest.raises(ApiError, match="shop"):
        await plane.running.control.protocols.pipeops.tokens.look(plane.access, "shop")


async def test_the_settings_page_shows_the_switch_and_turns_it(plane: Plane) -> None:
    app = ControlApp(plane.running.control, None, plane.running.control.settings)
    secret = await app.token("ada", Right(Role.ADMIN, Reach()))
    async with plane.connect() as played:
        await registered(played)
        page = await plane.call("GET", "/clusters/shop/settings", token=secret)
        assert 'action="/clusters/shop/registered-token"' in page.text
        answer = await plane.call("PUT", "/api/v1/clusters/shop/registered-token", {"allowed": True}, token=secret)
        assert answer.json() == {"allowed": True, "registered": True}
        assert "Stop using it" in (await plane.call("GET", "/clusters/shop/settings", token=secret)).text
