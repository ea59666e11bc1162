"""The inventory of a Kubernetes cluster: what 5,000 pods cost the agent, and what a change costs.

A server on loopback plays the API server: pods of 7.7 kB each in pages of 500, then
a watch. The process that is measured runs the agent's inventory alone, on uvloop, without TLS and without a link; it
is judged against the memory that it had before it began. Changes of well pods cost decoding only, for nothing of them
is told; every twentieth pod turns unwell and back.
"""

import argparse
import asyncio
import json
import os
import sys
import time
from asyncio import StreamReader, StreamWriter
from typing import Any
from urllib.parse import parse_qs, urlsplit

import uvloop
from benchmarks.common import Row, cpu_seconds, forget_peak, peak_bytes, resident_bytes, table

PODS = 5000
POD_BYTES = 7_700
NAMESPACES, NODES = 50, 100
RATE = 100
"""Changes a second of the steady phase: a busy cluster of that size."""
STEADY_SECONDS = 10.0
MOST_BYTES = 100 * 1024 * 1024
"""The issue's goal, for the whole agent; here it is held against what the inventory adds."""
WAIT = 60.0
_PATHS = {"/api/v1/pods": "pods", "/api/v1/namespaces": "namespaces", "/api/v1/nodes": "nodes"}


# -- the cluster -------------------------------------------------------------------------------


