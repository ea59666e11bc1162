"""Who does what an older agent cannot: our own agent's code, handed in by whoever starts the server.

The control plane imports no agent; it knows these few calls of it (`towline.agent.standin`).
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

from towline.aio.bridge import Bridge, join
from towline.aio.clock import Clock
from towline.aio.sockets import Line, pair_with
from towline.tunnel.opening import IncomingStream
from towline.wire import link


class StandIn(Protocol):
    """Stands in for one older agent."""

    def take(self, incoming: IncomingStream) -> None:
        """Serve a stream."""

    async def start(self) -> None:
        """Begin to follow the cluster, and go on with what was ordered before. Raises: StreamError."""

    async def order(self, message: link.Message) -> None:
        """Take what is said to an agent, jobs of commands above all. Raises: StreamError."""

    def forget(self) -> None:
        """Read the credentials anew at their next use."""

    async def stop(self) -> None:
        """End everything."""


class MakesStandIns(Protocol):
    """Makes a stand-in; see `towline.agent.standin.StandIn` for the arguments."""

    def __call__(
        self,
        *,
        folder: Path,
        way: Callable[[], Awaitable[Line]],
        token: Callable[[], str],
        authorities: Callable[[], str],
        tell: Callable[[link.Message], Awaitable[None]],
        clock: Clock,
    ) -> StandIn: ...


async def socket_of(
    create: Callable[[Callable[[], asyncio.BaseProtocol]], asyncio.Transport],
) -> socket.socket:
    """Return a connected socket whose other end is joined to a new stream.

    A socket, because TLS of the event loop needs one. Either side that is full makes the other one wait.

    Args: create: opens the stream for a protocol. Raises: what `create` raises.
    """
    near, transport, there = await pair_with(Bridge)
    here = Bridge()
    try:
        create(lambda: here)
    except BaseException:
        transport.abort()
        near.close()
        raise
    join(here, there)
    return near
