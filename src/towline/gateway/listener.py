"""Accepts connections: looks at the first byte of each to tell TLS from plain HTTP, and counts them per address.

A connection that is let in gets its protocol and is not looked at here any more, but for its count.
"""

import asyncio
import errno
import ipaddress
import socket
import ssl
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

import structlog

from towline.aio.sockets import let_go
from towline.aio.tasks import TaskOwner
from towline.gateway.counters import EdgeCounters
from towline.gateway.errors import SPEAK_HTTPS, error_answer
from towline.gateway.forwarded import plain_address, source_key
from towline.gateway.interfaces import HelloReader, Peer, TlsProvider, ToTarget
from towline.gateway.options import EdgeOptions
from towline.wire.client_hello import MAX_HELLO_BYTES, HelloError, missing, parse

ACCEPT_BATCH = 64  # connections accepted in one turn, so that a flood of them does not stop everything else
ACCEPT_PAUSE = 0.5  # seconds without accepting after the process ran out of room
SHUTDOWN_TIMEOUT = 30.0  # seconds for the last bytes of a TLS connection to reach a slow reader
KERNEL_UNSENT_BYTES = 256 * 1024
"""What the kernel takes of a connection beyond what is on its way: else a stalled reader costs megabytes there."""
BACKLOG = 1024  # connections that the kernel holds while we are busy; a reconnect storm of agents fits

_OUT_OF_ROOM = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_TLS_HANDSHAKE = b"\x16"  # content type of a ClientHello record (RFC 8446 section 5.1)

_log = structlog.get_logger("towline.edge")

ProtocolFactory = Callable[[Peer, Callable[[], None]], asyncio.Protocol]
RawFactory = Callable[[ToTarget, Peer, Callable[[], None]], asyncio.Protocol]


