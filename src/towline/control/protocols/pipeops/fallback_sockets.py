"""Upgrades on a line to a PipeOps agent without yamux: the client's WebSocket ends here, the agent's begins anew.

The agent says neither that a WebSocket is open nor why it is not. So the first message counts as the former, or a
moment without a refusal where the API server says nothing first; and after a refusal the same is asked without the
upgrade, which the API server answers with its reasons and never runs. Source: pipeops.md 2.5.2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from websockets.exceptions import InvalidState
from websockets.frames import Frame, Opcode
from websockets.protocol import SERVER, State
from websockets.protocol import Protocol as WebSocket
from websockets.utils import accept_key

from towline.aio.clock import Timer
from towline.aio.streams import StreamError
from towline.control.logging import get_logger
from towline.control.protocols.pipeops.channels import BadChannel, Channels, Message, choose
from towline.control.protocols.pipeops.translation import (
    UNUSUAL_PATH,
    CannotCarry,
    Carried,
    answer_head,
    own_answer,
)
from towline.tunnel.errors import INTERNAL_ERROR, NORMAL_CLOSE, WEBSOCKET_PROTOCOL_ERROR
from towline.wire import pipeops_frames as frames
from towline.wire import pipeops_messages as messages
from towline.wire.http1 import RequestHead
from towline.wire.http1_body import LAST_CHUNK, encode_chunk
from towline.wire.http1_build import Line, build_response_head

if TYPE_CHECKING:
    from towline.control.protocols.pipeops.request_line import RequestLine

MOST_MESSAGE_BYTES: Final = 4 * 1024 * 1024
"""Of one message of a client; kubectl sends 32 KiB."""

QUIET_START: Final = 0.5
"""Seconds without a refusal after which a WebSocket is open whose other end does not speak first."""

OPEN_TIMEOUT: Final = 25.0
"""Seconds until the first message, where there must be one."""

INPUT_RATE: Final = 8 * 1024 * 1024
"""Bytes of input in a second: the agent keeps a hundred messages that wait for the cluster, and drops more unsaid."""

AHEAD: Final = 0.05
"""Seconds that input may be ahead of that rate, and between two looks at a line that is full."""

MOST_REFUSAL_BYTES: Final = 64 * 1024
"""Of the reasons of an API server."""

NO_SPDY: Final = "an agent without yamux carries WebSockets and no SPDY: use kubectl 1.31 or newer"
NOT_OPENED: Final = "the agent could not open the WebSocket"
_UPGRADE_REQUIRED: Final = b"pgrade request required"
"""What the API server says to whoever may, and did not ask for an upgrade."""

_log = get_logger("pipeops")


class Upgrade:
    """One WebSocket. Implements `requests.Asker` and `request_line.Running`.

    Raises: CannotCarry: it is none that could be carried.
    """

    goes_on = True

    def __init__(self, line: RequestLine, asked: Carried, head: RequestHead) -> None:
        offered = [word.strip() for word in (head.get(b"sec-websocket-protocol") or b"").decode("latin-1").split(",")]
        key = (head.get(b"sec-websocket-key") or b"").decode("latin-1")
        if not key or head.get(b"sec-websocket-version") != b"13":
            raise CannotCarry(400, "the upgrade is none of RFC 6455")
        if ".." in asked.path:
            raise CannotCarry(400, UNUSUAL_PATH)  # the agent takes two dots out of it, wherever they are
        self._line = line
        self._asked = asked
        self._accept = accept_key(key)
        self._channels: Channels = choose(asked, [word for word in offered if word])
        self._protocol: WebSocket | None = None
        self._parts: list[bytes] = []
        self._kind = frames.BINARY
        self._clock = line.fallback.clock
        self._free_at = 0.0
        self._stream_id = line.fallback.open(asked, self._channels.agent_protocol, self)
        patience = OPEN_TIMEOUT if self._channels.greets else QUIET_START
        self._timer: Timer | None = self._clock.call_later(patience, self._waited)

    def __repr__(self) -> str:
        return f"<Upgrade {self._stream_id} {'open' if self._protocol else 'opening'}>"

    # -- opening -----------------------------------------------------------------------------------

    def _waited(self) -> None:
        self._timer = None
        if self._channels.greets:
            self._close_there()
            self._refused(CannotCarry(504, NOT_OPENED))
        else:
            self._open()

    def _open(self) -> WebSocket:
        self._stop_timer()
        lines: list[Line] = [
            (b"Connection", b"Upgrade"), (b"Upgrade", b"websocket"), (b"Sec-WebSocket-Accept", self._accept.encode()),
        ]  # fmt: skip
        if self._channels.client_protocol:
            lines.append((b"Sec-WebSocket-Protocol", self._channels.client_protocol.encode("latin-1")))
        self._line.write(build_response_head(101, b"Switching Protocols", lines))
        self._protocol = WebSocket(SERVER, state=State.OPEN, max_size=MOST_MESSAGE_BYTES)
        return self._protocol

    def _refused(self, otherwise: CannotCarry) -> None:
        """Have the API server say why, and our own words where it would not have refused."""
        self._stop_timer()
        self._line.replace(lambda: Refusal(self._line, self._asked, otherwise))

    # -- the agent ---------------------------------------------------------------------------------

    def answered(self, status: int, headers: messages.Headers) -> None:
        self._fail(f"the agent answers a WebSocket with status {status}")

    def arrived(self, data: bytes) -> None:
        self._fail("the agent answers a WebSocket with a body")

    def framed(self, kind: int, payload: bytes) -> None:
        if kind not in (frames.TEXT, frames.BINARY):
            return
        protocol = self._protocol or self._open()
        try:
            self._tell(protocol, self._channels.down(kind, payload))
        except BadChannel as error:
            self._fail(str(error))

    def ended(self) -> None:
        if self._protocol is None:
            self._refused(CannotCarry(502, NOT_OPENED))
            return
        self._tell(self._protocol, self._channels.end())
        self._close_here(self._protocol, NORMAL_CLOSE, "")

    def failed(self, error: StreamError) -> None:
        if self._protocol is None:
            self._refused(CannotCarry(502, f"{NOT_OPENED}: {error.reason}"))
        else:
            self._close_here(self._protocol, INTERNAL_ERROR, error.reason[:100])

    def _tell(self, protocol: WebSocket, told: list[Message]) -> None:
        for kind, payload in told:
            try:
                protocol.send_text(payload) if kind == frames.TEXT else protocol.send_binary(payload)
            except InvalidState:
                return  # the client has closed
        self._flush(protocol)

    # -- the client --------------------------------------------------------------------------------

    def fed(self, data: bytes) -> None:
        protocol = self._protocol
        if protocol is None:
            self._line.cut("bytes came before the upgrade was answered")
            return
        protocol.receive_data(data)
        for event in protocol.events_received():
            if isinstance(event, Frame):
                self._take(event)
        self._flush(protocol)
        if protocol.state is not State.OPEN:
            self._close_there()
            self._line.finish(close=True)
        else:
            self._pace()

    def _take(self, frame: Frame) -> None:
        if frame.opcode in (Opcode.TEXT, Opcode.BINARY):
            self._kind, self._parts = int(frame.opcode), []
        elif frame.opcode is not Opcode.CONT:
            return
        self._parts.append(bytes(frame.data))
        if frame.fin:
            payload, self._parts = b"".join(self._parts), []
            for kind, piece in self._channels.up(self._kind, payload):
                self._send(kind, piece)

    def _send(self, kind: int, payload: bytes) -> None:
        data = messages.WebsocketData(stream_id=self._stream_id, data=frames.websocket_data(kind, payload))
        self._line.fallback.speaker.say(data, request_id=self._stream_id)
        self._free_at = max(self._free_at, self._clock.monotonic()) + len(payload) / INPUT_RATE

    def _pace(self) -> None:
        """Let the client wait where the agent would drop what it sends."""
        ahead = self._free_at - self._clock.monotonic()
        if self._timer is None and (ahead > AHEAD or self._line.fallback.speaker.is_full):
            self._line.pause()
            self._timer = self._clock.call_later(max(ahead, AHEAD), self._go_on)

    def _go_on(self) -> None:
        self._timer = None
        if self._line.fallback.speaker.is_full:
            self._timer = self._clock.call_later(AHEAD, self._go_on)
        else:
            self._line.resume()

    # -- its end -----------------------------------------------------------------------------------

    def cancel(self) -> None:
        self._stop_timer()
        self._close_there()

    def _fail(self, reason: str) -> None:
        _log.warning("WebSocket broken off", stream=self._stream_id, reason=reason)
        self._close_there()
        if self._protocol is None:
            self._refused(CannotCarry(502, reason))
        else:
            self._close_here(self._protocol, WEBSOCKET_PROTOCOL_ERROR, reason[:100])

    def _close_there(self) -> None:
        """Have the agent close it, whose own close comes back."""
        if self._line.fallback.abandon(self._stream_id):
            close = messages.WebsocketClose(stream_id=self._stream_id)
            self._line.fallback.speaker.say(close, request_id=self._stream_id)

    def _close_here(self, protocol: WebSocket, code: int, reason: str) -> None:
        self._stop_timer()
        if protocol.state is State.OPEN:
            protocol.send_close(code, reason)
            self._flush(protocol)
        self._line.finish(close=True)

    def _flush(self, protocol: WebSocket) -> None:
        data = b"".join(protocol.data_to_send())
        if data:
            self._line.write(data)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class Refusal:
    """Asks what an upgrade asked for, without it; passes the API server's refusal on, or gives our own.

    Implements `requests.Asker` and `request_line.Running`. Raises: CannotCarry: it is no upgrade that nobody obeys.
    """

    goes_on = False

    def __init__(self, line: RequestLine, asked: Carried, otherwise: CannotCarry) -> None:
        if not asked.is_exec_family:
            raise otherwise  # a workload would take the request for a real one
        self._line = line
        self._asked = asked
        self._otherwise = otherwise
        self._head = b""
        self._code = 0
        self._body = b""
        self._request_id = line.fallback.begin(asked.request(), self)

    def __repr__(self) -> str:
        return f"<Refusal {self._request_id}>"

    def answered(self, status: int, headers: messages.Headers) -> None:
        try:
            self._head = answer_head(self._asked, status, headers)
            self._code = status
        except CannotCarry as error:
            self._otherwise = error

    def arrived(self, data: bytes) -> None:
        if len(self._body) < MOST_REFUSAL_BYTES:
            self._body += data[:MOST_REFUSAL_BYTES]

    def framed(self, kind: int, payload: bytes) -> None:
        """Nothing was upgraded."""

    def ended(self) -> None:
        if self._code < 400 or _UPGRADE_REQUIRED in self._body:
            self._line.write(own_answer(self._otherwise.code, self._otherwise.reason, close=True))
        else:
            body = encode_chunk([self._body]) + LAST_CHUNK if not self._asked.is_head else b""
            self._line.write(self._head + body)
        self._line.finish(close=True)

    def failed(self, error: StreamError) -> None:
        self._code = 0
        self.ended()

    def fed(self, data: bytes) -> None:
        """An upgrade that was not granted: what the client sends is for nobody."""

    def cancel(self) -> None:
        self._line.fallback.abandon(self._request_id)
