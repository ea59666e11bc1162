"""The server process: TLS of its own, sign-in through the edge, WebSockets, renewal, and stopping in order."""

import asyncio
import os
import signal
import socket
import ssl
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
import websockets
from tests.support.control_app import PASSWORD, test_settings
from tests.support.served import https, served, trusting

from towline.control.authority import certificates
from towline.control.errors import StartupError
from towline.control.server import Running, serving


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'towline.sqlite'}"


async def sign_up(running: Running, client) -> None:
    body = {"token": running.control.setup_token, "username": "ada", "password": PASSWORD}
    assert (await client.post("/api/v1/setup", json=body)).status_code == 201


async def test_the_story_of_a_first_sign_in_over_tls(url: str, tmp_path: Path) -> None:
    async with served(url, tmp_path) as running, https(running) as browser:
        await sign_up(running, browser)
        who = (await browser.get("/api/v1/whoami")).json()
        assert who["user"]["username"] == "ada"
        origin = {"origin": f"https://localhost:{running.port}"}
        assert (await browser.post("/api/v1/tokens", json={"name": "x"}, headers=origin)).status_code == 201
        assert (await browser.post("/api/v1/tokens", json={"name": "x"})).status_code == 403
        audit = (await browser.get("/api/v1/audit?action=session.login")).json()["items"][0]
        assert audit["actor"]["address"] == "127.0.0.1"


async def test_what_only_the_edge_may_say_is_not_taken_from_clients(url: str, tmp_path: Path) -> None:
    async with served(url, tmp_path) as running, https(running) as browser:
        await sign_up(running, browser)
        lies = {"x-towline-peer": "203.0.113.9", "x-forwarded-for": "203.0.113.9", "x_towline_peer": "203.0.113.9"}
        body = {"username": "eve", "password": "wrong password"}
        assert (await browser.post("/api/v1/login", json=body, headers=lies)).status_code == 401
        audit = (await browser.get("/api/v1/audit?result=refused")).json()["items"][0]
        assert audit["actor"]["address"] == "127.0.0.1"


async def test_a_client_that_trusts_another_authority_is_not_fooled(url: str, tmp_path: Path) -> None:
    async with served(url, tmp_path) as running:
        with pytest.raises(ssl.SSLCertVerificationError):
            await asyncio.open_connection("localhost", running.port, ssl=ssl.create_default_context())
        _, writer = await asyncio.open_connection("127.0.0.1", running.port, ssl=trusting(running))
        writer.close()
        await writer.wait_closed()


async def test_plain_http_is_answered_on_loopback(url: str, tmp_path: Path) -> None:
    import httpx

    async with served(url, tmp_path) as running, httpx.AsyncClient() as client:
        answer = await client.get(f"http://127.0.0.1:{running.port}/readyz")
        assert answer.json()["ready"] is True


async def test_stray_kubernetes_paths_are_told_about_the_missing_prefix(url: str, tmp_path: Path) -> None:
    async with served(url, tmp_path) as running, https(running) as client:
        for path in ("/apis", "/version", "/openapi/v2", "/api/v1/namespaces/x/pods", "/api"):
            answer = await client.get(path)
            assert (answer.status_code, answer.json()["kind"]) == (404, "Status"), path
            assert "/k8s/clusters/NAME" in answer.text


async def test_a_ticket_opens_one_websocket_and_no_second(url: str, tmp_path: Path) -> None:
    async with served(url, tmp_path) as running, https(running) as client:
        await sign_up(running, client)
        origin = {"origin": f"https://localhost:{running.port}"}
        ticket = (await client.post("/api/v1/tickets", headers=origin)).json()["ticket"]
        address = f"wss://localhost:{running.port}/api/v1/clusters/none/forward?host=h&port=1&ticket={ticket}"
        with pytest.raises(websockets.InvalidStatus) as first:
            await websockets.connect(address, ssl=trusting(running))
        assert first.value.response.status_code == 404  # let in: there is no such cluster
        with pytest.raises(websockets.InvalidStatus) as second:
            await websockets.connect(address, ssl=trusting(running))
        assert second.value.response.status_code == 401
        refused = [event["action"] for event in (await client.get("/api/v1/audit?result=refused")).json()["items"]]
        assert refused == [] or all("ticket" not in action for action in refused)


