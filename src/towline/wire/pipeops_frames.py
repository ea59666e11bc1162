"""Binary layouts of the PipeOps WebSocket, and the bytes inside its JSON: bodies, WebSocket frames, stream headers.

All integers are big-endian; ids and names are UTF-8. Source: PipeOps agent v0.0.238, `internal/controlplane`,
`internal/tunnel/stream_header.go`. No I/O here.
"""

from __future__ import annotations

import struct
import zlib
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from typing import Final, Literal

import msgspec

from towline.wire import lenient
from towline.wire.pipeops_messages import Headers, ProxyResponse

TCP: Final = 1
UDP: Final = 2
STREAM_VERSION: Final = 1
MAX_NAME_BYTES: Final = 253
"""A service's, namespace's or tunnel's name in a stream header: the longest DNS name."""

TEXT: Final = 1
BINARY: Final = 2
CLOSE: Final = 8
PING: Final = 9
PONG: Final = 10
FRAME_TYPES: Final = frozenset({TEXT, BINARY, CLOSE, PING, PONG})
"""First byte of proxied WebSocket data, as RFC 6455 numbers them."""

MAX_BODY_BYTES: Final = 32 * 1024 * 1024
"""Largest body of a buffered answer once inflated: a thousandfold bomb stops here."""

COMPRESS_FROM_BYTES: Final = 1024
"""Smaller bodies are never compressed by the transport."""
_COMPRESSIBLE: Final = ("text/", "json", "javascript", "xml", "html", "yaml")
_COMPRESSED: Final = ("gzip", "compress", "zip", "image/", "video/", "audio/")
_GZIP_MAGIC: Final = b"\x1f\x8b"
_GZIP: Final = zlib.MAX_WBITS | 16

_SHORT = struct.Struct(">H")
_LONG = struct.Struct(">I")


class BadFrame(Exception):
    """Bytes that do not have the layout that they should have."""


# -- proxied bodies ------------------------------------------------------------------------


class ResponseFrame(msgspec.Struct, frozen=True, kw_only=True):
    """A whole answer as a binary message: agent to control plane, bodies of 10 KiB and more."""

    request_id: str
    status: int
    headers: Headers | None
    body: bytes
    """Perhaps gzipped by the transport, which nothing tells: `whole_body` finds out."""


class RequestFrame(msgspec.Struct, frozen=True, kw_only=True):
    """A request's body as the binary message right after a `proxy_request` with `body_binary`."""

    request_id: str
    body: bytes


class _Headers(msgspec.Struct, forbid_unknown_fields=True):
    headers: Headers | None = None


def encode_response(frame: ResponseFrame) -> bytes:
    """Return `length ‖ id ‖ status ‖ length ‖ headers as JSON ‖ body`."""
    request_id, headers = frame.request_id.encode(), msgspec.json.encode(frame.headers, order="sorted")
    return b"".join(
        (_sized(request_id), _LONG.pack(frame.status), _LONG.pack(len(headers)), headers, frame.body),
    )


def decode_response(data: bytes | memoryview) -> ResponseFrame:
    """Parse a binary answer. Raises: BadFrame."""
    view = memoryview(data)
    request_id, at = _sized_text(view, 0)
    if len(view) < at + 2 * _LONG.size:
        raise BadFrame("the frame ends before its headers")
    (status,) = _LONG.unpack_from(view, at)
    (length,) = _LONG.unpack_from(view, at + _LONG.size)
    at += 2 * _LONG.size
    if len(view) < at + length:
        raise BadFrame(f"headers of {length} bytes in a frame that ends before")
    headers = _decode_headers(bytes(view[at : at + length]))
    return ResponseFrame(request_id=request_id, status=status, headers=headers, body=bytes(view[at + length :]))


def encode_request(frame: RequestFrame) -> bytes:
    """Return `length ‖ id ‖ body`."""
    return _sized(frame.request_id.encode()) + frame.body


def decode_request(data: bytes | memoryview) -> RequestFrame:
    """Parse a request's body. Raises: BadFrame."""
    view = memoryview(data)
    request_id, at = _sized_text(view, 0)
    return RequestFrame(request_id=request_id, body=bytes(view[at:]))


def whole_body(answer: ProxyResponse | ResponseFrame) -> bytes:
    """Return the body of a buffered answer as the server sent it, the transport's compression undone.

    Raises: BadFrame: no base64, broken gzip, or more than MAX_BODY_BYTES.
    """
    if isinstance(answer, ResponseFrame):
        marked = answer.body.startswith(_GZIP_MAGIC) and is_compressible(answer.headers)
        return inflate(answer.body) if marked and not _is_encoded(answer.headers) else answer.body
    try:
        body = b64decode(answer.body, validate=True)
    except (Base64Error, ValueError) as error:
        raise BadFrame(f"the body is no base64: {error}") from error
    return inflate(body) if answer.encoding == "gzip" else body


