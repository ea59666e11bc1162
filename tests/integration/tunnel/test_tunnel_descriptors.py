"""TLS handshakes that fail close their own connection, and no file of anybody else."""

import asyncio
import gc
import os
import socket
import ssl
import struct
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import pytest
import trustme
import uvloop
from tests.support.edge import Raw, running_edge

from towline.aio.tasks import TaskOwner
from towline.tunnel.dial import Endpoint, Route, dial
from towline.tunnel.errors import LinkDown
from towline.tunnel.trust import TrustAnchors

ATTEMPTS = 20


@contextmanager
def resetting_server() -> Iterator[int]:
    """Reset every connection, as a relay does whose other side is away."""
    server = socket.create_server(("127.0.0.1", 0))

    def run() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    yield server.getsockname()[1]
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    thread.join()


async def nothing_else_is_closed(fail: Callable[[], Awaitable[None]]) -> None:
    """Open files right behind each failure, with the numbers that it set free, and look whether they stay open."""
    for _ in range(ATTEMPTS):
        await fail()
        opened = [os.open("/dev/null", os.O_RDONLY) for _ in range(20)]
        gc.collect(1)  # the young: a whole collection of a long run's objects takes half a second
        await asyncio.sleep(0)
        for each in opened:
            os.fstat(each)
            os.close(each)


@pytest.mark.parametrize("run", [uvloop.run, asyncio.run])
def test_failed_dials_close_no_file_of_another(run: Callable[..., None]) -> None:
    async def attempts() -> None:
        async with TaskOwner("test") as owner:

            async def fail() -> None:
                with pytest.raises(LinkDown):
                    await dial(Endpoint.parse(f"https://127.0.0.1:{port}"), route, owner=owner)

            await fail()
            before = len(os.listdir("/proc/self/fd"))
            await nothing_else_is_closed(fail)
            assert len(os.listdir("/proc/self/fd")) <= before + 2  # the last connection may still be closing

    route = Route(anchors=TrustAnchors(fingerprints=("sha256:" + "0" * 64,)))
    with resetting_server() as port:
        run(attempts())


@pytest.mark.parametrize("run", [uvloop.run, asyncio.run])
def test_failed_handshakes_of_clients_close_no_file_of_another(run: Callable[..., None]) -> None:
    async def attempts() -> None:
        async with running_edge(tls=tls) as running:

            async def fail() -> None:
                failures = running.edge.counters.handshake_failures
                async with await Raw.connect(running.port) as client:
                    await client.send(b"\x16\x03\x01\x00\x05\x02\x00\x00\x01\x00")
                    while running.edge.counters.handshake_failures == failures:
                        await asyncio.sleep(0)

            await fail()
            before = len(os.listdir("/proc/self/fd"))
            await nothing_else_is_closed(fail)
            assert len(os.listdir("/proc/self/fd")) <= before + 2  # the last connection may still be closing

    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(tls)
    run(attempts())
