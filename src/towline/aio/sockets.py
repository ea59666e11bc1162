"""Sockets that an event loop was given and could not use."""

import asyncio
import socket


def let_go(sock: socket.socket) -> None:
    """Forget a socket with which `create_connection` or `connect_accepted_socket` failed or was cancelled.

    Both loops close its descriptor themselves. uvloop leaves it in the Python object, which would close that number a
    second time later, when it belongs to another file (its issue 738, seen with 0.23).
    """
    if type(asyncio.get_running_loop()).__module__.partition(".")[0] == "uvloop":
        sock.detach()