def pack_body(body: bytes, headers: Headers | None) -> tuple[str, str]:
    """Return body and encoding of a `ProxyResponse` as the real agent makes them."""
    if not body:
        return "", ""
    if len(body) >= COMPRESS_FROM_BYTES and is_compressible(headers):
        return b64encode(deflate(body)).decode(), "gzip"
    return b64encode(body).decode(), "base64"


def is_compressible(headers: Headers | None) -> bool:
    """Whether the transport may compress a body of this content type."""
    kind = ";".join((headers or {}).get("Content-Type", ())).lower()
    return any(word in kind for word in _COMPRESSIBLE) and not any(word in kind for word in _COMPRESSED)


def deflate(body: bytes) -> bytes:
    """Gzip a body."""
    packer = zlib.compressobj(wbits=_GZIP)
    return packer.compress(body) + packer.flush()


def inflate(body: bytes) -> bytes:
    """Undo `deflate`. Raises: BadFrame: broken, or larger than MAX_BODY_BYTES."""
    unpacker = zlib.decompressobj(_GZIP)
    try:
        plain = unpacker.decompress(body, MAX_BODY_BYTES)
    except zlib.error as error:
        raise BadFrame(f"the body is no gzip: {error}") from error
    if unpacker.unconsumed_tail:
        raise BadFrame(f"the body inflates to more than {MAX_BODY_BYTES} bytes")
    if not unpacker.eof:
        raise BadFrame("the gzipped body is cut off")
    return plain


def _is_encoded(headers: Headers | None) -> bool:
    return any("gzip" in value.lower() for value in (headers or {}).get("Content-Encoding", ()))


def _decode_headers(text: bytes) -> Headers | None:
    try:
        return lenient.fit({"headers": msgspec.json.decode(text)}, _Headers).headers
    except (lenient.Unfit, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadFrame(f"headers cannot be read: {error}") from error


# -- proxied WebSockets --------------------------------------------------------------------


def websocket_data(kind: int, payload: bytes) -> bytes:
    """Return the bytes of a frame: its type, always, and its payload."""
    return bytes((kind,)) + payload


def split_websocket(data: bytes, message_type: int = 0) -> tuple[int, bytes]:
    """Return type and payload of a frame. Without a type byte of its own, `message_type` counts, or binary."""
    if data and data[0] in FRAME_TYPES:
        return data[0], data[1:]
    return (message_type if message_type in FRAME_TYPES else BINARY), data


# -- yamux streams ---------------------------------------------------------------------------


class StreamHeader(msgspec.Struct, frozen=True, kw_only=True):
    """First bytes of a yamux stream: the service that the agent dials. Nothing answers it."""

    service: str
    namespace: str
    port: int
    protocol: Literal[1, 2] = TCP
    tunnel_id: str = ""
    """For the agent's log."""


def encode_stream_header(header: StreamHeader) -> bytes:
    """Return the header's bytes. Raises: BadFrame: a name over MAX_NAME_BYTES, or no port."""
    names = [name.encode() for name in (header.service, header.namespace, header.tunnel_id)]
    if max(map(len, names)) > MAX_NAME_BYTES:
        raise BadFrame(f"a name of more than {MAX_NAME_BYTES} bytes")
    if not 0 < header.port < 2**16:
        raise BadFrame(f"port {header.port}")
    return b"".join((bytes((STREAM_VERSION, header.protocol)), _SHORT.pack(header.port), *map(_sized, names)))


def split_stream_header(data: bytes | bytearray | memoryview) -> tuple[StreamHeader, int] | None:
    """Return the header and where the rest begins, or None when more bytes are needed. Raises: BadFrame."""
    view, at, names = memoryview(data), 2 + _SHORT.size, list[str]()
    if len(view) < at:
        return None
    for _ in range(3):
        if len(view) < at + _SHORT.size:
            return None
        (length,) = _SHORT.unpack_from(view, at)
        if length > MAX_NAME_BYTES:
            raise BadFrame(f"a name of {length} bytes; the limit is {MAX_NAME_BYTES}")
        if len(view) < at + _SHORT.size + length:
            return None
        name, at = _sized_text(view, at)
        names.append(name)
    (port,) = _SHORT.unpack_from(view, 2)
    service, namespace, tunnel_id = names
    protocol: Literal[1, 2] = UDP if view[1] == UDP else TCP
    header = StreamHeader(service=service, namespace=namespace, port=port, protocol=protocol, tunnel_id=tunnel_id)
    return header, at


def _sized(text: bytes) -> bytes:
    if len(text) >= 2**16:
        raise BadFrame(f"an id of {len(text)} bytes")
    return _SHORT.pack(len(text)) + text


def _sized_text(view: memoryview, at: int) -> tuple[str, int]:
    if len(view) < at + _SHORT.size:
        raise BadFrame("the frame ends within a length")
    (length,) = _SHORT.unpack_from(view, at)
    at += _SHORT.size
    if len(view) < at + length:
        raise BadFrame(f"an id of {length} bytes in a frame that ends before")
    try:
        return str(view[at : at + length], "utf-8"), at + length
    except UnicodeDecodeError as error:
        raise BadFrame("an id is no UTF-8") from error
