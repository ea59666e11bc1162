"""The surface's server: one owner of aiohttp's runner, with limits on all that a caller can make it hold.

aiohttp is imported here and below alone, and only by an agent that was told to listen.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace

import structlog
from aiohttp import web

from towline.agent.errors import StorageError
from towline.agent.surface import catalogue, lasting, quiet
from towline.agent.surface.addresses import Address
from towline.agent.surface.endpoints import Endpoint
from towline.agent.surface.guard import Guard, note_begun
from towline.agent.surface.parts import Parts
from towline.agent.surface.requests import ENDPOINTS_SERVED, PARTS, STATISTICS
from towline.agent.surface.signing_in import TICKETS
from towline.agent.surface.statistics import Statistics
from towline.agent.surface.tickets import Tickets
from towline.agent.surface.tokens import LocalTokens
from towline.aio.tasks import TaskOwner

LINE_BYTES = 8 * 1024
"""Of a request line: a path with a long label selector fits."""
FIELD_BYTES = 8 * 1024
"""Of one header: as most servers take."""
MOST_HEADERS = 64
"""Of one request: a browser sends some twenty."""
BODY_BYTES = 1024 * 1024
"""Of a request's body: an object of Kubernetes may have as much, and nothing else that is sent here is larger."""
MOST_CONNECTIONS = 2500
"""Open at once: a thousand event streams, a thousand WebSockets, and room for requests beside them."""
IDLE_SECONDS = 30.0
"""Without a whole request head, before or between requests, after which a connection is closed."""
LINGER_SECONDS = 2.0
"""For what is left of a body that nobody read."""
STOP_SECONDS = 0.25
"""For requests that run while the agent stops; what takes longer is a stream, and is cut."""
BACKLOG = 128

_log = structlog.get_logger("towline.agent")


class Surface:
    """Serves the agent's parts. `start` once, then `stop`."""

    def __init__(
        self,
        parts: Parts,
        *,
        tokens: LocalTokens | None = None,
        endpoints: Sequence[Endpoint] = catalogue.ENDPOINTS,
        starts: Sequence[catalogue.Start] = catalogue.STARTS,
    ) -> None:
        """Find or make the local tokens. Raises: SettingsError, StorageError."""
        self.address: Address | None = None
        """Where it listens, with the real port; None while it does not."""
        self.statistics = Statistics()
        self._owner = TaskOwner("surface")
        self._parts = replace(parts, owner=self._owner)
        self._tokens = tokens or LocalTokens(parts.settings)
        self._endpoints = endpoints
        self._starts = starts
        self._runner: web.AppRunner | None = None
        self._guard: Guard | None = None
        self._listener: asyncio.Server | None = None

    def __repr__(self) -> str:
        return f"<Surface {self.address or 'not listening'}>"

    async def start(self, listen: Address) -> None:
        """Listen. Raises: StorageError: the address cannot be had."""
        app = self._application(listen)
        self._runner = runner = web.AppRunner(
            app,
            access_log=None,  # addresses hold tickets
            logger=quiet.logger(),
            handle_signals=False,
            handler_cancellation=True,
            keepalive_timeout=IDLE_SECONDS,
            lingering_time=LINGER_SECONDS,
            max_line_size=LINE_BYTES,
            max_field_size=FIELD_BYTES,
            max_headers=MOST_HEADERS,
            shutdown_timeout=STOP_SECONDS,
        )
        for start in self._starts:
            await start(app, self._parts)
        await runner.setup()
        try:
            self._listener = await asyncio.get_running_loop().create_server(
                self._connection, listen.host, listen.port, backlog=BACKLOG, reuse_address=True
            )
        except OSError as error:
            await self.stop()
            raise StorageError(f"the agent cannot listen on {listen}: {error.strerror or error}") from error
        self._owner.spawn("tokens", self._recheck(self._guard))
        self.address = Address(listen.host, self._listener.sockets[0].getsockname()[1])
        _log.info("local surface listens", address=str(self.address))

    async def stop(self) -> None:
        """End every connection and every stream. Safe to call twice."""
        if self._listener is not None:
            self._listener.close()
        if self._guard is not None:
            await self._guard.end(STOP_SECONDS)
        await self._owner.close()
        if self._runner is not None:
            await self._runner.cleanup()
        self._listener = self._runner = self.address = None

    async def _recheck(self, guard: Guard | None) -> None:
        """Look at what lasts: a token that was renewed ends it."""
        while guard is not None:
            await asyncio.sleep(lasting.RECHECK_INTERVAL)
            guard.recheck()

    @property
    def connections(self) -> int:
        """Connections that are open."""
        server = self._runner.server if self._runner is not None else None
        return len(server.connections) if server is not None else 0

    def _application(self, listen: Address) -> web.Application:
        tickets = Tickets(self._parts.clock, self._tokens.edition)
        self._guard = guard = Guard(_table(self._endpoints), self._tokens, tickets, listen.is_loopback, self.statistics)
        app = web.Application(middlewares=[guard.middleware], client_max_size=BODY_BYTES)
        app[PARTS], app[TICKETS], app[STATISTICS] = self._parts, tickets, self.statistics
        app[ENDPOINTS_SERVED] = self._endpoints
        app.on_response_prepare.append(note_begun)
        for endpoint in self._endpoints:
            app.router.add_route(endpoint.method, endpoint.path, endpoint.handler)
        return app

    def _connection(self) -> asyncio.BaseProtocol:
        """Make the protocol of a new connection; one too many is closed at once."""
        server = self._runner.server if self._runner is not None else None
        if server is None or self.connections >= MOST_CONNECTIONS:
            return _Closing()
        return server()


class _Closing(asyncio.Protocol):
    """Hangs up."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()


def _table(endpoints: Sequence[Endpoint]) -> Mapping[tuple[str, str], Endpoint]:
    return {(endpoint.method, endpoint.path): endpoint for endpoint in endpoints}
