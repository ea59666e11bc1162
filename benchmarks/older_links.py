"""Kubernetes clients through a PipeOps agent's link, beside our own link to the same cluster in the same run.

    python -m benchmarks.older_links [--seconds 4] [--rounds 5]

The cluster is real. One control plane and two agents are the shipped commands, each in a process of its own, TLS on
every hop: our agent with its own link, and our agent as one that speaks PipeOps over a WebSocket, whose yamux carries
the API server's TLS. The user, an administrator whom the agents impersonate, and the client in Python are the same for
both; they take turns, and both caches were filled before. An echo is a line of 64 bytes to `cat` in a container and
back.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path

import aiohttp
import uvloop
from benchmarks.common import Row, table
from benchmarks.kubernetes_bed import Way, shell
from tests.support import kubernetes_objects as objects
from tests.support.kubernetes_stack import CLUSTER
from tests.support.older_stack import WEBSOCKET, OlderStack
from tests.support.product import wait_for
from tests.testbed import kubectl
from tests.testbed.kubernetes.cluster import Cluster

OBJECTS, OBJECT_BYTES = 500, 6_000
"""A list of about 3 MiB."""
AT_ONCE = 16
MEBIBYTE = 2**20


@contextmanager
def running(folder: Path) -> Iterator[tuple[tuple[Way, Way], str]]:
    """Start everything. Yields: both ways, and the namespace of what is asked for."""
    cluster = Cluster()
    cluster.up(with_node=True)
    name = f"bench-older-{secrets.token_hex(2)}"
    with OlderStack(folder, cluster, kubectl.ensure(), {}) as stack:
        stack.join("agent", CLUSTER)
        stack.start_agent()
        user = stack.user("bench", "admin", bound_to="cluster-admin")
        straight = stack.direct()
        try:
            straight.succeed("create", "namespace", name)
            account = ("-n", name, "get", "serviceaccount", "default")
            wait_for(lambda: straight.run(*account).returncode == 0, "the account", 20)
            objects.apply(straight, name, objects.pod("real", "sleep", "3600"))
            objects.apply(straight, name, *map(_large, range(OBJECTS)))
            objects.wait_for_pods(straight, name, "pod/real")
            own, older = (
                Way(what, f"{stack.server(each)}/", user.token, stack.trust(), user.client(cluster=each))
                for what, each in (("own", CLUSTER), ("PipeOps", WEBSOCKET))
            )
            yield (own, older), name
        finally:
            straight.run("delete", "namespace", name, "--wait=false", "--ignore-not-found")
            straight.run("delete", "clusterrolebinding", "k8-bench", "--ignore-not-found")


def _large(number: int) -> dict[str, object]:
    return objects.named("ConfigMap", f"large-{number:03}", data={"filling": "x" * OBJECT_BYTES})


class Both:
    """Clients of both ways."""

    def __init__(self, ways: tuple[Way, Way], sessions: list[aiohttp.ClientSession], namespace: str) -> None:
        self.names = [way.name for way in ways]
        self.sessions = sessions
        self.namespace = namespace

    async def get(self, number: int, path: str) -> int:
        """Read an answer of one of the ways. Returns: its bytes."""
        async with self.sessions[number].get(path) as answer:
            answer.raise_for_status()
            return len(await answer.read())

    async def turns(self, seconds: float, act: Callable[[int], Awaitable[object]]) -> list[list[float]]:
        """Act on both ways in turns. Returns: the seconds of each act, for each way."""
        times: list[list[float]] = [[], []]
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for number in (0, 1):
                began = time.monotonic()
                await act(number)
                times[number].append(time.monotonic() - began)
        return times


@asynccontextmanager
async def both(ways: tuple[Way, Way], namespace: str) -> AsyncIterator[Both]:
    """Open clients, with what the first request pays for paid."""
    async with AsyncExitStack() as stack:
        made = Both(ways, [await stack.enter_async_context(way.session()) for way in ways], namespace)
        for number in (0, 1):
            await made.get(number, "version")
        yield made


def latency(what: str, times: list[list[float]], unit: float = 1000) -> Row:
    """Return a row of medians: through PipeOps, beside our own."""
    own, older = (statistics.median(each) for each in times)
    words = f"our own {own * unit:.2f} ms: x{older / own:.2f}"
    return f"{what}, median of {len(times[1])}", f"{older * unit:.2f} ms", words, None


async def small(bed: Both, seconds: float) -> list[Row]:
    """One small request after the other."""
    path = f"api/v1/namespaces/{bed.namespace}/pods/real"
    return [latency("GET of one pod", await bed.turns(seconds, lambda number: bed.get(number, path)))]


async def many(bed: Both, seconds: float, rounds: int) -> list[Row]:
    """Many small requests at once, way by way in turns."""
    counts = [0, 0]
    for _ in range(rounds):
        for number in (0, 1):
            counts[number] += await _for_a_while(bed, number, seconds / rounds)
    own, older = (count / seconds for count in counts)
    words = f"our own {own:.0f}: x{older / own:.2f}"
    return [(f"GET /version by {AT_ONCE} clients at once", f"{older:.0f} a second", words, None)]


async def _for_a_while(bed: Both, number: int, seconds: float) -> int:
    end, done = time.monotonic() + seconds, 0

    async def ask() -> None:
        nonlocal done
        while time.monotonic() < end:
            await bed.get(number, "version")
            done += 1

    await asyncio.gather(*(ask() for _ in range(AT_ONCE)))
    return done


async def lists(bed: Both, rounds: int) -> list[Row]:
    """The same long answer on both ways."""
    path, sizes = f"api/v1/namespaces/{bed.namespace}/configmaps", [0, 0]
    times: list[list[float]] = [[], []]
    for _ in range(rounds):
        for number in (0, 1):
            began = time.monotonic()
            sizes[number] = await bed.get(number, path)
            times[number].append(time.monotonic() - began)
    own, older = (size / MEBIBYTE / statistics.median(each) for size, each in zip(sizes, times, strict=True))
    what = f"list of {sizes[1] / MEBIBYTE:.1f} MiB, median of {rounds}"
    return [(what, f"{older:.0f} MiB/s", f"our own {own:.0f} MiB/s: x{older / own:.2f}", None)]


async def echoes(bed: Both, seconds: float) -> list[Row]:
    """Lines to `cat` in a container and back."""
    async with AsyncExitStack() as stack:
        shells = [await stack.enter_async_context(shell(one, bed.namespace)) for one in bed.sessions]
        return [latency("echo through an exec", await bed.turns(seconds, lambda number: shells[number].echo()))]


async def measure(ways: tuple[Way, Way], namespace: str, seconds: float, rounds: int) -> list[Row]:
    """Run every part."""
    async with both(ways, namespace) as bed:
        return [
            *await small(bed, seconds),
            *await many(bed, seconds, rounds),
            *await lists(bed, rounds),
            *await echoes(bed, seconds),
        ]


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="towline-older-") as folder, running(Path(folder)) as (ways, name):
        print(table(uvloop.run(measure(ways, name, given.seconds, given.rounds))))


if __name__ == "__main__":
    main()
