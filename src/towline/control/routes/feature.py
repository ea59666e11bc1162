"""Puts routes and domains into the control plane: services, the table, the intake, the loop. No rules here."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from cryptography.x509 import DNSName, SubjectAlternativeName

from towline.aio.tasks import TaskOwner
from towline.control.authority.names import is_name, server_names
from towline.control.domains.names import Ownership
from towline.control.domains.rechecks import Rechecks
from towline.control.domains.resolver import Resolver, Whereabouts, record_to
from towline.control.domains.service import Domains
from towline.control.logging import get_logger
from towline.control.routes.checks import CHECK_LABEL, RouteChecks
from towline.control.routes.entries import EntryMaker
from towline.control.routes.figures import RouteCollector
from towline.control.routes.intake import RouteIntake
from towline.control.routes.registry import RouteRegistry
from towline.control.routes.schemas import GatewayOut, Light
from towline.control.routes.service import RouteService
from towline.control.routes.sources import Sources
from towline.control.routes.upkeep import Upkeep
from towline.wire.link import LinkSettings

if TYPE_CHECKING:
    from towline.control.app import ControlPlane

_log = get_logger("routes")

HTTPS_PORT = 443


class Gateway:
    """Everything of the control plane that has to do with published names. `control.gateway` is the only one."""

    def __init__(self, control: ControlPlane) -> None:
        settings, fleet = control.settings, control.fleet
        self._control = control
        self.resolver = Resolver(settings.dns_resolvers)
        self.whereabouts = Whereabouts(self.resolver, self.public_name, lambda: server_names(()))
        entries = EntryMaker(fleet.links, control.sealer, knows_own_name=bool(settings.own_hosts()))
        self.registry: RouteRegistry = RouteRegistry(
            control.db,
            control.bus,
            entries,
            own_hosts=self.own_hosts,
            zone=settings.gateway_domain,
            clock=control.clock,
        )
        self.domains = Domains(control.db, control.audit, self.resolver, self.ownership)
        self.routes = RouteService(control.db, control.audit, control.sealer, self.ownership)
        self.domains.also_when_changed.append(self.routes.domains_changed)
        self.rechecks = Rechecks(self.domains, clock=control.clock)
        link_settings = LinkSettings(heartbeat_interval=settings.heartbeat_interval)
        self.sources = Sources(control.db, control.audit, fleet.clusters, fleet.links, self.routes, link_settings)
        self.intake = RouteIntake(
            control.db,
            control.audit,
            control.sealer,
            fleet.links,
            self.ownership,
            settings.gateway_source_grace,
            settings.gateway_away_grace,
            clock=control.clock,
        )
        self.checks: RouteChecks = RouteChecks(self.routes, fleet.links, self.whereabouts, self._own_certificate)
        self._tasks = TaskOwner("gateway")
        self.upkeep = Upkeep(control.db, self.ownership, settings.gateway_away_grace, clock=control.clock)
        control.metrics.registry.register(RouteCollector(self))

    def __repr__(self) -> str:
        return f"<Gateway {self.registry!r}>"

    async def start(self) -> None:
        """Read the routes, and begin to take claims."""
        await self.registry.start()
        await self.intake.start()
        await self.upkeep.start()
        await self.rechecks.start()
        if self._control.settings.gateway_domain:
            self._tasks.spawn("wildcard", self._say_where_names_lead())

    async def stop(self) -> None:
        await self._tasks.close()
        await self.rechecks.stop()
        await self.upkeep.stop()
        await self.intake.stop()
        await self.sources.stop()
        await self.registry.stop()

    def is_connected(self, cluster_id: str) -> bool:
        """Tell whether an agent of a cluster is connected to this process."""
        return self._control.fleet.links.is_connected(cluster_id)

    def port_suffix(self) -> str:
        """Return what stands behind a host name in addresses of published services; nothing for the usual port."""
        port = urlsplit(self._control.addresses().origin).port
        return f":{port}" if port not in (None, HTTPS_PORT) else ""

    async def status(self) -> GatewayOut:
        """Say how the gateway's domain is doing."""
        domain = self._control.settings.gateway_domain
        light = await self.checks.name(f"{CHECK_LABEL}-{secrets.token_hex(4)}.{domain}") if domain else None
        record = " ".join((f"*.{domain}", *record_to(self.public_name()))) if domain else ""
        if light is not None and light.state == "failed":
            light.reason = f"{light.reason}; the whole domain needs one record: {record}"
        return GatewayOut(domain=domain, record=record, routes=len(self.registry.table), wildcard=light)

    async def _say_where_names_lead(self) -> None:
        """Log once what the page of domains says, when names below the gateway's domain do not lead here."""
        found = await self.status()
        if found.wildcard is not None and found.wildcard.state != "ok":
            _log.warning("names below gateway_domain do not lead here", domain=found.domain, why=found.wildcard.reason)

    async def _own_certificate(self, host: str) -> Light:
        """Say whether the server's own certificate is for a host."""
        certificate = self._control.tls.material.certificate
        names = certificate.extensions.get_extension_for_class(SubjectAlternativeName).value.get_values_for_type(
            DNSName
        )
        covers = host in names or f"*.{host.partition('.')[2]}" in names
        words = f"the server's own certificate {'is' if covers else 'is not'} for {host}"
        return Light(name="certificate", state="ok" if covers else "failed", reason=words)

    def public_name(self) -> str:
        """Return the host name that people reach this server by."""
        return urlsplit(self._control.addresses().origin).hostname or "localhost"

    def own_hosts(self) -> frozenset[str]:
        """Return every name and address that is the server's own, as a Host field may say it."""
        names = {
            *server_names(self._control.settings.hostnames),
            *self._control.settings.own_hosts(),
            self.public_name(),
        }
        return frozenset(f"[{name}]" if ":" in name else name for name in names if is_name(name))

    def ownership(self) -> Ownership:
        """Return who may publish what, as the settings say it."""
        settings = self._control.settings
        return Ownership(
            gateway_domain=settings.gateway_domain,
            own=self.own_hosts(),
            cluster_hosts=settings.kubernetes_host,
            published=frozenset(host.lower() for host in settings.published),
        )
