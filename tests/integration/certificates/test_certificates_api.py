"""The API of certificates: who may, uploads, renewal, revocation, and the server's own authority."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from tests.support.certificates import certified, shown
from tests.support.control_app import ControlApp, running_control, test_settings
from tests.testbed.pebble import Authority

from towline.control.access.permissions import Role
from towline.control.app import create_app
from towline.control.authority import certificates
from towline.control.certificates import repository
from towline.control.certificates.wanted import WantedName
from towline.control.server import serving

NAME = "shop.example.test"
BASE = "/api/v1/certificates"
NOW = datetime.now(UTC)

root_key = certificates.new_key()
root = certificates.new_authority(root_key, NOW)


def brought(*names: str, now: datetime = NOW) -> dict[str, str]:
    """A certificate of somebody's own authority."""
    key = certificates.new_key()
    made = certificates.new_server(key, names, root, root_key, now)
    return {"chain": certificates.chain_pem(made, root).decode(), "key": certificates.key_pem(key).decode()}


async def wanting(app: ControlApp, *names: str) -> None:
    async def wanted() -> list[WantedName]:
        return [WantedName(name) for name in names]

    app.control.certificates.sources.append(wanted)
    app.control.bus.publish("route")


async def test_nobody_sees_or_changes_certificates_without_signing_in(database_url: str, tmp_path: Path) -> None:
    async with running_control(database_url, tmp_path) as app:
        client = app.client()
        for method, path in (
            ("GET", ""), ("POST", ""), ("GET", "/authority"), ("GET", f"/{NAME}"), ("POST", f"/{NAME}/renew"),
            ("POST", f"/{NAME}/revoke"), ("DELETE", f"/{NAME}"),
        ):  # fmt: skip
            assert (await client.request(method, BASE + path)).status_code == 401


async def test_a_deployer_sees_certificates_and_an_administrator_changes_them(
    database_url: str, tmp_path: Path
) -> None:
    async with running_control(database_url, tmp_path, gateway_domain="apps.test") as app:
        deployer = await app.user("dora", Role.DEPLOYER)
        assert (await deployer.get(BASE)).json()["items"] == []
        assert (await deployer.post(BASE, json=brought("a.apps.test"))).status_code == 403
        admin = await app.user("ada", Role.ADMIN)
        answer = await admin.post(BASE, json=brought("a.apps.test", "*.a.apps.test"))
        assert answer.status_code == 201, answer.text
        made = answer.json()["certificate"]
        assert made["source"] == "upload" and made["state"] == "issued" and made["days_left"] == 89
        assert "PRIVATE" not in answer.text
        assert (await deployer.get(f"{BASE}/a.apps.test")).json()["id"] == made["id"]


async def test_an_uploaded_key_is_sealed_in_the_database_and_served(database_url: str, tmp_path: Path) -> None:
    async with running_control(database_url, tmp_path, gateway_domain="apps.test") as app:
        admin = await app.user("ada", Role.ADMIN)
        body = brought("a.apps.test")
        await admin.post(BASE, json=body)
        await app.control.certificates.look()
        found = app.control.certificates.handshakes.find("a.apps.test")
        assert found is not None and found.key.decode() == body["key"]
        figures = app.control.metrics.registry.get_sample_value
        assert figures("towline_certificates", {"source": "upload", "state": "issued"}) == 1
        assert figures("towline_certificates_served") == 1 and figures("towline_certificates_ending") == 0
        assert 88 * 86400 < (figures("towline_certificate_soonest_end_seconds") or 0) < 91 * 86400
        async with app.control.db.read() as tx:
            row = await repository.by_name(tx, "a.apps.test")
        assert row is not None and b"PRIVATE" not in row.sealed_key and len(row.sealed_key) > 100


@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        (brought("shop.elsewhere.example"), "host_refused", "under no verified domain"),
        (brought("a.apps.test", now=NOW - timedelta(days=100)), "invalid", "ended on"),
        ({**brought("a.apps.test"), "key": brought("b.apps.test")["key"]}, "invalid", "does not fit"),
        ({"chain": "none", "key": "none"}, "invalid", "no PEM"),
    ],
)
async def test_what_cannot_be_served_is_refused_with_the_reason(
    body: dict[str, str], code: str, words: str, database_url: str, tmp_path: Path
) -> None:
    async with running_control(database_url, tmp_path, gateway_domain="apps.test") as app:
        admin = await app.user("ada", Role.ADMIN)
        answer = await admin.post(BASE, json=body)
        assert answer.json()["error"]["code"] == code
        assert words in answer.json()["error"]["message"]
        assert "PRIVATE" not in answer.text


