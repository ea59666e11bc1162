"""Connections whose last bytes are on their way, looked at by the sweep: nothing about one of them ends it for all."""

import asyncio
from typing import Any, cast

from tests.support.edge_memory import MemoryEdge, MemoryTransport

from towline.gateway.edge import look_at

UPGRADE = b"GET / HTTP/1.1\r\nHost: app.test\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switch\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\n"


class LostTls(MemoryTransport):
    """TLS whose connection underneath is gone already: it has no socket any more, and nobody was told yet."""

    def can_write_eof(self) -> bool:
        return False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return None if name == "socket" else default


async def test_connection_that_is_gone_underneath_is_looked_at_and_closed() -> None:
    edge = MemoryEdge()
    edge.transport = LostTls()
    edge.client.connection_made(edge.transport)
    edge.send(UPGRADE)
    edge.target.answer(SWITCH + b"last")
    edge.target.connections[0][0].eof_received()
    assert edge.client.is_ending
    now = asyncio.get_running_loop().time()
    for later in (1, 2):
        edge.client.check(now + later)
    assert edge.transport.is_closed


async def test_connection_that_cannot_be_looked_at_is_dropped_and_the_others_are_seen() -> None:
    class Broken:
        is_aborted = False

        def check(self, now: float) -> None:
            raise AttributeError("fileno")

        def abort(self) -> None:
            self.is_aborted = True

    class Sound(Broken):
        seen = 0.0

        def check(self, now: float) -> None:
            self.seen = now

    broken, sound = Broken(), Sound()
    look_at(cast(Any, [broken, sound]), 7.0)
    assert (broken.is_aborted, sound.seen, sound.is_aborted) == (True, 7.0, False)
