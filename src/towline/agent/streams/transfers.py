"""Streams that move bytes for their own sake: bundles into the store, and the measurement of throughput."""

from __future__ import annotations

import asyncio
import struct

import structlog

from towline.agent.bundles import BundleStore, Receiving
from towline.agent.errors import StorageError
from towline.agent.projects.records import Records
from towline.agent.streams.refusal import Refused
from towline.tunnel.opening import IncomingStream, TunnelStream
from towline.wire import streams

ZEROS = bytes(64 * 1024)
LONGEST_MEASURE = 30.0
"""Seconds: more tells nobody more."""

_log = structlog.get_logger("towline.agent")
_COUNT = struct.Struct(">Q")


class Transfers:
    """Serves `Bundle` and `Measure` targets."""

    def __init__(self, bundles: BundleStore, records: Records) -> None:
        self._bundles = bundles
        self._records = records

    async def serve_bundle(self, incoming: IncomingStream, target: streams.Bundle) -> None:
        """Receive a bundle; the stream ends cleanly once it is in the store, and is reset when it cannot be.

        Raises: StorageError: before anything was accepted.
        """
        if self._bundles.has(target.digest):
            await incoming.accept_stream(have=True).aclose()
            return
        self._bundles.prune(self._records.bundles_in_use())
        receiving = self._bundles.begin(target.digest, target.size)
        try:
            await _receive(incoming.accept_stream(), receiving, target.size)
        finally:
            receiving.close()

    async def serve_measure(self, incoming: IncomingStream, target: streams.Measure) -> None:
        """Send zeros, or count what comes."""
        if not 0 < target.seconds <= LONGEST_MEASURE:
            raise Refused("bad_request", f"a measurement takes up to {LONGEST_MEASURE:g} seconds")
        stream = incoming.accept_stream()
        if target.direction == "down":
            end = asyncio.get_running_loop().time() + target.seconds
            while asyncio.get_running_loop().time() < end:
                await stream.write(ZEROS)
        else:
            count = 0
            while data := await stream.read():
                count += len(data)
            await stream.write(_COUNT.pack(count))
        await stream.aclose()


async def _receive(stream: TunnelStream, receiving: Receiving, size: int) -> None:
    try:
        left = size
        while left > 0 and (data := await stream.read()):
            receiving.feed(data)
            left -= len(data)
        await asyncio.to_thread(receiving.finish)  # waits for the disk
    except StorageError as error:
        _log.warning("bundle refused", reason=str(error))
        stream.abort(str(error))
        return
    await stream.aclose()
