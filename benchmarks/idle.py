"""Thousands of idle agents on one server: memory, processor time, and the way back after the server was killed.

    python -m benchmarks.idle [--agents 2000] [--tls]

The server is `towline server run` with its own database (SQLite) and default settings. The agents are simulated by one
process that speaks the real link with the product's own reconnecting client: each has its own key, its own address of
127.0.0.0/8, and sends facts, an empty inventory and a heartbeat every 30 s. They are inserted in bulk, not enrolled.
Limits: none lifted but that on open files. Plain HTTP unless `--tls` is given.
"""

import argparse
import asyncio
import hashlib
import json
import os
import secrets
import signal
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import uvloop
from benchmarks.common import Row, allow_open_files, cpu_seconds, log_errors_alone, now, resident_bytes, table
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from picows import WSHandshakeError

from towline.aio.tasks import TaskOwner
from towline.tunnel.dial import Endpoint, Route
from towline.tunnel.errors import TcpFailed
from towline.tunnel.framing import LinkProtocol
from towline.tunnel.reconnect import LinkKeeper
from towline.tunnel.session import LinkSession
from towline.tunnel.websocket import Channel
from towline.wire import link

FIRST = 100
"""Connected before memory is counted: the first ones pay for imports, pools and caches."""
HEARTBEAT = 30.0
QUIET = 6.0
"""Seconds between the last connect and a measurement: reports are written, timers are set."""
MEMORY_GOAL = 40 * 1024
CPU_GOAL = 0.03
BACK_GOAL = 15.0
START_TIMEOUT = 60.0


def key_of(number: int) -> Ed25519PrivateKey:
    """Return the same key in both processes."""
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"agent %d" % number).digest())


def name_of(kind: str, number: int) -> str:
    return f"{kind}_{number:026d}"


def address_of(number: int) -> str:
    """Return an address of loopback that no other agent dials from."""
    return f"127.{1 + number // 62_500}.{number // 250 % 250}.{1 + number % 250}"


# -- the agents' process -----------------------------------------------------------------------


class Agent:
    """One simulated agent."""

    def __init__(self, number: int, crowd: "Crowd") -> None:
        self.agent_id = name_of("agt", number)
        self._source = address_of(number)
        self._number = number
        self._crowd = crowd
        self._key = key_of(number)
        self._generation = 1
        self._instance = secrets.token_hex(8)
        self._keeper = LinkKeeper(
            addresses=lambda: (crowd.url,), route=Route, signer=self, connected=self._connected,
            owner=crowd.owner, dialler=self._dial,
        )  # fmt: skip

    def start(self) -> None:
        self._crowd.owner.spawn(self.agent_id, self._run())

    async def _run(self) -> None:
        await self._keeper.run()

    async def hello(self, challenge: link.Challenge) -> link.Hello:
        text = link.connect_text(
            origin=challenge.origin, nonce=challenge.nonce, agent_id=self.agent_id,
            key_id=name_of("key", self._number), instance_id=self._instance, generation=self._generation,
        )  # fmt: skip
        signature = link_base64(self._key.sign(text))
        return link.Hello(
            agent_id=self.agent_id, key_id=name_of("key", self._number), instance_id=self._instance,
            generation=self._generation, signature=signature, version="0.0.0", capabilities=CAPABILITIES,
        )  # fmt: skip

    async def welcomed(self, welcome: link.Welcome) -> None:
        self._generation = welcome.generation

    async def _dial(self, endpoint: Endpoint, route: Route) -> LinkSession:
        """Do what `tunnel.dial` does, from an address of one's own."""
        channel = Channel()
        session = LinkSession(channel, owner=self._crowd.owner, is_agent=True, remote_address=str(endpoint))
        headers = {"Sec-WebSocket-Protocol": link.PROTOCOL, "User-Agent": route.user_agent}
        channel.protocol = protocol = LinkProtocol(
            is_client=True, host=endpoint.authority, path=endpoint.path, factory=lambda: channel, headers=headers
        )
        try:
            async with asyncio.timeout(15):
                await asyncio.get_running_loop().create_connection(
                    lambda: protocol,
                    endpoint.host,
                    endpoint.port,
                    ssl=self._crowd.context,
                    local_addr=(self._source, 0),
                )
                await protocol.wait_until_handshake_complete()
        except (OSError, TimeoutError, WSHandshakeError) as error:
            raise TcpFailed(str(error)) from error
        return session

    async def _connected(self, session: LinkSession, welcome: link.Welcome) -> None:
        session.start(ignore)
        session.on_close(lambda closed: self._crowd.changed(-1))
        self._crowd.changed(1)
        await session.send(link.Facts(hostname=f"host-{self._number}", system="Debian GNU/Linux 12", cpus=4))
        await session.send(link.Inventory(full=True))
        await session.send(link.JobsHeld())
        self._crowd.owner.spawn("heartbeats", self._beat(session))

    async def _beat(self, session: LinkSession) -> None:
        while session.closed is None:
            await session.send(
                link.Heartbeat(
                    sent_at=time.time(), uptime=1000.0, load=0.1, cpu_percent=3.0,
                    memory_used_bytes=2**30, disk_free_bytes=2**35, agent_memory_bytes=2**26,
                    round_trip=session.rtt, capabilities=CAPABILITIES,
                )
            )  # fmt: skip
            await asyncio.sleep(HEARTBEAT)


