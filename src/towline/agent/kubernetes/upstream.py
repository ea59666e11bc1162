"""Connections to the API server: TCP, then TLS that is always verified, HTTP/1.1 only. What passes: `forward.py`."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import TypeVar

from towline.agent.errors import KubernetesError
from towline.agent.kubernetes.credentials import ALPN, ApiServer
from towline.aio.sockets import speak_on

CONNECT_TIMEOUT = 7.0
"""Seconds for TCP and TLS together: the API server is near, and the opener of a stream waits for ten."""

KEEP_ALIVE_AFTER = 60
"""Seconds of silence before the kernel asks whether the API server is still there: quiet watches live for an hour."""

P = TypeVar("P", bound=asyncio.BaseProtocol)


async def dial(server: ApiServer, protocol_factory: Callable[[], P]) -> tuple[asyncio.Transport, P]:
    """Connect a protocol to the API server. Raises: KubernetesError: with what an operator has to know."""
    place = server.authority.decode()
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT):
            return await _connect(server, protocol_factory)
    except TimeoutError as error:
        raise KubernetesError(f"the API server at {place} did not answer within {CONNECT_TIMEOUT:g} s") from error
    except ssl.SSLCertVerificationError as error:
        why = error.verify_message or "verification failed"
        raise KubernetesError(f"the certificate of the API server at {place} is not trusted: {why}") from error
    except ssl.SSLError as error:
        why = (error.reason or "handshake failed").lower().replace("_", " ")
        raise KubernetesError(f"no TLS with the API server at {place}: {why}") from error
    except OSError as error:
        raise KubernetesError(f"the API server at {place} cannot be reached: {_words(error)}") from error


async def _connect(server: ApiServer, protocol_factory: Callable[[], P]) -> tuple[asyncio.Transport, P]:
    name = server.server_name if server.tls is not None else None
    loop = asyncio.get_running_loop()
    if server.way is not None:
        line = await server.way()
        tls = {} if line.is_plain else {"ssl": server.tls, "server_hostname": name}
        return await speak_on(line.socket, protocol_factory, **tls)
    transport, protocol = await loop.create_connection(
        protocol_factory, server.host, server.port, ssl=server.tls, server_hostname=name
    )
    keep_alive(transport, KEEP_ALIVE_AFTER)
    return transport, protocol


def keep_alive(transport: asyncio.BaseTransport, seconds: int, *, lost_after: int = 0) -> None:
    """Let the kernel ask after so many seconds of silence whether a TCP connection still stands.

    Args: lost_after: seconds without an answer, to that or to what was sent, after which it is broken; the kernel asks
        every `seconds` then. 0: some fifteen minutes. Source: tcp(7), TCP_USER_TIMEOUT.
    """
    opened = transport.get_extra_info("socket")
    if opened is None or opened.family == socket.AF_UNIX:
        return
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, seconds)
    if lost_after:
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, seconds)
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, lost_after * 1000)


def speaks_http1(transport: asyncio.BaseTransport) -> bool:
    """Tell whether TLS settled on HTTP/1.1, or on nothing, which means the same."""
    tls = transport.get_extra_info("ssl_object")
    return tls is None or tls.selected_alpn_protocol() in (None, ALPN)


def _words(error: OSError) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    return (error.strerror or str(error)).lower()
