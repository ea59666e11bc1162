"""Thousands of PipeOps REST agents on one server: processor time, memory, and the way back after a kill -9.

    python -m benchmarks.pipeops_rest [--agents 2000]

The server is `towline server run` with its own database (SQLite) and default settings, over plain HTTP on loopback. The
agents are simulated by one process: each has a name of its own, an address of its own of 127.0.0.0/8, and the shared
token of an open window. Like the recorded agent it beats and tells its status (1.5 KB, always the same) every 30 s,
each on a connection that it closes; with `--poll` it asks for commands as well. Their ticks are spread over the 30 s.
No limit is lifted but that on open files.
"""

import argparse
import asyncio
import json
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvloop
from benchmarks.common import Row, allow_open_files, cpu_seconds, log_errors_alone, now, resident_bytes, table
from benchmarks.idle import Server, address_of
from tests.support.rest_trace import bodies

from towline.aio.tasks import TaskOwner

TICK = 30.0
WINDOW = 30.0
"""Seconds over which processor time is taken: each agent ticks once in it."""
QUIET = 6.0
"""Seconds after the last registration: inventories are written."""
REGISTERING = 20
"""Registrations at a time."""
BACK_GOAL = 45.0
"""Seconds until every agent is there again: its next tick, and half of it again."""
SECRET = "token-of-two-thousand"


# -- the agents' process -----------------------------------------------------------------------------


class Agent:
    """One simulated agent."""

    def __init__(self, number: int, port: int, *, polls: bool) -> None:
        self.name = f"agent-{number}"
        self._source = (address_of(number), 0)
        self._port = port
        self._polls = polls
        self._status = bodies("/status")[0]

    async def register(self) -> int:
        body = json.dumps({"id": self.name, "name": self.name, "cluster_name": self.name, "version": "1.0.0"})
        return await self._call("POST", "/api/v1/agents/register", body)

    async def tick(self) -> int:
        """Beat, tell the status, and perhaps ask for commands. Returns: the worst status of the answers."""
        place = f"/api/v1/agents/{self.name}"
        beat = json.dumps({"agent_id": self.name, "status": "connected", "proxy_status": "direct", "metadata": {}})
        answers = [
            await self._call("POST", f"{place}/heartbeat", beat),
            await self._call("POST", f"{place}/status", self._status),
        ]
        if self._polls:
            answers.append(await self._call("GET", f"{place}/commands", ""))
        return max(answers)

    async def _call(self, method: str, path: str, body: str) -> int:
        """Return the status of an answer; 599 for none."""
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\nAuthorization: Bearer {SECRET}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body.encode())}\r\nConnection: close\r\n\r\n"
        )
        try:
            async with asyncio.timeout(30):
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port, local_addr=self._source)
                writer.write((head + body).encode())
                answer = await reader.read()
                writer.close()
        except (OSError, TimeoutError):
            return 599
        return int(answer.split(b" ", 2)[1]) if answer else 599


async def be_agents(port: int, count: int, polls: bool) -> None:
    """Register all, then tick for ever; tells each second how many were answered well since the last line."""
    agents = [Agent(number, port, polls=polls) for number in range(count)]
    waiting = list(agents)

    async def register() -> None:
        while waiting:
            agent = waiting.pop()
            while await agent.register() != 200:
                await asyncio.sleep(0.5)

    async with TaskOwner("agents") as owner:
        await asyncio.gather(*(owner.spawn("register", register()) for _ in range(REGISTERING)))
        _say(registered=count)
        good: dict[str, float] = {}
        failed = [0]
        for number, agent in enumerate(agents):
            owner.spawn(agent.name, _tick(agent, number * TICK / count, good, failed))
        while True:
            await asyncio.sleep(0.5)
            _say(
                good=len(good), oldest=min(good.values(), default=0.0) if len(good) == count else 0.0, failed=failed[0]
            )


async def _tick(agent: Agent, first: float, good: dict[str, float], failed: list[int]) -> None:
    await asyncio.sleep(first)
    while True:
        began = time.monotonic()
        if await agent.tick() == 200:
            good[agent.name] = began
        else:
            failed[0] += 1
        await asyncio.sleep(max(0.0, began + TICK - time.monotonic()))


