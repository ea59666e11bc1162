"""Wiring of everything that has to do with agents: who they are, their links, clusters, jobs and streams.

`ControlPlane` holds one `Fleet`; the edge hands sockets to its `acceptor`. No rules live here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from towline.aio.tasks import TaskOwner
from towline.control.access.actor import Access
from towline.control.access.permissions import Permission
from towline.control.agents.challenges import Challenges
from towline.control.agents.connect import Admissions
from towline.control.agents.enrolment import Enrolment
from towline.control.agents.identity import IdentitySource, ServerIdentity
from towline.control.agents.join_tokens import JoinTokens
from towline.control.agents.service import Agents
from towline.control.agents.trust import TrustKeeper, signing_keys
from towline.control.agents.updates import Updates
from towline.control.certificates.sources import certified_hosts
from towline.control.clusters import retention
from towline.control.clusters.reports import Reports
from towline.control.clusters.service import Clusters
from towline.control.ids import new_id
from towline.control.install.packing import Packer
from towline.control.jobs.dispatch import Dispatcher
from towline.control.jobs.intake import Intake
from towline.control.jobs.service import Jobs
from towline.control.links.door import Door
from towline.control.links.metrics import FleetCollector
from towline.control.links.registry import Links
from towline.control.links.revocations import Revocations
from towline.control.streams.meters import StreamMeters
from towline.tunnel.accept import LinkAcceptor
from towline.wire import link

if TYPE_CHECKING:
    from towline.control.app import ControlPlane

LINK_PATH = "/api/v1/agents/link"
DRAIN_PAUSE = 1.0
"""Seconds that agents stay away when the server stops, before their own jitter: a restart takes about that long."""


class Fleet:
    """The services of agents and clusters, and their background work."""

    def __init__(self, control: ControlPlane) -> None:
        db, audit, clock = control.db, control.audit, control.clock
        self.db, self.audit, self.clock = db, audit, clock
        self.identity = identity = server_identity(control)
        self.replica = new_id("evt")
        self.tasks = TaskOwner("links")
        self.links = Links(clock=clock)
        self.streams = StreamMeters(control.metrics.registry, clock=clock)
        self.reports = Reports(db, control.bus, clock=clock)
        self.admissions = Admissions(
            db,
            audit,
            owner=self.replica,
            live_instance=self.links.live_instance,
            live_instances=self.links.live_instances,
            cut=self.links.cut,
            clock=clock,
        )
        self.agents = Agents(db, audit)
        self.trust = TrustKeeper(db, identity, clock=clock)
        self.join_tokens = JoinTokens(db, audit)
        self.enrolment = Enrolment(db, audit, identity, Challenges(clock=clock), control.access.enrolments)
        self.clusters = Clusters(db, audit, self.links, self.agents, self.reports)
        settings = link.LinkSettings(heartbeat_interval=control.settings.heartbeat_interval)
        self.door = Door(
            self.links,
            self.admissions,
            self.agents,
            self.reports,
            identity,
            self.trust,
            settings,
            replica=self.replica,
            clock=clock,
        )
        self.revocations = Revocations(db, control.bus, self.links, self.reports, self.trust, clock=clock)
        self.updates = Updates(db, audit, self.trust, self.clusters, self.links)
        self.jobs = Jobs(db, audit, self.links)
        self.dispatcher = Dispatcher(db, control.bus, self.jobs, self.links, owner=self.replica, clock=clock)
        self.intake = Intake(db, self.jobs, self.links, self.dispatcher, self.reports.flush)
        folder = control.settings.data_folder
        self.packer = Packer(folder / "install", folder / "wheels")
        self.acceptor = LinkAcceptor(self.door, owner=self.tasks, clock=clock)
        self.reports.also_flush.append(self.admissions.flush)
        control.metrics.registry.register(FleetCollector(self))
        control.accounts.cluster_id = self._cluster_id
        retention.install(control)

    def __repr__(self) -> str:
        return f"<Fleet {self.replica} {self.links!r}>"

    async def _cluster_id(self, access: Access, cluster: str) -> str:
        async with self.db.read() as tx:
            row, _ = await self.clusters.require(tx, access, cluster, Permission.CLUSTER_READ)
        return row.id

    async def start(self) -> None:
        """Begin to take links."""
        await self.trust.refresh()
        await self.reports.start()
        await self.admissions.start()
        await self.revocations.start()
        await self.dispatcher.start()
        await self.packer.start()

    async def stop(self) -> None:
        """Send every agent away for a moment, and write what is left."""
        self.acceptor.draining = True
        self.links.drain(DRAIN_PAUSE)
        await self.packer.stop()
        await self.dispatcher.stop()
        await self.revocations.stop()
        await self.admissions.stop()
        await self.tasks.close()
        await self.intake.stop()
        await self.streams.stop()
        await self.reports.stop()


def server_identity(control: ControlPlane) -> IdentitySource:
    """Return what asks the settings and the authority who this server is to its agents."""

    def ask() -> ServerIdentity:
        where, tls = control.addresses(), control.tls.material
        # Where a proxy ends TLS, agents and curl never see our certificate: theirs is checked as any public one.
        seen = not (control.settings.public_url and control.settings.trusted_proxies)
        # Nor do they where an authority certifies the name that they dial.
        certified = certified_hosts(control.settings)
        seen = seen and not any(urlsplit(url).hostname in certified for url in where.urls)
        fingerprints = (tls.fingerprint,) if tls.fingerprint and seen else ()
        spki_pins = (tls.spki_pin,) if tls.spki_pin and seen else ()
        release_keys = signing_keys(control.settings.data_folder / "keys")
        return ServerIdentity(where.origin, where.urls, fingerprints, spki_pins, tls.authority_pem, release_keys)

    return ask
