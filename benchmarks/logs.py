"""Logs of a real container through an agent and a tunnel: a large one whole, and the age of live lines.

    python -m benchmarks.logs [--megabytes 50] [--lines 200]

50 MB of lines of 100 bytes are read twice: as an agent that may read the engine's files, and as one that has to ask the
engine. Agent, tunnel (WebSocket on loopback) and reader share one process. Sizes count text alone, without stamps.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

import structlog
import uvloop
from tests.support.log_reader import LogReader
from tests.support.tunnel_pair import loopback_tunnel
from tests.testbed import images

from towline.agent.docker.engine import Engine, find_host
from towline.agent.policy import LocalPolicy
from towline.agent.streams.logs import LogServer
from towline.agent.streams.router import StreamRouter
from towline.aio.tasks import TaskOwner
from towline.tunnel.session import Session
from towline.wire.streams import STDOUT, FrameReader, Logs

LINE_BYTES = 100
STAMP_BYTES = 31
LIVE = 'i=0; while [ $i -lt {lines} ]; do echo "line $i"; usleep 20000; i=$((i+1)); done; exec sleep 1000'
BULK = "yes {text} | head -n {lines}"


@contextmanager
def container(script: str) -> Iterator[str]:
    """Run a script in a container until the block ends."""
    name = f"towline-bench-{secrets.token_hex(4)}"
    images.docker("run", "-d", "--name", name, images.BASE, "sh", "-c", script)
    try:
        yield name
    finally:
        images.docker("rm", "-f", name)


async def read_whole(session: Session, name: str) -> tuple[float, int, float]:
    """Return (MB of text per second, lines, MB per second of our own processor time)."""
    began, used = time.perf_counter(), time.process_time()
    stream = await session.open_stream(Logs(containers=(name,)))
    reader, size, lines = FrameReader(), 0, 0
    while data := await stream.read():
        for frame in reader.feed(data):
            if frame.kind == STDOUT:
                lines += frame.body.count(b"\n")
                size += len(frame.body)
    text = (size - lines * STAMP_BYTES) / 1e6
    return text / (time.perf_counter() - began), lines, text / (time.process_time() - used)


async def ages(session: Session, name: str, lines: int) -> list[float]:
    """Return the ages of live lines on arrival, in milliseconds, sorted."""
    reader = LogReader(await session.open_stream(Logs(containers=(name,), follow=True, tail=0)))
    found: list[float] = []
    while f"line {lines - 1}" not in reader.words[-1:]:
        for stamp, _ in await reader.more():
            written = datetime.fromisoformat(stamp[:26].decode() + "+00:00").timestamp()
            found.append((time.time() - written) * 1000)
    return sorted(found)


async def measure(megabytes: int, lines: int) -> None:
    """Run everything and print the table."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(30))
    wanted = megabytes * 1_000_000 // LINE_BYTES
    engine = Engine(find_host())
    async with loopback_tunnel() as pair, TaskOwner("benchmark") as owner:
        print("| logs | figure |")
        print("|---|---|")
        with container(BULK.format(text="x" * (LINE_BYTES - 1), lines=wanted)) as name:
            await asyncio.to_thread(images.docker, "wait", name)
            for source, with_files in (("the engine's files", True), ("the engine", False)):
                logs = LogServer(engine, LocalPolicy, with_files=with_files)
                pair.agent.on_stream = StreamRouter({Logs: logs.serve}, owner, 16).take
                speed, came, spent = await read_whole(pair.server, name)
                rate = f"{speed:.1f} MB/s, {spent:.0f} MB per CPU second"
                print(f"| {megabytes} MB, {came} of {wanted} lines, from {source} | {rate} |")
        with container(LIVE.format(lines=lines)) as name:
            found = await ages(pair.server, name, lines)
        print(f"| age of a live line, median of {len(found)} | {found[len(found) // 2]:.1f} ms |")
        print(f"| age of a live line, 95th percentile | {found[int(len(found) * 0.95)]:.1f} ms |")


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--megabytes", type=int, default=50)
    parser.add_argument("--lines", type=int, default=200)
    arguments = parser.parse_args()
    images.ensure()
    uvloop.run(measure(arguments.megabytes, arguments.lines))


if __name__ == "__main__":
    main()
