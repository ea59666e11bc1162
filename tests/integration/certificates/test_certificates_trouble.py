"""What goes wrong with authorities, DNS and clocks: each ends in a working or an explained state, and asks once."""

import asyncio
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
from sqlalchemy import update
from tests.support.acme_proxy import AcmeProxy, Reply, problem
from tests.support.certificates import Certified, certified
from tests.testbed.pebble import Authority

from towline.control.certificates.models import Certificate
from towline.control.db import now

pytestmark = pytest.mark.pebble

NAME = "shop.example.test"


@pytest.fixture
def proxy(authority: Authority, tmp_path: Path) -> Iterator[AcmeProxy]:
    """A calm authority behind a proxy that a test tells what to do."""
    with AcmeProxy(authority, tmp_path) as running:
        yield running


def behind(proxy: AcmeProxy) -> dict[str, str]:
    """Settings that ask the proxy."""
    return {"acme_directory": proxy.directory, "acme_ca_file": str(proxy.ca_file)}


async def make_due(server: Certified, name: str = NAME) -> None:
    """Have the next try now, as if its time had come."""
    async with server.running.control.db.begin() as tx:
        await tx.execute(update(Certificate).where(Certificate.name == name).values(next_at=now(-1)))
        tx.publish("certificate")


# -- the authority


async def test_a_refusing_authority_is_explained_and_not_asked_again_at_once(
    tmp_path: Path, start_pebble: Callable[..., Authority]
) -> None:
    authority = start_pebble(domainBlocklist=[NAME])
    async with certified(tmp_path, authority) as server:
        server.want(NAME)
        row = await server.in_state(NAME, "failed")
        assert "the authority refused" in row.reason and "rejectedIdentifier" in row.reason
        assert row.next_at - row.updated_at >= timedelta(seconds=59)
        server.hint()
        await server.feature.look()
        assert (await server.until(NAME, lambda row: True)).attempts == 1


async def test_a_rate_limit_is_waited_out_as_long_as_the_authority_says(
    tmp_path: Path, authority: Authority, proxy: AcmeProxy
) -> None:
    limited = problem("rateLimited", "too many certificates already issued", 429, **{"Retry-After": "86400"})
    proxy.instead = lambda path: limited if path == "/order-plz" else None
    async with certified(tmp_path, authority, **behind(proxy)) as server:
        server.want(NAME)
        row = await server.in_state(NAME, "failed")
        assert "too many certificates" in row.reason and "rateLimited" in row.reason
        assert row.next_at - row.updated_at >= timedelta(hours=23)
        for _ in range(3):
            await server.feature.look()
        assert proxy.count("order-plz") == 1


def _tried(times: int) -> Callable[[Certificate], bool]:
    return lambda row: row.attempts == times


async def test_after_three_refusals_in_an_hour_nobody_is_asked(
    tmp_path: Path, start_pebble: Callable[..., Authority]
) -> None:
    authority = start_pebble(domainBlocklist=[NAME])
    async with certified(tmp_path, authority) as server:
        server.want(NAME)
        for attempt in (1, 2, 3):
            await server.until(NAME, _tried(attempt))
            await make_due(server)
        row = await server.in_state(NAME, "blocked")
        assert "3 refusals" in row.reason and "one hour" in row.reason


async def test_an_authority_that_is_away_is_asked_again_and_then_certifies(
    tmp_path: Path, authority: Authority, proxy: AcmeProxy
) -> None:
    proxy.instead = lambda path: Reply(503, {"Content-Type": "text/html"}, b"<h1>down</h1>")
    async with certified(tmp_path, authority, **behind(proxy)) as server:
        server.want(NAME)
        row = await server.in_state(NAME, "failed")
        assert "speaks no ACME" in row.reason
        assert not authority.orders()
        proxy.instead = lambda path: None
        await make_due(server)
        await server.issued(NAME)