class Listener:
    """Owns listening sockets. `factory` makes the protocol of a connection and is told how to report its end.

    Args: looks: wait for the first byte; False where the other side may be the one that speaks first. raw: makes the
    protocol of a connection whose ClientHello leads to a route.
    """

    def __init__(
        self,
        options: EdgeOptions,
        factory: ProtocolFactory,
        tls: TlsProvider | None,
        counters: EdgeCounters,
        hellos: HelloReader | None = None,
        *,
        looks: bool = True,
        raw: RawFactory | None = None,
    ) -> None:
        self._options = options
        self._factory = factory
        self._tls = tls
        self._hellos = hellos
        self._looks = looks
        self._raw = raw
        self._counters = counters
        self._sockets: list[socket.socket] = []
        self._owner = TaskOwner("edge/accept")
        self._peeked: dict[socket.socket, asyncio.TimerHandle] = {}
        self._per_source: Counter[str] = Counter()
        self._open = 0
        self._resume: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    def __repr__(self) -> str:
        return f"<Listener {len(self._sockets)} sockets, {self._open} connections>"

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Where it listens."""
        return [sock.getsockname()[:2] for sock in self._sockets]

    def listen(self, sock: socket.socket) -> None:
        """Accept from a bound socket."""
        sock.setblocking(False)
        sock.listen(BACKLOG)
        self._sockets.append(sock)
        self._loop.add_reader(sock, self._accept, sock)

    async def close(self) -> None:
        """Stop accepting; connections that were let in live on."""
        if self._resume is not None:
            self._resume.cancel()
        for sock in self._sockets:
            self._loop.remove_reader(sock)
            sock.close()
        self._sockets.clear()
        for sock in list(self._peeked):
            self._drop(sock)
        await self._owner.close()

    # accepting

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(ACCEPT_BATCH):
            try:
                sock, _ = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _OUT_OF_ROOM:
                    raise
                self._pause_accepting()
                return
            self._admit(sock)

    def _pause_accepting(self) -> None:
        """Leave new connections to the kernel's queue until some of ours have ended."""
        _log.warning("accepting is paused: out of file descriptors or memory")
        self._counters.accept_pauses += 1
        for listening in self._sockets:
            self._loop.remove_reader(listening)
        self._resume = self._loop.call_later(ACCEPT_PAUSE, self._resume_accepting)

    def _resume_accepting(self) -> None:
        for listening in self._sockets:
            self._loop.add_reader(listening, self._accept, listening)

    def _admit(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        try:
            address, port = sock.getpeername()[:2]
            address = plain_address(address)
        except OSError:
            sock.close()  # it went away between the kernel's queue and here
            return
        trusted = self._options.is_trusted(address)
        source = "" if trusted else source_key(address)
        reason = self._reason_to_refuse(source)
        if reason:
            self._counters.refused[reason] += 1
            sock.close()
            return
        self._count(source)
        peer = Peer(address=address, port=port, scheme="http", via=address, trusted_proxy=trusted)
        if not self._looks:
            self._take(sock, peer, source, None)
            return
        timer = self._loop.call_later(self._options.first_byte_timeout, self._too_silent, sock, source)
        self._peeked[sock] = timer
        self._loop.add_reader(sock, self._peek, sock, peer, source)

    def _reason_to_refuse(self, source: str) -> str:
        if self._open >= self._options.max_connections:
            return "too_many_connections"
        if source and self._per_source[source] >= self._options.connections_per_address:
            return "too_many_connections_of_address"
        return ""

    def _count(self, source: str) -> None:
        self._open += 1
        self._counters.connections += 1
        if source:
            self._per_source[source] += 1

    def _uncount(self, source: str) -> None:
        self._open -= 1
        if source:
            self._per_source[source] -= 1
            if self._per_source[source] <= 0:
                del self._per_source[source]

    # the first byte

    def _peek(self, sock: socket.socket, peer: Peer, source: str) -> None:
        try:
            first = sock.recv(1, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            first = b""
        self._release(sock)
        if not first:
            sock.close()
            self._uncount(source)
        elif first == _TLS_HANDSHAKE and self._tls is not None:
            peer = Peer(peer.address, peer.port, "https", peer.via, peer.trusted_proxy)
            if self._hellos is not None and self._hellos.wants_hello:
                self._read_hello(sock, peer, source)
            else:
                self._take(sock, peer, source, self._tls())
        elif first != _TLS_HANDSHAKE and self._may_speak_plainly(sock, peer):
            self._take(sock, peer, source, None)
        else:
            self._refuse_plain(sock)
            self._uncount(source)

    def _read_hello(
        self, sock: socket.socket, peer: Peer, source: str, seen: int = 0, deadline: float | None = None
    ) -> None:
        """Look at the ClientHello without taking it from the socket, and wait for the rest of one that is not whole.

        The kernel wakes us when as many have come as are missing at least, not for the same ones again (SO_RCVLOWAT,
        socket(7)).
        """
        assert self._hellos is not None and self._tls is not None
        chosen: ssl.SSLContext | ToTarget | None = None
        with suppress(OSError, HelloError):  # TLS itself says what is wrong
            if seen:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
            data = sock.recv(MAX_HELLO_BYTES, socket.MSG_PEEK)
            hello = parse(data)
            if hello is None and len(data) > seen:
                enough = min(len(data) + missing(data), MAX_HELLO_BYTES)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, enough)
                self._await_hello(sock, peer, source, len(data), deadline)
                return
            chosen = self._hellos.choose(hello) if hello is not None else None
        if isinstance(chosen, ToTarget):
            self._take_raw(sock, peer, source, chosen)
        else:
            self._take(sock, peer, source, chosen or self._tls())

    def _await_hello(self, sock: socket.socket, peer: Peer, source: str, seen: int, deadline: float | None) -> None:
        until = deadline or self._loop.time() + self._options.first_byte_timeout
        self._peeked[sock] = self._loop.call_at(until, self._too_silent, sock, source)

        def readable() -> None:
            self._release(sock)
            self._read_hello(sock, peer, source, seen, until)

        self._loop.add_reader(sock, readable)

    def _too_silent(self, sock: socket.socket, source: str) -> None:
        self._counters.refused["silent"] += 1
        self._drop(sock)
        self._uncount(source)

    def _release(self, sock: socket.socket) -> None:
        self._peeked.pop(sock).cancel()
        self._loop.remove_reader(sock)

    def _drop(self, sock: socket.socket) -> None:
        self._release(sock)
        sock.close()

    def _may_speak_plainly(self, sock: socket.socket, peer: Peer) -> bool:
        if peer.trusted_proxy or self._options.plain_for_everybody:
            return True
        if not self._options.plain_from_loopback:
            return False
        local = plain_address(sock.getsockname()[0])
        return ipaddress.ip_address(peer.address).is_loopback and ipaddress.ip_address(local).is_loopback

    def _refuse_plain(self, sock: socket.socket) -> None:
        """Say why in plain HTTP, as far as the socket takes it at once."""
        self._counters.refused["plain_http"] += 1
        with suppress(OSError):
            sock.recv(65536)  # read input is not answered with a reset
            sock.send(error_answer(400, "speak_https", SPEAK_HTTPS))
            sock.shutdown(socket.SHUT_WR)
        sock.close()

    # letting in

    def _take(self, sock: socket.socket, peer: Peer, source: str, context: ssl.SSLContext | None) -> None:
        def make() -> asyncio.Protocol:
            return self._factory(peer, lambda: self._uncount(source))

        self._begin(sock, source, context, make)

    def _take_raw(self, sock: socket.socket, peer: Peer, source: str, route: ToTarget) -> None:
        raw = self._raw
        assert raw is not None
        self._begin(sock, source, None, lambda: raw(route, peer, lambda: self._uncount(source)))

    def _begin(
        self, sock: socket.socket, source: str, context: ssl.SSLContext | None, make: Callable[[], asyncio.Protocol]
    ) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, KERNEL_UNSENT_BYTES)
        self._owner.spawn("handshake", self._hand_to_protocol(sock, source, context, make))

    async def _hand_to_protocol(
        self, sock: socket.socket, source: str, context: ssl.SSLContext | None, make: Callable[[], asyncio.Protocol]
    ) -> None:
        timeout = self._options.handshake_timeout if context is not None else None
        try:
            await self._loop.connect_accepted_socket(
                make,
                sock,
                ssl=context,
                ssl_handshake_timeout=timeout,
                ssl_shutdown_timeout=SHUTDOWN_TIMEOUT if context is not None else None,
            )
        except (OSError, TimeoutError):  # ssl.SSLError is an OSError
            self._counters.handshake_failures += 1
            self._uncount(source)
            let_go(sock)
        except asyncio.CancelledError:
            self._uncount(source)
            let_go(sock)
            raise
