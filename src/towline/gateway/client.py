"""The client side: one accepted connection, from its first request to its end.

Reads heads, asks the router for each of them, and starts an exchange. One request is answered at a time; bytes of
further ones wait in a bounded buffer. Deadlines are checked by the edge's sweep, not by timers of their own.

    WAITING ──head──▶ BUSY ──answer done──▶ WAITING
       │               │ 101: the exchange pipes raw bytes
       ▼               ▼
    CLOSING: what was written is sent, what still arrives is thrown away, then the end
"""

import asyncio
import enum
import fcntl
import ssl
import sys
import termios
from collections.abc import Callable
from typing import cast

import structlog

from towline.aio.tls import keep_paused_bytes
from towline.gateway.context import EdgeContext
from towline.gateway.decided import DecidedExchange
from towline.gateway.errors import error_answer
from towline.gateway.exchange import Exchange, Phase
from towline.gateway.forwarded import believe_proxy
from towline.gateway.interfaces import Answer, Detour, Later, Peer, Route, ToApi, ToLink, ToTarget
from towline.gateway.paths import api_path_problem
from towline.gateway.published import PublishedExchange
from towline.gateway.upgrades import check_upgrade, is_websocket
from towline.wire.http1 import Framing, HeadError, RequestBuffer, RequestHead, parse_request_head
from towline.wire.http1_build import Line

CLOSE_TIMEOUT = 30.0
"""Seconds without progress after which the last bytes for a client that does not read are given up."""

_FOREVER = float("inf")
_UNSET = -1.0
_UPGRADE_LINES: tuple[Line, ...] = ((b"upgrade", b"websocket"), (b"sec-websocket-version", b"13"))

_log = structlog.get_logger("towline.edge")


def _unacknowledged_bytes(transport: asyncio.Transport) -> int:
    """Return how much of what was sent the peer's system does not have yet; nothing of a connection that is gone."""
    connection = transport.get_extra_info("socket")
    if connection is None:
        return 0  # TLS forgets it with the connection underneath, before anybody is told
    count = bytearray(4)
    try:
        fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, count)
    except OSError:
        return 0
    return int.from_bytes(count, sys.byteorder)


class State(enum.Enum):
    """What a connection is doing; see the module."""

    WAITING = "waiting"
    BUSY = "busy"
    CLOSING = "closing"


# Members by themselves: looking them up in their class costs as much as a call.
_WAITING, _BUSY, _CLOSING = State.WAITING, State.BUSY, State.CLOSING
_AWAITED, _PIPED, _NONE = Phase.AWAITED, Phase.PIPED, Framing.NONE


