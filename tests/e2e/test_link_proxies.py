"""Server and agent with nginx, HAProxy or an authenticating Squid between: idle beyond their timeouts, cut, and back.

Ten idle minutes at their default timeouts are in tests/integration/tunnel, for `make soak`.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import httpx
import msgspec
import pytest
import trustme
from sqlalchemy import select
from tests.support.scripted_agent import until
from tests.testbed import haproxy, processes
from tests.testbed.servers import Server

from towline.agent import doctor
from towline.agent.agent import Agent
from towline.agent.join import Server as Address
from towline.agent.join import join
from towline.agent.settings import AgentSettings
from towline.aio.clock import REAL_CLOCK
from towline.aio.tasks import TaskOwner
from towline.control.access.actor import system_access
from towline.control.agents.join_tokens import Wanted
from towline.control.audit.models import AuditEvent
from towline.control.links.measure import measure
from towline.control.server import Running, serving
from towline.control.settings import Settings
from towline.tunnel.session import LinkSession
from towline.wire import streams

pytestmark = [pytest.mark.proxies, pytest.mark.timeout(150)]

PATIENCE = 60.0
PROXY_IDLE = 17
"""Seconds after which the proxies here cut a silent connection; the agent's pings come every 15."""
IDLE = 19.0
"""Seconds without any traffic but the link's own pings."""
CALLER = "203.0.113.9"
"""Whom the reverse proxy says that it speaks for."""
PROXY_ADDRESS = "127.0.0.2"
"""Where our reverse proxies speak from, so that they can be told from other programs of this machine."""


@dataclass
class Certificate:
    authority: Path
    certificate: Path
    key: Path
    both: Path


@pytest.fixture
def certificate(tmp_path: Path) -> Certificate:
    """What the proxies show, by an authority that is not the server's own."""
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    paths = Certificate(*(tmp_path / name for name in ("ca.pem", "certificate.pem", "key.pem", "both.pem")))
    authority.cert_pem.write_to_path(str(paths.authority))
    issued.cert_chain_pems[0].write_to_path(str(paths.certificate))
    issued.private_key_pem.write_to_path(str(paths.key))
    issued.private_key_and_cert_chain_pem.write_to_path(str(paths.both))
    return paths


def nginx_block(upstream: str, certificate: Certificate) -> str:
    return f"""
    map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}
    server {{
        listen 127.0.0.1:@PORT@ ssl;
        ssl_certificate {certificate.certificate}; ssl_certificate_key {certificate.key};
        location / {{
            proxy_pass {upstream};
            proxy_bind {PROXY_ADDRESS};
            proxy_http_version 1.1;
            proxy_read_timeout {PROXY_IDLE}s;
            proxy_send_timeout {PROXY_IDLE}s;
            proxy_set_header Host $http_host;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $connection_upgrade;
            proxy_set_header X-Forwarded-For {CALLER};
            proxy_set_header X-Forwarded-Proto https;
        }}
    }}"""


def haproxy_sections(port: int, certificate: Certificate) -> str:
    return f"""
frontend public
    bind 127.0.0.1:@PORT@ ssl crt {certificate.both}
    http-request set-header X-Forwarded-Proto https
    http-request set-header X-Forwarded-For {CALLER}
    default_backend towline
backend towline
    source {PROXY_ADDRESS}
    server one 127.0.0.1:{port}"""


@contextlib.asynccontextmanager
async def server_at(tmp_path: Path, public_url: str) -> AsyncIterator[Running]:
    """A server; with a public address, a proxy there ends TLS."""
    behind = {"public_url": public_url, "trusted_proxies": [f"{PROXY_ADDRESS}/32"]} if public_url else {}
    settings = Settings(data_folder=tmp_path / "server", listen="127.0.0.1:0", log_level="error", **behind)
    async with serving(settings) as running:
        yield running


@dataclass
class Way:
    """A server, an agent of it that runs, and what stands between them."""

    server: Running
    agent: Agent
    settings: AgentSettings
    between: Server

    @property
    def cluster(self) -> str:
        return self.agent.store.current.cluster_id

    @property
    def is_up(self) -> bool:
        return self.server.control.fleet.links.is_connected(self.cluster)

    async def carries(self) -> None:
        """Put a megabyte and more through a stream, both ways."""
        session = self.server.control.fleet.links.session(self.cluster)
        measured = await measure(session, 0.3, streams.Actor(user="test"), REAL_CLOCK)
        assert min(measured.up, measured.down) > 1e6


