"""The numbered channels of exec and attach, between what a client speaks and what a PipeOps agent leaves whole. Pure.

The agent takes the number off every binary message of the API server's channels 0 to 3. With
`v4.base64.channel.k8s.io` the number is a character of a text message, and stays. That protocol cannot say that the
input has ended; so a command that reads its input without a terminal runs over `v5.channel.k8s.io`, where it can, and
output and errors arrive as one.
Source: pipeops.md 2.5.2 and 13.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Sequence
from typing import Final, Protocol

from towline.control.protocols.pipeops.translation import CannotCarry, Carried
from towline.kube.channels import MOST_STATUS_BYTES, STATUS, STDOUT
from towline.wire.pipeops_frames import BINARY, TEXT

V5: Final = "v5.channel.k8s.io"
V4: Final = "v4.channel.k8s.io"
V4_BASE64: Final = "v4.base64.channel.k8s.io"
PORT_FORWARD: Final = "SPDY/3.1+portforward.k8s.io"
MOST_PIECE_BYTES: Final = 32 * 1024
"""Of input in one message: what the API server itself sends at most."""
_CLOSE: Final = 255
_DIGIT: Final = ord("0")

Message = tuple[int, bytes]
"""Kind as RFC 6455 numbers it, and payload."""


class BadChannel(Exception):
    """A message that no channel has."""


class Channels(Protocol):
    """How one WebSocket is spoken on either side."""

    agent_protocol: str
    client_protocol: str
    greets: bool
    """The API server says something as soon as it is there."""

    def up(self, kind: int, payload: bytes) -> list[Message]:
        """Return what a client's message is for the agent."""

    def down(self, kind: int, payload: bytes) -> list[Message]:
        """Return what the agent's message is for the client. Raises: BadChannel."""

    def end(self) -> list[Message]:
        """Return what the client has not been told yet."""


class Passing:
    """Messages pass as they are: a port-forward, and WebSockets of workloads."""

    greets = False

    def __init__(self, protocol: str) -> None:
        self.agent_protocol = self.client_protocol = protocol

    def up(self, kind: int, payload: bytes) -> list[Message]:
        return [(kind, payload)]

    def down(self, kind: int, payload: bytes) -> list[Message]:
        return [(kind, payload)]

    def end(self) -> list[Message]:
        return []


class InBase64:
    """Channels with their number as a byte for the client, as a digit before base64 for the agent."""

    greets = True
    agent_protocol = V4_BASE64

    def __init__(self, client_protocol: str) -> None:
        self.client_protocol = client_protocol

    def up(self, kind: int, payload: bytes) -> list[Message]:
        if not payload or payload[0] > 9:
            return []  # the end of one channel, which this protocol does not know
        digit = b"%d" % payload[0]
        return [(BINARY, digit + b64encode(piece)) for piece in _pieces(payload[1:])]

    def down(self, kind: int, payload: bytes) -> list[Message]:
        channel = payload[0] - _DIGIT if payload else -1
        if kind != TEXT or not 0 <= channel <= 9:
            raise BadChannel("a message without the number of a channel")
        try:
            return [(BINARY, bytes((channel,)) + b64decode(payload[1:], validate=True))]
        except (Base64Error, ValueError) as error:
            raise BadChannel("a message that is no base64") from error

    def end(self) -> list[Message]:
        return []


class AsBase64:
    """The client speaks what the agent leaves whole."""

    greets = True
    agent_protocol = client_protocol = V4_BASE64

    def up(self, kind: int, payload: bytes) -> list[Message]:
        return [(BINARY, payload)] if payload else []

    def down(self, kind: int, payload: bytes) -> list[Message]:
        return [(kind, payload)]

    def end(self) -> list[Message]:
        return []


class Merged:
    """The client can end its input; what comes has lost the number of its channel, and is output but for its end."""

    greets = True
    agent_protocol = client_protocol = V5

    def __init__(self) -> None:
        self._held: bytes | None = None

    def up(self, kind: int, payload: bytes) -> list[Message]:
        if len(payload) <= MOST_PIECE_BYTES or payload[0] == _CLOSE:
            return [(BINARY, payload)]
        return [(BINARY, payload[:1] + piece) for piece in _pieces(payload[1:])]

    def down(self, kind: int, payload: bytes) -> list[Message]:
        if kind == BINARY:
            return [(BINARY, payload)]  # a channel beyond 3 keeps its number
        before = self._taken(STDOUT)
        if _is_status(payload):
            self._held = payload  # the end, unless more comes
            return before
        return [*before, (BINARY, bytes((STDOUT,)) + payload)]

    def end(self) -> list[Message]:
        return self._taken(STATUS)

    def _taken(self, channel: int) -> list[Message]:
        held, self._held = self._held, None
        return [] if held is None else [(BINARY, bytes((channel,)) + held)]


def choose(asked: Carried, offered: Sequence[str]) -> Channels:
    """Return how a WebSocket is carried. Raises: CannotCarry: the client speaks nothing that could be."""
    if not asked.is_exec_family:
        return Passing(offered[0] if offered else "")
    if PORT_FORWARD in offered:
        return Passing(PORT_FORWARD)
    if V5 in offered:
        reads_input = asked.wants(b"stdin") and not asked.wants(b"tty")
        return Merged() if reads_input else InBase64(V5)
    if V4 in offered:
        return InBase64(V4)
    if V4_BASE64 in offered:
        return AsBase64()
    raise CannotCarry(400, f"an agent without yamux carries {V5}, {V4} and {V4_BASE64}, none of which was offered")


def _pieces(data: bytes) -> list[bytes]:
    return [data[at : at + MOST_PIECE_BYTES] for at in range(0, len(data), MOST_PIECE_BYTES)] or [b""]


def _is_status(payload: bytes) -> bool:
    """Tell whether a message is how a command ended: the API server sends that last, and whole."""
    if not payload.startswith(b"{") or len(payload) > MOST_STATUS_BYTES:
        return False
    try:
        found = json.loads(payload)
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and found.get("status") in ("Success", "Failure") and "metadata" in found