class ClientConnection(asyncio.Protocol):
    """See the module. `on_end` is called once, when the edge has nothing more to do with the connection."""

    __slots__ = (
        "_deadline",
        "_eof_at",
        "_eof_sent_bytes",
        "_full_since",
        "_head_before",
        "_is_full",
        "_is_held",
        "_is_reading_paused",
        "_is_tls",
        "_is_upstream_full",
        "_looks_sent",
        "_on_end",
        "_peer",
        "_sni",
        "_state",
        "_transport",
        "_unsent_bytes",
        "_window_bytes",
        "_window_start",
        "buffer",
        "context",
        "exchange",
        "is_ending",
    )

    def __init__(self, context: EdgeContext, peer: Peer, on_end: Callable[[], None]) -> None:
        self.context = context
        self.buffer = RequestBuffer(context.options.head_limits)
        self.exchange: Exchange | None = None
        self._peer = peer
        self._on_end = on_end
        self._head_before: RequestHead | None = None
        self._transport: asyncio.Transport | None = None
        self._state = _WAITING
        self._deadline = context.now() + context.options.header_timeout
        self._sni: str | None = None
        self._is_tls = False
        self.is_ending = False
        self._is_full = False
        self._full_since = 0.0
        self._is_held = False
        self._is_upstream_full = False
        self._is_reading_paused = False
        self._looks_sent = False
        self._eof_at = _FOREVER
        self._eof_sent_bytes = 0
        self._window_start = 0.0
        self._window_bytes = 0
        self._unsent_bytes = 0

    def __repr__(self) -> str:
        return f"<ClientConnection {self._peer.address} {self._state.value} {self.exchange or ''}>"

    @property
    def is_idle(self) -> bool:
        """True between requests."""
        return self._state is _WAITING and not len(self.buffer)

    @property
    def is_piped(self) -> bool:
        """True after an upgrade."""
        return self.exchange is not None and self.exchange.is_piped

    @property
    def route_id(self) -> str:
        """The id of the published route that is asked now; empty for anything else."""
        return self.exchange.route_id if self.exchange is not None else ""

    @property
    def must_close(self) -> bool:
        """True when no further request will be read here."""
        return self.context.is_draining or self._eof_at != _FOREVER

    @property
    def full_since(self) -> float:
        """The moment since which the client does not take more; 0 while it does."""
        return self._full_since

    @property
    def held_bytes(self) -> int:
        """What waits for this client, on both sides of the edge."""
        unsent = self._transport.get_write_buffer_size() if self._transport is not None else 0
        upstream = self.exchange.upstream if self.exchange is not None else None
        return unsent + (upstream.held_bytes if upstream is not None else 0)

    # what the transport tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=self.context.options.write_high_bytes)
        tls = transport.get_extra_info("ssl_object")
        self._is_tls = isinstance(tls, ssl.SSLObject)
        if self._is_tls:
            keep_paused_bytes(transport)
        self._sni = getattr(tls, "towline_server_name", None)
        self.context.connections.add(self)
        self.context.counters.open_connections += 1

    def data_received(self, data: bytes) -> None:
        exchange = self.exchange
        if exchange is not None:
            if exchange.phase is _PIPED or not exchange.is_request_done:
                self._window_bytes += len(data)
                exchange.client_data(data)
            else:
                self.buffer.feed(data)
                self._hold_if_long()
        elif self._state is _WAITING:
            if self._is_full:
                self.buffer.feed(data)
                self._hold_if_long()
            else:
                self._next_request(data)

    def eof_received(self) -> bool:
        exchange = self.exchange
        if exchange is None or self._is_tls:
            return False
        keep = exchange.client_eof()
        if keep and not exchange.is_piped:
            self._eof_at = self.context.now()
            self._eof_sent_bytes = exchange.sent_bytes
        return keep

    def connection_lost(self, exc: Exception | None) -> None:
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            exchange.client_gone()
        self._forget()

    def pause_writing(self) -> None:
        self._is_full = True
        self._full_since = self.context.now()
        if self.exchange is not None:
            self.exchange.client_is_full()

    def resume_writing(self) -> None:
        self._is_full = False
        self._full_since = 0.0
        if self.exchange is not None:
            self.exchange.client_has_room()
        elif len(self.buffer):
            self._next_request()

    # requests

    def _next_request(self, data: bytes = b"") -> None:
        """Start the next request, once all of its head is there."""
        if self._state is not _WAITING or self._transport is None or self._is_full:
            return
        peer = self._peer
        try:
            raw = self.buffer.feed_and_cut(data) if data else self.buffer.cut()
            if raw is None:
                self._await_head()
                return
            head = parse_request_head(raw, self.context.options.head_limits, self._head_before)
            self._head_before = head
            if peer.trusted_proxy:
                peer = believe_proxy(head, peer, self.context.options.is_trusted)
            if head.upgrade is not None:
                check_upgrade(head)
        except HeadError as error:
            self._refuse(error)
            return
        self._begin(head, raw, peer)

    def _await_head(self) -> None:
        """A part of a head is there: the rest has to come in time, whatever trickles in."""
        limit = self.context.now() + self.context.options.header_timeout
        if len(self.buffer) and (self._deadline > limit or self._deadline == _UNSET):
            self._deadline = limit

    def _begin(self, head: RequestHead, raw: bytes, peer: Peer) -> None:
        route = self._route(head, peer)
        if isinstance(route, Detour) and self._take(route, head, raw, peer):
            return
        self._state = _BUSY
        self._deadline = _FOREVER
        if head.framing is not _NONE:
            self._window_start, self._window_bytes = self.context.now(), 0
        if type(route) is ToTarget and route.options is not None:
            policy = self.context.policies.of(route)
            if not policy.is_plain_for(peer):
                self._begin_published(
                    PublishedExchange(self, head, peer, self.context.next_request_id(), policy), route
                )
                return
        self.exchange = exchange = Exchange(self, head, peer, self.context.next_request_id())
        try:
            if isinstance(route, ToTarget):
                exchange.forward(route, route.connector)
            elif isinstance(route, ToApi):
                exchange.forward(None, self.context.api)
            elif isinstance(route, Answer):
                exchange.answer(route)
            else:
                exchange.answer(Answer(426, "upgrade_required", "agents connect here by WebSocket"))
        except Exception:
            _log.exception("forwarding failed", host=head.host, request=exchange.request_id)
            self.abort()

    def _begin_published(self, exchange: PublishedExchange, route: ToTarget) -> None:
        self.exchange = exchange
        try:
            exchange.begin(route)
        except Exception:
            _log.exception("forwarding failed", host=exchange.head.host, request=exchange.request_id)
            self.abort()

    def _take(self, route: Route, head: RequestHead, raw: bytes, peer: Peer) -> bool:
        """Begin what is not simply forwarded or answered; return False for an agent's link that asks for none."""
        if isinstance(route, Later):
            self._state = _BUSY
            self._deadline = _FOREVER
            self._window_start, self._window_bytes = self.context.now(), 0
            self.exchange = exchange = DecidedExchange(self, head, peer, self.context.next_request_id(), route)
            exchange.decide()
            return True
        if isinstance(route, ToLink) and is_websocket(head):
            self._hand_over(raw, peer)
            return True
        return False

    def _route(self, head: RequestHead, peer: Peer) -> Route:
        if self._sni is not None and head.host != self._sni and not peer.trusted_proxy:
            return Answer(421, "misdirected", "the TLS server name and the Host field differ")
        try:
            route = self.context.router.route(head, peer)
        except Exception:
            _log.exception("routing failed", host=head.host)
            return Answer(500, "internal", "routing failed")
        if isinstance(route, ToApi):
            problem = api_path_problem(head.path)
            if problem is not None:
                self.context.counters.refused["bad_path"] += 1
                return Answer(400, "bad_path", problem)
        return route

    def _hand_over(self, raw: bytes, peer: Peer) -> None:
        transport = self._transport
        assert transport is not None
        received = raw + self.buffer.take()
        self._transport = None
        self._state = _CLOSING
        self.context.counters.links += 1
        self._forget()
        try:
            self.context.links.accept(transport, received, peer)
        except Exception:
            _log.exception("handing over an agent link failed", peer=peer.address)
            transport.abort()

    def _refuse(self, error: HeadError) -> None:
        """Answer a request that could not be understood, and end the connection."""
        self.context.counters.refused[error.code] += 1
        lines = _UPGRADE_LINES if error.status == 426 else ()
        self.write(error_answer(error.status, error.code, str(error), lines=lines))
        self._linger()

    # what the exchange does

    def write(self, data: bytes) -> None:
        """Send bytes to the client."""
        if self._transport is not None:
            self._transport.write(data)

    def write_eof(self) -> None:
        """End this side, or the whole connection where TLS has no half-close.

        That waits until the client has everything: whoever still sends, as the WebSockets of shells do, would be
        answered with a reset, and it would overtake the last bytes. The exchange stays, and learns of the end by
        `connection_lost`.
        """
        if self._transport is None:
            return
        if self._transport.can_write_eof():
            self._transport.write_eof()
        elif not self.is_ending:
            self.is_ending = True
            self._deadline = self.context.now() + CLOSE_TIMEOUT

    def begin_pipe(self) -> bytes:
        """From now on bytes are the exchange's; return the ones that came early."""
        self._is_held = False
        self._update_reading()
        return self.buffer.take()

    def exchange_done(self, *, keep: bool, linger: bool) -> None:
        """The answer is written; go on with the next request, or end."""
        self.exchange = None
        self._is_upstream_full = False
        if self._transport is None:
            return
        if not keep or self.context.is_draining:  # an answer that began before the drain still promised to stay
            if linger:
                self._linger()
            else:
                self.close()
            return
        self._state = _WAITING
        self._deadline = _UNSET  # the sweep sets it; asking for the time here would cost every request
        if self._is_reading_paused or self._is_held:
            self._is_held = False
            self._update_reading()
        if len(self.buffer):
            # not at once: a client that pipelines thousands of requests must not keep the loop for itself
            asyncio.get_running_loop().call_soon(self._next_request)

    def pause_for_upstream(self) -> None:
        """The upstream does not take more of the body."""
        self._is_upstream_full = True
        self._update_reading()

    def resume_for_upstream(self) -> None:
        """The upstream takes the body again."""
        if self._is_upstream_full:
            self._is_upstream_full = False
            self._update_reading()

    def close(self) -> None:
        """Close after everything that was written has been sent."""
        self.exchange = None
        self._state = _CLOSING
        self._deadline = self.context.now() + CLOSE_TIMEOUT
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Drop the connection at once, unsent bytes included."""
        if self._transport is not None:
            self._transport.abort()

    def withdraw(self) -> None:
        """End what is going on: its route was taken away."""
        if self.exchange is not None:
            self.exchange.withdraw()

    def _linger(self) -> None:
        """End our side, and throw away what the client still sends, so that no reset overtakes the answer."""
        self._state = _CLOSING
        self._deadline = self.context.now() + self.context.options.linger_timeout
        self.buffer.take()
        self._is_held = self._is_upstream_full = False
        self._update_reading()
        if self._transport is not None and self._transport.can_write_eof():
            self._transport.write_eof()

    # limits

    def check(self, now: float) -> None:
        """End what is overdue; called by the edge's sweep."""
        exchange = self.exchange
        if exchange is None:
            if self._deadline == _UNSET:
                self._deadline = now + self.context.options.keep_alive_timeout
            elif now > self._deadline:
                self._overdue(now)
        elif self.is_ending:
            self._check_ending(now)
        elif self._eof_at != _FOREVER:
            self._check_half_closed(exchange, now)
        else:
            if exchange.phase is _AWAITED and not exchange.is_request_done:
                self._check_body(exchange, now)
            exchange.check(now)

    def _overdue(self, now: float) -> None:
        if self._state is _CLOSING:
            self._check_closing(now)
        elif len(self.buffer):
            self._refuse(HeadError(408, "slow_head", "the request head did not arrive in time"))
        else:
            self.close()

    def _check_closing(self, now: float) -> None:
        transport = self._transport
        if transport is None:
            return
        unsent = transport.get_write_buffer_size()
        if unsent and unsent != self._unsent_bytes:
            self._unsent_bytes = unsent
            self._deadline = now + CLOSE_TIMEOUT
        elif unsent:
            transport.abort()
        else:
            transport.close()

    def _check_ending(self, now: float) -> None:
        """Close what is over once it was empty at two looks: between them the loop has written what it could."""
        transport = self._transport
        if transport is None:
            return
        unsent = transport.get_write_buffer_size() + _unacknowledged_bytes(transport)
        if not unsent:
            if self._looks_sent:
                transport.close()
            self._looks_sent = True
        elif unsent != self._unsent_bytes:
            self._unsent_bytes, self._deadline = unsent, now + CLOSE_TIMEOUT
        elif now > self._deadline:
            transport.abort()

    def _check_half_closed(self, exchange: Exchange, now: float) -> None:
        if now - self._eof_at < self.context.options.half_close_timeout:
            return
        if exchange.sent_bytes != self._eof_sent_bytes:
            self._eof_at, self._eof_sent_bytes = now, exchange.sent_bytes
            return
        self.abort()

    def _check_body(self, exchange: Exchange, now: float) -> None:
        options = self.context.options
        if self._is_reading_paused:
            self._window_start, self._window_bytes = now, 0
        elif now - self._window_start >= options.body_window:
            if self._window_bytes < options.body_min_rate * options.body_window:
                exchange.body_too_slow()
            self._window_start, self._window_bytes = now, 0

    def _hold_if_long(self) -> None:
        if not self._is_held and len(self.buffer) > self.context.options.pipeline_bytes:
            self._is_held = True
            self._update_reading()

    def _update_reading(self) -> None:
        paused = self._is_held or self._is_upstream_full
        transport = self._transport
        if paused == self._is_reading_paused or transport is None or transport.is_closing():
            return
        self._is_reading_paused = paused
        if paused:
            transport.pause_reading()
        else:
            transport.resume_reading()

    def _forget(self) -> None:
        if self in self.context.connections:
            self.context.connections.discard(self)
            self.context.counters.open_connections -= 1
            self._on_end()
        self._transport = None
