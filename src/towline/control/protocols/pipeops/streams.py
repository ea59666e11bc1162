"""Streams to services of a PipeOps agent's cluster: a yamux stream, the agent's own header, then raw bytes.

The agent answers nothing: a dial that failed is an end without a byte, success is silence. So a stream counts as
accepted at once, and as refused when it ends before it carried anything. Source: docs/design/pipeops.md, "Streams".
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any, Final

from towline.aio.streams import StreamError
from towline.tunnel.errors import TargetRefused
from towline.tunnel.mux import Mux
from towline.tunnel.transport import StreamTransport
from towline.wire import streams
from towline.wire.pipeops_frames import StreamHeader, encode_stream_header

DIAL_TIMEOUT: Final = 35.0
"""Seconds in which an end without a byte means that the agent could not connect: it gives up after 30."""

API_SERVER: Final = ("default", "kubernetes")
"""The service of the API server: it is reached by Kubernetes access, which names who asks, and never as a service."""

_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_TUNNEL = "towline"

OnAnswer = Callable[[streams.Answer], None]


def header_of(target: streams.KubeService) -> StreamHeader:
    """Return the agent's header for a service. Raises: TargetRefused: it is none that the agent can dial."""
    if target.resource != "service":
        raise TargetRefused("unsupported", "a PipeOps agent dials services, not single pods; publish a service")
    if not (_LABEL.fullmatch(target.namespace) and _LABEL.fullmatch(target.name)):
        raise TargetRefused("bad_request", "the names of service and namespace must be DNS labels")
    if target.tls:
        raise TargetRefused("unsupported", "a PipeOps agent speaks no TLS to services; publish a port without it")
    if (target.namespace, target.name) == API_SERVER:
        raise TargetRefused("forbidden", "the API server is not published; use the cluster's Kubernetes access")
    if not (target.port.isascii() and target.port.isdigit() and 0 < int(target.port[:6]) < 2**16):
        raise TargetRefused("unsupported", "a PipeOps agent dials ports by their number; name the port by its number")
    return StreamHeader(service=target.name, namespace=target.namespace, port=int(target.port), tunnel_id=_TUNNEL)


def open_stream(
    mux: Mux,
    header: StreamHeader,
    target: streams.Target,
    protocol_factory: Callable[[], asyncio.BaseProtocol],
    first_bytes: bytes = b"",
    on_answer: OnAnswer | None = None,
) -> StreamTransport:
    """Open a stream to a service, for a protocol. Raises: TooManyStreams, TunnelClosed."""
    stream = mux.open()
    protocol = protocol_factory()
    answer = streams.Answer(ok=True)
    info: dict[str, Any] = {"target": target, "stream_id": stream.id, "answer": answer}
    transport = StreamTransport(mux, stream, protocol, info)
    stream.owner = _Unconfirmed(mux, transport, f"{header.service}.{header.namespace}:{header.port}")
    mux.yamux.write(stream, encode_stream_header(header) + first_bytes)
    protocol.connection_made(transport)
    if on_answer is not None:
        asyncio.get_running_loop().call_soon(_answer, transport, on_answer, answer)
    return transport


def refuse(protocol_factory: Callable[[], asyncio.BaseProtocol], refusal: StreamError) -> asyncio.Transport:
    """Connect a protocol to nothing, and tell it why in the next turn of the event loop."""
    protocol = protocol_factory()
    transport = _Nowhere()
    protocol.connection_made(transport)
    asyncio.get_running_loop().call_soon(protocol.connection_lost, refusal)
    return transport


def _answer(transport: StreamTransport, on_answer: OnAnswer, answer: streams.Answer) -> None:
    if not transport.stream.gone:
        on_answer(answer)


class _Unconfirmed:
    """Owner of a stream until its first byte, or its end."""

    __slots__ = ("_mux", "_name", "_opened_at", "_transport")

    def __init__(self, mux: Mux, transport: StreamTransport, name: str) -> None:
        self._mux = mux
        self._transport = transport
        self._name = name
        self._opened_at = mux.clock.monotonic()

    def data_arrived(self, payload: bytes) -> None:
        self._transport.stream.owner = self._transport
        self._transport.data_arrived(payload)

    def end_arrived(self) -> None:
        if self._mux.clock.monotonic() - self._opened_at > DIAL_TIMEOUT:
            self._transport.stream.owner = self._transport
            self._transport.end_arrived()
            return
        self._mux.yamux.reset(self._transport.stream)
        self._mux.schedule()
        reason = f"the agent has no connection to {self._name}, or it ended without a word"
        self._transport.lost(TargetRefused("unreachable", reason))

    def room_arrived(self) -> None:
        self._transport.room_arrived()

    def lost(self, error: StreamError) -> None:
        self._transport.lost(error)


class _Nowhere(asyncio.Transport):
    """The transport of a stream that was refused before it was opened."""

    def is_closing(self) -> bool:
        return True

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Dropped."""

    def write_eof(self) -> None:
        """Nobody reads."""

    def can_write_eof(self) -> bool:
        return True

    def close(self) -> None:
        """Its end is on its way."""

    def abort(self) -> None:
        """Its end is on its way."""

    def pause_reading(self) -> None:
        """Nothing is read."""

    def resume_reading(self) -> None:
        """Nothing is read."""

    def is_reading(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0
