"""Listening sockets of raw TCP routes: opened and closed as routes come and go."""

import asyncio
import os
import socket
from collections.abc import Callable, Mapping

import structlog

from towline.gateway.context import EdgeContext
from towline.gateway.interfaces import Peer, ToTarget
from towline.gateway.listener import Listener, RawFactory

_log = structlog.get_logger("towline.edge")


class RawPorts:
    """One listener for each port. `problems` says in words why a port does not listen."""

    def __init__(self, context: EdgeContext, host: str, make: RawFactory) -> None:
        self._context = context
        self._host = host
        self._make = make
        self._routes: dict[int, ToTarget] = {}
        self._listeners: dict[int, Listener] = {}
        self.problems: dict[int, str] = {}

    def __repr__(self) -> str:
        return f"<RawPorts {','.join(map(str, self._listeners))}>"

    @property
    def ports(self) -> frozenset[int]:
        """Where it listens."""
        return frozenset(self._listeners)

    async def update(self, wanted: Mapping[int, ToTarget]) -> None:
        """Listen for these routes and no others. Connections that are open stay as they are."""
        for port in self._listeners.keys() - wanted.keys():
            await self._listeners.pop(port).close()
        self.problems = {port: why for port, why in self.problems.items() if port in wanted}
        self._routes = dict(wanted)
        for port in wanted.keys() - self._listeners.keys():
            self._listen(port)

    def _listen(self, port: int) -> None:
        context = self._context

        def make(peer: Peer, on_end: Callable[[], None]) -> asyncio.Protocol:
            return self._make(self._routes[port], peer, on_end)

        try:
            family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
            sock = socket.create_server((self._host, port), family=family)
        except OSError as error:
            self.problems[port] = os.strerror(error.errno) if error.errno else str(error)
            _log.warning("cannot listen for a route", port=port, why=self.problems[port])
            return
        listener = Listener(context.options, make, None, context.counters, looks=False)
        listener.listen(sock)
        self._listeners[port] = listener
        self.problems.pop(port, None)

    async def close(self) -> None:
        """Stop listening."""
        await self.update({})
