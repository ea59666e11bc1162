"""The agent of a cluster with 5,000 pods: memory, processor time, how old news is, a thousand listeners, its proxy.

    python -m benchmarks.surface [--pods 5000] [--clients 1000]

The cluster is real, its pods run nothing. Control plane and agent are the shipped commands, each in a process of its
own; the agent's own surface listens on loopback beside its link. News are written to the API server: a label of a pod
for the surface, a container's restarts for the page, of which the hint counts, and the list that the page then asks
for. Ages count from before the write. All clients share one process, whose own waiting counts as well. The proxy and
the direct way ask for the same pod in turns.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import uvloop
from benchmarks.common import Row, allow_open_files, cpu_seconds, forget_peak, peak_bytes, resident_bytes, table
from benchmarks.kubernetes_bed import Bed, idle_pod, running_bed
from benchmarks.listeners import Crowd, stamp
from tests.support.kube_agent import Admin
from tests.support.kubernetes_stack import CLUSTER
from tests.support.product import wait_for
from tests.testbed.processes import free_port

MEMORY_GOAL = 100 * 2**20
"""What the agent may have beside 5,000 pods, as for its inventory alone."""
RATE = 50.0
"""Changes a second of the steady phase."""
STEADY_SECONDS = 12.0
EVENT_GOAL, PAGE_GOAL = 0.2, 0.5
PAGE_WRITES = 25
CROWD_RATE, CROWD_WRITES = 5.0, 40
CLIENT_GOAL = 64 * 2**10
PROXY_SECONDS, PROXY_ROUNDS, PROXY_WORKERS = 3.0, 2, 16
WAIT = 60.0
MERGE = {"Content-Type": "application/merge-patch+json"}
GROUP = "towline:role:viewer"
BINDING = "bench-surface"


class Agent:
    """The agent's process, and its surface."""

    def __init__(self, bed: Bed, port: int) -> None:
        self.port = port
        self.pid = bed.stack.pid("agent")
        self.url = f"http://127.0.0.1:{port}"
        words = [str(Path(sys.executable).with_name("towline")), "agent", "token", "--state-folder"]
        done = subprocess.run([*words, str(bed.folder / "agent")], check=True, capture_output=True, text=True)
        self.token = done.stdout.strip()

    async def get(self, session: aiohttp.ClientSession, path: str) -> Any:
        headers = {"Authorization": f"Bearer {self.token}"}
        async with session.get(self.url + path, headers=headers) as answer:
            return await answer.json()


class Writer:
    """Changes pods at the API server itself."""

    def __init__(self, bed: Bed, session: aiohttp.ClientSession) -> None:
        self._session = session
        self._path = f"api/v1/namespaces/{bed.many}/pods/"
        self._names = itertools.cycle([idle_pod(number)["metadata"]["name"] for number in range(bed.pods)])
        self._restarts = 0

    async def label(self) -> None:
        """Give a pod a label that tells now."""
        await self._patch(next(self._names), {"metadata": {"labels": {"stamp": f"{stamp()}z"}}})

    async def break_down(self) -> tuple[str, int]:
        """Let a container have crashed once more. Returns: its pod, and its restarts."""
        self._restarts += 1
        name = next(self._names)
        state = {"waiting": {"reason": "CrashLoopBackOff"}}
        container = {
            "name": "main", "image": "none", "imageID": "", "ready": False, "restartCount": self._restarts,
            "state": state,
        }  # fmt: skip
        await self._patch(f"{name}/status", {"status": {"containerStatuses": [container]}})
        return name, self._restarts

    async def steadily(self, rate: float, count: int) -> None:
        """Label pods at a rate, however long each write takes."""
        begun, writes = time.monotonic(), []
        async with asyncio.TaskGroup() as group:
            for number in range(count):
                await asyncio.sleep(max(0.0, begun + number / rate - time.monotonic()))
                writes.append(group.create_task(self.label()))

    async def _patch(self, path: str, body: Any) -> None:
        async with self._session.patch(self._path + path, json=body, headers=MERGE) as answer:
            assert answer.status == 200, await answer.text()


# -- the phases ------------------------------------------------------------------------------------


async def steady(agent: Agent, writer: Writer) -> list[Row]:
    """Change pods at RATE beside one listener."""
    count = int(RATE * STEADY_SECONDS)
    alone = resident_bytes(agent.pid)
    async with Crowd(agent.port, "/api/realtime/events?types=event", agent.token, 1) as crowd:
        await followed(agent)
        forget_peak(agent.pid)
        held, used, begun = resident_bytes(agent.pid), cpu_seconds(agent.pid), time.monotonic()
        await writer.steadily(RATE, count)
        share = (cpu_seconds(agent.pid) - used) / (time.monotonic() - begun)
        await crowd.have(count, WAIT)
        most = peak_bytes(agent.pid)
        came, p95 = len(crowd.ages), _p95(crowd.ages)
        middle = statistics.median(crowd.ages)
    memory = f"{_mib(alone)}; {_mib(held)} while its surface is used, {_mib(most)} at most"
    return [
        ("agent, memory", memory, f"below {_mib(MEMORY_GOAL)}", most < MEMORY_GOAL),
        (f"agent, processor time at {RATE:.0f} changes a second", f"{share:.1%} of a core", "", None),
        ("age of an event at `/api/realtime/events`", f"{_ms(middle)}, 95th percentile {_ms(p95)}; {came} of {count}",
         f"p95 below {_ms(EVENT_GOAL)}, all of them", p95 < EVENT_GOAL and came == count),
    ]  # fmt: skip


