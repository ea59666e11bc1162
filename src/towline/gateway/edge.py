"""The edge of the control plane: listens, lets connections in, sweeps their deadlines, and drains at the end.

One per process. What happens on a connection is in `client` and `exchange`; where requests go is the router's word.
"""

import asyncio
import socket
from collections.abc import Callable, Iterable

import structlog

from towline.aio.tasks import TaskOwner
from towline.gateway.client import ClientConnection
from towline.gateway.context import EdgeContext, Swept
from towline.gateway.counters import EdgeCounters
from towline.gateway.health import follow
from towline.gateway.interfaces import (
    AccessLog,
    Connector,
    HelloReader,
    LinkAcceptor,
    Peer,
    Router,
    SignIn,
    TlsProvider,
    ToTarget,
)
from towline.gateway.listener import Listener
from towline.gateway.memory import Returns, shed
from towline.gateway.options import EdgeOptions
from towline.gateway.raw import RawConnection
from towline.gateway.raw_ports import RawPorts
from towline.gateway.request_tail import RequestTail
from towline.gateway.route_figures import RouteFigures
from towline.gateway.route_policy import Policies, RoutePolicy
from towline.gateway.upstream import Pools
from towline.gateway.withdrawn import Withdrawn

_log = structlog.get_logger("towline.edge")


class Edge:
    """See the module. Create it on the running loop; `tls` may be None where only loopback and proxies connect.

    `is_served` tells whether a route's id is still published; what is open of others ends within seconds.
    """

    def __init__(
        self,
        options: EdgeOptions,
        *,
        router: Router,
        api: Connector,
        links: LinkAcceptor,
        tls: TlsProvider | None = None,
        access_log: AccessLog | None = None,
        sign_in: SignIn | None = None,
        tail: RequestTail | None = None,
        hellos: HelloReader | None = None,
        is_served: Callable[[str], bool] | None = None,
    ) -> None:
        self.counters = EdgeCounters()
        self._options = options
        self._context = EdgeContext(
            options=options,
            router=router,
            api=api,
            links=links,
            pools=Pools(options, self.counters),
            counters=self.counters,
            access_log=access_log,
            policies=Policies(sign_in),
            tail=tail if tail is not None else RequestTail(),
        )
        self._context.policies.on_made = self._check_health
        self._health = TaskOwner("edge/health")
        self._checks: dict[str, asyncio.Task[None]] = {}
        """Of each route whose targets are being asked how they are, by its id."""
        self._returns = Returns()
        self._withdrawn = Withdrawn(is_served) if is_served is not None else None
        self._listener = Listener(options, self._make_client, tls, self.counters, hellos, raw=self._make_raw)
        self._raw_ports: RawPorts | None = None
        self._sweeper = TaskOwner("edge/sweep")
        self._progress = asyncio.Event()

    def __repr__(self) -> str:
        state = "draining" if self._context.is_draining else "open"
        return f"<Edge {state} {len(self._context.connections)} connections>"

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Where the edge listens, as (address, port)."""
        return self._listener.addresses

    @property
    def figures(self) -> RouteFigures:
        """What happened on each route."""
        return self._context.figures

    @property
    def tail(self) -> RequestTail:
        """The last requests to published routes."""
        return self._context.tail

    @property
    def is_draining(self) -> bool:
        """True once the edge takes no new work."""
        return self._context.is_draining

    def listen(self, host: str, port: int) -> None:
        """Listen on an address; call it again for further ones.

        Raises: OSError: the address is taken or not ours.
        """
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.listen_on(socket.create_server((host, port), family=family))

    def listen_on(self, sock: socket.socket) -> None:
        """Listen on a socket that somebody else bound, such as a service manager."""
        self._listener.listen(sock)
        if not len(self._sweeper):
            self._sweeper.spawn("deadlines", self._sweep())

    def raw_ports(self, host: str) -> RawPorts:
        """Return what listens for raw TCP routes, on one address."""
        if self._raw_ports is None:
            self._raw_ports = RawPorts(self._context, host, self._make_raw)
        return self._raw_ports

    def forget_route(self, route_id: str) -> None:
        """Drop what is kept of a route that is gone: its figures, its limits; nobody asks its targets any more."""
        self._context.figures.forget(route_id)
        self._context.policies.forget(route_id)
        self._end_check(route_id)

    async def drain(self, timeout: float) -> None:
        """Take no new work, finish running requests for at most `timeout` seconds, then end everything.

        Connections between requests close at once, upgraded ones when everything else is done.
        """
        context = self._context
        context.is_draining = True
        await self._stop_listening()
        for connection in list(context.connections):
            if connection.is_idle:
                connection.abort()
        try:
            async with asyncio.timeout(timeout):
                while any(not connection.is_piped for connection in context.connections):
                    self._progress.clear()
                    await self._progress.wait()
        except TimeoutError:
            _log.warning("requests are cut off by the drain limit", connections=len(context.connections))
        await self.close()

    async def close(self) -> None:
        """End everything at once."""
        self._context.is_draining = True
        await self._stop_listening()
        await self._sweeper.close()
        await self._context.decisions.close()
        await self._health.close()
        for connection in list(self._context.connections):
            connection.abort()
        self._context.pools.close()
        while self._context.connections:
            self._progress.clear()
            await self._progress.wait()

    async def _stop_listening(self) -> None:
        await self._listener.close()
        if self._raw_ports is not None:
            await self._raw_ports.close()

    def _make_client(self, peer: Peer, on_end: Callable[[], None]) -> ClientConnection:
        def ended() -> None:
            on_end()
            self._progress.set()

        return ClientConnection(self._context, peer, ended)

    def _make_raw(self, route: ToTarget, peer: Peer, on_end: Callable[[], None]) -> RawConnection:
        def ended() -> None:
            on_end()
            self._progress.set()

        return RawConnection(self._context, route, peer, ended)

    def _check_health(self, policy: RoutePolicy) -> None:
        if policy.balanced is None or not policy.options.health_path or self._health.closed:
            return
        key = policy.route.id or policy.route.name
        self._end_check(key)
        self._checks[key] = following = self._health.spawn("follow", follow(policy, self._context.policies.is_current))
        following.add_done_callback(lambda task: self._check_ended(key, task))

    def _end_check(self, key: str) -> None:
        before = self._checks.pop(key, None)
        if before is not None:
            before.cancel()

    def _check_ended(self, key: str, task: "asyncio.Task[None]") -> None:
        if self._checks.get(key) is task:
            del self._checks[key]

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(self._options.sweep_interval)
            now = self._context.now()
            connections = list(self._context.connections)
            look_at(connections, now)
            self.counters.shed += shed(connections, self._options.max_held_bytes)
            if self._withdrawn is not None:
                self._withdrawn.look(connections, now)
            self._returns.look(len(connections), now)
            self._context.pools.sweep()
            self._context.policies.sweep(now)


def look_at(connections: Iterable[Swept], now: float) -> None:
    """Let each connection end what is overdue; one that fails is dropped, and the others are looked at all the same."""
    for connection in connections:
        try:
            connection.check(now)
        except Exception:
            _log.exception("a connection could not be looked at", connection=repr(connection))
            connection.abort()
