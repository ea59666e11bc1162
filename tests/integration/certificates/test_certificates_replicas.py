"""A replica dies by SIGKILL in the middle of an order: the order is gone on with, not begun again."""

import asyncio
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.acme_proxy import AcmeProxy, Reply
from tests.support.certificates import Certified, settings_for, shown
from tests.testbed import processes
from tests.testbed.pebble import Authority
from tests.testbed.servers import Server

from towline.control.server import serving

pytestmark = pytest.mark.pebble

NAME = "towline.example.test"
TAKEOVER = 60.0
"""Seconds until a dead replica's lease has ended and its order is finished; the lease is 15."""


@pytest.fixture
def proxy(authority: Authority, tmp_path: Path) -> Iterator[AcmeProxy]:
    with AcmeProxy(authority, tmp_path) as running:
        yield running


def replica(folder: Path, proxy: AcmeProxy, **settings: object) -> Server:
    """A server in a process of its own, that may be killed. It wants a certificate for its own name."""
    authority = proxy.authority
    values: dict[str, object] = {
        "DATA_FOLDER": folder / "data",
        "LISTEN": f"127.0.0.1:{authority.ports.tls}",
        "GATEWAY_LISTEN_HTTP": f"127.0.0.1:{authority.ports.http}",
        "DATABASE_URL": f"sqlite:///{folder / 'towline.sqlite'}",
        "HOSTNAMES": NAME,
        "ACME_SERVER_NAMES": "true",
        "ACME_DIRECTORY": proxy.directory,
        "ACME_CA_FILE": proxy.ca_file,
        "ACME_HTTP_PORT": authority.ports.http,
        "ACME_TLS_PORT": authority.ports.tls,
        "ACME_CHALLENGES": "http-01",
        "DNS_RESOLVERS": authority.dns,
        **settings,
    }
    words = [f"TOWLINE_SERVER_{name}={value}" for name, value in values.items()]
    port = int(str(values["LISTEN"]).rpartition(":")[2])
    command = ["/usr/bin/env", *words, sys.executable, "-m", "towline.cli.main", "server", "run"]
    return Server(f"replica-{port}", command, folder, port)


async def start(server: Server) -> None:
    await asyncio.to_thread(server.start)


@pytest.mark.parametrize("moment", ["chalZ", "finalize-order", "certZ"])
async def test_an_order_of_a_killed_server_is_finished_after_its_restart(
    moment: str, tmp_path: Path, proxy: AcmeProxy
) -> None:
    first = replica(tmp_path, proxy)
    asked, dead = threading.Event(), threading.Event()

    def kill(path: str) -> Reply | None:
        if moment in path and not asked.is_set():
            asked.set()
            first.kill()
            dead.set()
            # An authority that was told to look would find nobody, and give the order up by itself.
            return Reply(503, {}, b"") if moment == "chalZ" else None
        return None

    proxy.instead = kill
    await start(first)
    assert await asyncio.to_thread(dead.wait, TAKEOVER)
    changes = own_name(proxy)
    async with serving(settings_for(tmp_path, proxy.authority, **changes)) as running:
        server = Certified(running, proxy.authority)
        row = await server.until(NAME, lambda row: row.state == "issued", seconds=TAKEOVER)
        await server.served(NAME)
        assert (await shown(running.port, NAME, proxy.authority.root())).not_valid_after_utc == row.ends_at
    assert proxy.count("order-plz") == 1
    assert proxy.authority.orders() == 1


def own_name(proxy: AcmeProxy) -> dict[str, Any]:
    return {
        "hostnames": [NAME],
        "acme_server_names": True,
        "acme_directory": proxy.directory,
        "acme_ca_file": str(proxy.ca_file),
        "acme_challenges": ["http-01"],
    }


@pytest.mark.postgres
async def test_a_live_replica_answers_for_one_that_orders_and_takes_over_when_it_is_killed(
    tmp_path: Path, proxy: AcmeProxy, postgres_url: str
) -> None:
    """The one that orders listens where the authority never looks; the other one has its ports."""
    (tmp_path / "b").mkdir()
    keys = tmp_path / "key"
    keys.write_bytes(os.urandom(32))
    keys.chmod(0o400)
    port, http = processes.free_port(), processes.free_port()
    orderer = replica(
        tmp_path, proxy, DATABASE_URL=postgres_url, SEALING_KEY_FILES=keys, LISTEN=f"127.0.0.1:{port}",
        GATEWAY_LISTEN_HTTP=f"127.0.0.1:{http}",
    )  # fmt: skip
    changes = own_name(proxy) | {"database_url": postgres_url, "sealing_key_files": [str(keys)]}
    changes["acme_server_names"] = False  # it only learns the name from the rows
    async with serving(settings_for(tmp_path / "b", proxy.authority, **changes)) as running:
        server = Certified(running, proxy.authority)
        server.feature.sources.clear()

        async def nothing_new() -> list[Any]:
            row = await server.row(NAME)
            from towline.control.certificates.wanted import WantedName

            return [WantedName(NAME)] if row is not None else []

        server.feature.sources.append(nothing_new)
        proxy.instead = lambda path: orderer.kill() if "finalize-order" in path and orderer.is_alive else None
        await start(orderer)
        await server.until(NAME, lambda row: row.state == "issued", seconds=TAKEOVER)
        await server.served(NAME)
        await shown(running.port, NAME, proxy.authority.root())
        assert not orderer.is_alive
    assert proxy.count("order-plz") == 1
    assert proxy.authority.orders() == 1
