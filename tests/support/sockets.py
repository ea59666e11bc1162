"""Unit tests open no sockets: what closes them to the thread that runs a test, and leaves servers' threads alone.

Servers that last a whole run have threads of their own, which go on serving whatever still asks while unit tests run.
"""

import socket
import threading
from typing import Any

import pytest_socket

_REAL = socket.socket


def close_sockets() -> None:
    """Refuse every socket to this thread but those that event loops wake themselves by."""
    pytest_socket.disable_socket(allow_unix_socket=True)
    mine = threading.current_thread()
    guarded: Any = socket.socket

    class Guarded(guarded):  # type: ignore[misc]
        """Refuses its maker only if that is the thread of the test."""

        def __new__(cls, *arguments: Any, **options: Any) -> Any:
            maker = guarded if threading.current_thread() is mine else _REAL
            return maker.__new__(cls, *arguments, **options)

    setattr(socket, "socket", Guarded)  # noqa: B010 - a class is no variable to a type checker


def open_sockets() -> None:
    """Undo `close_sockets`."""
    pytest_socket.enable_socket()