@pytest.mark.parametrize("origin", [None, "https://evil.example", "null"])
async def test_a_foreign_page_opens_no_websocket_with_our_cookie(url: str, tmp_path: Path, origin: str | None) -> None:
    async with served(url, tmp_path) as running, https(running) as client:
        await sign_up(running, client)
        cookie = f"__Host-towline={client.cookies['__Host-towline']}"
        address = f"wss://localhost:{running.port}/api/v1/clusters/none/forward?host=h&port=1"
        more = {"origin": origin} if origin else {}
        with pytest.raises(websockets.InvalidStatus) as refused:
            await websockets.connect(address, ssl=trusting(running), additional_headers={"cookie": cookie}, **more)
        assert refused.value.response.status_code == 403
        ours = f"https://localhost:{running.port}"
        with pytest.raises(websockets.InvalidStatus) as missing:
            await websockets.connect(address, ssl=trusting(running), additional_headers={"cookie": cookie}, origin=ours)
        assert missing.value.response.status_code == 404


async def test_a_renewed_certificate_is_served_without_a_restart(url: str, tmp_path: Path) -> None:
    now = datetime.now(UTC)
    authority_key = certificates.new_key()
    authority = certificates.new_authority(authority_key, now)

    def renew() -> str:
        key = certificates.new_key()
        one = certificates.new_server(key, ["localhost"], authority, authority_key, now)
        (tmp_path / "key.pem").write_bytes(certificates.key_pem(key))
        (tmp_path / "cert.pem").write_bytes(certificates.chain_pem(one, authority))
        return format(one.serial_number, "X")

    async def seen(running: Running) -> str:
        _, writer = await asyncio.open_connection("localhost", running.port, ssl=trusting(running))
        serial = writer.get_extra_info("peercert")["serialNumber"]
        writer.close()
        await writer.wait_closed()
        return str(serial).lstrip("0")

    first = renew()
    files = {"tls_certificate_file": tmp_path / "cert.pem", "tls_key_file": tmp_path / "key.pem"}
    async with served(url, tmp_path, **files) as running:
        assert running.control.fingerprint == certificates.fingerprint(authority)
        assert await seen(running) == first
        second = renew()
        assert await running.control.tls.refresh()
        assert await seen(running) == second
        (tmp_path / "cert.pem").write_text("broken")
        assert not await running.control.tls.refresh()
        assert await seen(running) == second


async def test_a_taken_port_is_one_clear_line(url: str, tmp_path: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(StartupError, match="cannot listen on"):
            async with served(url, tmp_path, listen=listen):
                pass


@pytest.mark.parametrize("network", ["nonsense", "10.0.0.0/33"])
async def test_a_bad_proxy_network_is_one_clear_line(url: str, tmp_path: Path, network: str) -> None:
    with pytest.raises(StartupError, match="trusted_proxies"):
        async with serving(test_settings(url, tmp_path, trusted_proxies=[network])):
            pass


async def test_stopping_ends_event_streams_and_answers_what_runs(url: str, tmp_path: Path) -> None:
    async with served(url, tmp_path) as running, https(running, timeout=10) as client:
        await sign_up(running, client)
        async with client.stream("GET", "/api/v1/events") as events:
            assert events.status_code == 200
            slow = asyncio.get_running_loop().create_task(
                client.post("/api/v1/login", json={"username": "ada", "password": PASSWORD})
            )
            while not running.edge.counters.open_connections > 1:
                await asyncio.sleep(0)
            stopping = asyncio.get_running_loop().create_task(_drain(running))
            assert (await slow).status_code in (200, 503)
            async with asyncio.timeout(5):
                async for _ in events.aiter_raw():
                    pass
            await stopping


async def _drain(running: Running) -> None:
    from towline.control.server import drain

    await drain(running)


def test_the_process_stops_on_sigterm_and_leaves_no_secret_in_its_log(tmp_path: Path) -> None:
    data = tmp_path / "data"
    program = (
        "import sys\nfrom towline.control.server import run\nfrom towline.control.settings import load\n"
        "run(load({}, data_folder=sys.argv[1], listen='127.0.0.1:0', log_format='json', log_level='debug'),"
        " ready=lambda running: print(running.port, flush=True))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(data)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        token = (data / "setup-token").read_text().strip()
        with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
            head = f"GET /api/v1/whoami?x={token} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n"
            client.sendall(f"{head}Connection: close\r\n\r\n".encode())
            assert b" 401 " in client.recv(4096)
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=20)
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
    assert process.returncode == 0, log
    assert token not in log and "server ready" in log and "stopped" in log
    modes = {path.name: os.stat(path).st_mode & 0o077 for path in data.rglob("*")}
    assert set(modes.values()) == {0}, modes
