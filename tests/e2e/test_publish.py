"""A private service on a public name, by the command line: the domain, the route, its check, and its end."""

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from tests.support.commands import FAILED, NOT_FOUND, USAGE, answer, fail, succeed
from tests.support.gateway import DnsThread
from tests.support.product import PASSWORD, Product, wait_for

pytestmark = [pytest.mark.docker, pytest.mark.timeout(180)]


class Page(http.server.BaseHTTPRequestHandler):
    """The private service."""

    def do_GET(self) -> None:
        body = f"private {self.path} for {self.headers['Host']}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""


@pytest.fixture
def service() -> Iterator[int]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def dns() -> Iterator[DnsThread]:
    with DnsThread() as server:
        yield server


@pytest.fixture
def product(tmp_path: Path, docker_engine: str, dns: DnsThread) -> Iterator[Product]:
    """A product with a gateway domain, whose DNS is ours."""
    environment = {
        "TOWLINE_SERVER_GATEWAY_DOMAIN": "apps.example.net",
        "TOWLINE_SERVER_DNS_RESOLVERS": dns.address,
        "TOWLINE_SERVER_TRUSTED_PROXIES": "127.0.0.1/32",
    }
    with Product(tmp_path, environment=environment) as running:
        running.set_up("ada")
        (tmp_path / "password.txt").write_text(PASSWORD)
        succeed(running, f"towline login {running.url} --user ada --password-file password.txt")
        (name,) = wait_for(lambda: answer(running, "towline clusters --state healthy"), "a cluster", 60, running)
        succeed(running, f"towline clusters rename {name['name']} here")
        yield running


def test_a_private_service_is_published_and_taken_away(product: Product, service: int, dns: DnsThread) -> None:
    def ask(host: str) -> httpx.Response:
        """As a proxy does that ended TLS."""
        return httpx.get(f"{product.url}/page?x=1", headers={"Host": host, "X-Forwarded-Proto": "https"})

    # By itself below the gateway's domain.
    published = succeed(product, f"towline publish web --to tcp/127.0.0.1:{service}")
    assert published.strip().endswith("web-here.apps.example.net/") or "web-here.apps.example.net:" in published
    found = ask("web-here.apps.example.net")
    assert found.text == "private /page?x=1 for web-here.apps.example.net", found.text
    assert ask("other.apps.example.net").status_code == 404

    # Below a domain of its own, once it is proved.
    fail(product, f"towline publish shop --to tcp/127.0.0.1:{service} --host shop.example.com", USAGE, "domains add")
    record = answer(product, "towline domains add example.com")["record"]
    fail(product, "towline domains verify example.com", FAILED, record["value"])
    dns.server.records[f"{record['name']}.", "TXT"] = [f'"{record["value"]}"']
    assert "verified" in succeed(product, "towline domains verify example.com")
    succeed(product, f"towline publish shop --to tcp/127.0.0.1:{service} --host shop.example.com --path /page")
    assert ask("shop.example.com").status_code == 200
    fail(product, "towline publish rival --to tcp/127.0.0.1:1 --host shop.example.com --path /page", FAILED, "shop")

    # What does not work says so.
    checked = product.run("towline routes test shop")
    assert checked.returncode == FAILED and "accepts connections" in checked.stdout, checked.stdout + checked.stderr
    succeed(product, "towline routes set shop --to tcp/127.0.0.1:1")
    assert ask("shop.example.com").status_code in (502, 503)
    assert "127.0.0.1:1" in product.run("towline routes test shop").stdout
    succeed(product, "towline routes set shop --option maintenance=yes")
    assert ask("shop.example.com").status_code == 503

    names = [route["name"] for route in answer(product, "towline routes")]
    assert names == ["shop", "web"]
    succeed(product, "towline unpublish web --yes")
    assert ask("web-here.apps.example.net").status_code == 404
    fail(product, "towline routes show web", NOT_FOUND, "does not exist")
    succeed(product, "towline domains rm example.com --yes")
    assert answer(product, "towline routes show shop")["state"] == "refused"
    assert answer(product, "towline routes sources here")["existing"] == "proposals"
