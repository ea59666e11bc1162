"""The PipeOps WebSocket's envelope: `{"type", "request_id"?, "payload", "timestamp"}`, one JSON object per message.

`decode` is as lenient as the real programs are (`lenient.py`), `encode` writes what either of them accepts; the
agent's own form, byte for byte, is `encode_as_agent`. Payloads are in `pipeops_messages.py`, binary layouts in
`pipeops_frames.py`, REST bodies in `pipeops_routes.py`. No I/O here.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

import msgspec

from towline.wire import lenient
from towline.wire import pipeops_messages as messages
from towline.wire.pipeops_messages import Message, Unknown

WEBSOCKET_PATH: Final = "/api/v1/clusters/agent/ws"
MAX_MESSAGE_BYTES: Final = 8 * 1024 * 1024
"""A text message larger than this is refused: a streamed chunk is 44 KiB, a whole list of pods in one a few MiB."""

TYPES: Final[dict[str, type[Message]]] = {
    "register": messages.Register,
    "register_success": messages.RegisterSuccess,
    "register_in_progress": messages.RegisterInProgress,
    "heartbeat": messages.Heartbeat,
    "heartbeat_ack": messages.HeartbeatAck,
    "ping": messages.Ping,
    "pong": messages.Pong,
    "error": messages.Error,
    "gateway_hello": messages.GatewayHello,
    "gateway_hello_ack": messages.GatewayHelloAck,
    "proxy_request": messages.ProxyRequest,
    "proxy_request_chunk": messages.ProxyRequestChunk,
    "proxy_request_stream_end": messages.ProxyRequestStreamEnd,
    "proxy_cancel": messages.ProxyCancel,
    "proxy_stream_data": messages.ProxyStreamData,
    "proxy_response": messages.ProxyResponse,
    "proxy_error": messages.ProxyError,
    "proxy_response_header": messages.ProxyResponseHeader,
    "proxy_response_chunk": messages.ProxyResponseChunk,
    "proxy_response_end": messages.ProxyResponseEnd,
    "proxy_response_abort": messages.ProxyResponseAbort,
    "proxy_websocket_start": messages.ProxyWebsocketStart,
    "proxy_websocket_data": messages.WebsocketData,
    "proxy_websocket_close": messages.WebsocketClose,
    "backpressure": messages.Backpressure,
    "tcp_tunnel_start": messages.TcpTunnelStart,
    "tcp_tunnel_data": messages.TcpTunnelData,
    "tcp_tunnel_close": messages.TcpTunnelClose,
    "udp_tunnel_data": messages.UdpTunnelData,
    "protocol_fallback": messages.ProtocolFallback,
    "ingress_routes": messages.IngressRoutes,
}
SYNONYMS: Final = {
    "ws_start": "proxy_websocket_start",
    "ws_data": "proxy_websocket_data",
    "ws_close": "proxy_websocket_close",
}
"""Understood on input; written never."""

_ALIASES: Final = {
    "iswebsocket": "is_websocket",
    "usezerocopy": "use_zero_copy",
    "headdata": "head_data",
}
_GO_ESCAPES: Final = (
    (b"<", b"\\u003c"),
    (b">", b"\\u003e"),
    (b"&", b"\\u0026"),
    ("\u2028".encode(), b"\\u2028"),
    ("\u2029".encode(), b"\\u2029"),
)
"""What encoding/json escapes beyond what JSON asks for."""
_NAMES = {struct: name for name, struct in TYPES.items()}


class BadMessage(Exception):
    """Text that is no message of this protocol. `request_id` is the sender's, when that much could be read."""

    def __init__(self, reason: str, *, request_id: str = "", type: str = "") -> None:
        super().__init__(reason)
        self.request_id = request_id
        self.type = type


class Envelope(msgspec.Struct, frozen=True):
    """One message as it came."""

    message: Message
    request_id: str = ""
    timestamp: str = ""
    """As it was written; empty when it was no text."""

    @property
    def stream(self) -> str:
        """Id of the proxied WebSocket that data or an end is for: the payload's ids win over the envelope's."""
        inner = self.message
        if isinstance(inner, messages.WebsocketData | messages.WebsocketClose):
            return inner.request_id or inner.stream_id or self.request_id
        return self.request_id


