"""Throughput of a link both ways, measured through streams of its own: what `towline link test` shows."""

import asyncio
import struct
from dataclasses import dataclass

from towline.aio.clock import Clock
from towline.aio.streams import ByteStream, StreamError
from towline.control.errors import ApiError, ErrorCode
from towline.tunnel.session import Session
from towline.wire import streams

CHUNK = bytes(64 * 1024)
GRACE = 15.0
"""Seconds beyond the measured ones after which a slow line is given up."""
_COUNT = struct.Struct(">Q")


@dataclass(frozen=True, slots=True)
class Throughput:
    """Bytes per second: up is to the cluster, down from it."""

    up: float
    down: float


async def measure(session: Session, seconds: float, actor: streams.Actor, clock: Clock) -> Throughput:
    """Measure one way after the other. Raises: ApiError: agent_timeout, agent_away; StreamError."""
    try:
        async with asyncio.timeout(2 * (seconds + GRACE)):
            up = await _up(session, seconds, actor, clock)
            down = await _down(session, seconds, actor, clock)
    except TimeoutError as error:
        raise ApiError(ErrorCode.AGENT_TIMEOUT, "the link is too slow to be measured in that time") from error
    return Throughput(up, down)


async def _up(session: Session, seconds: float, actor: streams.Actor, clock: Clock) -> float:
    stream = await session.open_stream(streams.Measure(direction="up", seconds=seconds, actor=actor))
    try:
        began = clock.monotonic()
        while clock.monotonic() - began < seconds:
            await stream.write(CHUNK)
        await stream.write_eof()
        answer = await _exactly(stream, _COUNT.size)
        passed = clock.monotonic() - began
    finally:
        stream.abort("measured")
    return float(_COUNT.unpack(answer)[0]) / max(passed, 0.001)


async def _down(session: Session, seconds: float, actor: streams.Actor, clock: Clock) -> float:
    stream = await session.open_stream(streams.Measure(direction="down", seconds=seconds, actor=actor))
    received, began = 0, clock.monotonic()
    try:
        while clock.monotonic() - began < seconds:
            data = await stream.read()
            if not data:
                break
            received += len(data)
        passed = clock.monotonic() - began
    finally:
        stream.abort("measured")
    return received / max(passed, 0.001)


async def _exactly(stream: ByteStream, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = await stream.read(count - len(data))
        if not more:
            raise StreamError("the agent ended the measurement without its count")
        data += more
    return data
