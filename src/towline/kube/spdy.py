"""The streams of a shell over SPDY/3.1, read from the bytes of both directions, as `kube.channels` reads a WebSocket.

Only what it takes to follow: which stream is which (their names stand in compressed heads), and the data frames.
Source: SPDY Protocol, draft 3.1, sections 2.2, 2.6 and 2.6.10; kubernetes.md 2.3.
"""

import zlib
from collections.abc import Callable

from towline.kube.channels import (
    FROM_CLIENT,
    FROM_CLIENT_WITH_KEYS,
    FROM_CLUSTER,
    STDOUT,
    WORDS,
    Collector,
    Event,
    Undecodable,
)

HEAD_BYTES = 8
SYN_STREAM, SYN_REPLY, HEADERS = 1, 2, 8
MOST_HEAD_BYTES = 64 * 1024
"""Of one block of headers, compressed or not; those of a shell have fifty."""
MOST_PAIRS = 100
MOST_STREAMS = 64
"""A shell has five."""

_NAMES = (
    "options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges age allow "
    "authorization cache-control connection content-base content-encoding content-language content-length "
    "content-location content-md5 content-range content-type date etag expect expires from host if-match "
    "if-modified-since if-none-match if-range if-unmodified-since last-modified location max-forwards pragma "
    "proxy-authenticate proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade "
    "user-agent vary via warning www-authenticate method get status"
)
_TAIL = (
    "1001012012022052063003023033043053063074024054064074084094104114124134144154164175025045052"
    "03 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden"
    "404 Not Found500 Internal Server Error501 Not Implemented503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug "
    "Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,"
    "application/xml,application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age=gzip,deflate,sdch"
    "charset=utf-8charset=iso-8859-1,utf-,*,enq=0."
)


def _dictionary() -> bytes:
    """Return the dictionary that every block of headers is compressed with (section 2.6.10.1)."""
    words = [*_NAMES.split(), "200 OK", "version", "HTTP/1.1", "url", "public", "set-cookie", "keep-alive", "origin"]
    return b"".join(len(word).to_bytes(4, "big") + word.encode() for word in words) + _TAIL.encode()


DICTIONARY = _dictionary()


class SpdyStreams:
    """Both directions of a shell over SPDY/3.1. Streams are opened by the client, and named in their heads."""

    def __init__(self, *, keys: bool = False) -> None:
        self._channels: dict[int, int] = {}
        self._inflate = zlib.decompressobj(zdict=DICTIONARY)
        self._up = _Frames(Collector(FROM_CLIENT_WITH_KEYS if keys else FROM_CLIENT), self._channels, self._learn)
        self._down = _Frames(Collector(FROM_CLUSTER), self._channels, None)

    def up(self, data: bytes) -> list[Event]:
        return self._up.feed(data)

    def down(self, data: bytes) -> list[Event]:
        return self._down.feed(data)

    def channel(self, stream: int) -> int:
        """Return which channel a stream is; -1 while it was not opened."""
        return self._channels.get(stream, -1)

    def _learn(self, kind: int, payload: bytes) -> None:
        """Read a block of headers: each one changes how the next is read, so none may be left out."""
        begin = {SYN_STREAM: 10, SYN_REPLY: 4, HEADERS: 4}[kind]
        if len(payload) < begin:
            raise Undecodable("a head of a stream is cut short")
        headers = _pairs(self._inflated(payload[begin:]))
        if kind == SYN_STREAM:
            if len(self._channels) >= MOST_STREAMS:
                raise Undecodable("more streams than any shell has")
            number = int.from_bytes(payload[:4], "big") & 0x7FFFFFFF
            word = headers.get(b"streamtype", b"").split(b"\x00")[0].decode("latin-1")
            # What nobody knows is taken for output: better shown than hidden.
            self._channels[number] = WORDS.get(word, STDOUT)

    def _inflated(self, block: bytes) -> bytes:
        try:
            found = self._inflate.decompress(block, MOST_HEAD_BYTES)
        except zlib.error as error:
            raise Undecodable("a head of a stream cannot be decompressed") from error
        if self._inflate.unconsumed_tail:
            raise Undecodable("a head of a stream is too large")
        return found


