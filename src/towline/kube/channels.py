"""What travels in a shell, read from the bytes of both directions: keys, screen, sizes and the end.

Watches only: no byte is changed here, and whoever reads along says what to keep. Two ways of carrying the same
channels exist: messages of a WebSocket (`v4.channel.k8s.io` and its kin, here) and streams of SPDY/3.1 (`kube.spdy`).
Source: kubernetes.md 2.3; RFC 6455 section 5.2.
"""

import base64
import binascii
import json
from typing import NamedTuple, Protocol

from towline.kube.errors import KubeError

STDIN, STDOUT, STDERR, STATUS, RESIZE = range(5)
"""Channels by number. 255 closes one of them, and carries nothing that anybody would want to see again."""
WORDS = {"stdin": STDIN, "stdout": STDOUT, "stderr": STDERR, "error": STATUS, "resize": RESIZE}
"""The same by the names that streams of SPDY have."""
BINARY = frozenset({"v5.channel.k8s.io", "v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io"})
OLDEST = frozenset({"channel.k8s.io", ""})
"""Spoken by default when no protocol is named."""
BASE64 = frozenset({"v4.base64.channel.k8s.io", "base64.channel.k8s.io"})
"""Text messages: the channel is one digit, what follows is base64."""
MOST_STATUS_BYTES = 64 * 1024
MOST_SIZE_BYTES = 1024
"""Of one size, `{"Width":80,"Height":24}`."""
LARGEST_TERMINAL = 10_000
FROM_CLUSTER = frozenset({STDOUT, STDERR, STATUS})
FROM_CLIENT = frozenset({RESIZE})
FROM_CLIENT_WITH_KEYS = frozenset({RESIZE, STDIN})
"""What each side's bytes are believed about: a client that sends output has shown nothing to anybody."""
_UNKNOWN = -1


class Undecodable(KubeError):
    """The bytes are not what they were said to be, so nobody knows what was shown."""


class Event(NamedTuple):
    """A piece of what was typed (`i`) or shown (`o`), a size (`r`, `80x24`), or the status at the end (`s`)."""

    kind: str
    data: bytes


class Decoder(Protocol):
    """Reads along. Raises: Undecodable, from either."""

    def up(self, data: bytes) -> list[Event]:
        """Take bytes towards the cluster."""

    def down(self, data: bytes) -> list[Event]:
        """Take bytes from the cluster."""


class Collector:
    """Turns pieces of channels into events; small messages are put together first. Args: wanted: all others are
    passed over, and their bytes not even looked at."""

    def __init__(self, wanted: frozenset[int]) -> None:
        self._wanted = wanted
        self._size = bytearray()
        self._status = bytearray()

    def wants(self, channel: int) -> bool:
        """Tell whether a channel is listened to in this direction."""
        return channel in self._wanted

    def take(self, channel: int, piece: bytes) -> list[Event]:
        """Return the events of one piece."""
        if channel in (STDOUT, STDERR):
            return [Event("o", piece)] if piece else []
        if channel == STDIN:
            return [Event("i", piece)] if piece else []
        if channel == RESIZE:
            return self._sizes(piece)
        self._status = (self._status + piece)[-MOST_STATUS_BYTES:]
        return [Event("s", bytes(self._status))] if piece else []

    def _sizes(self, piece: bytes) -> list[Event]:
        """Sizes come one after the other, as JSON; a broken one is worth no session."""
        self._size += piece
        events = []
        while b"}" in self._size:
            raw, _, rest = bytes(self._size).partition(b"}")
            self._size = bytearray(rest)
            size = _size(raw + b"}")
            if size:
                events.append(Event("r", size))
        if len(self._size) > MOST_SIZE_BYTES:
            self._size.clear()
        return events