@pytest.fixture
async def way(
    request: pytest.FixtureRequest, tmp_path: Path, certificate: Certificate,
    start_nginx: Callable[..., Server], start_haproxy: Callable[..., Server], start_squid: Callable[..., Server],
) -> AsyncIterator[Way]:  # fmt: skip
    kind, port = request.param, processes.free_port()
    settings = AgentSettings(state_folder=tmp_path / "agent", docker_host=f"unix://{tmp_path}/none.sock")
    async with server_at(tmp_path, "" if kind == "squid" else f"https://127.0.0.1:{port}") as server:
        made = await server.control.fleet.join_tokens.create(system_access("test"), Wanted(cluster_name="edge-1"))
        if kind == "squid":
            extra = f"read_timeout {PROXY_IDLE} seconds\n"
            between = start_squid(accounts={"agent": "pass-word"}, extra=extra, port=port)
            settings = msgspec.structs.replace(settings, proxy=f"http://agent:pass-word@{between.address}")
            address = Address(f"https://127.0.0.1:{server.port}", (server.control.fingerprint,))
        elif kind == "nginx":
            between = start_nginx(nginx_block(f"http://127.0.0.1:{server.port}", certificate), port=port)
            address = Address(f"https://{between.address}", (), certificate.authority)
        else:
            defaults = haproxy.DEBIAN_DEFAULTS.replace("50000", str(PROXY_IDLE * 1000))
            between = start_haproxy(haproxy_sections(server.port, certificate), defaults=defaults, port=port)
            address = Address(f"https://{between.address}", (), certificate.authority)
        await join(settings, address, made.token)
        agent = Agent(settings)
        async with TaskOwner("test") as owner:
            owner.spawn("agent", agent.run())
            found = Way(server, agent, settings, between)
            await until(lambda: found.is_up, PATIENCE)
            yield found


@pytest.mark.parametrize("way", ["nginx", "haproxy", "squid"], indirect=True)
async def test_a_link_outlives_the_timeout_of_what_is_between_is_cut_and_comes_back(way: Way) -> None:
    first = way.agent.keeper.session
    assert isinstance(first, LinkSession)
    ended, _ = await asyncio.wait([asyncio.ensure_future(first.wait_closed())], timeout=IDLE)
    assert not ended, f"the idle link ended: {first.closed}"
    await way.carries()
    way.between.kill()
    await until(lambda: not way.is_up, PATIENCE)
    way.between.start()
    await until(lambda: way.is_up, PATIENCE)
    assert way.agent.keeper.session is not first
    await way.carries()


@pytest.mark.parametrize("way", ["nginx", "haproxy"], indirect=True)
async def test_only_the_trusted_proxy_is_believed_about_who_calls(way: Way) -> None:
    control = way.server.control
    one = control.fleet.links.of_cluster(way.cluster)
    assert one is not None
    assert one.session.remote_address == CALLER
    liar = {"X-Forwarded-For": "198.51.100.7", "X-Forwarded-Proto": "https", "X-Real-IP": "198.51.100.7"}
    async with httpx.AsyncClient(headers=liar) as http:
        body = {"username": "nobody", "password": "guessed it"}
        answer = await http.post(f"http://127.0.0.1:{way.server.port}/api/v1/login", json=body)
    assert answer.status_code == 401
    async with control.db.read() as tx:
        found = await tx.scalars(select(AuditEvent).where(AuditEvent.action.like("%login%")))
        addresses = {event.address for event in found}
    assert addresses == {"127.0.0.1"}


@pytest.mark.parametrize("way", ["squid"], indirect=True)
async def test_doctor_tells_a_proxy_that_refuses_the_sign_in_without_its_password(way: Way) -> None:
    wrong = msgspec.structs.replace(way.settings, proxy=f"http://agent:not-it@{way.between.address}")
    failed = next(check for check in await doctor.examine(wrong) if check.server and not check.ok)
    assert failed.name == "proxy"
    assert "407" in failed.text
    assert "not-it" not in str(failed)


async def test_doctor_tells_a_proxy_that_does_not_pass_websockets(
    tmp_path: Path, start_nginx: Callable[..., Server]
) -> None:
    async with server_at(tmp_path, "") as server:
        plain = f"server {{ listen 127.0.0.1:@PORT@; location / {{ proxy_pass http://127.0.0.1:{server.port}; }} }}"
        proxy = start_nginx(plain)
        settings = AgentSettings(state_folder=tmp_path / "agent", docker_host=f"unix://{tmp_path}/none.sock")
        checks = await doctor.examine(settings, servers=(f"http://{proxy.address}",))
    failed = next(check for check in checks if check.server and not check.ok)
    assert failed.name == "upgrade"
    assert "WebSocket" in failed.text + failed.hint