class _Frames:
    """The frames of one direction. Args: learn: told of each block of headers; None: none is of interest."""

    def __init__(
        self, collector: Collector, channels: dict[int, int], learn: Callable[[int, bytes], None] | None
    ) -> None:
        self._collector = collector
        self._channels = channels
        self._learn = learn
        self._head = bytearray()
        self._left = 0
        self._kind = 0
        """Of a control frame with headers; 0: a frame to pass over."""
        self._stream = -1
        self._block = bytearray()

    def feed(self, data: bytes) -> list[Event]:
        """Return the events of these bytes. Raises: Undecodable."""
        events: list[Event] = []
        at, end = 0, len(data)
        while at < end:
            if not self._left:
                piece = data[at : at + HEAD_BYTES - len(self._head)]
                self._head += piece
                at += len(piece)
                if len(self._head) == HEAD_BYTES:
                    self._begin(bytes(self._head))
                    self._head.clear()
                continue
            piece = data[at : at + self._left]
            at += len(piece)
            self._left -= len(piece)
            events += self._payload(piece)
        return events

    def _begin(self, head: bytes) -> None:
        self._left = int.from_bytes(head[5:8], "big")
        self._kind, self._stream = 0, -1
        if not head[0] & 0x80:
            self._stream = int.from_bytes(head[:4], "big")
            return
        version, kind = int.from_bytes(head[:2], "big") & 0x7FFF, int.from_bytes(head[2:4], "big")
        if version != 3 or not 1 <= kind <= 16:
            raise Undecodable(f"a frame of SPDY version {version}, kind {kind}")
        if self._learn is not None and kind in (SYN_STREAM, SYN_REPLY, HEADERS):
            if self._left > MOST_HEAD_BYTES:
                raise Undecodable("a head of a stream is too large")
            self._kind = kind

    def _payload(self, piece: bytes) -> list[Event]:
        if self._kind:
            self._block += piece
            if not self._left:
                block = bytes(self._block)
                self._block.clear()
                assert self._learn is not None
                self._learn(self._kind, block)
            return []
        if self._stream < 0:
            return []
        channel = self._channels.get(self._stream)
        if channel is None:
            raise Undecodable("data of a stream that nobody opened")
        return self._collector.take(channel, piece) if self._collector.wants(channel) else []


class Announcement:
    """Puts one sentence on a channel, behind the frame in which the API server accepts its stream."""

    def __init__(self, streams: SpdyStreams, channel: int, text: bytes) -> None:
        self._streams = streams
        self._channel = channel
        self._text = text
        self._head = bytearray()
        self._left = 0
        self._reply = bytearray()
        self._is_reply = False
        self.is_done = False

    def insert(self, data: bytes) -> bytes:
        """Return bytes from the cluster with the sentence in its place, or as they are."""
        at = 0
        while at < len(data):
            if not self._left:
                piece = data[at : at + HEAD_BYTES - len(self._head)]
                self._head += piece
                at += len(piece)
                if len(self._head) < HEAD_BYTES:
                    return data
                self._begin(bytes(self._head))
                self._head.clear()
                continue
            piece = data[at : at + self._left]
            at += len(piece)
            self._left -= len(piece)
            if self._is_reply:
                self._reply += piece[: 4 - len(self._reply)]
            if not self._left and self._accepts():
                self.is_done = True
                return data[:at] + self._said() + data[at:]
        return data

    def _begin(self, head: bytes) -> None:
        self._left = int.from_bytes(head[5:8], "big")
        self._is_reply = head[:4] == b"\x80\x03\x00\x02"
        self._reply.clear()

    def _number(self) -> int:
        return int.from_bytes(self._reply, "big") & 0x7FFFFFFF

    def _accepts(self) -> bool:
        return self._is_reply and len(self._reply) == 4 and self._streams.channel(self._number()) == self._channel

    def _said(self) -> bytes:
        return self._number().to_bytes(4, "big") + b"\x00" + len(self._text).to_bytes(3, "big") + self._text


def _pairs(block: bytes) -> dict[bytes, bytes]:
    """Return the headers of a block. Raises: Undecodable."""
    count, at = int.from_bytes(block[:4], "big"), 4
    if len(block) < 4 or count > MOST_PAIRS:
        raise Undecodable("a head of a stream has no sensible number of fields")
    found: dict[bytes, bytes] = {}
    for _ in range(count):
        name, at = _text(block, at)
        value, at = _text(block, at)
        found.setdefault(name.lower(), value)
    return found


def _text(block: bytes, at: int) -> tuple[bytes, int]:
    length = int.from_bytes(block[at : at + 4], "big")
    end = at + 4 + length
    if len(block) < end or at + 4 > len(block):
        raise Undecodable("a head of a stream is cut short")
    return block[at + 4 : end], end
