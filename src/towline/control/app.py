"""The wiring of the control plane: which services there are, which routers, and in which order they start.

A feature is listed here three times: its service in `ControlPlane.__init__`, its router in `routers`, and, when it has
background loops, itself in `ControlPlane.features`. No rules live here.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import cache
from typing import Protocol

from fastapi import APIRouter, FastAPI
from starlette.routing import BaseRoute, Host

from towline import __version__
from towline.aio.clock import REAL_CLOCK, Clock
from towline.aio.tasks import TaskOwner
from towline.control import answers
from towline.control.access.accounts import Accounts
from towline.control.access.dependencies import undeclared_routes
from towline.control.access.service import AccessService
from towline.control.alerts.feature import AlertsFeature
from towline.control.audit.service import AuditLog
from towline.control.authority.identity import ServerAddresses, addresses
from towline.control.authority.service import ServerTls
from towline.control.bundles.service import BundleService
from towline.control.bus import Bus
from towline.control.certificates.feature import CertificatesFeature
from towline.control.commands.feature import CommandsFeature
from towline.control.db import Database
from towline.control.deployments.adapters import ClusterFleet
from towline.control.deployments.wiring import deployments_of
from towline.control.errors import StartupError
from towline.control.fleet import Fleet
from towline.control.guard import GuardedApi
from towline.control.ids import DEFAULT_ORG
from towline.control.kubernetes.inventory import KubernetesInventory
from towline.control.kubernetes.inventory_wiring import intake_of
from towline.control.kubernetes.service import KubernetesAccess
from towline.control.metrics import Metrics
from towline.control.pg_notify import PgNotify
from towline.control.protocols.feature import Protocols
from towline.control.published import PublishedRoutes
from towline.control.recordings.service import Recordings
from towline.control.registries.service import RegistryService
from towline.control.retention import Retention
from towline.control.routes.feature import Gateway
from towline.control.routes.visits import Visits
from towline.control.sealing.service import Sealer
from towline.control.settings import Settings
from towline.control.usage.feature import UsageFeature
from towline.control.web import Web
from towline.gateway.request_tail import RequestTail
from towline.gateway.route_figures import RouteFigures


class Feature(Protocol):
    """A part with background work of its own."""

    async def start(self) -> None:
        """Begin the loops. The database is ready; requests are not served yet."""

    async def stop(self) -> None:
        """End the loops; called in reverse order of the starts."""


class ControlPlane:
    """Everything that one server process holds. Services reach each other through it."""

    def __init__(
        self, settings: Settings, db: Database, bus: Bus, sealer: Sealer, *, clock: Clock = REAL_CLOCK
    ) -> None:
        self.settings = settings
        self.db = db
        self.bus = bus
        self.clock = clock
        self.sealer = sealer
        self.tasks = TaskOwner("control")
        self.metrics = Metrics()
        self.audit = AuditLog(lambda result: self.metrics.audit_events.labels(result).inc())
        self.default_org = DEFAULT_ORG
        self.access = AccessService(self)
        self.accounts = Accounts(self)
        self.web = Web()
        self.tls = ServerTls(settings, clock=clock)
        self.port = settings.listen_port
        """That the edge listens on; the settings may have asked for any."""
        self.retention = Retention(self)
        self.fleet = Fleet(self)
        self.protocols = Protocols(self)
        self.kube_intake = intake_of(self)
        self.kube_inventory = KubernetesInventory(db, clock=clock)
        self.usage = UsageFeature(self)
        self.bundles = BundleService(db, self.audit)
        self.registries = RegistryService(db, sealer, self.audit, ClusterFleet())
        self.deployments = deployments_of(self)
        self.gateway = Gateway(self)
        self.routes = self.gateway.routes
        self.domains = self.gateway.domains
        self.published = PublishedRoutes(self)
        self.requests = RequestTail()
        """What the edge of this process answered lately on published routes."""
        self.figures = RouteFigures()
        """Of the edge of this process, which brings its own."""
        self.visits = Visits(self)
        self.recordings: Recordings = Recordings(self)
        self.kubernetes = KubernetesAccess(self)
        self.certificates = CertificatesFeature(self)
        self.alerts = AlertsFeature(self)
        self.commands = CommandsFeature(self)
        self.features: list[Feature] = [
            self.tls, self.kube_intake, self.usage, self.recordings, self.fleet, self.protocols, self.deployments,
            self.gateway, self.published, self.kubernetes, self.certificates, self.alerts, self.commands,
            self.retention,
        ]  # fmt: skip
        if not db.is_sqlite:
            self.features.insert(0, PgNotify(db, bus, clock=clock))
        self.draining = False
        self.setup_token = ""
        """Shown to the operator once, on an empty database."""

    def __repr__(self) -> str:
        return f"<ControlPlane {self.db!r} {len(self.features)} features>"

    @property
    def fingerprint(self) -> str:
        """`sha256:…` of the authority that agents and the CLI pin; empty when the system's trust decides."""
        return self.tls.fingerprint

    def addresses(self) -> ServerAddresses:
        """Return how this server is reached."""
        return addresses(self.settings, self.port)

    def begin_drain(self) -> None:
        """Take no new work, and end every stream that waits for hints."""
        self.draining = True
        self.bus.close()

    async def start(self) -> None:
        """Begin every feature's background work."""
        for feature in self.features:
            await feature.start()

    async def stop(self) -> None:
        """End what `start` began. Raises: what the last failing feature raised, after all were stopped."""
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self.tasks.close)
            for feature in self.features:
                stack.push_async_callback(feature.stop)
            self.begin_drain()


