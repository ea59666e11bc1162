"""Health, readiness, version, figures and the API's documentation."""

import asyncio
import shutil
from collections import namedtuple
from pathlib import Path

import pytest
from tests.support.control_app import ControlApp, running_control

from towline import __version__
from towline.control.access.permissions import Role
from towline.control.db import Database

Usage = namedtuple("Usage", "total used free")


async def test_health_and_version_need_nobody(control_app: ControlApp) -> None:
    client = control_app.client()
    assert (await client.get("/healthz")).json() == {"status": "ok"}
    version = (await client.get("/api/v1/version")).json()
    assert (version["version"], version["api"]) == (__version__, "v1")


async def test_ready_names_every_check(control_app: ControlApp) -> None:
    answer = await control_app.client().get("/readyz")
    assert answer.status_code == 200
    assert [check["name"] for check in answer.json()["checks"]] == ["database", "migrations", "disk", "draining"]


async def test_a_full_disk_is_not_ready_and_says_why(small_app: ControlApp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**9, 10**9, 1024 * 1024))
    answer = await small_app.client().get("/readyz")
    assert answer.status_code == 503
    assert "only 1 MiB free" in str(answer.json())


async def test_a_stopping_server_is_not_ready(small_app: ControlApp) -> None:
    small_app.control.begin_drain()
    answer = await small_app.client().get("/readyz")
    assert answer.status_code == 503 and "stopping" in answer.text


async def test_figures_are_for_loopback_and_for_who_may_see_clusters(control_app: ControlApp) -> None:
    assert (await control_app.client().get("/metrics")).status_code == 401
    answer = await control_app.client(address="127.0.0.1").get("/metrics")
    assert "towline_api_requests_total" in answer.text
    viewer = await control_app.user("vic", Role.VIEWER)
    assert (await viewer.get("/metrics")).status_code == 200
    nobody = await control_app.user("nob")
    assert (await nobody.get("/metrics")).status_code == 403


async def test_figures_are_public_when_so_set(database_url: str, tmp_path: Path) -> None:
    async with running_control(database_url, tmp_path, metrics_public=True) as app:
        assert (await app.client().get("/metrics")).status_code == 200


async def test_requests_are_counted_by_route_not_by_address(small_app: ControlApp) -> None:
    for name in ("a", "b"):
        await small_app.client().get(f"/api/v1/users/{name}")
    text = (await small_app.client(address="127.0.0.1").get("/metrics")).text
    assert 'route="/api/v1/users/{user}",status="401"} 2.0' in text


async def test_the_documentation_comes_from_this_server_alone(small_app: ControlApp) -> None:
    page = await small_app.client().get("/api/v1/docs")
    assert "script-src 'self'" in page.headers["content-security-policy"]
    assert "//" not in page.text.replace("<!doctype", "").replace("https://", "//") or "cdn" not in page.text
    for part in page.text.split('"'):
        if part.startswith("/static/") or part.endswith(".js"):
            assert (await small_app.client().get(part)).status_code == 200, part


async def test_the_schema_names_the_error_shape_and_how_to_sign_in(small_app: ControlApp) -> None:
    schema = (await small_app.client().get("/api/v1/openapi.json")).json()
    assert schema["security"] == [{"token": []}]
    assert (
        "cluster_not_found"
        in schema["components"]["schemas"]["Error"]["properties"]["error"]["properties"]["code"]["examples"]
    )


async def test_an_unknown_address_is_a_small_error(small_app: ControlApp) -> None:
    answer = await small_app.client().get("/api/v1/nothing")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")
    wrong = await small_app.client().post("/api/v1/version")
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (405, "method_not_allowed")
    assert "GET" in wrong.headers["allow"]


async def test_every_answer_carries_its_request_id(small_app: ControlApp) -> None:
    answer = await small_app.client().get("/api/v1/whoami")
    assert answer.headers["x-request-id"] == answer.json()["error"]["request_id"]
    kept = await small_app.client().get("/healthz", headers={"x-request-id": "0123456789ab-7"})
    assert kept.headers["x-request-id"] == "0123456789ab-7"
    odd = await small_app.client().get("/healthz", headers={"x-request-id": "a b\tc<script>"})
    assert odd.headers["x-request-id"].startswith("req_")


async def test_a_long_body_is_refused(small_app: ControlApp) -> None:
    ada = await small_app.user("ada", Role.OWNER)
    answer = await ada.post(
        "/api/v1/tokens", content=b'"' + b"x" * 2_000_000 + b'"', headers={"content-type": "application/json"}
    )
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large")
    other = await ada.post("/api/v1/tokens", content=b"x" * 2_000_000, headers={"content-type": "text/plain"})
    assert other.status_code == 413


@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff\xfe", b'{"name": "\\u0000"}', b'{"name": "\\ud800"}', b'{"name": 1e400}', b"[" * 10_000]
)
async def test_malformed_json_is_never_a_failure_of_ours(small_app: ControlApp, body: bytes) -> None:
    ada = await small_app.user("ada", Role.OWNER)
    answer = await ada.post("/api/v1/tokens", content=body, headers={"content-type": "application/json"})
    assert answer.status_code in (400, 422), answer.text
    assert answer.json()["error"]["code"] in ("invalid", "bad_request")


@pytest.mark.postgres
async def test_a_database_that_is_away_is_503_and_readiness_says_so(postgres_url: str, tmp_path: Path) -> None:
    async with running_control(postgres_url, tmp_path, start=False) as app:
        token = await app.token("ada")
        await app.control.db.engine.dispose()
        nowhere = Database("postgresql://nobody@127.0.0.1:1/none")
        app.control.db._writer = app.control.db._reader = nowhere.engine
        answer = await app.client(token).get("/api/v1/whoami")
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable")
        assert (await app.client().get("/readyz")).status_code == 503


async def test_the_api_rate_of_one_token_is_limited_and_others_go_on(database_url: str, tmp_path: Path) -> None:
    async with running_control(database_url, tmp_path, api_rate=0.1, api_burst=3) as app:
        ada, bob = await app.user("ada", Role.VIEWER), await app.user("bob", Role.VIEWER)
        answers = [await ada.get("/api/v1/whoami") for _ in range(4)]
        assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
        assert int(answers[-1].headers["retry-after"]) >= 1
        assert (await bob.get("/api/v1/whoami")).status_code == 200


async def test_many_requests_at_once_are_all_answered(control_app: ControlApp) -> None:
    ada = await control_app.user("ada", Role.OWNER)
    answers = await asyncio.gather(*(ada.post("/api/v1/tokens", json={"name": f"t{number}"}) for number in range(40)))
    assert {answer.status_code for answer in answers} == {201}
    assert (await ada.get("/api/v1/audit/verify")).json()["ok"]
