"""Asks each of several targets whether it is well, while its route is in use. What follows from it: `balancing`."""

import asyncio
import re
from collections.abc import Awaitable, Callable

import structlog

from towline.gateway.balancing import Member
from towline.gateway.errors import UpstreamError
from towline.gateway.route_policy import RoutePolicy

TIMEOUT = 5.0
"""Seconds for one check, its connection included."""
FAILURES = 2
"""Checks in a row that must fail: one may be lost with a connection."""
MAX_HEAD_BYTES = 16 * 1024

_GOOD = re.compile(rb"HTTP/1\.[01] [23][0-9]{2}[ \r]")
_log = structlog.get_logger("towline.edge")


class _Probe:
    """One connection that reads a status line. Implements `ConnectorProtocol`."""

    def __init__(self) -> None:
        self.done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._transport: asyncio.BaseTransport | None = None
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        if self.done.done():
            self.close()

    def connection_failed(self, error: UpstreamError) -> None:
        self._say(False)

    def data_received(self, data: bytes) -> None:
        self._data += data
        if b"\r\n" in self._data or len(self._data) > MAX_HEAD_BYTES:
            self._say(_GOOD.match(self._data) is not None)
            self.close()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._say(False)

    def pause_writing(self) -> None:
        """One small request was written before the connection came about."""

    def resume_writing(self) -> None:
        """See `pause_writing`."""

    def close(self) -> None:
        transport, self._transport = self._transport, None
        if isinstance(transport, asyncio.Transport) or hasattr(transport, "abort"):
            transport.abort()  # type: ignore[union-attr]

    def _say(self, well: bool) -> None:
        if not self.done.done():
            self.done.set_result(well)


async def is_well(member: Member, request: bytes, timeout: float = TIMEOUT) -> bool:
    """Ask one target once."""
    if not member.is_ready:
        return False
    probe = _Probe()
    try:
        member.connector.connect(probe, request)
        async with asyncio.timeout(timeout):
            return await probe.done
    except TimeoutError:
        return False
    finally:
        probe.close()


async def follow(
    policy: RoutePolicy,
    is_current: Callable[[RoutePolicy], bool],
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Check every target of a route, again and again, until the route is another one or nobody asks for it."""
    balanced, options = policy.balanced, policy.options
    if balanced is None:
        return
    host = (policy.host or b"localhost").decode("ascii")
    request = (
        f"GET {options.health_path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: towline-health\r\n"
        "Accept: */*\r\nConnection: close\r\n\r\n"
    ).encode("ascii")
    failures = dict.fromkeys(balanced.members, 0)
    while is_current(policy):
        verdicts = await asyncio.gather(*(is_well(member, request) for member in balanced.members))
        for member, well in zip(balanced.members, verdicts, strict=True):
            failures[member] = 0 if well else failures[member] + 1
            _judge(policy, member, well or failures[member] < FAILURES, well=well)
        await sleep(options.health_interval)


def _judge(policy: RoutePolicy, member: Member, healthy: bool, *, well: bool) -> None:
    if member.is_healthy and not healthy:
        _log.warning("target is unhealthy", route=policy.route.name, target=member.name)
        member.is_healthy = False
    elif well and not member.is_healthy:
        _log.info("target is healthy again", route=policy.route.name, target=member.name)
        member.is_healthy = True
