"""Raw streams over yamux: the control plane opens them, names a service, and gets its bytes.

No answer tells whether the dial succeeded: a failed one is an end without data. What the host's policy keeps from
others is kept here as well; the API server itself is reached only where the policy keeps nothing of the cluster.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

import structlog

from towline.agent.errors import AgentError
from towline.agent.protocols.choosing import Means
from towline.agent.protocols.pipeops.upstream import CONNECT_TIMEOUT, gives_all
from towline.agent.streams.kube_service import UNPUBLISHED, KubeServiceServer
from towline.agent.streams.refusal import Refused
from towline.aio.bridge import Bridge, join, until_over
from towline.aio.streams import StreamError
from towline.aio.tasks import TaskOwner
from towline.tunnel.mux import Mux
from towline.tunnel.transport import GONE, StreamTransport
from towline.wire import pipeops_frames as frames
from towline.wire import streams
from towline.wire.pipeops_frames import StreamHeader
from towline.wire.yamux_model import Stream

_log = structlog.get_logger("towline.agent.pipeops")


class Opened:
    """Owner of a stream until it is joined to its target: the header is taken off, what follows waits."""

    __slots__ = ("_buffer", "_ended", "_held", "_mux", "_requested", "_stream", "gone", "on_gone")

    def __init__(self, mux: Mux, stream: Stream, requested: Callable[[Opened, StreamHeader], None]) -> None:
        self.gone = False
        self.on_gone: Callable[[], object] | None = None
        self._mux = mux
        self._stream = stream
        self._requested: Callable[[Opened, StreamHeader], None] | None = requested
        self._buffer = b""
        self._held: deque[bytes] = deque()
        self._ended = False

    def data_arrived(self, payload: bytes) -> None:
        if self._requested is None:
            self._held.append(payload)
            return
        self._buffer += payload
        try:
            split = frames.split_stream_header(self._buffer)
        except frames.BadFrame as error:
            _log.warning("stream refused", reason=str(error))
            self.refuse()
            return
        if split is None:
            self._mux.yamux.consume(self._stream, len(payload))
            return
        header, end = split
        rest = self._buffer[end:]
        self._mux.yamux.consume(self._stream, len(payload) - len(rest))
        if rest:
            self._held.append(rest)
        self._buffer = b""
        requested, self._requested = self._requested, None
        requested(self, header)

    def end_arrived(self) -> None:
        self._ended = True
        if self._requested is not None:
            self.refuse()

    def room_arrived(self) -> None:
        """Nothing is written before the target is connected."""

    def lost(self, error: StreamError) -> None:
        self.gone = True
        self._held.clear()
        if self.on_gone is not None:
            self.on_gone()

    def refuse(self) -> None:
        """End it without a byte."""
        if not self.gone:
            self.gone = True
            self._held.clear()
            self._mux.yamux.finish(self._stream)
            self._mux.schedule()
            self._stream.owner = GONE

    def connect(self, near: Bridge) -> None:
        """Give the stream to a protocol, with what has waited."""
        transport = StreamTransport(self._mux, self._stream, near, {"stream_id": self._stream.id})
        self._stream.owner = transport
        near.connection_made(transport)
        transport.begin_with(self._held, ended=self._ended)


class FarEnd(Bridge):
    """The end at the target; takes the stream the moment it is connected."""

    __slots__ = ("_opened", "both")

    def __init__(self, opened: Opened) -> None:
        super().__init__()
        self._opened = opened
        self.both: tuple[Bridge, ...] = (self,)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if self._opened.gone:
            self.transport.abort()
            return
        near = Bridge()
        join(self, near)
        self._opened.connect(near)
        self.both = (self, near)


class RawStreams:
    """Serves the streams of one connection."""

    def __init__(self, means: Means, owner: TaskOwner) -> None:
        self._means = means
        self._owner = owner
        self._services = KubeServiceServer(means.directory, means.host.policy)
        self.open = 0

    def __repr__(self) -> str:
        return f"<RawStreams {self.open} open>"

    def accept(self, mux: Mux, stream: Stream) -> Opened:
        """Take a stream that the control plane opened."""
        return Opened(mux, stream, self._requested)

    def _requested(self, opened: Opened, header: StreamHeader) -> None:
        if self.open >= self._means.host.settings.streams_limit:
            _log.warning("stream refused", reason="too many streams are open")
            opened.refuse()
            return
        task = self._owner.spawn(f"stream to {header.service[:60]}", self._serve(opened, header))
        opened.on_gone = task.cancel

    async def _serve(self, opened: Opened, header: StreamHeader) -> None:
        self.open += 1
        try:
            await self._join(opened, header)
        except (AgentError, Refused, OSError, TimeoutError) as error:
            place = f"{header.namespace[:60]}/{header.service[:60]}:{header.port}"
            _log.info("stream not joined", target=place, reason=str(error) or type(error).__name__)
        finally:
            self.open -= 1
            opened.refuse()

    async def _join(self, opened: Opened, header: StreamHeader) -> None:
        if header.protocol == frames.UDP:
            raise Refused("unsupported", "datagrams are not carried")
        far: FarEnd | None = None
        async with asyncio.timeout(CONNECT_TIMEOUT):
            for address, port in await self._places(header):
                try:
                    loop = asyncio.get_running_loop()
                    _, far = await loop.create_connection(lambda: FarEnd(opened), address, port)
                    break
                except OSError as error:
                    _log.debug("target does not answer", address=address, port=port, reason=str(error))
        if far is None:
            raise Refused("unreachable", "no address of it answers")
        opened.on_gone = None
        try:
            await until_over(*far.both)
        finally:
            opened.gone = True
            far.both = ()

    async def _places(self, header: StreamHeader) -> list[tuple[str, int]]:
        if (header.namespace, header.service) == UNPUBLISHED:
            if gives_all(self._means.host.policy()) is None:
                raise Refused(
                    "forbidden", "the policy of this host limits the cluster: no raw stream to its API server"
                )
            server = self._means.credentials.current()
            return [(server.host, server.port)]
        target = streams.KubeService(namespace=header.namespace, name=header.service, port=str(header.port))
        return list(await self._services.find(target))
