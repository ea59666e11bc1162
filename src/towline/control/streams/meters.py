"""Figures of streams, and the records that are written after they have ended."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge

from towline.aio.clock import REAL_CLOCK, Clock
from towline.aio.tasks import TaskOwner


class Meter:
    """One open stream."""

    def __init__(self, meters: StreamMeters, kind: str) -> None:
        self._meters = meters
        self._kind = kind
        self._began = meters.clock.monotonic()

    def end(self, up_bytes: int, down_bytes: int) -> float:
        """Count the stream as ended. Returns how many seconds it was open."""
        seconds = self._meters.clock.monotonic() - self._began
        self._meters.open.labels(self._kind).dec()
        self._meters.bytes.labels(self._kind, "up").inc(up_bytes)
        self._meters.bytes.labels(self._kind, "down").inc(down_bytes)
        return seconds


class StreamMeters:
    """Counts the streams of one control plane."""

    def __init__(self, registry: CollectorRegistry, *, clock: Clock = REAL_CLOCK) -> None:
        self.clock = clock
        self.open = Gauge("towline_streams_open", "Streams through tunnels that are open.", ["kind"], registry=registry)
        self.opened = Counter(
            "towline_streams_opened", "Streams through tunnels that were opened.", ["kind"], registry=registry
        )
        self.bytes = Counter(
            "towline_stream_bytes",
            "Bytes through streams, up to the cluster and down.",
            ["kind", "way"],
            registry=registry,
        )
        self._tasks = TaskOwner("stream-records")

    def begin(self, kind: str) -> Meter:
        """Count a stream as open."""
        self.open.labels(kind).inc()
        self.opened.labels(kind).inc()
        return Meter(self, kind)

    def record_soon(self, step: Coroutine[Any, Any, None]) -> None:
        """Write a record without holding up the end of a stream, which may be a cancellation."""
        if self._tasks.closed:
            step.close()
        else:
            self._tasks.spawn("record", step)

    async def stop(self) -> None:
        """Write what is left."""
        await self._tasks.join()
        await self._tasks.close()
