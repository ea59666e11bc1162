"""One line of the fallback without sockets or an agent: what the stand-in writes, and what the agent is told."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from towline.aio.clock import SimulatedClock
from towline.control.protocols.pipeops.fallback import Fallback
from towline.control.protocols.pipeops.request_line import RequestLine
from towline.control.protocols.pipeops.requests import Requests
from towline.wire import pipeops_messages as messages
from towline.wire.http1 import ResponseBuffer, ResponseHead, parse_response_head
from towline.wire.http1_body import body_reader

Said = tuple[messages.Message, str]


class Pipe(asyncio.Transport):
    """The line's transport: bytes stay here until the test reads them."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.is_slow = False
        """The stand-in reads nothing."""
        self.closed = ""
        self.is_paused = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.closed, "written after the end"
        self.written += data

    def get_write_buffer_size(self) -> int:
        return len(self.written) if self.is_slow else 0

    def is_closing(self) -> bool:
        return self.closed in ("closed", "aborted")

    def close(self) -> None:
        self.closed = "closed"

    def abort(self) -> None:
        self.closed = "aborted"

    def write_eof(self) -> None:
        self.closed = "ended"

    def pause_reading(self) -> None:
        self.is_paused = True

    def resume_reading(self) -> None:
        self.is_paused = False


@dataclass
class Agent:
    """What the agent is told, in order. Implements `fallback.Speaker`."""

    said: list[Said] = field(default_factory=list)
    is_full: bool = False

    def __post_init__(self) -> None:
        self.requests = Requests(lambda message, request_id: self.say(message, request_id=request_id))

    def say(self, message: messages.Message, *, request_id: str = "") -> None:
        self.said.append((message, request_id))

    def take(self) -> list[Said]:
        said, self.said = self.said, []
        return said


class Bench:
    """A fallback with lines."""

    def __init__(self) -> None:
        self.agent = Agent()
        self.clock = SimulatedClock()
        self.fallback = Fallback(self.agent, self.clock)

    def line(self) -> OneLine:
        return OneLine(self)


class OneLine:
    """One line, and both ends of it."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.pipe = Pipe()
        self.protocol = RequestLine(bench.fallback)
        self.protocol.connection_made(self.pipe)

    # -- the stand-in ------------------------------------------------------------------------------

    def ask(self, request_line: str, *fields: str, body: bytes = b"") -> None:
        head = "\r\n".join([f"{request_line} HTTP/1.1", "Host: kubernetes.default.svc:443", *fields, "", ""])
        self.protocol.data_received(head.encode() + body)

    def upgrade(self, target: str, *protocols: str) -> None:
        self.ask(
            f"GET {target}", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
            *([f"Sec-WebSocket-Protocol: {', '.join(protocols)}"] if protocols else []),
        )  # fmt: skip

    def read(self) -> bytes:
        got = bytes(self.pipe.written)
        self.pipe.written.clear()
        return got

    def answer(self) -> tuple[ResponseHead, bytes, bool]:
        """The answer that has come: its head, its body, and whether it is whole."""
        buffer = ResponseBuffer()
        buffer.feed(self.read())
        raw = buffer.cut()
        assert raw is not None
        head = parse_response_head(raw)
        reader = body_reader(head.framing_for(b"GET"), head.content_length or 0)
        body = b"".join(reader.feed(buffer.take())) if len(buffer) else b""
        return head, body, reader.is_done

    def lose(self) -> None:
        """The stand-in is gone."""
        self.pipe.closed = "closed"
        self.protocol.connection_lost(None)

    # -- the agent ---------------------------------------------------------------------------------

    def asked(self) -> tuple[messages.ProxyRequest, str]:
        """The one request that the agent has been given."""
        ((message, request_id),) = self.bench.agent.take()
        assert isinstance(message, messages.ProxyRequest)
        return message, request_id

    def started(self) -> tuple[messages.ProxyWebsocketStart, str]:
        ((message, stream_id),) = self.bench.agent.take()
        assert isinstance(message, messages.ProxyWebsocketStart)
        assert message.stream_id == stream_id
        return message, stream_id

    def tell(self, request_id: str, *told: messages.Message) -> None:
        for message in told:
            self.bench.agent.requests.take(request_id, message)


def header(status: int = 200, **fields: str) -> messages.ProxyResponseHeader:
    headers = {name.replace("_", "-"): (value,) for name, value in fields.items()}
    return messages.ProxyResponseHeader(headers=headers or None, status=status)


def chunk(data: bytes) -> messages.ProxyResponseChunk:
    return messages.ProxyResponseChunk(data=data, encoding="base64", size=len(data))


END = messages.ProxyResponseEnd()
"""The last part of an answer."""


def abort(reason: str) -> messages.ProxyResponseAbort:
    return messages.ProxyResponseAbort(error=reason)