def _size(raw: bytes) -> bytes:
    try:
        found = json.loads(raw)
        width, height = int(found["Width"]), int(found["Height"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return b""
    inside = 0 < width <= LARGEST_TERMINAL and 0 < height <= LARGEST_TERMINAL
    return b"%dx%d" % (width, height) if inside else b""


class Messages:
    """The WebSocket frames of one direction, cut into pieces of channels as they come: nothing waits for their ends."""

    def __init__(self, collector: Collector, *, is_base64: bool = False) -> None:
        self._collector = collector
        self._is_base64 = is_base64
        self._head = bytearray()
        self._left = 0
        self._mask = b""
        self._at = 0
        """Bytes of this frame's payload that have passed."""
        self._is_control = False
        self._channel = _UNKNOWN
        self._quarter = b""
        """Characters of base64 that make no whole byte yet."""

    def feed(self, data: bytes) -> list[Event]:
        """Return the events of these bytes. Raises: Undecodable."""
        events: list[Event] = []
        at, end = 0, len(data)
        while at < end:
            if not self._left:
                at = self._take_head(data, at)
                continue
            piece = data[at : at + self._left]
            at += len(piece)
            self._left -= len(piece)
            if not self._is_control:
                events += self._payload(piece)
            self._at += len(piece)
        return events

    def _take_head(self, data: bytes, at: int) -> int:
        head = self._head
        while at < len(data):
            need = _head_bytes(head) - len(head)
            head += data[at : at + need]
            at += need
            if len(head) >= 2 and len(head) == _head_bytes(head):
                self._begin(bytes(head))
                head.clear()
                return at
        return len(data)

    def _begin(self, head: bytes) -> None:
        first, second = head[0], head[1]
        opcode = first & 0x0F
        if first & 0x70:
            raise Undecodable("the WebSocket uses an extension")
        if opcode not in (0, 1, 2, 8, 9, 10):
            raise Undecodable(f"a WebSocket frame of kind {opcode}")
        self._mask = head[-4:] if second & 0x80 else b""
        body = head[2 : len(head) - len(self._mask)]
        self._left = int.from_bytes(body, "big") if body else second & 0x7F
        self._at = 0
        self._is_control = opcode >= 8
        if opcode in (1, 2):
            self._channel, self._quarter = _UNKNOWN, b""

    def _payload(self, piece: bytes) -> list[Event]:
        if self._channel == _UNKNOWN:
            first = self._plain(piece[:1], self._at)
            self._channel = first[0] - 48 if self._is_base64 else first[0]
            rest, passed = piece[1:], self._at + 1
        else:
            rest, passed = piece, self._at
        if not rest or not self._collector.wants(self._channel):
            return []
        plain = self._plain(rest, passed)
        return self._collector.take(self._channel, self._decoded(plain) if self._is_base64 else plain)

    def _plain(self, data: bytes, passed: int) -> bytes:
        mask = self._mask
        if not mask or not data:
            return data
        turned = mask[passed % 4 :] + mask[: passed % 4]
        key = (turned * (len(data) // 4 + 1))[: len(data)]
        return (int.from_bytes(data, "big") ^ int.from_bytes(key, "big")).to_bytes(len(data), "big")

    def _decoded(self, text: bytes) -> bytes:
        text = self._quarter + text
        whole = len(text) - len(text) % 4
        self._quarter = text[whole:]
        try:
            return base64.b64decode(text[:whole], validate=True)
        except binascii.Error as error:
            raise Undecodable("a message is not base64") from error


def _head_bytes(head: bytearray) -> int:
    """Return how long a head is, as far as its first bytes tell."""
    if len(head) < 2:
        return 2
    length = head[1] & 0x7F
    return 2 + (8 if length == 127 else 2 if length == 126 else 0) + (4 if head[1] & 0x80 else 0)


class WebSocketChannels:
    """Both directions of a shell on a WebSocket. Args: protocol: the one that the API server chose."""

    def __init__(self, protocol: str, *, keys: bool = False) -> None:
        if not is_known(protocol):
            raise Undecodable(f"the protocol {protocol[:60]} of the WebSocket")
        is_base64 = protocol in BASE64
        self._up = Messages(Collector(FROM_CLIENT_WITH_KEYS if keys else FROM_CLIENT), is_base64=is_base64)
        self._down = Messages(Collector(FROM_CLUSTER), is_base64=is_base64)

    def up(self, data: bytes) -> list[Event]:
        return self._up.feed(data)

    def down(self, data: bytes) -> list[Event]:
        return self._down.feed(data)


def is_known(protocol: str) -> bool:
    """Tell whether the channels of a WebSocket's protocol can be read."""
    return protocol in BINARY or protocol in OLDEST or protocol in BASE64


def said(protocol: str, channel: int, text: bytes) -> bytes:
    """Return a WebSocket frame of a server with one message: a sentence of at most 64 KiB that stands before others."""
    is_base64 = protocol in BASE64
    body = b"%d" % channel + base64.b64encode(text) if is_base64 else bytes([channel]) + text
    first = b"\x81" if is_base64 else b"\x82"
    length = bytes([len(body)]) if len(body) < 126 else b"\x7e" + len(body).to_bytes(2, "big")
    return first + length + body
