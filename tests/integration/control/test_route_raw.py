"""Raw routes from end to end: declared by the API, served on a port or by a TLS name, gone when they are taken away."""

from __future__ import annotations

import asyncio
import socket
import ssl
from contextlib import suppress
from pathlib import Path

import pytest
import trustme
from tests.support.edge import Raw, raw_upstream
from tests.support.gateway import published

from towline.control.access.permissions import Role

NAME = "db.example.net"


async def echo(connection: Raw) -> None:
    while data := await connection.reader.read(65536):
        await connection.send(data.upper())


async def test_port_of_a_route_listens_while_the_route_is_there(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    url = f"sqlite:///{tmp_path / 'towline.sqlite'}"
    async with (
        raw_upstream(echo) as target,
        published(url, tmp_path, gateway_tcp_ports=str(port), listen="127.0.0.1:0") as scene,
    ):
        await scene.agent("edge-1")
        await scene.verify("example.net")
        dora = await scene.app.user("dora", Role.DEPLOYER)
        body = {"name": "db", "to": f"tcp/127.0.0.1:{target}", "host": NAME, "options": {"tcp_port": port}}
        assert (await dora.post("/api/v1/routes", json=body)).status_code == 201
        client = await connected(port)
        await client.send(b"select 1")
        assert await client.exactly(8) == b"SELECT 1"
        assert (await scene.get(NAME)).status_code == 404
        assert (await dora.delete("/api/v1/routes/db")).status_code == 204
        async with asyncio.timeout(10):
            while await answers(port):
                await asyncio.sleep(0.05)
        await client.send(b"still here")
        assert await client.exactly(10) == b"STILL HERE"
        await client.close()


async def connected(port: int) -> Raw:
    async with asyncio.timeout(10):
        while True:
            with suppress(OSError):
                return await Raw.connect(port)
            await asyncio.sleep(0.05)


async def answers(port: int) -> bool:
    try:
        await (await Raw.connect(port)).close()
    except OSError:
        return False
    return True


async def test_tls_of_a_name_is_ended_by_the_service_itself(tmp_path: Path) -> None:
    authority = trustme.CA()
    inside = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(NAME).configure_cert(inside)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, ssl.SSLError):
            writer.write((await reader.readline()).upper())
            await writer.drain()
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=inside)
    url = f"sqlite:///{tmp_path / 'towline.sqlite'}"
    try:
        async with published(url, tmp_path) as scene:
            await scene.agent("edge-1")
            await scene.verify("example.net")
            dora = await scene.app.user("dora", Role.DEPLOYER)
            to = f"tcp/127.0.0.1:{server.sockets[0].getsockname()[1]}"
            body = {"name": "db", "to": to, "host": NAME, "options": {"tls_passthrough": True}}
            assert (await dora.post("/api/v1/routes", json=body)).status_code == 201
            await scene.settled()
            async with asyncio.timeout(15):
                while True:
                    try:
                        client = await Raw.connect(scene.running.port, ssl=trusting, server_hostname=NAME)
                    except ssl.SSLError:
                        await asyncio.sleep(0.05)  # the edge's own certificate: the name is not passed through yet
                        continue
                    break
            await client.send(b"secret\n")
            assert await client.until(b"\n") == b"SECRET\n"
            await client.close()
    finally:
        server.close()


@pytest.mark.parametrize("port", ["0", "70000", "9-1", "x", "1-2-3"])
def test_ports_that_are_none_stop_the_server(port: str) -> None:
    from towline.control.settings import check

    problems = check({"TOWLINE_SERVER_GATEWAY_TCP_PORTS": port})
    assert any("GATEWAY_TCP_PORTS" in problem for problem in problems)
