"""From a wanted name to a handshake that a client of the authority accepts, with each challenge."""

import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from tests.support.certificates import certified
from tests.support.edge import ask
from tests.testbed.pebble import Authority

pytestmark = pytest.mark.pebble

NAME = "shop.example.test"


async def test_a_wanted_name_is_served_with_a_certificate_within_ten_seconds(
    tmp_path: Path, authority: Authority
) -> None:
    async with certified(tmp_path, authority) as server:
        began = time.monotonic()
        server.want(NAME)
        row = await server.issued(NAME)
        await server.served(NAME)
        shown = await server.shown(NAME)
        assert time.monotonic() - began < 10
        assert row.challenge == "http-01"
        assert shown.not_valid_after_utc == row.ends_at
        assert authority.orders() == 1


async def test_a_name_is_proved_by_tls_alpn_alone(tmp_path: Path, authority: Authority) -> None:
    async with certified(tmp_path, authority, gateway_listen_http="", acme_challenges=["tls-alpn-01"]) as server:
        server.want(NAME)
        row = await server.issued(NAME)
        await server.served(NAME)
        await server.shown(NAME)
        assert row.challenge == "tls-alpn-01"
        await server.feature.look()
        assert not server.feature.handshakes.wants_hello


async def test_an_account_is_bound_to_one_of_the_authority(
    tmp_path: Path, start_pebble: Callable[..., Authority]
) -> None:
    key = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"
    authority = start_pebble(externalAccountBindingRequired=True, externalAccountMACKeys={"kid-1": key})
    file = tmp_path / "eab"
    file.write_text(key)
    async with certified(tmp_path, authority, acme_eab_key_id="kid-1", acme_eab_hmac_file=str(file)) as server:
        server.want(NAME)
        await server.issued(NAME)


async def test_an_authority_that_asks_for_a_binding_is_explained(
    tmp_path: Path, start_pebble: Callable[..., Authority]
) -> None:
    authority = start_pebble(externalAccountBindingRequired=True)
    async with certified(tmp_path, authority) as server:
        server.want(NAME)
        row = await server.in_state(NAME, "blocked")
        assert "acme_eab_key_id" in row.reason


async def test_nonces_that_are_rejected_often_hinder_nothing(
    tmp_path: Path, start_pebble: Callable[..., Authority]
) -> None:
    authority = start_pebble(environment={"PEBBLE_WFE_NONCEREJECT": "60"})
    async with certified(tmp_path, authority) as server:
        server.want(NAME)
        await server.issued(NAME)
        assert authority.orders() == 1


async def test_a_name_without_certificate_gets_none_when_there_is_a_gateway_domain(
    tmp_path: Path, authority: Authority
) -> None:
    async with certified(tmp_path, authority, gateway_domain="apps.example.test") as server:
        with pytest.raises(OSError):  # an alert, or its end of the connection
            await server.shown("nobody.example.test")
        await server.shown("localhost", root=server.running.control.tls.material.authority_pem)


async def test_everything_but_challenges_is_sent_to_https(tmp_path: Path, authority: Authority) -> None:
    async with certified(tmp_path, authority) as server, httpx.AsyncClient() as client:
        base = f"http://127.0.0.1:{authority.ports.http}"
        moved = await client.get(f"{base}/some/place?with=query", headers={"host": NAME})
        assert moved.status_code == 301
        assert moved.headers["location"] == f"https://{NAME}:{server.running.port}/some/place?with=query"
        assert (await client.post(f"{base}/form", content=b"x", headers={"host": NAME})).status_code == 308
        unknown = await client.get(f"{base}/.well-known/acme-challenge/{'t' * 32}", headers={"host": NAME})
        assert unknown.status_code == 404


@pytest.mark.parametrize("path", ["../../etc/passwd", "a", "%2e%2e%2f" * 4, "t" * 500, ""])
async def test_paths_that_are_no_token_are_unknown_on_both_ports(
    path: str, tmp_path: Path, authority: Authority
) -> None:
    async with certified(tmp_path, authority) as server:
        for port in (authority.ports.http, server.running.port):  # plain HTTP is served on loopback
            request = f"GET /.well-known/acme-challenge/{path} HTTP/1.1\r\nHost: {NAME}\r\nConnection: close\r\n\r\n"
            assert (await ask(port, request.encode())).startswith((b"HTTP/1.1 404", b"HTTP/1.1 400"))
