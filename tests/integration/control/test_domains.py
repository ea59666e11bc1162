"""Domains by the API: proof in a DNS of our own, who may add them, and what a server refuses to start with."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from tests.integration.control.test_routes import body, cluster
from tests.support.control_app import ControlApp, running_control, test_settings
from tests.support.gateway import FakeDns, fake_dns

from towline.control.access.permissions import Role
from towline.control.audit.models import AuditEvent
from towline.control.domains import resolver
from towline.control.domains.models import Domain
from towline.control.errors import StartupError

BASE = "/api/v1/domains"


@pytest.fixture
async def dns() -> AsyncIterator[FakeDns]:
    async with fake_dns() as server:
        yield server


@pytest.fixture
async def app(database_url: str, tmp_path: Path, dns: FakeDns) -> AsyncIterator[ControlApp]:
    """A control plane that asks our own DNS."""
    changes = {"dns_resolvers": [dns.address], "gateway_domain": "apps.example.org"}
    async with running_control(database_url, tmp_path, **changes) as running:
        yield running


async def test_nobody_without_a_token_reads_or_changes_domains(app: ControlApp) -> None:
    client = app.client()
    assert (await client.get(BASE)).status_code == 401
    assert (await client.get(f"{BASE}/example.net")).status_code == 401
    assert (await client.post(BASE, json={"name": "example.net"})).status_code == 401
    assert (await client.post(f"{BASE}/example.net/verify")).status_code == 401
    assert (await client.delete(f"{BASE}/example.net")).status_code == 401


async def test_a_deployer_sees_domains_and_changes_none(app: ControlApp) -> None:
    dora = await app.user("dora", Role.DEPLOYER)
    assert (await dora.get(BASE)).status_code == 200
    assert (await dora.post(BASE, json={"name": "example.net"})).status_code == 403
    assert (await dora.post(f"{BASE}/example.net/verify")).status_code == 403
    assert (await dora.delete(f"{BASE}/example.net")).status_code == 403


async def test_a_domain_is_proved_by_its_record_and_routes_answer_below_it(app: ControlApp, dns: FakeDns) -> None:
    await cluster(app, "edge-1")
    ada = await app.user("ada", Role.ADMIN)
    made = await ada.post(BASE, json={"name": "Example.NET."})
    assert made.status_code == 201, made.text
    record = made.json()["record"]
    assert record["name"] == "_towline-challenge.example.net" and made.json()["state"] == "pending"
    assert (await ada.post("/api/v1/routes", json=body())).json()["error"]["code"] == "host_refused"

    missing = await ada.post(f"{BASE}/example.net/verify")
    assert (missing.status_code, missing.json()["error"]["code"]) == (409, "domain_unverified")
    assert record["value"] in missing.json()["error"]["hint"]
    dns.records["_towline-challenge.example.net.", "TXT"] = ['"something else"']
    wrong = await ada.post(f"{BASE}/example.net/verify")
    assert wrong.status_code == 409 and "something else" in wrong.json()["error"]["message"]
    assert (await ada.get(f"{BASE}/example.net")).json()["checked_at"] is not None

    dns.records["_towline-challenge.example.net.", "TXT"] = ['"other"', f'"{record["value"]}"']
    proved = await ada.post(f"{BASE}/example.net/verify")
    assert (proved.status_code, proved.json()["state"]) == (200, "verified")
    assert (await ada.post("/api/v1/routes", json=body())).status_code == 201

    assert (await ada.delete(f"{BASE}/example.net")).status_code == 204
    route = (await ada.get("/api/v1/routes/web")).json()
    assert route["state"] == "refused" and "no verified domain" in route["reason"]
    await app.control.gateway.registry.settled()
    assert len(app.control.gateway.registry.table) == 0
    actions = [event.action for event in await app.rows(AuditEvent) if event.target_kind == "domain"]
    assert actions == ["domain.add", "domain.verify", "domain.remove"]


async def test_a_verified_domain_stays_when_its_record_goes(app: ControlApp, dns: FakeDns) -> None:
    ada = await app.user("ada", Role.ADMIN)
    record = (await ada.post(BASE, json={"name": "example.net"})).json()["record"]
    dns.records[f"{record['name']}.", "TXT"] = [f'"{record["value"]}"']
    assert (await ada.post(f"{BASE}/example.net/verify")).status_code == 200
    dns.records.clear()
    again = await ada.post(f"{BASE}/example.net/verify")
    assert again.json()["state"] == "verified" and again.json()["reason"]


async def test_one_organisation_alone_has_a_domain(app: ControlApp, dns: FakeDns) -> None:
    ada = await app.user("ada", Role.ADMIN)
    eve = await app.user("eve", Role.OWNER, org_id=await app.org("other"))
    records = [(await one.post(BASE, json={"name": "example.net"})).json()["record"] for one in (ada, eve)]
    assert records[0]["value"] != records[1]["value"]
    dns.records["_towline-challenge.example.net.", "TXT"] = [f'"{one["value"]}"' for one in records]
    assert (await ada.post(f"{BASE}/example.net/verify")).status_code == 200
    late = await eve.post(f"{BASE}/example.net/verify")
    assert late.status_code == 409 and "another organisation" in late.text
    assert (await eve.get(BASE)).json()["items"][0]["state"] == "pending"


async def test_names_that_nobody_can_own_are_refused(app: ControlApp) -> None:
    ada = await app.user("ada", Role.ADMIN)
    for name, code in (
        ("co.uk", "host_refused"), ("apps.example.org", "host_refused"), ("x.apps.example.org", "host_refused"),
        ("*.example.net", "invalid"), ("10.0.0.1", "invalid"), ("localhost", "invalid"),
    ):  # fmt: skip
        answer = await ada.post(BASE, json={"name": name})
        assert (answer.status_code, answer.json()["error"]["code"]) == (422, code), name
    await ada.post(BASE, json={"name": "example.net"})
    assert (await ada.post(BASE, json={"name": "example.net"})).json()["error"]["code"] == "name_taken"


async def test_a_dns_that_does_not_answer_is_said_to_be_that(
    app: ControlApp, dns: FakeDns, monkeypatch: pytest.MonkeyPatch
) -> None:
    from towline.control.domains import resolver

    monkeypatch.setattr(resolver, "QUERY_TIMEOUT", 0.05)
    monkeypatch.setattr(resolver, "ANSWER_TIMEOUT", 0.1)
    ada = await app.user("ada", Role.ADMIN)
    await ada.post(BASE, json={"name": "example.net"})
    dns.silent = True
    answer = await ada.post(f"{BASE}/example.net/verify")
    assert answer.status_code == 409 and "in time" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"gateway_domain": "apps.towline.test"}, "shares the registrable domain towline.test"),
        ({"gateway_domain": "apps.example.com", "hostnames": ["t.example.com"]}, "example.com"),
        ({"gateway_domain": "not a name"}, "host name"),
        ({"dns_resolvers": ["dns.example"], "gateway_domain": "apps.example.org"}, "dns_resolvers"),
    ],
)
async def test_a_server_refuses_a_gateway_that_shares_the_dashboards_domain(
    tmp_path: Path, changes: dict[str, object], words: str
) -> None:
    url = f"sqlite:///{tmp_path / 'towline.sqlite'}"
    with pytest.raises(StartupError, match=words):
        async with running_control(url, tmp_path, start=False, **changes):
            pass


def test_development_may_share_a_domain(tmp_path: Path) -> None:
    changes = {"gateway_domain": "apps.towline.test", "gateway_allow_shared_domain": True}
    assert test_settings("sqlite:///x", tmp_path, **changes).gateway_domain == "apps.towline.test"


async def passed(app: ControlApp, **time: float) -> None:
    """Let time pass for every domain."""
    ago = timedelta(**time)
    async with app.control.db.begin() as tx:
        for row in (await tx.scalars(select(Domain))).all():
            row.checked_at = (row.checked_at or row.created_at) - ago
            row.missing_since = row.missing_since and row.missing_since - ago


async def proved(app: ControlApp, dns: FakeDns, client: Any) -> None:
    made = (await client.post(BASE, json={"name": "example.net"})).json()["record"]
    dns.records[f"{made['name']}.", "TXT"] = [f'"{made["value"]}"']
    assert (await client.post(f"{BASE}/example.net/verify")).json()["state"] == "verified"


async def test_a_proof_that_is_gone_for_a_week_takes_no_new_name_and_ends_no_route(
    app: ControlApp, dns: FakeDns
) -> None:
    await cluster(app, "edge-1")
    ada = await app.user("ada", Role.ADMIN)
    await proved(app, dns, ada)
    assert (await ada.post("/api/v1/routes", json=body())).status_code == 201
    look_again = app.control.domains.look_again
    assert await look_again() == 0
    await passed(app, days=1.1)
    assert await look_again() == 1
    found = (await ada.get(f"{BASE}/example.net")).json()
    assert (found["state"], found["missing_since"]) == ("verified", None)

    records = dict(dns.records)
    dns.records.clear()
    await passed(app, days=1.1)
    await look_again()
    found = (await ada.get(f"{BASE}/example.net")).json()
    assert found["state"] == "verified" and found["missing_since"] and "no TXT record" in found["reason"]
    await passed(app, days=6)
    await look_again()
    assert (await ada.get(f"{BASE}/example.net")).json()["state"] == "verified"
    await passed(app, days=1.1)
    await look_again()
    assert (await ada.get(f"{BASE}/example.net")).json()["state"] == "lapsed"
    assert [row.action for row in await app.rows(AuditEvent)].count("domain.lapse") == 1

    await ada.patch("/api/v1/routes/web", json={"enabled": True})
    assert (await ada.get("/api/v1/routes/web")).json()["state"] == "active"
    refused = await ada.post("/api/v1/routes", json=body(name="new", host="new.example.net"))
    assert refused.json()["error"]["code"] == "host_refused"
    dns.records |= records
    assert (await ada.post(f"{BASE}/example.net/verify")).json()["state"] == "verified"
    assert (await ada.post("/api/v1/routes", json=body(name="new", host="new.example.net"))).status_code == 201


async def test_dns_that_is_away_says_nothing_about_a_domain(
    app: ControlApp, dns: FakeDns, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resolver, "ANSWER_TIMEOUT", 0.2)
    ada = await app.user("ada", Role.ADMIN)
    await proved(app, dns, ada)
    dns.silent = True
    await passed(app, days=2)
    assert await app.control.domains.look_again() == 1
    assert (await ada.get(f"{BASE}/example.net")).json()["missing_since"] is None


async def test_a_lapsed_domain_that_somebody_else_proves_is_theirs(app: ControlApp, dns: FakeDns) -> None:
    await cluster(app, "edge-1")
    ada = await app.user("ada", Role.ADMIN)
    await proved(app, dns, ada)
    assert (await ada.post("/api/v1/routes", json=body())).status_code == 201
    async with app.control.db.begin() as tx:
        (await tx.scalars(select(Domain))).one().state = "lapsed"
    other = await app.org("other")
    eve = await app.user("eve", Role.OWNER, org_id=other)
    await proved(app, dns, eve)
    assert (await ada.get(f"{BASE}/example.net")).json()["state"] == "pending"
    assert (await ada.get("/api/v1/routes/web")).json()["state"] == "refused"
