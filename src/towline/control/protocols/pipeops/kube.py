"""The API server behind a PipeOps agent: a raw stream to it, and our own agent's code at this end of it.

The stream goes to the service of the API server, TLS runs through it, verified with the authority that every namespace
holds in `kube-root-ca.crt`. An agent without yamux is given each request as a message (`fallback.py`). What proves us
there is the token that the agent registered, and it is used only where an administrator of the cluster allowed that.
Source: docs/design/pipeops.md, "Kubernetes".
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from towline.aio.clock import Clock
from towline.aio.sockets import Line
from towline.aio.streams import StreamError
from towline.control.logging import get_logger
from towline.control.protocols.pipeops import streams as services
from towline.control.protocols.pipeops.connection import Connection
from towline.control.protocols.pipeops.fallback import Fallback
from towline.control.protocols.pipeops.requests import fetch
from towline.control.protocols.standins import MakesStandIns, StandIn, socket_of
from towline.tunnel.errors import TargetRefused, TunnelClosed
from towline.tunnel.pair import Pair
from towline.wire import link, streams
from towline.wire import pipeops_messages as messages
from towline.wire.pipeops_frames import StreamHeader

AUTHORITY_PATH: Final = "/api/v1/namespaces/default/configmaps/kube-root-ca.crt"
API_SERVER: Final = StreamHeader(service="kubernetes", namespace="default", port=443, tunnel_id="towline")
DIRECT: Final = streams.Kube(direct=True)

NOT_ALLOWED: Final = (
    "the token that the agent registered may not be used here; an admin of the cluster allows it with "
    "`towline clusters update NAME --use-registered-token`"
)
UNREGISTERED: Final = "the agent has registered no token for its cluster"
NO_YAMUX: Final = "the agent does not speak yamux (yet), which streams need"
NO_STAND_IN: Final = "this server was started without the code that speaks to the API servers of older agents"

_log = get_logger("pipeops")


class _ConfigMap(msgspec.Struct):
    data: dict[str, str] = {}


_config_map = msgspec.json.Decoder(_ConfigMap)


@dataclass(frozen=True, slots=True)
class Registered:
    """What is known of a registered token. `secret` is empty when there is none, or when it may not be used."""

    secret: str = ""
    allowed: bool = False

    def __repr__(self) -> str:
        return f"Registered(allowed={self.allowed}, secret={'<hidden>' if self.secret else 'none'})"

    @property
    def reason(self) -> str:
        """Why it is of no use; empty when it is."""
        return NOT_ALLOWED if not self.allowed else "" if self.secret else UNREGISTERED


@dataclass(frozen=True, slots=True)
class Journal:
    """Where the jobs of one agent are kept, over its sessions; one stand-in at a time holds it."""

    folder: Path
    taken: asyncio.Lock


class KubeHalf:
    """The Kubernetes half of one session.

    Args: registered: reads the token, and whether it may be used. tell: passes on what the stand-in says.
        changed: called when `reason` may have changed. journal: where jobs are kept.
    """

    def __init__(
        self,
        connection: Connection,
        make: MakesStandIns | None,
        registered: Callable[[], Awaitable[Registered]],
        tell: Callable[[link.Message], None],
        changed: Callable[[], None],
        journal: Journal,
        *,
        clock: Clock,
    ) -> None:
        self.reason = NO_YAMUX
        """Why the API server cannot be reached; empty while it can."""
        self._connection = connection
        self._fallback = Fallback(connection, clock)
        self._make = make
        self._registered = registered
        self._tell = tell
        self._changed = changed
        self._journal = journal
        self._clock = clock
        self._known = Registered()
        self._authorities = ""
        self._stand_in: StandIn | None = None
        self._pair: Pair | None = None
        self._deciding = asyncio.Lock()
        self._closed = False

    def __repr__(self) -> str:
        return f"<KubeHalf {self.reason or 'ready'}>"

    @property
    def stream_count(self) -> int:
        return self._pair.stream_count if self._pair is not None else 0

    # -- streams -------------------------------------------------------------------------------

    def create_stream(
        self,
        target: streams.Kube,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        first_bytes: bytes,
        on_answer: Callable[[streams.Answer], None] | None,
    ) -> asyncio.Transport:
        """Open a stream, as a session does. Raises: TargetRefused, TunnelClosed, TooManyStreams."""
        if self._pair is None:
            raise TargetRefused("forbidden" if self.reason == NOT_ALLOWED else "unsupported", self.reason)
        return self._pair.create_stream(target, protocol_factory, first_bytes, on_answer=on_answer)

    async def _way(self) -> Line:
        """Open a raw stream to the API server, or a line of messages where there is no yamux. Raises: StreamError."""
        mux = self._connection.mux
        if mux is not None and self._authorities:
            return Line(await socket_of(lambda factory: services.open_stream(mux, API_SERVER, DIRECT, factory)))
        if mux is None and not self._connection.declines_yamux:
            raise TunnelClosed(NO_YAMUX)
        return await self._fallback.line()

    # -- whether it may, and can ------------------------------------------------------------------

    async def reconsider(self, *, again: bool = False) -> None:
        """Look at what may be used, and begin or end accordingly. again: have everything told anew."""
        async with self._deciding:
            if self._closed:
                return
            known, authorities = await self._registered(), self._authorities
            self.reason = await self._reason(known)
            if self._stand_in is not None and (self.reason or again):
                await self._end(TunnelClosed(self.reason or "the cluster is read anew"))
            changed = (known, authorities) != (self._known, self._authorities)
            self._known = known
            if changed and self._stand_in is not None:
                self._stand_in.forget()
            if not self.reason and self._stand_in is None:
                await self._begin()
            if self.reason not in ("", NO_YAMUX):
                self._tell(link.JobsHeld())  # whoever orders something is told why not
        self._changed()

    async def order(self, message: link.Message) -> bool:
        """Give the stand-in what an agent is ordered; False: there is none. Raises: StreamError."""
        if self._stand_in is None:
            return False
        await self._stand_in.order(message)
        return True

    async def _reason(self, known: Registered) -> str:
        if known.reason:
            return known.reason
        if self._make is None:
            return NO_STAND_IN
        if self._connection.mux is None:
            # A stand-in waits for yamux to come back, and an agent that has none is spoken to by messages.
            return "" if self._stand_in is not None or self._connection.declines_yamux else NO_YAMUX
        return "" if self._authorities else await self._read_authorities(known.secret)

    async def _read_authorities(self, secret: str) -> str:
        """Read who signs for the API server; returns why that did not work."""
        headers: dict[str, str | tuple[str, ...]] = {
            "Authorization": f"Bearer {secret}",
            "Accept": "application/json",
        }
        request = messages.ProxyRequest(
            method="GET", path=AUTHORITY_PATH, headers=headers, supports_response_streaming=True
        )
        try:
            status, body = await fetch(self._connection.requests, request)
            if status != 200:
                return f"the cluster's authority cannot be read: its API server answers {status}"
            self._authorities = _config_map.decode(body).data.get("ca.crt", "")
        except (StreamError, TimeoutError, msgspec.MsgspecError) as error:
            return f"the cluster's authority cannot be read: {error or 'no answer'}"[:300]
        return "" if self._authorities else "the cluster's ConfigMap kube-root-ca.crt holds no ca.crt"

    async def _begin(self) -> None:
        assert self._make is not None
        await self._journal.taken.acquire()
        self._stand_in = self._make(
            folder=self._journal.folder,
            way=self._way,
            token=lambda: self._known.secret,
            authorities=lambda: self._authorities,
            tell=self._told,
            clock=self._clock,
        )
        self._pair = Pair(self._stand_in.take, clock=self._clock)
        try:
            await self._stand_in.start()
        except StreamError as error:
            await self._end(error)

    async def _told(self, message: link.Message) -> None:
        if self._closed:
            raise TunnelClosed("the session is over")
        self._tell(message)

    async def _end(self, error: StreamError) -> None:
        pair, self._pair = self._pair, None
        stand_in, self._stand_in = self._stand_in, None
        if pair is not None:
            pair.close(error)
        if stand_in is not None:
            try:
                await stand_in.stop()
            finally:
                self._journal.taken.release()

    async def close(self) -> None:
        """End it with the session."""
        self._closed = True
        self._fallback.close()
        async with self._deciding:
            await self._end(TunnelClosed("the older agent's connection is gone"))
