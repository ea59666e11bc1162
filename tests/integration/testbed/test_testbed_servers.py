"""The test bed's own servers start, do their work and end; a test that uses them may then trust them."""

import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.testbed import haproxy, images, nginx, processes
from tests.testbed.servers import Server

Start = Callable[..., Server]
PAGE = "server { listen 127.0.0.1:@PORT@; location / { return 200 'from nginx'; } }"


def get(url: str, proxy: str = "") -> bytes:
    handler = urllib.request.ProxyHandler({"http": proxy} if proxy else {})
    with urllib.request.build_opener(handler).open(url, timeout=10) as answer:
        return bytes(answer.read())


@pytest.mark.proxies
def test_nginx_and_haproxy_forward_to_an_nginx_page(start_nginx: Start, start_haproxy: Start) -> None:
    page = start_nginx(PAGE)
    front = start_nginx(nginx.reverse_proxy(f"http://{page.address}"))
    balancer = start_haproxy(haproxy.reverse_proxy("127.0.0.1", page.port))

    assert get(f"http://{front.address}/") == b"from nginx"
    assert get(f"http://{balancer.address}/") == b"from nginx"


@pytest.mark.proxies
def test_squid_lets_only_known_accounts_through(start_nginx: Start, start_squid: Start) -> None:
    page = start_nginx(PAGE)
    proxy = start_squid(accounts={"agent": "right"})

    assert get(f"http://{page.address}/", f"http://agent:right@{proxy.address}") == b"from nginx"
    with pytest.raises(urllib.error.HTTPError) as refusal:
        get(f"http://{page.address}/", f"http://agent:wrong@{proxy.address}")
    refusal.value.close()
    assert refusal.value.code == 407


@pytest.mark.proxies
def test_a_stopped_server_gives_its_port_back_and_a_restart_takes_it_again(start_nginx: Start) -> None:
    page = start_nginx(PAGE)
    page.stop()
    assert not processes.accepts(page.port)

    page.restart()
    assert get(f"http://{page.address}/") == b"from nginx"


@pytest.mark.proxies
def test_a_frozen_server_is_silent_until_it_thaws(start_nginx: Start) -> None:
    page = start_nginx(PAGE)
    page.freeze()
    with socket.create_connection(("127.0.0.1", page.port), timeout=0.3) as connection:
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        with pytest.raises(TimeoutError):
            connection.recv(1)
        page.thaw()
        connection.settimeout(10)
        assert connection.recv(12) == b"HTTP/1.1 200"


@pytest.mark.proxies
def test_a_wrong_configuration_is_told_with_the_servers_own_words(start_nginx: Start) -> None:
    with pytest.raises(processes.DidNotStart, match="unknown directive"):
        start_nginx("nonsense;")


@pytest.mark.registry
@pytest.mark.docker
def test_registry_takes_an_image_and_asks_for_its_account(
    start_registry: Start, docker_engine: str, tmp_path: Path
) -> None:
    open_one = start_registry()
    closed_one = start_registry(accounts={"puller": "right"})
    for server in (open_one, closed_one):
        images.docker("tag", images.BASE, f"{server.address}/probe:1")

    images.docker("push", f"{open_one.address}/probe:1")
    with pytest.raises(RuntimeError, match="no basic auth credentials"):
        images.docker("push", f"{closed_one.address}/probe:1")
    login = ["docker", "--config", str(tmp_path), "login", "-u", "puller", "--password-stdin", closed_one.address]
    subprocess.run(login, input=b"right", check=True, capture_output=True)
    images.docker("--config", str(tmp_path), "push", f"{closed_one.address}/probe:1")
    for server in (open_one, closed_one):
        images.docker("rmi", f"{server.address}/probe:1")