CAPABILITIES = (link.Capability(name="compose", ready=True, version="2.40.3"),)


def link_base64(raw: bytes) -> str:
    """Return base64url without padding, as signatures are sent."""
    from base64 import urlsafe_b64encode

    return urlsafe_b64encode(raw).rstrip(b"=").decode()


async def ignore(message: link.Message) -> None:
    """Handle no message."""


class Simulated(Protocol):
    """An agent that tells its crowd when it is up, and when it is not any more."""

    def start(self) -> None: ...


class Crowd:
    """All agents of the process. Prints a line with the count whenever all that were asked for are up."""

    def __init__(self, url: str, owner: TaskOwner, make: Callable[[int, "Crowd"], Simulated]) -> None:
        self.url = url
        self.owner = owner
        self._make = make
        self.context: ssl.SSLContext | None = None
        if url.startswith("https"):
            self.context = ssl.create_default_context()
            self.context.check_hostname = False
            self.context.verify_mode = ssl.CERT_NONE
        self._wanted = 0
        self._up = 0
        self._was_whole = False

    def grow(self, count: int) -> None:
        """Have so many agents."""
        first, self._wanted = self._wanted, count
        self._was_whole = False
        for number in range(first, count):
            self._make(number, self).start()

    def changed(self, by: int) -> None:
        self._up += by
        whole = self._up == self._wanted
        if whole != self._was_whole:
            self._was_whole = whole
            print(json.dumps({"up": self._up, "at": time.monotonic()}), flush=True)


async def be_agents(url: str, make: Callable[[int, Crowd], Simulated] = Agent) -> None:
    """Grow to the counts that come on standard input, and stay until it ends."""
    async with TaskOwner("agents") as owner:
        crowd, loop = Crowd(url, owner, make), asyncio.get_running_loop()
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            crowd.grow(int(line))


# -- the measuring process -----------------------------------------------------------------------


class Server:
    """`towline server run` on one port and one folder."""

    def __init__(self, folder: Path, port: int, scheme: str) -> None:
        self.url = f"{scheme}://127.0.0.1:{port}"
        self._plain = f"http://127.0.0.1:{port}"
        self._environment = os.environ | {
            "TOWLINE_SERVER_DATA_FOLDER": str(folder),
            "TOWLINE_SERVER_LISTEN": f"127.0.0.1:{port}",
            "TOWLINE_SERVER_LOG_LEVEL": "error",
        }
        self.process: subprocess.Popen[bytes]

    def start(self) -> float:
        """Start it; return the seconds until it answered."""
        began = now()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "towline.cli.main", "server", "run"],
            env=self._environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while True:
            try:
                with urllib.request.urlopen(f"{self._plain}/healthz", timeout=5):
                    return now() - began
            except OSError:
                if now() - began > START_TIMEOUT or self.process.poll() is not None:
                    raise
                time.sleep(0.02)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


async def insert(folder: Path, count: int) -> None:
    """Write agents, their keys and their clusters into a new database."""
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    from towline.control.agents.models import Agent as AgentRow
    from towline.control.agents.models import AgentKey
    from towline.control.clusters.models import Cluster
    from towline.control.opening import opened
    from towline.control.settings import load

    async with opened(load({}, data_folder=str(folder), listen="127.0.0.1:0")) as control:
        sealing, moment = X25519PrivateKey.generate().public_key().public_bytes_raw(), datetime.now(UTC)
        org = control.default_org
        async with control.db.begin() as tx:
            tx.add_all(
                Cluster(
                    id=name_of("clu", number), org_id=org, name=f"host-{number}", created_at=moment, health_since=moment
                )
                for number in range(count)
            )
            await tx.flush()
            tx.add_all(
                AgentRow(
                    id=name_of("agt", number), org_id=org, cluster_id=name_of("clu", number), state="active",
                    state_since=moment, sealing_key=sealing, join_token_id="", created_at=moment,
                )
                for number in range(count)
            )  # fmt: skip
            await tx.flush()
            tx.add_all(
                AgentKey(
                    id=name_of("key", number), agent_id=name_of("agt", number), created_at=moment,
                    public_key=key_of(number).public_key().public_bytes_raw(),
                )
                for number in range(count)
            )  # fmt: skip