async def test_an_order_that_takes_for_ever_is_kept_and_gone_on_with(
    tmp_path: Path, authority: Authority, proxy: AcmeProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("towline.control.certificates.ordering.ORDER_DEADLINE", 1.0)
    proxy.after = lambda path, reply: _with_status(reply, "processing") if "my-order" in path else reply
    async with certified(tmp_path, authority, **behind(proxy)) as server:
        server.want(NAME)
        row = await server.in_state(NAME, "failed")
        assert "has been at it" in row.reason and row.order_url
        proxy.after = lambda path, reply: reply
        await make_due(server)
        await server.issued(NAME)
        assert proxy.count("order-plz") == 1


def _with_status(reply: Reply, status: str) -> Reply:
    found = json.loads(reply.body)
    if found.get("status") in ("ready", "valid"):
        found["status"] = status
    return Reply(reply.status, reply.headers, json.dumps(found).encode())


async def test_a_certificate_for_somebody_else_is_not_served(
    tmp_path: Path, authority: Authority, proxy: AcmeProxy
) -> None:
    other = authority.root().encode()
    proxy.after = lambda path, reply: Reply(200, reply.headers, other) if "certZ" in path else reply
    async with certified(tmp_path, authority, **behind(proxy)) as server:
        server.want(NAME)
        row = await server.in_state(NAME, "failed")
        assert "another key than ours" in row.reason
        assert server.feature.handshakes.find(NAME) is None


async def test_an_authority_that_forgot_our_account_gets_the_same_key_again(
    tmp_path: Path, authority: Authority
) -> None:
    async with certified(tmp_path, authority) as server:
        server.want(NAME)
        await server.issued(NAME)
        await asyncio.to_thread(authority.running[-1].restart)  # it keeps nothing
        async with server.running.control.db.begin() as tx:
            await tx.execute(update(Certificate).where(Certificate.name == NAME).values(renew_at=now(-1)))
        await make_due(server)
        await server.until(NAME, lambda row: row.serial == 2 and not row.owner)


# -- DNS


async def test_a_wrong_record_is_named_before_anybody_is_asked(tmp_path: Path, authority: Authority) -> None:
    authority.set_record("add-a", host=NAME, addresses=["127.0.0.99"])
    async with certified(tmp_path, authority, hostnames=["towline.example.test"]) as server:
        server.want(NAME)
        row = await server.in_state(NAME, "blocked")
        assert "127.0.0.99" in row.reason and "set a record" in row.reason and "towline.example.test" in row.reason
        assert authority.orders() == 0
        authority.set_record("clear-a", host=NAME)
        await make_due(server)
        await server.issued(NAME)
        assert authority.orders() == 1


async def test_a_name_without_address_is_told_its_record(tmp_path: Path, authority: Authority) -> None:
    authority.set_record("set-default-ipv4", ip="")
    async with certified(tmp_path, authority) as server:
        server.want(NAME)
        row = await server.in_state(NAME, "blocked")
        assert f"{NAME} has no address in DNS" in row.reason
        assert authority.orders() == 0


async def test_a_caa_record_that_forbids_is_named(tmp_path: Path, start_pebble: Callable[..., Authority]) -> None:
    authority = start_pebble(caaIdentities=["pebble.letsencrypt.org"])
    authority.set_record("add-caa", host="example.test", policies=[{"tag": "issue", "value": "other.example"}])
    async with certified(tmp_path, authority) as server:
        server.want(NAME)
        row = await server.in_state(NAME, "blocked")
        assert "CAA records allow other.example" in row.reason and "pebble.letsencrypt.org" in row.reason
        assert authority.orders() == 0


async def test_the_other_challenge_is_taken_when_port_80_is_somebody_elses(
    tmp_path: Path, authority: Authority
) -> None:
    elsewhere = {"gateway_listen_http": "127.0.0.1:0", "acme_http_port": authority.ports.records}
    async with certified(tmp_path, authority, **elsewhere) as server:
        server.want(NAME)
        assert (await server.issued(NAME)).challenge == "tls-alpn-01"
        assert authority.orders() == 1


async def test_somebody_elses_web_server_is_named_where_no_other_challenge_works(
    tmp_path: Path, authority: Authority
) -> None:
    elsewhere = {"gateway_listen_http": "127.0.0.1:0", "acme_http_port": authority.ports.records}
    async with certified(tmp_path, authority, acme_challenges=["http-01"], **elsewhere) as server:
        server.want(NAME)
        row = await server.in_state(NAME, "blocked")
        assert f"port {authority.ports.records} there is somebody else's: it answered 404" in row.reason
        assert authority.orders() == 0


# -- time


@pytest.mark.parametrize(("days", "word"), [(10, "behind"), (-10, "ahead of")])
async def test_a_clock_that_is_off_is_named_and_nobody_is_asked(
    days: int, word: str, tmp_path: Path, authority: Authority, proxy: AcmeProxy
) -> None:
    moment = format_datetime(datetime.now(UTC) + timedelta(days=days), usegmt=True)
    proxy.after = lambda path, reply: Reply(reply.status, {**reply.headers, "Date": moment}, reply.body)
    async with certified(tmp_path, authority, **behind(proxy)) as server:
        server.want(NAME)
        row = await server.in_state(NAME, "blocked")
        assert f"clock is 240 hours {word} the authority's" in row.reason
        assert authority.orders() == 0
        proxy.after = lambda path, reply: reply
        await make_due(server)
        await server.issued(NAME)


async def test_a_certificate_is_renewed_when_the_authority_says_and_replaces_the_old_one(
    tmp_path: Path, authority: Authority
) -> None:
    async with certified(tmp_path, authority) as server:
        server.want(NAME)
        first = await server.issued(NAME)
        await server.served(NAME)
        past = datetime.now(UTC) - timedelta(days=2)
        window = {"start": past.isoformat(), "end": (past + timedelta(days=1)).isoformat()}
        authority.suggest_renewal(first.chain, {"suggestedWindow": window})
        await make_due(server)
        second = await server.until(NAME, lambda row: row.serial == 2 and row.state == "issued")
        assert second.fingerprint != first.fingerprint
        assert authority.orders() == 2
        await _shown_serial(server, second)
        for _ in range(3):
            await server.feature.look()
        assert authority.orders() == 2


async def _shown_serial(server: Certified, row: Certificate) -> None:
    await server.feature.look()
    shown = await server.shown(NAME)
    assert shown.not_valid_after_utc == row.ends_at


async def test_nonsense_about_renewal_changes_nothing(tmp_path: Path, authority: Authority) -> None:
    async with certified(tmp_path, authority) as server:
        server.want(NAME)
        first = await server.issued(NAME)
        authority.suggest_renewal(first.chain, "<html>")
        await make_due(server)
        again = await server.until(NAME, lambda row: row.asked_ari_at is not None and row.next_at > row.updated_at)
        assert again.renew_at == first.renew_at or again.serial == 1


async def test_a_renewal_that_fails_leaves_the_old_certificate_and_warns_long_before_its_end(
    tmp_path: Path, authority: Authority, proxy: AcmeProxy
) -> None:
    async with certified(tmp_path, authority, **behind(proxy)) as server:
        server.want(NAME)
        await server.issued(NAME)
        proxy.instead = lambda path: problem("serverInternal", "the database is down", 500)
        async with server.running.control.db.begin() as tx:
            values = {"renew_at": now(-1), "begins_at": now(-80 * 86400), "next_at": now(-1), "ends_at": now(86400)}
            await tx.execute(update(Certificate).where(Certificate.name == NAME).values(**values))
            tx.publish("certificate")
        row = await server.in_state(NAME, "failed")
        assert "the database is down" in row.reason
        await server.feature.look()
        await server.shown(NAME)
        events = await _events(server, "certificate.ending")
        assert len(events) == 1 and "the database is down" in events[0].reason
        await server.feature.look()
        assert len(await _events(server, "certificate.ending")) == 1


async def _events(server: Certified, action: str) -> list:
    from sqlalchemy import select

    from towline.control.audit.models import AuditEvent

    async with server.running.control.db.read() as tx:
        return list((await tx.scalars(select(AuditEvent).where(AuditEvent.action == action))).all())


# -- names that come and go


async def test_a_route_that_comes_back_gets_the_certificate_that_it_had(tmp_path: Path, authority: Authority) -> None:
    async with certified(tmp_path, authority) as server:
        server.want(NAME)
        await server.issued(NAME)
        server.unwant(NAME)
        await server.until(NAME, lambda row: not row.wanted)
        server.want(NAME)
        await server.until(NAME, lambda row: row.wanted)
        await server.feature.look()
        assert authority.orders() == 1


async def test_ten_names_at_once_are_each_asked_for_once(tmp_path: Path, authority: Authority) -> None:
    names = [f"app-{number}.example.test" for number in range(10)]
    async with certified(tmp_path, authority) as server:
        server.want(*names)
        for name in names:
            await server.issued(name)
        assert authority.orders() == len(names)
