"""The logs of 100 pods as one stream: whether 10,000 lines a second come through whole, how old, at what cost.

    python -m benchmarks.fan_in [--seconds 20]

A server on loopback plays the API server and the kubelets behind it: a connection for each pod, on each of which lines
of 100 bytes with the kubelet's stamps are written every 20 ms. The agent is `towline agent run --standalone`, a process
of its own; one client follows `/api/realtime/logs` of the namespace. The server is the client's process, too.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import tempfile
import time
from asyncio import StreamReader, StreamWriter
from pathlib import Path
from typing import Any

import aiohttp
import uvloop
import yaml
from benchmarks.common import Row, cpu_seconds, resident_bytes, table
from tests.support.standalone import Standalone, standalone
from tests.support.surface import NOWHERE

PODS = 100
RATE = 10_000
"""Lines a second of all pods together."""
TICK = 0.02
WORDS = 100
"""Characters of a line."""
GROWTH_GOAL = 8 * 2**20
"""Memory that may come and go with the lines under way."""
FIRST_PART = 0.3
"""Share of the time after which memory is looked at first: buffers have their size then."""
NAMESPACE = "shop"
WAIT = 60.0
LINE = re.compile(rb'"source":"shop/app-(\d+)/main"[^\n]*"line":"n=(\d+) t=(\d+) ')


class Cluster:
    """Plays the API server."""

    def __init__(self) -> None:
        self.writers: dict[int, StreamWriter] = {}
        """Of the followed logs, by pod."""
        self.written = [0] * PODS

    async def serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                target = head.split(b" ")[1].decode()
                if found := re.search(r"/pods/app-(\d+)/log\?", target):
                    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                    self.writers[int(found[1])] = writer
                    await reader.read()
                    return
                if "watch=" in target:
                    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                    await reader.read()
                    return
                writer.write(self._answer(target))
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    def _answer(self, target: str) -> bytes:
        path = target.partition("?")[0]
        known: Any = {"gitVersion": "v1.36.0"} if path == "/version" else None
        if path in ("/api/v1/pods", "/api/v1/nodes", "/api/v1/namespaces", "/api/v1/events"):
            items = [pod(number) for number in range(PODS)] if path.endswith("pods") else []
            known = {"metadata": {"resourceVersion": "1"}, "items": items}
        body = json.dumps(known or {"kind": "Status", "code": 404, "reason": "NotFound", "message": "no"}).encode()
        status = b"200 OK" if known else b"404 Not Found\r\nConnection: close"
        head = b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % (status, len(body))
        return head + body

    async def write(self, seconds: float) -> None:
        """Write lines of all pods at the rate."""
        begun, sent = time.monotonic(), 0
        while (passed := time.monotonic() - begun) < seconds:
            due = int(passed * RATE / PODS) - sent
            for number, writer in self.writers.items():
                lines = b"".join(self._line(number) for _ in range(due))
                if lines:
                    writer.write(b"%x\r\n%s\r\n" % (len(lines), lines))
            sent += due
            await asyncio.sleep(TICK)

    def _line(self, number: int) -> bytes:
        self.written[number] += 1
        now = time.time_ns()
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now // 10**9))
        text = f"n={self.written[number]} t={time.monotonic_ns()} "
        return f"{moment}.{now % 10**9:09d}Z {text:x<{WORDS}}\n".encode()


def pod(number: int) -> dict[str, Any]:
    """A pod that runs."""
    status = {"name": "main", "ready": True, "restartCount": 0, "state": {"running": {}}}
    return {
        "metadata": {"name": f"app-{number}", "namespace": NAMESPACE, "uid": f"uid-{number}"},
        "spec": {"nodeName": "node-1", "containers": [{"name": "main", "image": "shop:1"}]},
        "status": {"phase": "Running", "containerStatuses": [status]},
    }


class Reader:
    """Follows the stream, and holds each pod's lines against their numbers."""

    def __init__(self) -> None:
        self.ages: list[float] = []
        self.last = [0] * PODS
        self.wrong = 0
        """Lines that were not the next one of their pod."""

    async def follow(self, agent: Standalone, token: str) -> None:
        headers, timeout = {"Authorization": f"Bearer {token}"}, aiohttp.ClientTimeout(total=None)
        url = f"{agent.url}/api/realtime/logs?namespace={NAMESPACE}&tail=0"
        async with (
            aiohttp.ClientSession(read_bufsize=2**20) as client,
            client.get(url, headers=headers, timeout=timeout) as answer,
        ):
            assert answer.status == 200, await answer.text()
            rest = b""
            async for piece in answer.content.iter_any():
                whole, end, rest = (rest + piece).rpartition(b"\n\n")
                self._take(whole + end)

    def _take(self, events: bytes) -> None:
        now = time.monotonic_ns()
        for number, line, moment in LINE.findall(events):
            place = int(number)
            self.wrong += int(line) != self.last[place] + 1
            self.last[place] = int(line)
            self.ages.append((now - int(moment)) / 1e9)


