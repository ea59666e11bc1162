"""The server process: opens the control plane, serves its API behind the edge, and stops in good order.

One uvloop, one port. The API is served by uvicorn on a Unix socket in the run folder, which only the edge talks to.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path

import uvloop

from towline import __version__
from towline.aio.malloc import keep_large_blocks
from towline.aio.tasks import TaskOwner
from towline.control import logging
from towline.control.access import setup
from towline.control.app import ControlPlane, create_app
from towline.control.certificates.routing import ChallengesFirst
from towline.control.edge_metrics import EdgeCollector, RouteTrafficCollector, log_request
from towline.control.errors import StartupError
from towline.control.logging import get_logger
from towline.control.opening import opened
from towline.control.plain_http import plain_edge
from towline.control.protocols.instadeploy.place import Place
from towline.control.protocols.standins import MakesStandIns
from towline.control.routes.raw import RawRoutes
from towline.control.routing import LinkHandover, ServerRouter
from towline.control.settings import Settings
from towline.gateway.api_server import MAX_PATH_BYTES, ApiServer
from towline.gateway.connectors import UnixConnector
from towline.gateway.edge import Edge
from towline.gateway.options import EdgeOptions

_log = get_logger("server")

SOCKET = "api.sock"
PRIVATE = 0o077
"""Mode bits that no file of ours gets: everything in the data folder is for the server's user alone."""
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@dataclass(frozen=True, slots=True)
class Running:
    """A server that answers."""

    control: ControlPlane
    edge: Edge
    port: int

    @property
    def url(self) -> str:
        """The address to show to people."""
        return self.control.addresses().origin

    @property
    def setup_url(self) -> str:
        """The one-time address that makes the first user; empty once there is one. Holds a secret."""
        token = self.control.setup_token
        return f"{self.url}/setup#{token}" if token else ""


Ready = Callable[[Running], Awaitable[None] | None]
"""Told once requests are answered; what it does must be quick."""


@contextlib.asynccontextmanager
async def serving(
    settings: Settings, *, options: EdgeOptions | None = None, stand_ins: MakesStandIns | None = None
) -> AsyncIterator[Running]:
    """Hold a running server; leaving the block drains and stops it.

    Args: options: limits of the edge; from the settings when not given. stand_ins: makes who does what older agents
    cannot; without it their clusters have no more than they say themselves.
    Raises: StartupError: why it cannot start, in one line.
    """
    async with contextlib.AsyncExitStack() as stack:
        control = await stack.enter_async_context(opened(settings))
        control.protocols.stand_ins = stand_ins
        owner = await stack.enter_async_context(TaskOwner("edge"))
        api = ApiServer(create_app(control), _socket_path(settings, stack))
        raw = RawRoutes(control.gateway.registry, control.bus, control.certificates.handshakes, settings.tcp_ports)
        stack.push_async_callback(raw.stop)
        edge = Edge(
            options or edge_options(settings),
            router=ChallengesFirst(
                ServerRouter(
                    control.gateway.registry.find,
                    control.kubernetes.gate.route,
                    cluster_hosts=settings.kubernetes_host,
                    links=control.protocols.doors,
                ),
                control.certificates.answers,
            ),
            api=UnixConnector(str(api.path), owner),
            links=LinkHandover(control.fleet.acceptor, control.protocols.doors),
            tls=control.certificates.handshakes.context,
            hellos=raw,
            access_log=log_request,
            sign_in=control.visits,
            tail=control.requests,
            is_served=control.gateway.registry.table.__contains__,
        )
        control.metrics.registry.register(EdgeCollector(edge.counters))
        control.figures = edge.figures
        control.gateway.registry.also_when_gone.append(edge.forget_route)
        control.metrics.registry.register(RouteTrafficCollector(edge.figures))
        control.port = _listen(edge, settings)
        plain = plain_edge(control, options or edge_options(settings))
        if settings.instadeploy_listen:
            limits = options or edge_options(settings)
            control.protocols.instadeploy.place = place = Place(
                control, limits, owner, control.protocols.doors, api.path.parent
            )
            stack.push_async_callback(place.stop)
            await place.start()
        await api.start()
        stack.push_async_callback(api.stop)
        stack.push_async_callback(edge.close)
        if plain is not None:
            control.gateway.registry.also_when_gone.append(plain.forget_route)
            stack.push_async_callback(plain.close)
        await control.start()
        await raw.start(edge.raw_ports(settings.listen_host))
        running = Running(control, edge, control.port)
        _announce(running)
        try:
            yield running
        finally:
            await drain(running)