async def followed(agent: Agent) -> None:
    """Wait until the surface has read every pod."""
    async with aiohttp.ClientSession() as session, asyncio.timeout(WAIT):
        while True:
            found = await agent.get(session, "/api/k8s/pods?limit=1")
            if "pods" in found or "items" in found:
                return
            await asyncio.sleep(0.1)


async def crowded(agent: Agent, writer: Writer, count: int) -> list[Row]:
    """Have many clients of one kind, then many of the other: these beside those, so that none has another's memory."""
    rows, before = [], AsyncExitStack()
    async with before:
        for path, what in (("/api/realtime/events?types=event", "event streams"), ("/ws", "WebSockets")):
            async with Crowd(agent.port, path, agent.token, 10):
                pass  # what the first ones cost belongs to none of them
            had = resident_bytes(agent.pid)
            now = AsyncExitStack()
            crowd = await now.enter_async_context(Crowd(agent.port, path, agent.token, count))
            held = (resident_bytes(agent.pid) - had) / count
            await before.aclose()
            before.push_async_exit(now)
            rows += await delivered(agent, writer, crowd, f"{count} {what}", held)
    return rows


async def delivered(agent: Agent, writer: Writer, crowd: Crowd, what: str, held: float) -> list[Row]:
    """Count what reaches many clients. Args: held: memory of each."""
    used, wanted = cpu_seconds(agent.pid), crowd.count * CROWD_WRITES
    await writer.steadily(CROWD_RATE, CROWD_WRITES)
    await crowd.have(wanted, WAIT / 2)
    used = cpu_seconds(agent.pid) - used
    came, p95, middle = len(crowd.ages), _p95(crowd.ages), statistics.median(crowd.ages)
    return [
        (f"{what}, memory of each", f"{held / 1024:.0f} KiB", f"under {CLIENT_GOAL // 1024} KiB", held < CLIENT_GOAL),
        (f"{what}, age of an event, {CROWD_RATE:.0f} of them a second",
         f"{_ms(middle)}, 95th percentile {_ms(p95)}; {came} of {wanted}", f"p95 below {_ms(EVENT_GOAL)}, all of them",
         p95 < EVENT_GOAL and came == wanted),
        (f"{what}, agent's processor time for one delivery", f"{used / max(1, came) * 1e6:.0f} µs", "", None),
    ]  # fmt: skip


async def page(bed: Bed, writer: Writer) -> list[Row]:
    """Listen as the cluster's page does: a hint, and then the list of what is not well."""
    hints, lists = [], []
    async with bed.through.session() as session:
        root = bed.stack.url
        clusters = await _json(session, f"{root}/api/v1/clusters?limit=100")
        cluster = next(one["id"] for one in clusters["items"] if one["name"] == CLUSTER)
        endless = aiohttp.ClientTimeout(total=None)
        async with session.get(f"{root}/api/v1/events", timeout=endless) as stream:
            news = Hints(stream.content)
            for _ in range(PAGE_WRITES):
                await news.quiet(0.8)
                begun = time.monotonic()
                pod, restarts = await writer.break_down()
                hinted = 0.0
                async with asyncio.timeout(WAIT):
                    while True:
                        await news.next(cluster)
                        hinted = hinted or time.monotonic() - begun
                        asked = f"{root}/api/v1/clusters/{cluster}/kubernetes/pods?search={pod}"
                        if f'"restarts":{restarts}' in await _text(session, asked):
                            break
                hints.append(hinted)
                lists.append(time.monotonic() - begun)
    goal = f"p95 below {_ms(PAGE_GOAL)}"
    return [
        ("age of the hint at the control plane's page", f"{_ms(statistics.median(hints))}, 95th percentile "
         f"{_ms(_p95(hints))}, of {PAGE_WRITES}", goal, _p95(hints) < PAGE_GOAL),
        ("age of the list that it asks for then", f"{_ms(statistics.median(lists))}, 95th percentile "
         f"{_ms(_p95(lists))}", goal, _p95(lists) < PAGE_GOAL),
    ]  # fmt: skip


class Hints:
    """Reads the hints for pages."""

    def __init__(self, content: aiohttp.StreamReader) -> None:
        self._content = content

    async def next(self, cluster: str) -> None:
        """Return at the next hint about the Kubernetes of a cluster."""
        kind = ""
        while True:
            line = (await self._content.readline()).decode().strip()
            if line.startswith("event:"):
                kind = line.partition(":")[2].strip()
            elif line.startswith("data:") and kind == "kubernetes" and cluster in line and "pods" in line:
                return

    async def quiet(self, seconds: float) -> None:
        """Throw away what comes in some time."""
        try:
            async with asyncio.timeout(seconds):
                while True:
                    await self._content.readany()
        except TimeoutError:
            return