@contextmanager
def agents(url: str, module: str = "benchmarks.idle") -> Iterator["subprocess.Popen[str]"]:
    """Run the agents' process until the block ends."""
    command = [sys.executable, "-m", module, "--be-agents", url]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            pipe.close()


def wait_for(process: "subprocess.Popen[str]", count: int) -> float:
    """Wait until so many agents are up; return the moment."""
    assert process.stdout is not None
    while line := process.stdout.readline():
        report = json.loads(line)
        if report["up"] == count:
            return float(report["at"])
    raise SystemExit("the agents' process has ended")


def grow(process: "subprocess.Popen[str]", count: int) -> float:
    """Have so many agents; return the seconds until all were up."""
    assert process.stdin is not None
    began = now()
    process.stdin.write(f"{count}\n")
    process.stdin.flush()
    return wait_for(process, count) - began


@dataclass(frozen=True)
class Figures:
    """What a crowd costs a server: bytes an agent, shares of a core, seconds."""

    each: float
    used: float
    connected: float
    started: float
    back: float
    spent: float


def measure(count: int, scheme: str) -> Figures:
    """Measure on a server of its own."""
    with tempfile.TemporaryDirectory(prefix="towline-idle-") as name:
        asyncio.run(insert(Path(name), count))
        return measure_in(Path(name), count, scheme)


def measure_in(folder: Path, count: int, scheme: str, module: str = "benchmarks.idle") -> Figures:
    """Start a server in a prepared folder, and measure what a module's agents cost it."""
    server = Server(folder, 20_000 + secrets.randbelow(20_000), scheme)
    server.start()
    try:
        with agents(server.url, module) as crowd:
            return _figures(server, crowd, count)
    finally:
        server.kill()


def _figures(server: Server, crowd: "subprocess.Popen[str]", count: int) -> Figures:
    grow(crowd, FIRST)
    time.sleep(QUIET)
    few = resident_bytes(server.process.pid)
    connected = grow(crowd, count)
    time.sleep(QUIET)
    used = cpu_seconds(server.process.pid)
    time.sleep(HEARTBEAT)
    used = (cpu_seconds(server.process.pid) - used) / HEARTBEAT
    each = (resident_bytes(server.process.pid) - few) / (count - FIRST)
    server.kill()
    began = now()
    started = server.start()
    back = wait_for(crowd, count) - began
    return Figures(each, used, connected, started, back, cpu_seconds(server.process.pid))


def rows(found: Figures, count: int, scheme: str) -> list[Row]:
    """Return the rows of the table."""
    return [
        (
            f"{scheme}: server's memory per agent, {count} of them",
            f"{found.each / 1024:.1f} KiB",
            "40 KiB",
            found.each <= MEMORY_GOAL,
        ),
        (
            f"{scheme}: processor time with heartbeats every 30 s",
            f"{found.used:.2%} of a core",
            "under 3 %",
            found.used < CPU_GOAL,
        ),
        (f"{scheme}: all {count} back after a kill -9 and a new start", way_back(found), "15 s",
         found.back <= BACK_GOAL),
        (f"{scheme}: {count - FIRST} agents connect for the first time", f"{found.connected:.1f} s", "", None),
    ]  # fmt: skip


def way_back(found: Figures) -> str:
    """Say how the agents came back."""
    return (
        f"{found.back:.1f} s from the start of the process "
        f"(it answered after {found.started:.1f} s; {found.spent:.1f} s CPU)"
    )


def main() -> None:
    """Measure, or be the agents."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--be-agents", metavar="URL")
    parser.add_argument("--agents", type=int, default=2000)
    parser.add_argument("--tls", action="store_true")
    arguments = parser.parse_args()
    log_errors_alone()
    allow_open_files()
    if arguments.be_agents:
        uvloop.run(be_agents(arguments.be_agents))
        return
    scheme = "https" if arguments.tls else "http"
    print(table(rows(measure(arguments.agents, scheme), arguments.agents, scheme)))


if __name__ == "__main__":
    main()
