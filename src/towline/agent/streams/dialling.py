"""Streams to an address or to a service's container: policy first, then TCP, then bytes pass through untouched."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Callable, Iterable, Sequence

from towline.agent.host.facts import own_addresses
from towline.agent.policy import LocalPolicy, may_forward
from towline.agent.streams.refusal import Refused
from towline.aio.bridge import Bridge, join, until_over
from towline.aio.streams import StreamError
from towline.aio.tls import keep_paused_bytes
from towline.tunnel.opening import IncomingStream
from towline.wire import link, streams

CONNECT_TIMEOUT = 5.0
"""Seconds for all addresses together: targets are on this host or next to it, and the opener waits for ten."""

SILENCE_TIMEOUT = 1.0
"""Seconds without a byte of a target with TLS after which a stream whose opener has ended its side is over."""

Encryption = tuple[ssl.SSLContext, str]
"""How to speak TLS to a target, and the name for the handshake; empty: none."""

RESOLVE_TIMEOUT = 3.0
"""Seconds: with the dialling it stays below what the opener waits."""


class Dialler:
    """Dials targets for streams.

    Args: containers: the containers that are known to run, with their addresses.
    """

    def __init__(
        self,
        policy: Callable[[], LocalPolicy],
        containers: Callable[[], Iterable[tuple[link.Container, tuple[str, ...]]]],
    ) -> None:
        self._policy = policy
        self._containers = containers

    async def serve_tcp(self, incoming: IncomingStream, target: streams.Tcp) -> None:
        """Join a stream to an address. Raises: Refused."""
        policy = self._policy()
        policy.require("forward")
        addresses = await resolve(target.host, target.port)
        allowed = [each for each in addresses if self._may(policy, target.host, each, target.port)]
        if not allowed:
            raise Refused("forbidden", f"the policy of this host does not allow {target.host}:{target.port}")
        await dial_first(incoming, [(each, target.port) for each in allowed])

    async def serve_service(self, incoming: IncomingStream, target: streams.Service) -> None:
        """Join a stream to a running container of a service. Raises: Refused."""
        policy = self._policy()
        policy.require("forward")
        found = self._addresses(target)
        if not found:
            raise Refused("not_found", f"no container of {target.project}/{target.service} runs here")
        allowed = [each for each in found if self._may(policy, target.service, each, target.port)]
        if not allowed:
            raise Refused("forbidden", f"the policy of this host does not allow {target.service}:{target.port}")
        await dial_first(incoming, [(each, target.port) for each in allowed])

    def _addresses(self, target: streams.Service) -> list[str]:
        """Return the addresses of a service's containers, healthy ones first; host networking is loopback."""
        found = [
            (container.health == "unhealthy", addresses or ("127.0.0.1",))
            for container, addresses in self._containers()
            if (container.project, container.service) == (target.project, target.service)
            and container.state == "running"
        ]
        return [address for _, addresses in sorted(found) for address in addresses]

    def _may(self, policy: LocalPolicy, host: str, address: str, port: int) -> bool:
        if ipaddress.ip_address(address).is_loopback:
            return may_forward(policy, host, address, port, (), ())  # the usual case need not read any table
        near = {each for _, addresses in self._containers() for each in addresses}
        return may_forward(policy, host, address, port, own_addresses(), near)


async def resolve(host: str, port: int) -> list[str]:
    """Return the addresses of a host, as this host knows it. Raises: Refused."""
    if not 0 < port < 65536:
        raise Refused("bad_request", f"{port} is not a port")
    try:
        async with asyncio.timeout(RESOLVE_TIMEOUT):
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise Refused("unreachable", f"{host} cannot be resolved on this host: {error}") from error
    except TimeoutError as error:
        raise Refused("timeout", f"{host} was not resolved within {RESOLVE_TIMEOUT:g} s") from error
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


async def dial_first(
    incoming: IncomingStream, places: Sequence[tuple[str, int]], tls: Encryption | None = None
) -> None:
    """Join the stream to the first address and port that answers, and stay until that is over. Raises: Refused."""
    failures: list[Refused] = []
    far: FarEnd | None = None
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT):
            for place in places:
                try:
                    far = await _dial(incoming, *place, tls)
                    break
                except OSError as error:
                    failures.append(Refused("unreachable", f"{_words(error)} by {_place(*place)}"))
    except TimeoutError as error:
        late = _place(*places[len(failures)])
        raise Refused("timeout", f"{late} did not answer within {CONNECT_TIMEOUT:g} s") from error
    if far is None:
        raise failures[0]
    try:
        await until_over(*far.both)
    finally:
        far.both = ()


async def _dial(incoming: IncomingStream, address: str, port: int, tls: Encryption | None) -> FarEnd:
    loop, place = asyncio.get_running_loop(), _place(address, port)
    if tls is None:
        _, plain = await loop.create_connection(lambda: FarEnd(incoming, place), address, port)
        return plain
    context, name = tls
    # An address in place of a name is not sent.
    _, far = await loop.create_connection(
        lambda: EncryptedFarEnd(incoming, place), address, port, ssl=context, server_hostname=name or address
    )
    return far


class FarEnd(Bridge):
    """The end at the target. It accepts the stream the moment it is connected, so that no byte arrives before."""

    __slots__ = ("_incoming", "_place", "both")

    def __init__(self, incoming: IncomingStream, place: str) -> None:
        super().__init__()
        self._incoming = incoming
        self._place = place
        self.both: tuple[Bridge, ...] = (self,)
        """Emptied at last: a circle would keep the connection's buffers until the collector looks at old objects."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        try:
            _, near = self._incoming.accept(self.make_near, info={"address": self._place})
        except StreamError:
            self.transport.abort()  # the opener has given up meanwhile
            return
        join(self, near)
        self.both = (self, near)

    def make_near(self) -> Bridge:
        """Make the end towards the opener."""
        return Bridge()


class EncryptedFarEnd(FarEnd):
    """A far end with TLS, which knows no end of one direction alone."""

    __slots__ = ("was_heard",)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.was_heard = False
        keep_paused_bytes(transport)
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        self.was_heard = True
        super().data_received(data)

    def eof_received(self) -> bool:
        return False

    def make_near(self) -> Bridge:
        return _PatientEnd(self)


class _PatientEnd(Bridge):
    """The end towards the opener of a stream with TLS behind it: its end becomes one of both once nothing comes."""

    __slots__ = ("_far", "_timer")

    def __init__(self, far: EncryptedFarEnd) -> None:
        super().__init__()
        self._far = far
        self._timer: asyncio.TimerHandle | None = None

    def eof_received(self) -> bool:
        self._ended = True
        self._await_silence()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)

    def _await_silence(self) -> None:
        self._far.was_heard = False
        self._timer = asyncio.get_running_loop().call_later(SILENCE_TIMEOUT, self._judge_silence)

    def _judge_silence(self) -> None:
        busy = self._far.was_heard or self.transport.get_write_buffer_size() or self._far_is_full()
        if busy:
            self._await_silence()
        else:
            self.transport.close()

    def _far_is_full(self) -> bool:
        return not self._far.is_lost and self._far.transport.get_write_buffer_size() > 0


def _place(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _words(error: OSError) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    return (error.strerror or str(error)).lower()
