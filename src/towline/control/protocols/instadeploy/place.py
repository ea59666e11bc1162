"""Where InstaDeploy's API and agents are served besides the main port: a listener of its own, without TLS.

A second edge, as the plain port is: `/ws` goes to the door of agents, everything else to the API on a private socket.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from towline.aio.tasks import TaskOwner
from towline.control.app import ControlPlane
from towline.control.edge_metrics import log_request
from towline.control.errors import StartupError
from towline.control.guard import GuardedApi
from towline.control.protocols.instadeploy import rest
from towline.control.routing import LinkHandover, TunnelDoor
from towline.gateway.api_server import ApiServer
from towline.gateway.connectors import UnixConnector
from towline.gateway.edge import Edge
from towline.gateway.interfaces import Peer, Route, ToApi, ToLink
from towline.gateway.options import EdgeOptions
from towline.wire import instadeploy
from towline.wire.http1 import RequestHead

SOCKET = "older.sock"
PATHS = frozenset(path.encode() for path in instadeploy.PATHS)


class _Router:
    """Implements `gateway.interfaces.Router`."""

    def route(self, head: RequestHead, peer: Peer) -> Route:
        return ToLink() if head.path in PATHS else ToApi()


class _NoDoor:
    """What every other agent finds here."""

    def accept(self, transport: asyncio.Transport, head: bytes, remote_address: str) -> None:
        transport.abort()


class Place:
    """The listener."""

    def __init__(
        self,
        control: ControlPlane,
        options: EdgeOptions,
        owner: TaskOwner,
        doors: Mapping[bytes, TunnelDoor],
        folder: Path,
    ) -> None:
        settings = control.settings
        app = rest.create(control, GuardedApi, open=settings.instadeploy_open)
        self._settings = settings
        self._api = ApiServer(app, folder / SOCKET)
        self._edge = Edge(
            replace(options, plain_for_everybody=True),
            router=_Router(),
            api=UnixConnector(str(self._api.path), owner),
            links=LinkHandover(_NoDoor(), {path: door for path, door in doors.items() if path in PATHS}),
            access_log=log_request,
        )

    @property
    def port(self) -> int:
        return int(self._edge.addresses[0][1])

    async def start(self) -> None:
        """Serve. Raises: StartupError: the address is taken."""
        place = self._settings.instadeploy_place
        assert place is not None, "no address for it was set"
        try:
            self._edge.listen(*place)
        except OSError as error:
            why = error.strerror or error
            raise StartupError(f"cannot listen on {self._settings.instadeploy_listen}: {why}") from error
        await self._api.start()

    async def stop(self) -> None:
        """End every connection."""
        await self._edge.close()
        await self._api.stop()
