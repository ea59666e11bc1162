"""What the pages of the gateway show in tests: routes in every state, domains, certificates, and requests just now.

async with gateway_scene(server.control, port) as scene: in the loop of a `PageServer`
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from tests.support.control_app import ControlApp
from tests.support.gateway import Dialling, http_target
from tests.support.scripted_agent import enrolled, link_listener

from towline.control.access.actor import Access
from towline.control.access.permissions import Right, Role
from towline.control.app import ControlPlane, create_app
from towline.control.certificates.models import Certificate
from towline.control.clusters.models import Cluster
from towline.control.domains.models import Domain
from towline.control.ids import new_id
from towline.control.routes.schemas import RouteRequest
from towline.wire import link
from towline.wire.streams import KubeService

CONNECTED = "edge-9"
AWAY = "edge-1"


class GatewayScene:
    """A server with something published."""

    owner: Access

    def __init__(self, control: ControlPlane, port: int) -> None:
        self.control = control
        self.app = ControlApp(control, create_app(control), control.settings)
        self.port = port
        self.http = httpx.AsyncClient(verify=False, timeout=20)

    async def ask(self, path: str, host: str = "shop.example.net") -> int:
        """Ask the edge for something published. Returns: the status."""
        url = f"https://localhost:{self.port}{path}"
        answer = await self.http.get(url, headers={"host": host}, extensions={"sni_hostname": host})
        return answer.status_code

    async def claim(self, *names: str, full: bool = True) -> None:
        """Have the away cluster's ingresses ask for names."""
        claims = tuple(
            link.RouteClaim(
                ref=f"ingress/shop/{name}/0/0", source="ingress", host=f"{name}.example.net",
                target=KubeService(namespace="shop", name=name, port="80"),
                notes=("the annotation nginx.ingress.kubernetes.io/auth-url is not honoured here",),
            )
            for name in names
        )  # fmt: skip
        told = link.Routes(full=full, sequence=1, sources=("ingress",) if full else (), claims=claims)
        self.control.gateway.intake.take(await self.cluster_id(AWAY), "agt_1", told)
        assert await self.control.gateway.intake.flush()
        await self.control.gateway.registry.settled()

    async def cluster_id(self, name: str) -> str:
        return str(next(row.id for row in await self.app.rows(Cluster) if row.name == name))

    async def publish(self, name: str, **changes: Any) -> None:
        """Declare a route."""
        body = {"name": name, "to": "tcp/127.0.0.1:9", "clusters": [CONNECTED], **changes}
        await self.control.routes.create(self.owner, RouteRequest(**body))
        await self.control.gateway.registry.settled()


@asynccontextmanager
async def gateway_scene(control: ControlPlane, port: int) -> AsyncIterator[GatewayScene]:
    """Routes that are live, away, switched off, proposed and refused; what they lead to is a real server."""
    scene = GatewayScene(control, port)
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(scene.http)
        url = await stack.enter_async_context(link_listener(control))
        target = await stack.enter_async_context(http_target())
        agent = await stack.enter_async_context(await enrolled(scene.app, cluster_name=CONNECTED, hostname=CONNECTED))
        agent.on_stream = Dialling(agent)
        await agent.connect(url)
        await agent.synced()
        scene.owner = await scene.app.access("seeder", Right(Role.OWNER))
        await _domains(control)
        await _certificates(control)
        await control.certificates.look()  # serves what is there now
        options = {"request_timeout": 30, "allow": ["127.0.0.0/8"], "set_answer_headers": {"X-Team": "shop"}}
        await scene.publish("shop", host="shop.example.net", to=f"tcp/127.0.0.1:{target}", options=options)
        await scene.publish("blog", clusters=[AWAY], to="compose/blog/web:80")
        await scene.publish("old", host="old.example.net", enabled=False)
        await scene.claim("grafana", "prometheus")
        for path in ("/", "/cart?secret=1", "/assets/app.css"):
            assert await scene.ask(path) == 200
        yield scene


async def _domains(control: ControlPlane) -> None:
    async with control.db.begin() as tx:
        moment = await tx.now()
        for name, state in (("example.net", "verified"), ("shop.example.org", "pending")):
            tx.add(
                Domain(
                    id=new_id("dom"), org_id=control.default_org, name=name, state=state, token="0123456789abcdef" * 2,
                    verified_at=moment if state == "verified" else None, created_at=moment, checked_at=moment,
                    created_by="ada", reason="" if state == "verified" else "there is no such record yet",
                )
            )  # fmt: skip
        tx.publish("domain")


async def _certificates(control: ControlPlane) -> None:
    """One that is well, one that ends soon, one that could not be asked for."""
    found = (
        ("shop.example.net", "issued", "", 61),
        ("blog.example.net", "failed", "the authority refused: rate limit of 5 a week reached", 4),
        ("www.example.net", "blocked", "www.example.net leads to 192.0.2.9, and not here", 0),
    )
    async with control.db.begin() as tx:
        moment = await tx.now()
        for name, state, reason, days in found:
            row = Certificate(
                id=new_id("crt"), org_id=control.default_org, name=name, source="acme", state=state, reason=reason,
                wanted=True, serial=1, force=False, epoch=0, order_serial=0, attempts=0 if state == "issued" else 3,
                next_at=moment + timedelta(days=365), created_at=moment, updated_at=moment, challenge="http-01",
            )  # fmt: skip
            if days:
                made = _self_signed(name, moment - timedelta(days=29), moment + timedelta(days=days))
                for column, value in control.certificates.keeper.material(row, *made).items():
                    setattr(row, column, value)
            tx.add(row)


def _self_signed(name: str, begins: datetime, ends: datetime) -> tuple[str, bytes]:
    """A certificate and its key, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Test authority")])
    made = (
        x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
        .serial_number(x509.random_serial_number()).not_valid_before(begins).not_valid_after(ends)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False).sign(key, hashes.SHA256())
    )  # fmt: skip
    return made.public_bytes(Encoding.PEM).decode(), key.private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
