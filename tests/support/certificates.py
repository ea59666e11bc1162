"""A whole server for tests of certificates: it asks a Pebble of its own, and its ports are those that Pebble looks at.

async with certified(folder, pebble) as server:
    server.want("shop.example.test")
    await server.issued("shop.example.test")
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography import x509
from tests.support.control_app import test_settings
from tests.testbed import pebble as testbed

from towline.control.certificates import repository
from towline.control.certificates.models import Certificate
from towline.control.certificates.wanted import WantedName
from towline.control.server import Running, serving
from towline.control.settings import Settings

DEADLINE = 30.0


@dataclass
class Certified:
    """A running server and the names that it is told to want."""

    running: Running
    authority: testbed.Authority
    names: list[str] = field(default_factory=list)

    @property
    def feature(self) -> Any:
        return self.running.control.certificates

    def want(self, *names: str) -> None:
        """Have these names wanted, as routes would."""
        self.names += names
        self.running.control.bus.publish("route")

    def unwant(self, name: str) -> None:
        self.names.remove(name)
        self.running.control.bus.publish("route")

    def hint(self) -> None:
        """Have the loop look now."""
        self.running.control.bus.publish("certificate")

    async def row(self, name: str) -> Certificate | None:
        async with self.running.control.db.read() as tx:
            return await repository.by_name(tx, name)

    async def until(
        self, name: str, condition: Callable[[Certificate], bool], *, seconds: float = DEADLINE
    ) -> Certificate:
        """Wait until the row of a name is as wanted; looks after each hint, and now and then."""
        row = None
        try:
            async with (
                asyncio.timeout(seconds),
                self.running.control.bus.subscribe("certificate", "route") as hints,
            ):
                while (row := await self.row(name)) is None or not condition(row):
                    await _hint_or(hints, 0.5)
        except TimeoutError:
            said = f"{row!r}: {row.reason}" if row else "no row"
            raise AssertionError(f"{name} never became as wanted; it is {said}\n{self.authority.log[-3000:]}") from None
        assert row is not None
        return row

    async def issued(self, name: str, *, seconds: float = DEADLINE) -> Certificate:
        """Wait until there is one, and until nobody works on it any more."""
        return await self.until(
            name, lambda row: row.state == "issued" and bool(row.chain) and not row.owner, seconds=seconds
        )

    async def in_state(self, name: str, state: str) -> Certificate:
        """Wait until a name is in a state, and nobody works on it any more."""
        return await self.until(name, lambda row: row.state == state and not row.owner)

    async def served(self, name: str) -> None:
        """Wait until handshakes find a certificate for a name."""
        async with asyncio.timeout(DEADLINE), self.running.control.bus.subscribe("certificate") as hints:
            while self.feature.handshakes.find(name) is None:
                await _hint_or(hints, 0.1)

    async def shown(self, name: str, *, root: str | None = None) -> x509.Certificate:
        """Shake hands as a browser does, checking against the authority's root. Returns: what the server showed."""
        return await shown(self.running.port, name, root or self.authority.root())


async def _hint_or(hints: Any, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await anext(hints)
    except TimeoutError:
        return


async def shown(port: int, name: str, root: str) -> x509.Certificate:
    """Return the certificate that a verifying client is shown for a name."""
    trust = ssl.create_default_context(cadata=root)
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trust, server_hostname=name)
    try:
        der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    finally:
        writer.close()
        await writer.wait_closed()
    return x509.load_der_x509_certificate(der)


def settings_for(folder: Path, authority: testbed.Authority, **changes: Any) -> Settings:
    """Settings of a server whose names `authority` certifies."""
    values: dict[str, Any] = {
        "listen": f"127.0.0.1:{authority.ports.tls}",
        "gateway_listen_http": f"127.0.0.1:{authority.ports.http}",
        "acme_directory": authority.directory,
        "acme_ca_file": str(authority.ca_file),
        "acme_http_port": authority.ports.http,
        "acme_tls_port": authority.ports.tls,
        "dns_resolvers": [authority.dns],
        "drain_timeout": 0.5,
        "public_url": "",
    }
    database = changes.pop("database_url", f"sqlite:///{folder / 'towline.sqlite'}")
    return test_settings(database, folder, **(values | changes))


@asynccontextmanager
async def certified(folder: Path, authority: testbed.Authority, **changes: Any) -> AsyncIterator[Certified]:
    """A running server that asks `authority`."""
    async with serving(settings_for(folder, authority, **changes)) as running:
        server = Certified(running, authority)

        async def names() -> list[WantedName]:
            return [WantedName(name) for name in server.names]

        running.control.certificates.sources.append(names)
        yield server