async def measure(folder: Path, seconds: float) -> list[Row]:
    """Return the rows of the table."""
    cluster, reader = Cluster(), Reader()
    server = await asyncio.start_server(cluster.serve, "127.0.0.1", 0)
    config = folder / "kubeconfig"
    config.write_text(kubeconfig(server.sockets[0].getsockname()[1]))
    config.chmod(0o600)
    async with standalone(folder / "agent", kubeconfig=str(config), docker_host=NOWHERE) as agent:
        following = asyncio.ensure_future(reader.follow(agent, await asyncio.to_thread(agent.token, operate=True)))
        async with asyncio.timeout(WAIT):
            while len(cluster.writers) < PODS:
                await asyncio.sleep(0.05)
                assert not following.done(), following.exception()
        used, begun = cpu_seconds(agent.pid), time.monotonic()
        writing = asyncio.ensure_future(cluster.write(seconds))
        await asyncio.sleep(seconds * FIRST_PART)
        first = resident_bytes(agent.pid)
        await writing
        rate, share = sum(cluster.written) / seconds, (cpu_seconds(agent.pid) - used) / (time.monotonic() - begun)
        last = resident_bytes(agent.pid)
        deadline = time.monotonic() + 10.0
        while len(reader.ages) < sum(cluster.written) and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
        following.cancel()
        await asyncio.wait({following})
    server.close()
    return rows(cluster, reader, rate, share, (first, last))


def rows(cluster: Cluster, reader: Reader, rate: float, share: float, memory: tuple[int, int]) -> list[Row]:
    """Return what was found."""
    written, came, growth = sum(cluster.written), len(reader.ages), memory[1] - memory[0]
    ages = sorted(reader.ages) or [float("inf")]
    middle, p95 = (ages[len(ages) * place // 100] * 1000 for place in (50, 95))
    return [
        (f"lines of {PODS} pods in one stream, {rate:,.0f} a second",
         f"{came} of {written}, {reader.wrong} out of order", "nothing lost",
         came == written and not reader.wrong and rate > 0.95 * RATE),
        ("age of a line", f"{middle:.1f} ms, 95th percentile {p95:.1f} ms", "", None),
        ("agent, processor time", f"{share:.0%} of a core, {share / rate * 1e6:.0f} µs for a line", "", None),
        ("agent, memory", f"{memory[0] / 2**20:.1f} MiB, at the end {memory[1] / 2**20:.1f} MiB",
         f"flat: at most {GROWTH_GOAL // 2**20} MiB more", growth < GROWTH_GOAL),
    ]  # fmt: skip


def kubeconfig(port: int) -> str:
    """Return what leads to the played server."""
    return yaml.safe_dump(
        {
            "apiVersion": "v1", "kind": "Config", "current-context": "played",
            "clusters": [{"name": "played", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
            "users": [{"name": "played", "user": {"token": "played"}}],
            "contexts": [{"name": "played", "context": {"cluster": "played", "user": "played"}}],
        }
    )  # fmt: skip


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=20)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="towline-bench-") as name:
        print(table(uvloop.run(measure(Path(name), given.seconds))))


if __name__ == "__main__":
    main()
