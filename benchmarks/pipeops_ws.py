"""Thousands of PipeOps agents on their WebSocket, beside as many of our own on the same machine in the same run.

    python -m benchmarks.pipeops_ws [--agents 2000]

The server is `towline server run` with its own database (SQLite) and default settings, over plain HTTP on loopback. The
agents are simulated by one process: each has a name and an address of 127.0.0.0/8 of its own, and the shared token of
an open window. As real ones they register once, take yamux, ping every 10 s and beat every 30 s, spread over that time;
after a reconnect they say nothing until their next beat. No Kubernetes is spoken: their tokens are not allowed. No
limit is lifted but that on open files. Our own agents are those of the benchmark of idle agents.
"""

import argparse
import asyncio
import json
import random
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

import uvloop
from benchmarks import idle
from benchmarks.common import Row, allow_open_files, log_errors_alone, table
from benchmarks.idle import Crowd, Figures, address_of, way_back
from benchmarks.pipeops_rest import BACK_GOAL, SECRET, TICK, make_token
from tests.support.pipeops_agent import (
    BINARY,
    PING,
    REGISTER,
    TEXT,
    Gone,
    PlayedAgent,
    Refused,
    heartbeat,
    upgrade,
)

PINGS = 3
"""To one heartbeat."""
FIRST_PAUSE, LONGEST_PAUSE, JITTER = 0.5, 60.0, 0.25
"""Between two dials, as the real agent waits: doubled each time, and up to a quarter more."""
HANDSHAKE = 30.0
REGISTERING = asyncio.Semaphore(20)
"""First dials at a time."""


class Agent:
    """One simulated agent. It is up while the server knows who it is, which shows in the offer of yamux."""

    def __init__(self, number: int, crowd: Crowd) -> None:
        self.name = f"agent-{number}"
        self._port = urlsplit(crowd.url).port or 0
        self._source = address_of(number)
        self._phase = random.random() * TICK
        self._crowd = crowd
        self._cluster = ""
        self._played: PlayedAgent | None = None

    def start(self) -> None:
        """Dial, register and beat until the process ends."""
        self._crowd.owner.spawn(self.name, self._stay())
        self._crowd.owner.spawn(f"{self.name} beats", self._beat())

    async def _stay(self) -> None:
        pause = FIRST_PAUSE
        while True:
            try:
                played = await self._come()
                pause = FIRST_PAUSE
                await self._listen(played)
            except (Refused, Gone, OSError, TimeoutError, asyncio.IncompleteReadError):
                await asyncio.sleep(pause * random.uniform(1, 1 + JITTER))
                pause = min(2 * pause, LONGEST_PAUSE)

    async def _come(self) -> PlayedAgent:
        """Dial, and the first time register, few at once."""
        if self._cluster:
            return await self._dial()
        async with REGISTERING:
            played = await self._dial()
            own = {"agent_id": self.name, "name": self.name}
            await played.say("register", {**REGISTER, **own}, request_id="req_1")
            while not self._cluster:
                await self._take(played, *await played.next_frame())
            return played

    async def _dial(self) -> PlayedAgent:
        return await upgrade(self._port, SECRET, None, source=self._source, patience=HANDSHAKE)

    async def _listen(self, played: PlayedAgent) -> None:
        self._played = played
        try:
            while True:
                await self._take(played, *await played.next_frame())
        finally:
            self._played = None
            await played.close()
            if played.yamux is not None:
                self._crowd.changed(-1)

    async def _take(self, played: PlayedAgent, kind: int, payload: bytes) -> None:
        if kind == BINARY:
            await played.yamux_arrived(payload)
        elif kind == TEXT:
            await self._hear(played, json.loads(payload))

    async def _hear(self, played: PlayedAgent, message: dict[str, object]) -> None:
        match message:
            case {"type": "register_success", "payload": {"cluster_id": str(cluster)}}:
                self._cluster = cluster
            case {"type": "ping", "request_id": str(asked)}:
                await played.say("pong", {"timestamp": "2026-11-21T06:24:28Z"}, request_id=asked)
            case {"type": "gateway_hello"}:
                if played.yamux is None:
                    self._crowd.changed(1)
                await played.speak_yamux()
            case {"type": "error"}:
                raise SystemExit(f"{self.name}: {message}")

    async def _beat(self) -> None:
        await asyncio.sleep(self._phase)
        number = 0
        while True:
            if (played := self._played) is not None:
                await self._say(played, number)
            number += 1
            await asyncio.sleep(TICK / PINGS)

    async def _say(self, played: PlayedAgent, number: int) -> None:
        try:
            async with played.sending:
                await played.send_frame(PING, b"")
            if number % PINGS == 0:
                await played.say("heartbeat", heartbeat(self.name, self._cluster))
        except OSError:
            return  # the listener sees the end


# -- the measuring process ---------------------------------------------------------------------------


def measure(count: int) -> Figures:
    """Measure such agents on a server of their own."""
    with tempfile.TemporaryDirectory(prefix="towline-pipeops-") as name:
        asyncio.run(make_token(Path(name)))
        return idle.measure_in(Path(name), count, "http", "benchmarks.pipeops_ws")


def rows(older: Figures, own: Figures, count: int) -> list[Row]:
    """Return the rows of the table."""
    return [
        (f"server's memory per agent, {count} of them", f"{older.each / 1024:.1f} KiB",
         f"our own {own.each / 1024:.1f} KiB: x{older.each / own.each:.2f}", None),
        ("processor time with pings every 10 s and heartbeats every 30 s", f"{older.used:.2%} of a core",
         f"our own, with heartbeats every 30 s, {own.used:.2%}: x{older.used / own.used:.2f}", None),
        (f"all {count} known again after a kill -9 and a new start, each by its next beat", way_back(older),
         f"{BACK_GOAL:.0f} s; our own {own.back:.1f} s", older.back <= BACK_GOAL),
        (f"{count - idle.FIRST} agents register for the first time", f"{older.connected:.1f} s",
         f"our own connect in {own.connected:.1f} s", None),
    ]  # fmt: skip


def main() -> None:
    """Measure, or be the agents."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--be-agents", metavar="URL")
    parser.add_argument("--agents", type=int, default=2000)
    arguments = parser.parse_args()
    log_errors_alone()
    allow_open_files()
    if arguments.be_agents:
        uvloop.run(idle.be_agents(arguments.be_agents, Agent))
        return
    own = idle.measure(arguments.agents, "http")
    print(table(rows(measure(arguments.agents), own, arguments.agents)))


if __name__ == "__main__":
    main()