async def drain(running: Running) -> None:
    """Take no new work, tell long streams to end, and let running requests finish within the limit."""
    _log.info("stopping", limit=running.control.settings.drain_timeout)
    running.control.begin_drain()
    await running.edge.drain(running.control.settings.drain_timeout)


async def serve(
    settings: Settings,
    *,
    ready: Ready | None = None,
    stop: asyncio.Event | None = None,
    stand_ins: MakesStandIns | None = None,
) -> None:
    """Serve until a signal comes or `stop` is set. A second signal ends the process at once.

    Args: ready: called once requests are answered.
    """
    stop = stop or asyncio.Event()
    loop = asyncio.get_running_loop()
    with _signals(loop, stop):
        async with serving(settings, stand_ins=stand_ins) as running:
            told = ready(running) if ready is not None else None
            if told is not None:
                await told
            await stop.wait()
    _log.info("stopped")


def run(settings: Settings, *, ready: Ready | None = None, stand_ins: MakesStandIns | None = None) -> None:
    """Run the server in this process until it is told to stop. Raises: StartupError."""
    os.umask(PRIVATE)
    logging.configure(settings.log_level, settings.log_format)
    keep_large_blocks()
    uvloop.run(serve(settings, ready=ready, stand_ins=stand_ins))


def edge_options(settings: Settings) -> EdgeOptions:
    """Return the edge's limits from the settings. Raises: StartupError: a network that is none."""
    try:
        proxies = tuple(ip_network(text, strict=False) for text in settings.trusted_proxies)
    except ValueError as error:
        raise StartupError(f"trusted_proxies: {error}") from error
    return EdgeOptions(
        trusted_proxies=proxies,
        connections_per_address=settings.connections_per_address,
        log_good_targets=False,  # left to the counters
        cookie_zone=settings.gateway_domain.encode("ascii"),
    )


def _listen(edge: Edge, settings: Settings) -> int:
    try:
        edge.listen(settings.listen_host, settings.listen_port)
    except OSError as error:
        raise StartupError(f"cannot listen on {settings.listen}: {error.strerror or error}") from error
    return int(edge.addresses[0][1])


def _socket_path(settings: Settings, stack: contextlib.AsyncExitStack) -> Path:
    """Put the socket into the data folder; into a private temporary one when that path is too long for a socket."""
    path = settings.data_folder / "run" / SOCKET
    if len(str(path).encode()) <= MAX_PATH_BYTES:
        return path
    return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="towline-"))) / "run" / SOCKET


def _announce(running: Running) -> None:
    settings = running.control.settings
    _log.info(
        "server ready",
        version=__version__,
        listen=f"{settings.listen_host}:{running.port}",
        url=running.url,
        data=str(settings.data_folder),
        fingerprint=running.control.fingerprint,
        process=os.getpid(),
    )
    if running.control.setup_token:
        where = settings.data_folder / setup.FILE
        _log.warning("nobody can sign in yet: make the first user within 30 minutes", token_file=str(where))


@contextlib.contextmanager
def _signals(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> Iterator[None]:
    def asked() -> None:
        if stop.is_set():
            _log.warning("told twice: ending at once")
            os._exit(1)
        stop.set()

    for one in STOP_SIGNALS:
        loop.add_signal_handler(one, asked)
    try:
        yield
    finally:
        for one in STOP_SIGNALS:
            loop.remove_signal_handler(one)
