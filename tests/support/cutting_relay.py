"""A TCP relay in front of an API server that cuts answers after a random number of bytes, in the middle of anything."""

from __future__ import annotations

import asyncio
import random
from asyncio import StreamReader, StreamWriter
from contextlib import suppress

from tests.support.faulty_api import abort

from towline.aio.tasks import TaskOwner

PIECE = 65_536


class CuttingRelay:
    """Args: target: a port on loopback. `within`: bytes of an answer after which it is cut, while that is set."""

    def __init__(self, target: int, seed: int) -> None:
        self.within: tuple[int, int] | None = None
        self.cuts = 0
        self.port = 0
        self._target = target
        self._draw = random.Random(seed)
        self._writers: set[StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self._owner = TaskOwner("relay")

    async def begin(self) -> None:
        def accept(reader: StreamReader, writer: StreamWriter) -> None:
            self._owner.spawn("serve", self._serve(reader, writer))

        self._server = await asyncio.start_server(accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def end(self) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        await self._owner.close()
        await self._server.wait_closed()

    def cut(self) -> None:
        """Reset what is open now."""
        for writer in self._writers:
            abort(writer)

    async def _serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        try:
            upstream_reader, upstream = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            abort(writer)
            return
        ends = {writer, upstream}
        self._writers |= ends
        asked = self._owner.spawn("asked", _copy(reader, upstream, None))
        answered = self._owner.spawn("answered", _copy(upstream_reader, writer, self._budget()))
        _, pending = await asyncio.wait({asked, answered}, return_when=asyncio.FIRST_COMPLETED)
        for each in pending:
            each.cancel()
        if answered.done() and answered.result():
            self.cuts += 1
        self._writers -= ends
        for end in ends:
            abort(end)

    def _budget(self) -> int | None:
        return self._draw.randint(*self.within) if self.within is not None else None


async def _copy(reader: StreamReader, writer: StreamWriter, budget: int | None) -> bool:
    """Returns: whether the budget ended it; the last bytes of it have been handed on."""
    with suppress(OSError):
        while data := await reader.read(PIECE):
            if writer.is_closing():
                return False
            writer.write(data if budget is None else data[:budget])
            await writer.drain()
            if budget is not None:
                budget -= len(data)
                if budget <= 0:
                    return True
    return False