def routers() -> Sequence[APIRouter]:
    """Return the router of every feature, in the order that the API's documentation shows them."""
    from towline.control.access.api import router as access
    from towline.control.access.users_api import router as users
    from towline.control.agents.api import router as agents
    from towline.control.alerts.api import router as alerts
    from towline.control.audit.api import router as audit
    from towline.control.bundles.api import router as bundles
    from towline.control.certificates.api import router as certificates
    from towline.control.clusters.api import router as clusters
    from towline.control.commands.api import router as commands
    from towline.control.deployments.api import router as deployments
    from towline.control.domains.api import router as domains
    from towline.control.install.api import router as install
    from towline.control.jobs.api import router as jobs
    from towline.control.kubernetes.api import router as kubernetes
    from towline.control.kubernetes.inventory_api import router as kubernetes_inventory
    from towline.control.kubernetes.manifest_api import router as manifests
    from towline.control.kubernetes.tokens_api import router as kubernetes_tokens
    from towline.control.links.api import router as links
    from towline.control.protocols.api import router as protocols
    from towline.control.protocols.instadeploy.api import router as instadeploy
    from towline.control.protocols.pipeops.rest_api import router as pipeops_rest
    from towline.control.protocols.pipeops.routes_api import router as pipeops_routes
    from towline.control.recordings.api import router as recordings
    from towline.control.registries.api import router as registries
    from towline.control.routes.api import router as routes
    from towline.control.routes.tail import router as tail
    from towline.control.streams.api import router as streams
    from towline.control.system.api import router as system
    from towline.control.usage.api import router as usage

    return (
        system,
        access,
        users,
        agents,
        pipeops_rest,
        protocols,
        instadeploy,
        pipeops_routes,
        clusters,
        kubernetes,
        kubernetes_inventory,
        usage,
        manifests,
        kubernetes_tokens,
        links,
        deployments,
        routes,
        tail,
        domains,
        certificates,
        jobs,
        commands,
        streams,
        recordings,
        alerts,
        install,
        registries,
        bundles,
        audit,
    )


def pages() -> Sequence[APIRouter]:
    """Return the router of every feature's pages, and of the files that they load."""
    from towline.control.access.pages import router as access
    from towline.control.alerts.pages import router as alerts
    from towline.control.audit.pages import router as audit
    from towline.control.certificates.pages import router as certificates
    from towline.control.clusters.pages import router as clusters
    from towline.control.commands.pages import router as commands
    from towline.control.deployments.edit_pages import router as editor
    from towline.control.deployments.pages import router as deployments
    from towline.control.domains.pages import router as domains
    from towline.control.jobs.pages import router as jobs
    from towline.control.kubernetes.access_pages import router as kubernetes_access
    from towline.control.kubernetes.actions import router as kubernetes_actions
    from towline.control.kubernetes.join_pages import router as join_kubernetes
    from towline.control.kubernetes.object_pages import router as kubernetes_objects
    from towline.control.kubernetes.pages import router as kubernetes
    from towline.control.protocols.pages import router as older_agents
    from towline.control.recordings.pages import router as recordings
    from towline.control.routes.cluster_pages import router as cluster_routes
    from towline.control.routes.pages import router as routes
    from towline.control.routes.route_pages import router as route
    from towline.control.routes.visits import router as visits
    from towline.control.system.pages import router as system
    from towline.control.usage.pages import router as usage
    from towline.control.web import router as static

    # The dialogs of Kubernetes and of older agents have fixed addresses below one that ends in a token.
    return (
        static,
        access,
        join_kubernetes,
        older_agents,
        clusters,
        kubernetes,
        usage,
        kubernetes_access,
        kubernetes_objects,
        kubernetes_actions,
        editor,
        deployments,
        routes,
        route,
        cluster_routes,
        domains,
        certificates,
        jobs,
        commands,
        recordings,
        alerts,
        visits,
        audit,
        system,
    )


def create_app(control: ControlPlane) -> FastAPI:
    """Build the API. Raises: StartupError: a route names neither a permission nor why it is public."""
    body_bytes = control.settings.body_bytes
    app = GuardedApi(
        title="Towline",
        version=__version__,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        max_body_size=body_bytes,
        redirect_slashes=False,
    )
    app.state.control = control
    answers.install(app)
    declaring = (app.router, *routers(), *pages())
    if undeclared := [route for each in declaring for route in undeclared_routes(each.routes)]:
        raise StartupError(f"routes without a declared permission: {', '.join(undeclared)}")
    if control.settings.instadeploy_host:
        from towline.control.protocols.instadeploy import rest

        app.router.routes.append(Host(control.settings.instadeploy_host, rest.create(control)))
    app.router.routes.extend(_included(body_bytes))
    return app


@cache
def _included(body_bytes: int) -> list[BaseRoute]:
    """Include every router once: what the first request builds of each route serves every app of the process."""
    holder = APIRouter(max_body_size=body_bytes, redirect_slashes=False)
    for router in (*routers(), *pages()):
        holder.include_router(router)
    return holder.routes
