"""Sockets that are made by somebody else: what is spoken on one, and one that an event loop could not use."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

P = TypeVar("P", bound=asyncio.BaseProtocol)


@dataclass(frozen=True, slots=True)
class Line:
    """A connected socket on the way to a server."""

    socket: socket.socket
    is_plain: bool = False
    """Its other end is in this process and takes requests as they are: TLS is spoken beyond it, by somebody else."""


def let_go(sock: socket.socket) -> None:
    """Forget a socket with which `create_connection` or `connect_accepted_socket` failed or was cancelled.

    Both loops close its descriptor themselves. uvloop leaves it in the Python object, which would close that number a
    second time later, when it belongs to another file (its issue 738, seen with 0.23).
    """
    if type(asyncio.get_running_loop()).__module__.partition(".")[0] == "uvloop":
        sock.detach()


async def speak_on(sock: socket.socket, protocol_factory: Callable[[], P], **tls: Any) -> tuple[asyncio.Transport, P]:
    """Hand a connected socket to the event loop, which owns it then, however this ends. Args: tls: as the loop takes.

    Raises: OSError, ssl.SSLError.
    """
    try:
        return await asyncio.get_running_loop().create_connection(protocol_factory, sock=sock, **tls)
    except BaseException:
        let_go(sock)
        raise


async def pair_with(protocol_factory: Callable[[], P]) -> tuple[socket.socket, asyncio.Transport, P]:
    """Make two connected sockets. Returns: one, and what speaks on the other. Raises: OSError."""
    near, far = socket.socketpair()
    for end in (near, far):
        end.setblocking(False)
    try:
        return near, *await speak_on(far, protocol_factory)
    except BaseException:
        near.close()
        raise
