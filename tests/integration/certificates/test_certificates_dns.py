"""DNS-01: by RFC 2136, by a webhook, by a plugin; wildcards, and what a name server refuses."""

import json
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from tests.support.certificates import certified
from tests.support.dns_server import running_dns
from tests.testbed.pebble import Authority

from towline.control.certificates.dns_solver import solver_from
from towline.control.errors import StartupError

pytestmark = pytest.mark.pebble

WILDCARD = "*.apps.example.test"
TOKEN = "a token of the webhook"


async def test_a_wildcard_is_certified_by_rfc_2136_and_its_record_taken_away(
    tmp_path: Path, start_pebble: Callable[..., Authority]
) -> None:
    async with running_dns("example.test") as dns:
        key = tmp_path / "tsig"
        key.write_text(dns.key_file())
        authority = start_pebble(name_server=dns.address)
        how = {"provider": "rfc2136", "server": dns.address, "key_file": str(key)}
        async with certified(tmp_path, authority, acme_dns=how) as server:
            server.want(WILDCARD)
            row = await server.issued(WILDCARD)
            await server.served("shop-web.apps.example.test")
            await server.shown("shop-web.apps.example.test")
            assert row.challenge == "dns-01"
        record = "_acme-challenge.apps.example.test"
        assert [(action, name) for action, name, _ in dns.history] == [("add", record), ("remove", record)]
        assert dns.texts[record] == []


async def test_names_of_the_gateways_domain_share_one_wildcard(
    tmp_path: Path, start_pebble: Callable[..., Authority]
) -> None:
    async with running_dns("example.test") as dns:
        key = tmp_path / "tsig"
        key.write_text(dns.key_file())
        authority = start_pebble(name_server=dns.address)
        how = {"provider": "rfc2136", "server": dns.address, "key_file": str(key), "zone": "example.test"}
        async with certified(tmp_path, authority, acme_dns=how, gateway_domain="apps.example.test") as server:
            names = [f"app-{number}-prod.apps.example.test" for number in range(5)]
            server.want(*names)
            await server.issued(WILDCARD)
            for name in names:
                await server.served(name)
                await server.shown(name)
            assert authority.orders() == 1


async def test_a_name_server_that_refuses_our_key_is_named(
    tmp_path: Path, start_pebble: Callable[..., Authority]
) -> None:
    async with running_dns("example.test") as dns:
        key = tmp_path / "tsig"
        key.write_text(dns.key_file("c29tZWJvZHkgZWxzZXMgc2VjcmV0"))
        authority = start_pebble(name_server=dns.address)
        how = {"provider": "rfc2136", "server": dns.address, "key_file": str(key)}
        async with certified(tmp_path, authority, acme_dns=how) as server:
            server.want(WILDCARD)
            row = await server.in_state(WILDCARD, "blocked")
            assert dns.address in row.reason
            assert "c29tZW" not in row.reason


async def test_a_wildcard_without_dns_is_told_what_it_needs(tmp_path: Path, authority: Authority) -> None:
    async with certified(tmp_path, authority) as server:
        server.want(WILDCARD)
        row = await server.in_state(WILDCARD, "blocked")
        assert "dns-01" in row.reason and "acme_dns" in row.reason
        assert authority.orders() == 0


# -- the webhook