async def proxied(bed: Bed, agent: Agent) -> list[Row]:
    """Ask for one pod, by the surface's proxy and directly, in turns."""
    pod = f"/api/v1/namespaces/{bed.real}/pods/real"
    rates: dict[str, list[float]] = {"direct": [], "proxy": []}
    async with bed.direct.session() as direct, aiohttp.ClientSession() as local:
        headers = {"Authorization": f"Bearer {agent.token}"}

        async def straight() -> None:
            async with direct.get(pod.removeprefix("/")) as answer:
                assert answer.status == 200
                await answer.read()

        async def through() -> None:
            body = {"method": "GET", "path": pod}
            async with local.post(f"{agent.url}/api/k8s/proxy", json=body, headers=headers) as answer:
                text = await answer.read()
                assert answer.status == 200 and b'"status":200' in text[:40], text[:300]

        for _ in range(PROXY_ROUNDS):
            rates["direct"].append(await _rate(straight))
            used = cpu_seconds(agent.pid)
            rates["proxy"].append(await _rate(through))
            used = cpu_seconds(agent.pid) - used
    straightly, proxy = (statistics.median(rates[name]) for name in ("direct", "proxy"))
    cost = used / (rates["proxy"][-1] * PROXY_SECONDS) * 1e6
    return [
        (f"`POST /api/k8s/proxy`, a pod, {PROXY_WORKERS} at once",
         f"{proxy:,.0f} requests/s, agent {cost:.0f} µs of processor each",
         f"direct {straightly:,.0f}: x{proxy / straightly:.2f}", None),
    ]  # fmt: skip


async def _rate(once: Callable[[], Awaitable[None]]) -> float:
    count, end = 0, time.monotonic() + PROXY_SECONDS

    async def work() -> None:
        nonlocal count
        while time.monotonic() < end:
            await once()
            count += 1

    await asyncio.gather(*(work() for _ in range(PROXY_WORKERS)))
    return count / PROXY_SECONDS


async def measure(bed: Bed, agent: Agent, clients: int) -> list[Row]:
    """Return the rows of the table."""
    async with bed.direct.session() as session:
        writer = Writer(bed, session)
        rows = await steady(agent, writer)
        rows += await page(bed, writer)
        rows += await crowded(agent, writer, clients)
    return rows + await proxied(bed, agent)


async def _json(session: aiohttp.ClientSession, url: str) -> Any:
    async with session.get(url) as answer:
        return await answer.json()


async def _text(session: aiohttp.ClientSession, url: str) -> str:
    async with session.get(url) as answer:
        assert answer.status == 200, await answer.text()
        return await answer.text()


def _p95(values: list[float]) -> float:
    return sorted(values)[len(values) * 95 // 100] if values else float("inf")


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"


def _mib(size: float) -> str:
    return f"{size / 2**20:.0f} MiB"


def _let_viewers_look(bed: Bed) -> Callable[[], None]:
    """Let the surface's user read the real pod. Returns: what takes that away."""
    admin, path = Admin(bed.stack.cluster), "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"
    name = "rbac.authorization.k8s.io"
    body = {
        "apiVersion": f"{name}/v1", "kind": "ClusterRoleBinding", "metadata": {"name": BINDING},
        "subjects": [{"kind": "Group", "name": GROUP, "apiGroup": name}],
        "roleRef": {"apiGroup": name, "kind": "ClusterRole", "name": "view"},
    }  # fmt: skip
    admin.apply(path, body)
    return lambda: admin.ask("DELETE", f"{path}/{BINDING}")


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--pods", type=int, default=5000)
    parser.add_argument("--clients", type=int, default=1000)
    given = parser.parse_args()
    allow_open_files()
    port = free_port()
    os.environ["TOWLINE_AGENT_LISTEN"] = f"127.0.0.1:{port}"
    with (
        tempfile.TemporaryDirectory(prefix="towline-bench-") as name,
        running_bed(Path(name), few=1, many=given.pods, megabytes=1) as bed,
    ):
        agent = Agent(bed, port)
        wait_for(lambda: _pods_known(bed) >= given.pods, "every pod", WAIT)
        end = _let_viewers_look(bed)
        try:
            print(table(uvloop.run(measure(bed, agent, given.clients))))
        finally:
            end()


def _pods_known(bed: Bed) -> int:
    """Return how many pods the control plane counts."""
    with bed.stack.http(bed.stack.owner.token) as client:
        row = next(one for one in client.get("/api/v1/clusters?limit=100").json()["items"] if one["name"] == CLUSTER)
        counts = client.get(f"/api/v1/clusters/{row['id']}/kubernetes").json()["pods"]
    return int(counts.get("total", 0))


if __name__ == "__main__":
    main()
