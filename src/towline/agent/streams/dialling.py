"""Streams to an address or to a service's container: policy first, then TCP, then bytes pass through untouched."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Callable, Iterable

from towline.agent.host.facts import own_addresses
from towline.agent.policy import LocalPolicy, may_forward
from towline.agent.streams.bridge import Bridge, join, until_over
from towline.agent.streams.refusal import Refused
from towline.aio.streams import StreamError
from towline.tunnel.opening import IncomingStream
from towline.wire import link, streams

CONNECT_TIMEOUT = 5.0
"""Seconds for all addresses together: targets are on this host or next to it, and the opener waits for ten."""

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
        addresses = await _resolve(target.host, target.port)
        allowed = [each for each in addresses if self._may(policy, target.host, each, target.port)]
        if not allowed:
            raise Refused("forbidden", f"the policy of this host does not allow {target.host}:{target.port}")
        await _dial_first(incoming, allowed, target.port)

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
        await _dial_first(incoming, allowed, target.port)

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


async def _resolve(host: str, port: int) -> list[str]:
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


async def _dial_first(incoming: IncomingStream, addresses: list[str], port: int) -> None:
    """Join the stream to the first address that answers, and stay until that is over."""
    failures: list[Refused] = []
    far: _FarEnd | None = None
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT):
            for address in addresses:
                try:
                    far = await _dial(incoming, address, port)
                    break
                except OSError as error:
                    failures.append(Refused("unreachable", f"{_words(error)} by {_place(address, port)}"))
    except TimeoutError as error:
        place = _place(addresses[len(failures)], port)
        raise Refused("timeout", f"{place} did not answer within {CONNECT_TIMEOUT:g} s") from error
    if far is None:
        raise failures[0]
    await until_over(*far.both)


async def _dial(incoming: IncomingStream, address: str, port: int) -> _FarEnd:
    loop = asyncio.get_running_loop()
    _, far = await loop.create_connection(lambda: _FarEnd(incoming, _place(address, port)), address, port)
    return far


class _FarEnd(Bridge):
    """The end at the target. It accepts the stream the moment it is connected, so that no byte arrives before."""

    __slots__ = ("_incoming", "_place", "both")

    def __init__(self, incoming: IncomingStream, place: str) -> None:
        super().__init__()
        self._incoming = incoming
        self._place = place
        self.both: tuple[Bridge, ...] = (self,)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        try:
            _, near = self._incoming.accept(Bridge, info={"address": self._place})
        except StreamError:
            self.transport.abort()  # the opener has given up meanwhile
            return
        join(self, near)
        self.both = (self, near)


def _place(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _words(error: OSError) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    return (error.strerror or str(error)).lower()
