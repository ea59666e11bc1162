"""Exec over a WebSocket without kubectl: the numbered channels of `v5.channel.k8s.io`, for tests that need many."""

from __future__ import annotations

import json
import ssl
from typing import Any
from urllib.parse import urlencode

import websocket
from tests.support.kubernetes_stack import CLUSTER, User

STDIN, STDOUT, STDERR, STATUS, RESIZE, CLOSE = 0, 1, 2, 3, 4, 255


class ExecSocket:
    """One exec as a client library speaks it."""

    def __init__(
        self, user: User, namespace: str, pod: str, *command: str, protocol: str = "v5.channel.k8s.io",
        timeout: float = 30.0, cluster: str = CLUSTER, **flags: str,
    ) -> None:  # fmt: skip
        query = urlencode([*(("command", word) for word in command), *{"stdin": "1", "stdout": "1", **flags}.items()])
        address = user.stack.server(cluster).replace("https:", "wss:")
        self._socket = websocket.create_connection(
            f"{address}/api/v1/namespaces/{namespace}/pods/{pod}/exec?{query}",
            subprotocols=[protocol],
            header=[f"Authorization: Bearer {user.token}"],
            sslopt={"ca_certs": str(user.stack.authority), "cert_reqs": ssl.CERT_REQUIRED},
            timeout=timeout,
        )
        self.protocol = self._socket.getsubprotocol()

    def send(self, data: bytes, channel: int = STDIN) -> None:
        self._socket.send_binary(bytes([channel]) + data)

    def end_input(self) -> None:
        """Half-close, which only v5 knows."""
        self.send(bytes([STDIN]), CLOSE)

    def receive(self) -> tuple[int, bytes]:
        """One message: its channel and its data; an empty pair of the end is (-1, b"")."""
        data = self._socket.recv()
        if not data:
            return -1, b""
        assert not isinstance(data, str)
        return data[0], bytes(data[1:])

    def until(self, word: bytes) -> bytes:
        """Read output until a word has come. Returns: all of it."""
        held = b""
        while word not in held:
            channel, data = self.receive()
            assert channel >= 0, held
            held += data if channel == STDOUT else b""
        return held

    def status(self) -> dict[str, Any]:
        """Read to the end. Returns: how the process ended."""
        while True:
            channel, data = self.receive()
            if channel == STATUS and data:
                found: dict[str, Any] = json.loads(data)
                return found
            assert channel >= 0

    def close(self) -> None:
        self._socket.shutdown()

    def __enter__(self) -> ExecSocket:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