async def test_an_uploaded_certificate_goes_before_others_and_is_forgotten_when_asked(
    database_url: str, tmp_path: Path
) -> None:
    async with running_control(database_url, tmp_path, gateway_domain="apps.test") as app:
        admin = await app.user("ada", Role.ADMIN)
        await wanting(app, "a.apps.test", "b.apps.test")
        await app.control.certificates.look()
        await admin.post(BASE, json=brought("a.apps.test"))
        await app.control.certificates.look()
        assert (await admin.get(f"{BASE}/a.apps.test")).json()["source"] == "upload"
        assert (await admin.get(f"{BASE}/b.apps.test")).json()["source"] == "local"
        assert (await admin.delete(f"{BASE}/a.apps.test")).status_code == 204
        await app.control.certificates.look()
        assert (await admin.get(f"{BASE}/a.apps.test")).json()["source"] == "local"


async def test_another_organisation_finds_no_certificate_of_ours(database_url: str, tmp_path: Path) -> None:
    async with running_control(database_url, tmp_path, gateway_domain="apps.test") as app:
        admin = await app.user("ada", Role.ADMIN)
        await admin.post(BASE, json=brought("a.apps.test"))
        stranger = await app.user("eve", Role.OWNER, org_id=await app.org("other"))
        assert (await stranger.get(BASE)).json()["items"] == []
        assert (await stranger.get(f"{BASE}/a.apps.test")).status_code == 404
        assert (await stranger.delete(f"{BASE}/a.apps.test")).status_code == 404
        assert (await stranger.post(BASE, json=brought("a.apps.test"))).status_code == 422


async def test_without_an_authority_our_own_signs_what_is_asked_for_and_shows_what_to_trust(tmp_path: Path) -> None:
    settings = test_settings(f"sqlite:///{tmp_path / 'towline.sqlite'}", tmp_path, gateway_domain="apps.test")
    async with serving(settings) as running:
        app = ControlApp(running.control, create_app(running.control), settings)
        await wanting(app, NAME, "*.shop.test")
        await running.control.certificates.look()
        viewer = await app.user("vera", Role.VIEWER)
        authority = (await viewer.get(f"{BASE}/authority")).json()["pem"]
        for name in (NAME, "any.shop.test"):
            certificate = await shown(running.port, name, authority)
            assert (await shown(running.port, name, authority)) == certificate
        with pytest.raises(OSError):
            await shown(running.port, "nobody.test", authority)
        listed = (await viewer.get(BASE)).json()["items"]
        assert [(entry["name"], entry["source"]) for entry in listed] == [("*.shop.test", "local"), (NAME, "local")]
        await viewer.aclose()


@pytest.mark.pebble
async def test_a_revoked_certificate_is_withdrawn_and_replaced_by_one_with_another_key(
    tmp_path: Path, authority: Authority
) -> None:
    async with certified(tmp_path, authority) as server:
        app = ControlApp(server.running.control, None, server.running.control.settings)
        access = await app.access("ada", *_admin())
        server.want(NAME)
        first = await server.issued(NAME)
        old = x509.load_pem_x509_certificate(first.chain.encode())
        withdrawn = await server.feature.service.revoke(access, NAME, "key_compromise")
        assert withdrawn.state == "revoked" and not withdrawn.served
        second = await server.issued(NAME)
        new = x509.load_pem_x509_certificate(second.chain.encode())
        assert new.public_key() != old.public_key()
        status = authority._managed(f"cert-status-by-serial/{old.serial_number:x}").decode()
        assert "Revoked" in status
        await server.served(NAME)
        await server.shown(NAME)


@pytest.mark.pebble
async def test_renewing_by_hand_asks_once_more(tmp_path: Path, authority: Authority) -> None:
    async with certified(tmp_path, authority) as server:
        app = ControlApp(server.running.control, None, server.running.control.settings)
        access = await app.access("ada", *_admin())
        server.want(NAME)
        await server.issued(NAME)
        await server.feature.service.renew(access, NAME)
        await server.until(NAME, lambda row: row.serial == 2 and row.state == "issued" and not row.owner)
        assert authority.orders() == 2


def _admin() -> tuple:
    from towline.control.access.permissions import Right

    return (Right(Role.ADMIN),)
