"""Nonsense on a PipeOps connection and on the lines of its fallback, by a seed: no error, no growth."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Awaitable, Callable

import pytest
from tests.support import fallback_line, pipeops_bench
from tests.support.pipeops_fuzz import FRAMES, TEXTS, mutated

from towline.aio.tasks import TaskOwner
from towline.control.protocols.pipeops import connection as limits
from towline.control.protocols.pipeops.requests import MAX_BINARY_BYTES, MAX_WAITING
from towline.tunnel.errors import Closed
from towline.wire import pipeops
from towline.wire import pipeops_messages as messages

SEED = int(os.environ.get("TOWLINE_FUZZ_SEED", "20261122"))
SOAK_SECONDS = float(os.environ.get("TOWLINE_SOAK_SECONDS", "1800"))
SHORT_ROUNDS = 150
STEPS = 60
"""Of one connection, at most."""

ANSWERS = [
    messages.ProxyResponseHeader, messages.ProxyResponseChunk, messages.ProxyResponseEnd, messages.ProxyResponseAbort,
    messages.WebsocketData, messages.WebsocketClose,
]  # fmt: skip
HEADS = [
    "GET /api/v1/pods", "GET /api/v1/pods?watch=1", "POST /apis/apps/v1/deployments", "DELETE /api/v1/pods/one",
    "GET /api/v1/namespaces/shop/pods/one/log?follow=true", "HEAD /version", "GET //api/../secret", "CONNECT x:1",
    "GET /api/%2e%2e/x", "PATCH /api/v1/nodes/one",
]  # fmt: skip
FIELDS = [
    "Content-Length: 3", "Content-Length: -1", "Transfer-Encoding: chunked", "Expect: 100-continue", "X: \u00fc",
    "Connection: close", "Accept: application/json", "Upgrade: SPDY/3.1", "Connection: Upgrade",
    "Content-Length: 9999999",
]  # fmt: skip
EXEC = "/api/v1/namespaces/shop/pods/one/exec?command=cat&stdin=1&stdout=1&tty=1"
FORWARD = "/api/v1/namespaces/shop/pods/one/portforward?ports=80"
PROTOCOLS = [("v5.channel.k8s.io", "v4.channel.k8s.io"), ("v4.base64.channel.k8s.io",), (), ("nonsense",),
             ("SPDY/3.1+portforward.k8s.io",)]  # fmt: skip


# -- a connection ------------------------------------------------------------------------------------


class Resident:
    """A session that takes whatever it is told."""

    def took(self, envelope: pipeops.Envelope) -> None: ...
    def yamux_changed(self) -> None: ...
    def ended(self, closed: Closed) -> None: ...


async def talk(generator: random.Random) -> None:
    """Have one connection hear nonsense until it ends or has heard enough."""
    owner = TaskOwner("test")
    bench = pipeops_bench.Bench(owner, is_gateway=generator.random() < 0.2)
    connection = bench.connection
    if generator.random() < 0.7:
        connection.session = Resident()
    for _ in range(generator.randrange(STEPS)):
        await hear(bench, generator)
        assert len(connection.requests) <= MAX_WAITING
        assert len(connection._outbox) <= limits.MAX_OUTBOX + 1
        assert len(connection._binary) <= MAX_BINARY_BYTES
        assert len(connection._introductions) <= limits.MAX_INTRODUCTIONS + 1
        bench.line.said.clear()
        bench.line.bytes.clear()
        if bench.line.closed:
            break
    connection.channel_closed(Closed(1006, "cut"))
    assert not len(connection.requests) and connection.mux is None
    await owner.close()


async def hear(bench: pipeops_bench.Bench, generator: random.Random) -> None:
    connection = bench.connection
    match generator.randrange(9):
        case 0 | 1:
            text = generator.choice(TEXTS)
            connection.text_arrived(mutated(text, generator) if generator.random() < 0.7 else text)
        case 2:
            connection.offer_yamux()
            connection.text_arrived(pipeops_bench.ACK)
        case 3:
            data = mutated(generator.choice(FRAMES), generator)
            connection.binary_arrived(memoryview(data))
            if generator.random() < 0.7:
                connection.binary_ended()
        case 4:
            await bench.clock.advance(generator.choice((0.1, 5.0, 45.0)))
        case 5:
            bench.line.paused = not bench.line.paused
            connection.writable()
        case 6:
            connection.probe()
        case 7:
            connection.text_arrived(pipeops.encode(answer(generator), request_id=f"tw-{generator.randrange(4)}"))
        case _:
            begin(connection.requests, generator)


def begin(requests: object, generator: random.Random) -> None:
    """Ask for something, in one of the two ways."""
    bench = fallback_line.Bench()
    bench.agent.requests = requests
    ask(bench.line(), generator)


# -- the lines of the fallback -----------------------------------------------------------------------


def answer(generator: random.Random) -> messages.Message:
    """Some part of an answer, seldom one that fits."""
    kind = generator.choice(ANSWERS)
    if kind is messages.ProxyResponseHeader:
        fields = {generator.choice(("Content-Length", "Transfer-Encoding", "X-\n", "Upgrade")): ("5\r\n",)}
        status = generator.choice((200, 101, 204, 304, 404, 0, -1, 99, 999, 10**9))
        return messages.ProxyResponseHeader(status=status, headers=generator.choice((None, {}, fields)))
    if kind is messages.ProxyResponseChunk:
        return fallback_line.chunk(generator.randbytes(generator.choice((0, 1, 5, 70_000))))
    if kind is messages.ProxyResponseAbort:
        return fallback_line.abort("\r\nX: y")
    if kind is messages.WebsocketData:
        data = generator.randbytes(generator.choice((0, 1, 2, 300, 40_000)))
        if generator.random() < 0.4:
            data = bytes((generator.choice((1, 2, 8, 9)), generator.choice(b"\0\1\2\3\4\xff0123"))) + data
        return messages.WebsocketData(stream_id="tw-1", data=data)
    return messages.WebsocketClose(stream_id="tw-1") if kind is messages.WebsocketClose else messages.ProxyResponseEnd()


def ask(line: fallback_line.OneLine, generator: random.Random) -> None:
    if generator.random() < 0.4:
        target = generator.choice((EXEC, FORWARD, "/api/v1/pods?watch=1"))
        line.upgrade(target, *generator.choice(PROTOCOLS))
        return
    fields = generator.sample(FIELDS, generator.randrange(3))
    line.ask(generator.choice(HEADS), *fields, body=generator.choice((b"", b"abc", b"3\r\nabc\r\n0\r\n\r\n")))


async def carry(generator: random.Random) -> None:
    """Have one line carry what nobody meant."""
    bench = fallback_line.Bench()
    line = bench.line()
    for _ in range(generator.randrange(STEPS)):
        if line.pipe.closed:
            break
        await step(bench, line, generator)
        assert len(bench.agent.requests) <= MAX_WAITING
        bench.agent.said.clear()
    line.lose()
    bench.fallback.close()
    assert not bench.fallback.lines
    assert not bench.fallback.bodies_bytes


async def step(bench: fallback_line.Bench, line: fallback_line.OneLine, generator: random.Random) -> None:
    match generator.randrange(6):
        case 0:
            ask(line, generator)
        case 1:
            line.protocol.data_received(mutated(generator.choice((b"GET / HTTP/1.1\r\n\r\n", FRAMES[0])), generator))
        case 2 | 3:
            line.tell(f"tw-{generator.randrange(1, 4)}", answer(generator))
        case 4:
            await bench.clock.advance(generator.choice((0.1, 2.0, 31.0, 61.0)))
        case _:
            bench.agent.is_full = not bench.agent.is_full
            line.read()


# -- both, shortly and for long ----------------------------------------------------------------------

BOTH = {"connection": talk, "fallback": carry}
Play = Callable[[random.Random], Awaitable[None]]


async def play(act: Play, seed: int) -> None:
    try:
        await act(random.Random(seed))
    except BaseException as error:
        error.add_note(f"seed {seed}")
        raise


@pytest.mark.parametrize("what", BOTH)
async def test_nonsense_is_answered_or_dropped_and_nothing_grows(what: str) -> None:
    for number in range(SHORT_ROUNDS):
        await play(BOTH[what], SEED + number)


@pytest.mark.soak
@pytest.mark.parametrize("what", BOTH)
async def test_half_an_hour_of_nonsense_is_answered_or_dropped(what: str) -> None:
    seed, until = time.time_ns(), time.monotonic() + SOAK_SECONDS
    first = seed
    while time.monotonic() < until:
        seed += 1
        await play(BOTH[what], seed)
    print(f"{seed - first} connections of {what}, from seed {first}")