def pod(number: int, version: int, *, sick: bool = False) -> bytes:
    """One pod of POD_BYTES."""
    state: Any = {"waiting": {"reason": "CrashLoopBackOff"}} if sick else {"running": {}}
    found: dict[str, Any] = {
        "metadata": {
            "name": f"app-{number % 200}-7d9f8c6b5-{number:05}",
            "namespace": f"team-{number % NAMESPACES}",
            "uid": f"{number:08}-0000-4000-8000-000000000000",
            "resourceVersion": str(version),
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "ownerReferences": [{"kind": "ReplicaSet", "name": f"app-{number % 200}-7d9f8c6b5", "controller": True}],
        },
        "spec": {"nodeName": f"node-{number % NODES}"},
        "status": {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": "False" if sick else "True"}],
            "containerStatuses": [
                {"name": "main", "ready": not sick, "restartCount": version if sick else 0, "state": state}
            ],
        },
    }
    size = len(json.dumps(found))
    found["metadata"]["annotations"] = {f"example.org/{n}": "x" * 80 for n in range((POD_BYTES - size) // 105)}
    return json.dumps(found).encode()


class Cluster:
    """Plays the API server; `writers` are the open watches of pods."""

    def __init__(self) -> None:
        self.pods = [pod(number, 1) for number in range(PODS)]
        self.writers: list[StreamWriter] = []
        self.version = 1
        self.lists = 0

    async def serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                parts = urlsplit(head.split(b" ")[1].decode())
                asked = {name: values[0] for name, values in parse_qs(parts.query).items()}
                if "watch" in asked:
                    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                    if _PATHS.get(parts.path) == "pods":
                        self.writers.append(writer)
                    await reader.read()
                    return
                body = self._list(_PATHS.get(parts.path, ""), asked)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    def _list(self, kind: str, asked: dict[str, str]) -> bytes:
        items: list[bytes] = []
        more = ""
        if kind == "pods":
            begin, size = int(asked.get("continue", "0")), int(asked.get("limit", "500"))
            items = self.pods[begin : begin + size]
            more = str(begin + size) if begin + size < PODS else ""
            self.lists += 1
        elif kind:
            count = NAMESPACES if kind == "namespaces" else NODES
            prefix = "team" if kind == "namespaces" else "node"
            items = [json.dumps({"metadata": {"name": f"{prefix}-{number}"}}).encode() for number in range(count)]
        metadata = json.dumps({"resourceVersion": str(self.version), "continue": more}).encode()
        return b'{"metadata":' + metadata + b',"items":[' + b",".join(items) + b"]}"

    def change(self, number: int, *, sick: bool = False) -> None:
        """Send one change to every watch."""
        self.version += 1
        line = b'{"type":"MODIFIED","object":' + pod(number, self.version, sick=sick) + b"}\n"
        for writer in self.writers:
            writer.write(b"%x\r\n%s\r\n" % (len(line), line))


# -- the agent's part ----------------------------------------------------------------------------


async def follow(port: int) -> None:
    """Run the inventory alone, and print a line for each message: how many entries it told."""
    from towline.agent.kubernetes.book import size_of
    from towline.agent.kubernetes.credentials import Credentials
    from towline.agent.kubernetes.inventory import KubernetesInventory
    from towline.agent.kubernetes.material import Material
    from towline.agent.policy import LocalPolicy
    from towline.wire import link

    class Session:
        async def send(self, message: link.KubeInventory) -> None:
            print(json.dumps({"entries": size_of(message), "bytes": len(link.encode(message))}), flush=True)

    policy = LocalPolicy()
    material = Material(server=f"http://127.0.0.1:{port}", token="t")
    inventory = KubernetesInventory(Credentials(lambda: material), lambda: policy)
    session: Any = Session()
    inventory.teller.connected(session)
    print(json.dumps({"entries": -1}), flush=True)
    sys.stdin.readline()
    await inventory.run()


class Follower:
    """The measured process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.pid = process.pid
        self.messages = self.entries = self.bytes = 0
        self.changed = asyncio.Event()

    async def listen(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            found = json.loads(line)
            self.messages += 1
            self.entries += max(0, found["entries"])
            self.bytes += found.get("bytes", 0)
            self.changed.set()

    async def quiet(self, seconds: float = 2.5) -> None:
        """Wait until nothing was told for some seconds."""
        while True:
            self.changed.clear()
            try:
                async with asyncio.timeout(seconds):
                    await self.changed.wait()
            except TimeoutError:
                return


async def measure() -> list[Row]:
    """Play the cluster, measure the follower, and return what was found."""
    cluster = Cluster()
    server = await asyncio.start_server(cluster.serve, "127.0.0.1", 0, limit=2**20)
    port = server.sockets[0].getsockname()[1]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.inventory", "--follow", str(port),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, env=dict(os.environ),
    )  # fmt: skip
    follower = Follower(process)
    listening = asyncio.ensure_future(follower.listen())
    try:
        return await _phases(cluster, follower, process)
    finally:
        process.kill()
        await process.wait()
        await listening
        server.close()


async def _phases(cluster: Cluster, follower: Follower, process: asyncio.subprocess.Process) -> list[Row]:
    async with asyncio.timeout(WAIT):
        await follower.changed.wait()
        before, cpu = resident_bytes(follower.pid), cpu_seconds(follower.pid)
        forget_peak(follower.pid)
        assert process.stdin is not None
        process.stdin.write(b"go\n")
        await follower.quiet(5.0)
        listed, peak = cpu_seconds(follower.pid) - cpu, peak_bytes(follower.pid)
        held = resident_bytes(follower.pid) - before
        steady, told, sent = await _steady(cluster, follower)
        flood_cpu, flood_messages = await _flood(cluster, follower)
    most = max(peak, peak_bytes(follower.pid))
    return [
        (f"memory before, with {PODS} pods, and at most", f"{_mib(before)}, {_mib(before + held)}, {_mib(most)}",
         "the agent below 100 MiB", most < MOST_BYTES),
        (f"CPU to list {PODS} pods ({PODS * POD_BYTES // 2**20} MiB)", f"{listed * 1000:.0f} ms", "", None),
        (f"CPU of a change, at {RATE} a second", f"{steady * 1e6:.0f} us", "", None),
        ("entries and bytes told for each change", f"{told:.2f}, {sent:.0f} B", "what changed alone", told < 1),
        (f"a flood of {PODS} changes of 10 pods", f"{flood_cpu * 1000:.0f} ms, {flood_messages} messages",
         "gathered", flood_messages < 20),
    ]  # fmt: skip


async def _steady(cluster: Cluster, follower: Follower) -> tuple[float, float, float]:
    """Change pods at RATE. Returns: seconds of CPU, entries and bytes for each change."""
    cpu, entries, size = cpu_seconds(follower.pid), follower.entries, follower.bytes
    begun, changes = time.monotonic(), 0
    while time.monotonic() - begun < STEADY_SECONDS:
        number = changes % PODS
        cluster.change(number, sick=number % 20 == 0)
        changes += 1
        await asyncio.sleep(max(0.0, begun + changes / RATE - time.monotonic()))
    await follower.quiet()
    used = cpu_seconds(follower.pid) - cpu
    return used / changes, (follower.entries - entries) / changes, (follower.bytes - size) / changes


async def _flood(cluster: Cluster, follower: Follower) -> tuple[float, int]:
    """Change ten pods as fast as the watch takes it. Returns: seconds of CPU, and messages told."""
    cpu, messages = cpu_seconds(follower.pid), follower.messages
    for change in range(PODS):
        cluster.change(change % 10, sick=True)
        if change % 100 == 0:
            await asyncio.gather(*(writer.drain() for writer in cluster.writers))
    await follower.quiet()
    return cpu_seconds(follower.pid) - cpu, follower.messages - messages


def _mib(size: float) -> str:
    return f"{size / 2**20:.0f} MiB"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--follow", type=int, default=0, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.follow:
        uvloop.run(follow(given.follow))
    else:
        print(table(uvloop.run(measure())))


if __name__ == "__main__":
    main()
