"""Unit tests open no sockets: what closes them to the thread that runs a test, and leaves servers' threads alone.

Servers that last a whole run have threads of their own, which go on serving whatever still asks while unit tests run.
What one of them met would fail whichever test runs at that moment.
"""

import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest_socket

_REAL = socket.socket
_LOOK_UPS = {name: getattr(socket, name) for name in ("getaddrinfo", "gethostbyname")}


def close_sockets() -> None:
    """Refuse every socket and look-up to this thread, but the sockets that event loops wake themselves by."""
    pytest_socket.disable_socket(allow_unix_socket=True)
    mine = threading.current_thread()
    guarded: Any = socket.socket

    class Guarded(guarded):  # type: ignore[misc]
        """Refuses its maker only if that is the thread of the test."""

        def __new__(cls, *arguments: Any, **options: Any) -> Any:
            maker = guarded if threading.current_thread() is mine else _REAL
            return maker.__new__(cls, *arguments, **options)

    setattr(socket, "socket", Guarded)  # noqa: B010 - a class is no variable to a type checker
    for name, real in _LOOK_UPS.items():
        setattr(socket, name, _refusing(mine, getattr(socket, name), real))


def _refusing(mine: threading.Thread, guarded: Callable[..., Any], real: Callable[..., Any]) -> Callable[..., Any]:
    def look_up(*arguments: Any, **options: Any) -> Any:
        return (guarded if threading.current_thread() is mine else real)(*arguments, **options)

    return look_up


def open_sockets() -> None:
    """Undo `close_sockets`."""
    for name, real in _LOOK_UPS.items():
        setattr(socket, name, real)
    pytest_socket.enable_socket()
