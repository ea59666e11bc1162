"""A route is published, and has its certificate; what its page says about it; and what happens when it goes."""

import asyncio
import ssl
import time
from pathlib import Path

import pytest
from tests.support.certificates import Certified, settings_for, shown
from tests.support.gateway import http_target, published
from tests.testbed.pebble import Authority

from towline.control.access.permissions import Role

pytestmark = pytest.mark.pebble

HOST = "shop.example.net"


async def ask(port: int, root: str, host: str) -> bytes:
    """Ask for a page as a browser does that trusts the authority."""
    trust = ssl.create_default_context(cadata=root)
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trust, server_hostname=host)
    writer.write(f"GET /hello HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


def asking(authority: Authority, folder: Path) -> dict[str, object]:
    """The settings that differ for a server whose names an authority certifies."""
    wanted = settings_for(folder, authority)
    return {name: getattr(wanted, name) for name in wanted.model_fields_set if name.startswith(("acme_", "dns_"))} | {
        "listen": wanted.listen,
        "gateway_listen_http": wanted.gateway_listen_http,
        "trusted_proxies": [],
    }


async def test_a_published_route_is_reached_over_https_within_ten_seconds(tmp_path: Path, authority: Authority) -> None:
    database = f"sqlite:///{tmp_path / 'towline.sqlite'}"
    async with published(database, tmp_path, **asking(authority, tmp_path)) as scene, http_target() as port:
        server = Certified(scene.running, authority)
        await scene.agent("edge-1")
        await scene.verify("example.net")
        dora = await scene.app.user("dora", Role.DEPLOYER)
        began = time.monotonic()
        body = {"name": "web", "to": f"tcp/127.0.0.1:{port}", "clusters": ["edge-1"], "host": HOST}
        assert (await dora.post("/api/v1/routes", json=body)).status_code == 201
        await server.issued(HOST)
        await server.served(HOST)
        answer = await ask(scene.running.port, authority.root(), HOST)
        assert time.monotonic() - began < 10
        assert answer.startswith(b"HTTP/1.1 200") and b"you asked for GET /hello" in answer

        lights = {light["name"]: light for light in (await dora.get("/api/v1/routes/web/check")).json()["lights"]}
        assert lights["certificate"]["state"] == "ok" and "Pebble" in lights["certificate"]["reason"]

        assert (await dora.delete("/api/v1/routes/web")).status_code == 204
        await server.until(HOST, lambda row: not row.wanted)
        assert authority.orders() == 1


async def test_the_page_of_a_route_says_why_there_is_no_certificate(tmp_path: Path, authority: Authority) -> None:
    authority.set_record("add-a", host=HOST, addresses=["127.0.0.99"])
    database = f"sqlite:///{tmp_path / 'towline.sqlite'}"
    async with published(database, tmp_path, **asking(authority, tmp_path)) as scene, http_target() as port:
        server = Certified(scene.running, authority)
        await scene.agent("edge-1")
        await scene.verify("example.net")
        dora = await scene.app.user("dora", Role.DEPLOYER)
        body = {"name": "web", "to": f"tcp/127.0.0.1:{port}", "clusters": ["edge-1"], "host": HOST}
        await dora.post("/api/v1/routes", json=body)
        await server.in_state(HOST, "blocked")
        lights = {light["name"]: light for light in (await dora.get("/api/v1/routes/web/check")).json()["lights"]}
        assert lights["certificate"]["state"] == "failed" and "127.0.0.99" in lights["certificate"]["reason"]
        with pytest.raises(OSError):
            await shown(scene.running.port, HOST, authority.root())
