"""What is said on one PipeOps socket: each message of the control plane to the part that it concerns.

Messages are taken one after another; what takes long is a task of its own. A message that is wrong, out of order, or
for nothing that is open is answered or dropped, and costs nobody else anything.
"""

from __future__ import annotations

import asyncio

import structlog

from towline.agent.protocols.choosing import Means
from towline.agent.protocols.line import Line
from towline.agent.protocols.pipeops.multiplexed import RawStreams
from towline.agent.protocols.pipeops.requests import Requests
from towline.agent.protocols.pipeops.sockets import Sockets
from towline.agent.protocols.pipeops.speaking import Voice
from towline.agent.protocols.pipeops.upstream import Upstream
from towline.aio.tasks import TaskOwner
from towline.tunnel.errors import TunnelClosed
from towline.tunnel.mux import Mux
from towline.wire import pipeops
from towline.wire import pipeops_messages as messages

MOST_FALLBACKS = 64
"""Unknown types that are told; whoever invents more is not answered."""

LOST_WORDS = ("not registered", "cluster not found")
"""In an `error`, they ask for a new registration."""

_SUPPORTED = tuple(sorted({*pipeops.TYPES, *pipeops.SYNONYMS}))
_log = structlog.get_logger("towline.agent.pipeops")


class Conversation:
    """One connection's messages, from its opening to its end."""

    def __init__(self, line: Line, means: Means, owner: TaskOwner) -> None:
        self.line = line
        self.voice = Voice(line, clock=means.host.clock)
        self.registered: asyncio.Future[messages.RegisterSuccess] | None = None
        """Resolved by the answer to the registration that is under way."""
        self.register_id = ""
        self.is_lost = asyncio.Event()
        """Set when the control plane says that it does not know this agent."""
        upstream = Upstream(means)
        self._means = means
        self._sockets = Sockets(self.voice, upstream, owner)
        self._requests = Requests(self.voice, upstream, self._sockets, owner)
        self._raw = RawStreams(means, owner)
        self._mux: Mux | None = None
        self._told: set[str] = set()
        line.on_binary = self._binary
        line.on_writable = self._writable

    def __repr__(self) -> str:
        return f"<Conversation {self.line!r} {self._requests!r} {self._sockets!r}>"

    @property
    def last_message_at(self) -> float:
        """Monotonic moment of the last byte from there."""
        return self.line.last_message_at

    @property
    def rtt(self) -> float:
        return self.line.rtt

    @property
    def stream_count(self) -> int:
        """Raw streams and proxied WebSockets that are open."""
        return self._raw.open + self._sockets.count

    async def run(self) -> str:
        """Take messages until the connection ends; returns why."""
        try:
            while (text := await self.line.receive()) is not None:
                await self._take(text)
        except TunnelClosed as error:
            return error.reason
        finally:
            if self._mux is not None:
                self._mux.lose(TunnelClosed(self.line.ending))
        return self.line.ending

    async def _take(self, text: bytes) -> None:
        try:
            envelope = pipeops.decode(text)
        except pipeops.BadMessage as error:
            _log.warning("message not understood", type=error.type[:40], reason=str(error)[:300])
            if error.request_id and error.type in ("proxy_request", "proxy_websocket_start"):
                await self.voice.say(messages.ProxyError(error=f"not understood: {error}"[:500]), error.request_id)
            return
        try:
            await self._handle(envelope)
        except TunnelClosed:
            raise
        except Exception:
            # A message ends here: whatever is wrong with one must not cost the connection.
            _log.exception("message failed", type=pipeops.type_name(envelope.message))

    async def _handle(self, envelope: pipeops.Envelope) -> None:
        request_id = envelope.request_id
        match envelope.message:
            case messages.ProxyRequest() as request:
                await self._requests.take(request, request_id)
            case messages.ProxyRequestChunk() as chunk:
                await self._requests.chunk(chunk, request_id)
            case messages.ProxyRequestStreamEnd():
                self._requests.end_body(request_id)
            case messages.ProxyCancel():
                await self._requests.cancel(request_id)
            case messages.ProxyWebsocketStart() as start:
                await self._sockets.start(start, request_id)
            case messages.WebsocketData() as data:
                await self._sockets.data(envelope.stream, data)
            case messages.WebsocketClose():
                self._sockets.close(envelope.stream)
            case messages.GatewayHello() as hello:
                await self._multiplex(hello)
            case _:
                await self._handle_rest(envelope)

    async def _handle_rest(self, envelope: pipeops.Envelope) -> None:
        request_id = envelope.request_id
        match envelope.message:
            case messages.RegisterSuccess() as success:
                self._registered(success, request_id)
            case messages.Ping():
                await self.voice.say(messages.Pong(timestamp=self.voice.now()), request_id)
            case messages.Error(error=words):
                _log.warning("the control plane reports an error", reason=words[:300])
                if any(lost in words.lower() for lost in LOST_WORDS):
                    self.is_lost.set()
            case messages.TcpTunnelStart() | messages.TcpTunnelData():
                refusal = messages.TcpTunnelClose(reason="registration_failed", error="only yamux carries TCP here")
                await self.voice.say(refusal, request_id)
            case messages.Unknown(name=name):
                await self._tell_unknown(name, request_id)
            case other:
                _log.debug("message without effect", type=pipeops.type_name(other))

    def _registered(self, success: messages.RegisterSuccess, request_id: str) -> None:
        waiting = self.registered
        if waiting is not None and not waiting.done() and request_id == self.register_id and success.cluster_id:
            waiting.set_result(success)
        else:
            _log.warning("answer to no registration of ours dropped", request=request_id[:60])

    async def _tell_unknown(self, name: str, request_id: str) -> None:
        if name in self._told or len(self._told) >= MOST_FALLBACKS:
            return
        self._told.add(name)
        fallback = messages.ProtocolFallback(
            agent_version="towline-agent",
            fallback_mode="legacy_proxy",
            protocol_version="1.0",
            supported_types=_SUPPORTED,
            timestamp=self.voice.now(),
            unknown_type=name,
            original_request_id=request_id,
        )
        await self.voice.say(fallback)

    # -- binary messages ---------------------------------------------------------------------------

    async def _multiplex(self, hello: messages.GatewayHello) -> None:
        """Speak yamux in binary messages from now on; said again, begin anew."""
        if not hello.use_yamux:
            return
        if self._mux is not None:
            self._mux.lose(TunnelClosed("the control plane began the streams anew"))
        await self.voice.say(messages.GatewayHelloAck(use_yamux=True))
        mux = Mux(
            self.line.channel,
            is_client=True,
            accept=lambda stream: self._raw.accept(mux, stream),
            failed=self._mux_failed,
            clock=self._means.host.clock,
        )
        self._mux = mux
        self.voice.is_multiplexed = True

    def _mux_failed(self, reason: str) -> None:
        self.line.close(1002, f"yamux: {reason}"[:100])

    def _binary(self, data: memoryview) -> None:
        if self._mux is not None:
            self._mux.receive(data)
            return
        whole = bytes(data)
        if not self._requests.binary(whole) and whole.startswith(b"{"):
            self.line.text_arrived(whole)

    def _writable(self) -> None:
        if self._mux is not None:
            self._mux.flush()
