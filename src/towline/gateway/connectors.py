"""Connectors to plain addresses: the API's Unix socket, and TCP for direct upstreams and measurements.

The tunnel's connector is in `tunnelled`. A connector holds no state of a request.
"""

import asyncio
import errno
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from towline.aio.tasks import TaskOwner
from towline.gateway.errors import UpstreamAway, UpstreamError, UpstreamTimeout, UpstreamUnreachable
from towline.gateway.interfaces import ConnectorProtocol

CONNECT_TIMEOUT = 10.0
"""Seconds to a connection; as long as opening a stream of a tunnel may take."""

_OUT_OF_ROOM = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EAGAIN})


class _Starter(asyncio.Protocol):
    """Sends the first bytes and hands the new transport to its real protocol."""

    def __init__(self, protocol: ConnectorProtocol, first_bytes: bytes) -> None:
        self._protocol = protocol
        self._first_bytes = first_bytes

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "write")
        transport.write(self._first_bytes)
        transport.set_protocol(self._protocol)  # type: ignore[arg-type]
        self._protocol.connection_made(transport)


async def _connect(
    dial: Callable[[Callable[[], asyncio.Protocol]], Coroutine[Any, Any, object]],
    protocol: ConnectorProtocol,
    first_bytes: bytes,
) -> None:
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT):
            await dial(lambda: _Starter(protocol, first_bytes))
    except TimeoutError:
        protocol.connection_failed(UpstreamTimeout("no connection in time"))
    except OSError as error:
        protocol.connection_failed(_explain(error))


def _explain(error: OSError) -> UpstreamError:
    if error.errno in _OUT_OF_ROOM:
        return UpstreamAway("no room for one more connection")
    return UpstreamUnreachable(error.strerror or "no connection")


@dataclass(frozen=True, eq=False)
class UnixConnector:
    """Connects to a Unix socket."""

    path: str
    owner: TaskOwner

    def connect(self, protocol: ConnectorProtocol, first_bytes: bytes) -> None:
        loop = asyncio.get_running_loop()
        dial = _connect(lambda factory: loop.create_unix_connection(factory, self.path), protocol, first_bytes)
        self.owner.spawn("connect/unix", dial)


@dataclass(frozen=True, eq=False)
class TcpConnector:
    """Connects to a TCP address."""

    host: str
    port: int
    owner: TaskOwner

    def connect(self, protocol: ConnectorProtocol, first_bytes: bytes) -> None:
        loop = asyncio.get_running_loop()
        dial = _connect(lambda factory: loop.create_connection(factory, self.host, self.port), protocol, first_bytes)
        self.owner.spawn("connect/tcp", dial)