@contextmanager
def webhook(authority: Authority, asked: list[dict[str, str]]) -> Iterator[str]:
    """Sets records of the challenge server, as an operator's own script would at a provider."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                self.send_error(401)
                return
            asked.append(body)
            what = "set-txt" if body["action"] == "present" else "clear-txt"
            authority.set_record(what, host=f"{body['record']}.", value=body["value"])
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Quiet: the test looks at `asked`."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/records"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


async def test_a_webhook_sets_the_records(tmp_path: Path, authority: Authority) -> None:
    asked: list[dict[str, str]] = []
    token = tmp_path / "token"
    token.write_text(f"{TOKEN}\n")
    with webhook(authority, asked) as url:
        how = {"provider": "webhook", "url": url, "token_file": str(token)}
        async with certified(tmp_path, authority, acme_dns=how, acme_challenges=["dns-01"]) as server:
            server.want(WILDCARD, "example.test")
            await server.issued(WILDCARD)
            await server.issued("example.test")
    assert {entry["record"] for entry in asked} == {"_acme-challenge.apps.example.test", "_acme-challenge.example.test"}
    assert [entry["action"] for entry in asked].count("remove") == 2


async def test_a_webhook_that_fails_is_named(tmp_path: Path, authority: Authority) -> None:
    with webhook(authority, []) as url:
        how = {"provider": "webhook", "url": url}
        async with certified(tmp_path, authority, acme_dns=how, acme_challenges=["dns-01"]) as server:
            server.want(WILDCARD)
            row = await server.in_state(WILDCARD, "blocked")
            assert "the webhook of acme_dns answered 401" in row.reason


# -- plugins


def test_a_plugin_is_found_by_its_entry_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "towline_dns_example.py").write_text(
        "class Solver:\n"
        "    def __init__(self, options):\n        self.options = options\n"
        "    async def present(self, name, value): ...\n"
        "    async def remove(self, name, value): ...\n"
    )
    installed = tmp_path / "towline_dns_example-1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: towline-dns-example\nVersion: 1.0\n")
    (installed / "entry_points.txt").write_text("[towline.dns_providers]\nexample = towline_dns_example:Solver\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    try:
        solver = solver_from({"provider": "example", "region": "north"})
        assert getattr(solver, "options", None) == {"region": "north"}
    finally:
        sys.modules.pop("towline_dns_example", None)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"server": "192.0.2.1"}, "name a provider"),
        ({"provider": "nobody"}, "there is no provider nobody"),
        ({"provider": "rfc2136", "server": "192.0.2.1"}, "needs server and key_file"),
        ({"provider": "rfc2136", "server": "192.0.2.1", "key_file": "/nowhere", "secret": "x"}, "secret is none of"),
        ({"provider": "rfc2136", "server": "192.0.2.1", "key_file": "/nowhere"}, "cannot be read"),
        ({"provider": "webhook", "url": "ftp://example"}, "needs a url"),
    ],
)
def test_settings_that_cannot_work_are_refused_at_the_start(options: dict[str, str], words: str) -> None:
    with pytest.raises(StartupError, match=words):
        solver_from(options)


# -- the server's own names


async def test_the_servers_own_names_are_certified_and_agents_keep_what_they_pinned(
    tmp_path: Path, start_pebble: Callable[..., Authority]
) -> None:
    async with running_dns("example.test") as dns:
        key = tmp_path / "tsig"
        key.write_text(dns.key_file())
        authority = start_pebble(name_server=dns.address)
        settings = {
            "acme_server_names": True,
            "hostnames": ["towline.example.test"],
            "kubernetes_host": "k8s.example.test",
            "agent_urls": [f"https://agents.example.test:{authority.ports.tls}"],
            "acme_dns": {"provider": "rfc2136", "server": dns.address, "key_file": str(key)},
        }
        async with certified(tmp_path, authority, **settings) as server:
            for name in ("towline.example.test", "*.k8s.example.test"):
                await server.issued(name)
            await server.served("towline.example.test")
            await server.served("edge-1.k8s.example.test")
            await server.shown("towline.example.test")
            await server.shown("edge-1.k8s.example.test")
            control = server.running.control
            await server.shown("agents.example.test", root=control.tls.material.authority_pem)
            assert control.fleet.identity().fingerprints == (control.tls.fingerprint,)
            assert await server.row("agents.example.test") is None


async def test_joins_pin_nothing_where_an_authority_certifies_the_name_that_agents_dial(
    tmp_path: Path, authority: Authority
) -> None:
    settings = {"acme_server_names": True, "hostnames": ["towline.example.test"]}
    async with certified(tmp_path, authority, **settings) as server:
        await server.issued("towline.example.test")
        assert server.running.control.fleet.identity().fingerprints == ()