def _say(**words: float) -> None:
    print(json.dumps(words), flush=True)


# -- the measuring process ---------------------------------------------------------------------------


async def make_token(folder: Path) -> None:
    """Write the agents' token into a new database."""
    from towline.control.access.actor import Access, Actor
    from towline.control.access.permissions import Reach, Right, Rights, Role
    from towline.control.opening import opened
    from towline.control.protocols.tokens import Wanted
    from towline.control.settings import load

    async with opened(load({}, data_folder=str(folder), listen="127.0.0.1:0")) as control:
        actor = Actor("system", control.default_org, username="benchmark")
        access = Access(actor, Rights((Right(Role.OWNER, Reach()),)), control.access.watch)
        wanted = Wanted("pipeops", shared=True, secret=SECRET, open_for=86400.0)
        await control.protocols.tokens.create(access, wanted)


@contextmanager
def crowd(port: int, count: int, polls: bool) -> Iterator["subprocess.Popen[str]"]:
    """Run the agents' process until the block ends."""
    words = [sys.executable, "-m", "benchmarks.pipeops_rest", "--be-agents", str(port), "--agents", str(count)]
    process = subprocess.Popen([*words, *(["--poll"] if polls else [])], stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def hear(process: "subprocess.Popen[str]") -> dict[str, float]:
    """Return the next line of the agents' process."""
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise SystemExit("the agents' process has ended")
    found: dict[str, float] = json.loads(line)
    return found


def listen(process: "subprocess.Popen[str]", seconds: float) -> dict[str, float]:
    """Read what the agents' process says for some seconds. Returns: the last line."""
    end, last = now() + seconds, {}
    while now() < end:
        last = hear(process)
    return last


def measure(count: int, polls: bool) -> list[Row]:
    """Return the rows of the table."""
    port = 20_000 + secrets.randbelow(20_000)
    with tempfile.TemporaryDirectory(prefix="towline-rest-") as name:
        asyncio.run(make_token(Path(name)))
        server = Server(Path(name), port, "http")
        server.start()
        before = resident_bytes(server.process.pid)
        try:
            with crowd(port, count, polls) as process:
                return _rows(server, process, count, before, polls)
        finally:
            server.kill()


def _rows(server: Server, process: "subprocess.Popen[str]", count: int, before: int, polls: bool) -> list[Row]:
    began = now()
    while hear(process).get("registered") != count:
        continue
    registered = now() - began
    while hear(process)["good"] < count:
        continue
    listen(process, QUIET)
    used, failed = cpu_seconds(server.process.pid), hear(process)["failed"]
    last = listen(process, WINDOW)
    used = (cpu_seconds(server.process.pid) - used) / WINDOW
    each = (resident_bytes(server.process.pid) - before) / count
    server.kill()
    killed = time.monotonic()
    server.start()
    while hear(process).get("oldest", 0.0) < killed:
        continue
    back = time.monotonic() - killed
    asks = 3 if polls else 2
    return [
        (
            f"{count} agents, {asks} requests each in 30 s ({asks * count / TICK:.0f} a second): processor time",
            f"{used:.1%} of a core, {used / (asks * count / TICK) * 1000:.2f} ms a request",
            "",
            None,
        ),
        ("requests that failed meanwhile", f"{last['failed'] - failed:.0f}", "0", last["failed"] == failed),
        ("server's memory per agent, beyond that of the empty server", f"{each / 1024:.1f} KiB", "", None),
        (
            f"all {count} there again after a kill -9 and a new start",
            f"{back:.1f} s (each comes with its next tick)",
            "45 s",
            back <= BACK_GOAL,
        ),
        (f"{count} agents register for the first time", f"{registered:.1f} s", "", None),
    ]


def main() -> None:
    """Measure, or be the agents."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--be-agents", metavar="PORT", type=int)
    parser.add_argument("--agents", type=int, default=2000)
    parser.add_argument("--poll", action="store_true", help="ask for commands with each tick")
    arguments = parser.parse_args()
    log_errors_alone()
    allow_open_files()
    if arguments.be_agents:
        uvloop.run(be_agents(arguments.be_agents, arguments.agents, arguments.poll))
        return
    print(table(measure(arguments.agents, arguments.poll)))


if __name__ == "__main__":
    main()