class _Head(msgspec.Struct, forbid_unknown_fields=True):
    type: str
    request_id: str = ""
    payload: msgspec.Raw = msgspec.Raw(b"")
    timestamp: Any = None


class _Written(msgspec.Struct, omit_defaults=True, kw_only=True):
    type: str
    request_id: str = ""
    payload: Message | msgspec.Raw
    timestamp: str = ""


_head = msgspec.json.Decoder(_Head)
_readers = {name: lenient.Reader(struct, _ALIASES) for name, struct in TYPES.items()}
_encoder = msgspec.json.Encoder()
_stable = msgspec.json.Encoder(order="deterministic")
_members = msgspec.json.Decoder(dict[str, msgspec.Raw])


def type_name(message: Message) -> str:
    """Return the wire name of a message."""
    return message.name if isinstance(message, Unknown) else _NAMES[type(message)]


def encode(message: Message, *, request_id: str = "", timestamp: str = "") -> bytes:
    """Return the text of a message, as UTF-8. timestamp: RFC 3339; the agent needs none, and drops a bad one."""
    return _encoder.encode(
        _Written(type=_NAMES[type(message)], request_id=request_id, payload=message, timestamp=timestamp)
    )


def encode_as_agent(message: Message, *, request_id: str = "", timestamp: str) -> bytes:
    """Return the text as the real agent writes it: maps sorted, the payload among them, escaped markup, a newline.

    Args: timestamp: RFC 3339 with nanoseconds, written always.
    """
    payload = msgspec.Raw(_stable.encode(_members.decode(_stable.encode(message))))
    text = _encoder.encode(
        _Written(type=_NAMES[type(message)], request_id=request_id, payload=payload, timestamp=timestamp)
    )
    for plain, escaped in _GO_ESCAPES:
        text = text.replace(plain, escaped)
    return text + b"\n"


def decode(text: bytes | bytearray | memoryview, *, is_agent: bool = False) -> Envelope:
    """Parse one message; unknown types become `Unknown`.

    Args: is_agent: read as the real agent reads: a timestamp that is no RFC 3339 text makes the message bad.
    Raises: BadMessage.
    """
    if len(text) > MAX_MESSAGE_BYTES:
        raise BadMessage(f"message of {len(text)} bytes; the limit is {MAX_MESSAGE_BYTES}")
    head = _read_head(text)
    name = SYNONYMS.get(head.type, head.type)
    if is_agent and not _is_timestamp(head.timestamp):
        raise BadMessage("the timestamp is no RFC 3339 text", request_id=head.request_id, type=name[:64])
    timestamp = head.timestamp if isinstance(head.timestamp, str) else ""
    reader = _readers.get(name)
    if reader is None:
        return Envelope(Unknown(name=name[:64]), head.request_id, timestamp)
    try:
        return Envelope(reader.read(head.payload), head.request_id, timestamp)
    except lenient.Unfit as error:
        raise BadMessage(f"{name}: {error}", request_id=head.request_id, type=name) from error


def _read_head(text: bytes | bytearray | memoryview) -> _Head:
    try:
        return _head.decode(text)
    except msgspec.ValidationError:
        """Spelt in another way, or wrong."""
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadMessage(str(error)) from error
    try:
        return _patient_head(msgspec.json.decode(text))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BadMessage(str(error)) from error


def _patient_head(value: object) -> _Head:
    if not isinstance(value, dict):
        raise BadMessage(f"expected an object, got {type(value).__name__}")
    found = {key.lower(): item for key, item in sorted(value.items()) if item is not None}
    name, request_id = found.get("type", ""), found.get("request_id", "")
    if not (isinstance(name, str) and isinstance(request_id, str)):
        raise BadMessage("`type` and `request_id` must be texts")
    payload = msgspec.Raw(_encoder.encode(found.get("payload")))
    return _Head(type=name, request_id=request_id, payload=payload, timestamp=found.get("timestamp"))


def _is_timestamp(value: object) -> bool:
    """Whether Go's time.Time takes it: nothing, null, or RFC 3339 with a zone."""
    if value is None:
        return True
    try:
        return isinstance(value, str) and msgspec.convert(value, datetime).tzinfo is not None
    except msgspec.ValidationError:
        return False
