"""Stopping: running requests end well, everything else ends at once, and a full process recovers."""

import asyncio
import resource

import pytest
from tests.support.edge import DEADLINE, FAST, HOST, Raw, ask, raw_upstream, running_edge

from towline.gateway.options import EdgeOptions

GET = f"GET / HTTP/1.1\r\nHost: {HOST}\r\n".encode()
UNKNOWN = b"GET / HTTP/1.1\r\nHost: unknown.example.test\r\n\r\n"


async def test_drain_finishes_running_requests_and_refuses_new_connections() -> None:
    started, go = asyncio.Event(), asyncio.Event()

    async def upstream(connection: Raw) -> None:
        await connection.until(b"\r\n\r\n")
        started.set()
        await go.wait()
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    async with raw_upstream(upstream) as port, running_edge() as running:
        running.publish(port)
        async with await Raw.connect(running.port) as idle, await Raw.connect(running.port) as busy:
            await idle.send(UNKNOWN)
            await idle.answer()
            await busy.send(GET + b"\r\n")
            await started.wait()
            draining = asyncio.create_task(running.edge.drain(DEADLINE))
            assert await idle.to_end() == b""
            with pytest.raises(ConnectionRefusedError):
                await Raw.connect(running.port)
            go.set()
            status, fields, body = await busy.answer()
            assert (status, body, fields["connection"]) == (200, b"ok", "close")
            await asyncio.wait_for(draining, DEADLINE)
        assert running.edge.counters.open_connections == 0


async def test_drain_does_not_wait_for_a_client_whose_answer_began_before_it() -> None:
    go = asyncio.Event()

    async def upstream(connection: Raw) -> None:
        await connection.until(b"\r\n\r\n")
        await connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n")
        await go.wait()
        await connection.send(b"0\r\n\r\n")

    async with raw_upstream(upstream) as port, running_edge(options=EdgeOptions()) as running:
        running.publish(port)
        async with await Raw.connect(running.port) as client:
            await client.send(GET + b"\r\n")
            await client.until(b"ok\r\n")
            draining = asyncio.create_task(running.edge.drain(10 * DEADLINE))
            await asyncio.sleep(0)
            go.set()
            await asyncio.wait_for(draining, DEADLINE)


async def test_drain_cuts_off_what_does_not_end_in_time() -> None:
    started = asyncio.Event()

    async def upstream(connection: Raw) -> None:
        await connection.until(b"\r\n\r\n")
        started.set()
        await connection.to_end()

    async with raw_upstream(upstream) as port, running_edge() as running:
        running.publish(port)
        async with await Raw.connect(running.port) as client:
            await client.send(GET + b"\r\n")
            await started.wait()
            await asyncio.wait_for(running.edge.drain(0.1), DEADLINE)
            assert await client.to_end() == b""


async def test_process_without_file_descriptors_pauses_and_recovers() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with running_edge() as running:
        held = [await Raw.connect(running.port) for _ in range(3)]
        for client in held:
            await client.send(UNKNOWN)
            await client.answer()
        client = Raw(*await asyncio.open_connection("127.0.0.1", running.port))
        await client.send(UNKNOWN)
        await client.answer()
        try:
            with open("/dev/null") as probe:
                resource.setrlimit(resource.RLIMIT_NOFILE, (probe.fileno() + 1, hard))
            late = asyncio.create_task(Raw.connect(running.port))
            while not running.edge.counters.accept_pauses:
                await asyncio.sleep(0.01)
            await client.send(UNKNOWN)
            assert (await client.answer())[0] == 404  # those inside are served meanwhile
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        connected = await late
        await connected.send(UNKNOWN)
        assert (await connected.answer())[0] == 404
        for each in (*held, client, connected):
            await each.close()


async def test_pools_let_go_of_targets_that_nobody_asks_for() -> None:
    gone = asyncio.Event()

    async def upstream(connection: Raw) -> None:
        await connection.until(b"\r\n\r\n")
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        await connection.to_end()
        gone.set()

    async with raw_upstream(upstream) as port, running_edge(options=FAST) as running:
        running.publish(port)
        await ask(running.port, GET + b"Connection: close\r\n\r\n")
        await asyncio.wait_for(gone.wait(), DEADLINE)
