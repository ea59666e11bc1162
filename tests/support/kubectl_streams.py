"""What kubectl streams: terminals, forwarded ports and copied trees, checked alike over every kind of link."""

from __future__ import annotations

import hashlib
import re
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.support import commands
from tests.support.commands import Terminal
from tests.support.kubectl import Client, Going


def terminal(client: Client, *words: str) -> AbstractContextManager[Terminal]:
    """Run kubectl on a terminal of its own."""
    place: Any = SimpleNamespace(environment=client.environment, folder=client.home)
    return commands.terminal(place, *client.command(*words), columns=100, rows=30)


def a_shell_follows_its_terminal(screen: Terminal) -> None:
    """Check that a shell has its terminal's size, and a new one."""
    screen.shows("# ")
    screen.type("stty size\n")
    screen.shows("30 100")
    screen.resize(120, 40)
    screen.type("sleep 0.3; stty size\n")
    screen.shows("40 120")


def a_shell_ends_with_its_code(screen: Terminal) -> None:
    """Check that kubectl ends as the shell does."""
    screen.type("exit 5\n")
    assert screen.wait() == 5


def digests(folder: Path) -> dict[str, str]:
    """Return every file of a tree with its digest."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


class Forward:
    """`kubectl port-forward` to ports of a pod, each on a free local one."""

    def __init__(self, client: Client, namespace: str, pod: str, *ports: int) -> None:
        self.going: Going = client.going("-n", namespace, "port-forward", f"pod/{pod}", *(f":{port}" for port in ports))
        self.local: dict[int, int] = {}

    def __enter__(self) -> Forward:
        self.going.__enter__()
        while not self.local or not self._is_complete():
            _, line = self.going.line("Forwarding from 127.0.0.1")
            found = re.search(r"127\.0\.0\.1:(\d+) -> (\d+)", line)
            assert found, line
            self.local[int(found[2])] = int(found[1])
        return self

    def _is_complete(self) -> bool:
        wanted = sum(word.startswith(":") for word in self.going.argv)
        return len(self.local) == wanted

    def __exit__(self, *_: object) -> None:
        self.going.__exit__()

    def connect(self, port: int) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.local[port]), timeout=30)

    def echo(self, port: int, data: bytes) -> bytes:
        """Send everything, end our side, and read what comes until the other side ends."""
        with self.connect(port) as sock, ThreadPoolExecutor(1) as thread:

            def send() -> None:
                sock.sendall(data)
                sock.shutdown(socket.SHUT_WR)

            sending = thread.submit(send)
            pieces = []
            while piece := sock.recv(65536):
                pieces.append(piece)
            sending.result()
        return b"".join(pieces)
