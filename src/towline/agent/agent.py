"""The agent's parts, made and joined. The process around it is `app.py`'s."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from msgspec import structs

import towline
from towline.agent import arriving, policy, status, update, updating
from towline.agent.bundles import BundleStore
from towline.agent.docker import compose
from towline.agent.docker.engine import Engine, find_host
from towline.agent.errors import AgentError
from towline.agent.host.capabilities import Capabilities
from towline.agent.host.inventory import Inventory
from towline.agent.host.measures import Meter
from towline.agent.identity import Store
from towline.agent.jobs.context import Host
from towline.agent.jobs.runner import Runner
from towline.agent.jobs.steps import Steps
from towline.agent.journal import Journal
from towline.agent.kubernetes import probe
from towline.agent.kubernetes.api import Api
from towline.agent.kubernetes.credentials import Credentials, find_source
from towline.agent.kubernetes.directory import Directory
from towline.agent.kubernetes.forward import KubeServer
from towline.agent.kubernetes.inventory import KubernetesInventory
from towline.agent.kubernetes.kubelets import Account
from towline.agent.projects.records import Records
from towline.agent.protocols import choosing, place
from towline.agent.protocols.keeper import Keeper
from towline.agent.routes.cluster import ClusterRoutes
from towline.agent.routes.docker import ComposeRoutes
from towline.agent.routes.telling import RouteTeller
from towline.agent.settings import AgentSettings
from towline.agent.streams.kube_service import KubeServiceServer
from towline.agent.streams.router import StreamRouter
from towline.agent.streams.servers import servers
from towline.agent.surface import addresses, parts
from towline.agent.surface.linkstate import LinkState, Standing
from towline.agent.uplink.delivery import Delivery
from towline.agent.uplink.handler import LinkHandler
from towline.agent.uplink.reports import Counts, Reports
from towline.agent.uplink.signer import AgentSigner
from towline.agent.uplink.silence import Silence
from towline.aio.clock import REAL_CLOCK, Clock
from towline.aio.tasks import TaskOwner
from towline.tunnel import dial, trust
from towline.tunnel.reconnect import Ending, LinkKeeper
from towline.tunnel.session import LinkSession
from towline.wire import link

if TYPE_CHECKING:
    from towline.agent.kubernetes.shared import SharedIdentity
    from towline.agent.surface.server import Surface

SWEEP_INTERVAL = 3600.0
"""Seconds between two removals of what is not needed any more from journal and disk."""

LISTEN_INTERVAL = 30.0
"""Seconds before the local surface tries again to have its port."""

STOP_TIMEOUT = 3.0
"""Seconds for the last words on the link."""

_log = structlog.get_logger("towline.agent")


class Agent:
    """One agent process. `run` once."""

    def __init__(
        self,
        settings: AgentSettings,
        *,
        shared: SharedIdentity | None = None,
        reread: arriving.Reread | None = None,
        clock: Clock = REAL_CLOCK,
    ) -> None:
        """`shared` keeps the identity in a Secret; None for an agent whose state folder is its own.

        `reread` reads the settings anew, for a server that is set later.
        """
        self._reread = reread
        self.settings = settings
        self.clock = clock
        self.shared = shared
        state = settings.state_folder
        self.place = place.settle(settings) if settings.protocol != "towline" and settings.server else None
        """Where an older control plane is, for an agent of one."""
        own = place.own_folder(settings) if self.place is not None else state
        self.store = (
            self.place.store if self.place is not None else shared.store if shared is not None else Store(state)
        )
        self.owner = TaskOwner("agent")
        self.updating = False
        self._follows_shared = False
        self.surface: Surface | None = None
        """What answers on this host, once it listens."""
        self.next_python: Path | None = None
        """Python of a newer release that was installed; `replaced` is set then, and this process should end."""
        self.replaced = asyncio.Event()
        engine = Engine(find_host(settings.docker_host))
        self.records = Records(state / "revisions", settings.projects)
        self.kubernetes = Credentials(find_source(settings), clock=clock)
        self.capabilities = Capabilities(
            engine,
            self._find_compose(engine),
            self._policy,
            find_kubernetes=lambda: probe.find_version(self.kubernetes),
            clock=clock,
        )
        self.host = Host(
            settings=settings,
            engine=engine,
            records=self.records,
            bundles=BundleStore(state / "bundles", settings.bundles_bytes),
            steps=Steps(own / "runs"),
            journal=Journal(own / "journal.sqlite"),
            identity=self.store,
            policy=self._policy,
            find_compose=self.capabilities.compose_tool,
            kubernetes=self.kubernetes,
            clock=clock,
        )
        self.delivery = Delivery(self.host.journal, self.owner)
        self.runner = Runner(
            self.host, self.owner, self._job_said, execute=choosing.execute_for(settings.protocol),
            before_result=self._tell_inventory,
        )  # fmt: skip
        self.signer = AgentSigner(
            self.store,
            lambda: self.capabilities.current,
            before_hello=shared.before_hello if shared is not None else None,
            clock=clock,
        )
        self.routes = RouteTeller(clock=clock)
        composed = ComposeRoutes(self.routes, self._policy)
        self.inventory = Inventory(
            engine, self.records, told=self._inventory_changed, docker_changed=self._docker_changed,
            seen=composed.seen, away=composed.away, clock=clock,
        )  # fmt: skip
        kubernetes = KubeServer(self.kubernetes, self._policy, clock=clock)
        api = Api(self.kubernetes)
        directory = Directory(api, clock=clock)
        services = KubeServiceServer(directory, self._policy)
        self.cluster_routes = ClusterRoutes(self.kubernetes, self._policy, self.routes, directory, clock=clock)
        served = servers(self.host, self.inventory, kubernetes, services)
        self.router = StreamRouter(served, self.owner, settings.streams_limit)
        self.kube_inventory = KubernetesInventory(
            self.kubernetes, self._policy, kubelets=Account.parse(settings.kubelet_account),
            kubelet_authorities=settings.kubelet_ca_file, clock=clock,
        )  # fmt: skip
        self.counts = Counts(
            jobs_running=lambda: self.runner.running,
            streams_open=self._streams_open,
            time_offset=lambda: self.signer.time_offset,
            status=lambda: self.keeper.status,
            is_private=lambda: self.cluster_routes.is_private,
            routes=lambda: len(self.routes.book),
            jobs_ended=lambda: self.runner.ended,
        )
        self.reports = Reports(
            meter=Meter(state),
            capabilities=self.capabilities,
            inventory=self.inventory,
            policy=self._policy,
            counts=self.counts,
            owner=self.owner,
            clock=clock,
            tellers=(self.kube_inventory.teller, self.kube_inventory.usage, self.routes),
        )
        self.handler = LinkHandler(
            store=self.store,
            runner=self.runner,
            journal=self.host.journal,
            delivery=self.delivery,
            reports=self.reports,
            on_stream=self.router.take,
            on_settings=self._settings_changed,
            apply_update=self._update,
            clock=clock,
        )
        self.spoken: choosing.Spoken | None = None
        """The older protocol, for an agent of one."""
        self.keeper: LinkKeeper | Keeper = LinkKeeper(
            addresses=self._addresses,
            route=self._route,
            signer=self.signer,
            connected=self._connected,
            owner=self.owner,
            clock=clock,
        )
        if self.place is not None:
            means = choosing.Means(
                self.host, self.runner, self.owner, self.kubernetes, api, self.kube_inventory, directory, self.routes,
                is_private=lambda: self.cluster_routes.is_private,
            )  # fmt: skip
            self.spoken = choosing.speak(self.place, means)
            self.keeper = choosing.keep(self.spoken, self.place, means, self._turned)
        self.link = LinkState(self._standing(), clock=clock)
        self.silence = Silence(
            self.link,
            lambda: self.keeper.session,
            longest=settings.silence_alert_seconds,
            reason=lambda: self.link.view.last_error or self.keeper.status.last_error,
            clock=clock,
        )
        self.parts = parts.Parts(
            settings=settings,
            policy=self._policy,
            owner=self.owner,
            capabilities=self.capabilities,
            link=self.link,
            counts=self.counts,
            started_at=clock.now(),
            store=self.store,
            route=self._route,
            session=lambda: self.keeper.session,
            silence=self.silence,
            kubernetes=parts.Kubernetes(self.kubernetes, api, self.kube_inventory),
            docker=parts.Docker(engine, self.inventory, self.records),
            journal=self.host.journal,
            clock=clock,
        )

    def __repr__(self) -> str:
        return f"<Agent {self.store!r} {self.keeper!r}>"

    async def run(self) -> Ending:
        """Work until the control plane says that it is over, or this task is cancelled.

        A standalone agent goes on without the control plane that it had. Raises: AgentError: it cannot begin.
        """
        try:
            await self._listen()
            await self._begin()
            while True:
                await self._arrive()
                ending = await self.keeper.run()
                self._note_status(connected=False, reason=ending.reason)
                if not (ending.final and self.settings.standalone):
                    return ending
                await self._go_on_alone(ending)
        finally:
            if self.surface is not None:
                await self.surface.stop()
            await self._say_goodbye()
            await self.owner.close()
            self.host.journal.close()

    async def _listen(self) -> None:
        """Begin the local surface when it is asked for.

        An agent with a control plane works without it, and tries again: a port that somebody took must not make its
        host unreachable. Raises: AgentError: a standalone agent is of no use without.
        """
        listen = addresses.wanted(self.settings)
        if listen is None:
            return
        try:
            await self._begin_surface(listen)
        except AgentError as error:
            if self.settings.standalone:
                raise
            _log.error("the local surface cannot begin", reason=str(error))
            self.owner.spawn("local surface", self._listen_later(listen))

    async def _listen_later(self, listen: addresses.Address) -> None:
        while self.surface is None:
            await self.clock.sleep(LISTEN_INTERVAL)
            try:
                await self._begin_surface(listen)
            except AgentError as error:
                _log.debug("the local surface cannot begin", reason=str(error))

    async def _begin_surface(self, listen: addresses.Address) -> None:
        # Its HTTP library costs memory that other agents do not pay.
        from towline.agent.surface.server import Surface

        surface = Surface(self.parts)
        await surface.start(listen)
        self.surface = surface

    async def _begin(self) -> None:
        """Start everything that needs no link."""
        await self.capabilities.look()
        self.runner.resume()
        self.owner.spawn("inventory", self.inventory.run())
        self.owner.spawn("kubernetes inventory", self.kube_inventory.run())
        self.owner.spawn("routes", self.routes.run())
        self.owner.spawn("routes of the cluster", self.cluster_routes.run())
        self.owner.spawn("capabilities", self.reports.watch())
        self.owner.spawn("sweeping", self._sweep())
        self.owner.spawn("silence", self.silence.run())

    async def _arrive(self) -> None:
        """Wait for an identity. For an older control plane there is one already: this host made it."""
        if self.place is not None:
            _log.info("agent started", version=towline.__version__, protocol=self.settings.protocol)
            self._note_status(connected=False)
            return
        if self.link.view.standing is Standing.STANDALONE:
            self._note_alone()
        came = await arriving.arrive(self.settings, self.shared, self.link, reread=self._reread, clock=self.clock)
        # The way to the server is what may have been set later; everything else is as this process began with.
        self.settings = structs.replace(
            self.settings, server=came.server, fingerprints=came.fingerprints, ca_file=came.ca_file, proxy=came.proxy
        )
        identity = self.store.current
        _log.info("agent started", version=towline.__version__, agent=identity.agent_id, cluster=identity.cluster_name)
        if self.shared is not None and not self._follows_shared:
            self._follows_shared = True
            self.owner.spawn("shared identity", self.shared.follow_for_ever())
        self._note_status(connected=False)

    async def _go_on_alone(self, ending: Ending) -> None:
        """Wait, standalone, until this host has joined anew."""
        _log.warning("the control plane removed this agent; it goes on standalone", reason=ending.reason)
        self.link.turned(Standing.STANDALONE, last_error=ending.reason)
        self._note_alone()
        await arriving.joined_anew(self.store, self.shared, self.store.current.agent_id, clock=self.clock)

    def _standing(self) -> Standing:
        if self.store.exists():
            return Standing.CONNECTING
        return Standing.STANDALONE if self.settings.standalone and not self.settings.server else Standing.JOINING

    # -- what the parts ask ----------------------------------------------------------------------

    def _policy(self) -> policy.LocalPolicy:
        return policy.load_or_deny(self.settings)

    def _find_compose(self, engine: Engine) -> Callable[[], Awaitable[compose.ComposeTool | None]]:
        return lambda: compose.find(engine.host, self.settings.compose_command)

    def _addresses(self) -> tuple[str, ...]:
        identity = self.store.current
        older = identity.last_trust.server_urls if identity.last_trust else ()
        return tuple(dict.fromkeys((*identity.server_urls, *older)))

    def _route(self) -> dial.Route:
        identity = self.store.current
        pairs = (identity.trust, *((identity.last_trust,) if identity.last_trust else ()))
        anchors = trust.TrustAnchors(
            fingerprints=tuple(pin for pair in pairs for pin in pair.fingerprints),
            ca_pem="\n".join(pair.ca_pem for pair in pairs if pair.ca_pem),
            ca_file=str(self.settings.ca_file or ""),
        )
        return dial.Route(
            anchors=anchors,
            proxy=self.settings.proxy,
            environment=dict(os.environ),
            user_agent=f"towline-agent/{towline.__version__}",
        )

    async def _connected(self, session: LinkSession, welcome: link.Welcome) -> None:
        await self.handler.connected(session, welcome)
        self._note_status(connected=True)
        session.on_close(lambda closed: self._note_status(connected=False, reason=str(closed)))

    def _turned(self, connected: bool, reason: str) -> None:
        self._note_status(connected=connected, reason=reason)

    def _note_status(self, *, connected: bool, reason: str = "") -> None:
        known = self.keeper.status
        left = status.Status(
            pid=os.getpid(),
            version=towline.__version__,
            connected=connected,
            server=known.server,
            cluster=self.store.current.cluster_name,
            since=self.clock.now().timestamp(),
            last_error=reason or known.last_error,
            reconnects=known.reconnects,
            protocol=self.settings.protocol if self.place is not None else "towline",
        )
        status.write(self.settings.state_folder, left)
        standing = Standing.CONNECTED if connected else Standing.CONNECTING
        self.link.turned(standing, server=left.server, cluster=left.cluster, last_error=left.last_error)

    def _note_alone(self) -> None:
        now, error = self.clock.now().timestamp(), self.link.view.last_error
        left = status.Status(
            pid=os.getpid(), version=towline.__version__, connected=False, since=now, last_error=error, standalone=True
        )
        status.write(self.settings.state_folder, left)

    def _streams_open(self) -> int:
        session = self.keeper.session
        return session.stream_count if session is not None else 0

    def _job_said(self, job_id: str) -> None:
        if self.spoken is not None:
            self.spoken.job_said(job_id)
        else:
            self.delivery.publish(job_id)
        self.inventory.project_changed()

    async def _tell_inventory(self) -> None:
        await self.inventory.tell_now()

    def _inventory_changed(self, change: link.Inventory) -> None:
        self.reports.inventory_changed(change)

    def _docker_changed(self) -> None:
        self.reports.look_soon()

    def _settings_changed(self, changed: link.LinkSettings) -> None:
        self.keeper.heartbeat_interval = self.reports.heartbeat_interval = changed.heartbeat_interval
        self.cluster_routes.choice = changed.watch_ingresses
        self.inventory.interval = changed.inventory_interval
        self.kube_inventory.teller.interval = changed.kube_inventory_interval

    async def _update(self, order: link.Update) -> None:
        """Begin an update, in the background: downloading takes a while. Raises: UpdateRefused."""
        manifest = update.verify(order, self.store.current.trust.signing_keys)
        root = updating.find_root()
        if self.updating:
            raise update.UpdateRefused("an update is being installed already")
        self.updating = True
        self.owner.spawn("update", self._install(manifest, root))

    async def _install(self, manifest: update.Manifest, root: Path) -> None:
        server = dial.Endpoint.parse(self.keeper.status.server)
        try:
            self.next_python = await updating.install(manifest, server, self._route(), root)
        except AgentError as error:
            _log.error("update failed", release=manifest.version, reason=str(error))
            if isinstance(self.keeper.session, LinkSession):
                self.keeper.session.send_now(link.Error(code="update_failed", message=str(error)))
            return
        finally:
            self.updating = False
        _log.info("update installed", release=manifest.version)
        self.replaced.set()

    async def _sweep(self) -> None:
        while True:
            moment = self.clock.now().timestamp() - self.settings.journal_keep_seconds
            self.host.journal.forget_before(moment)
            self.host.bundles.prune(self.records.bundles_in_use())
            await self.clock.sleep(SWEEP_INTERVAL)

    async def _say_goodbye(self) -> None:
        session = self.keeper.session
        if isinstance(session, LinkSession):
            session.send_now(link.Goodbye(reason="stopping", text="the agent was stopped"))
            session.close(1000, "the agent was stopped")
