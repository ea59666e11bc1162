"""Kubernetes clients through Towline, beside direct access to the same cluster in the same run.

    python -m benchmarks.kubernetes [--seconds 5] [--rounds 3] [--pods 5000] [--megabytes 200]

The cluster is real: upstream's own API server, etcd and kubelet on this machine. Control plane and agent are the
shipped commands, each in a process of its own, TLS on every hop; the user is an administrator whom the agent
impersonates. Direct access is that of the cluster's administrator. Both ways take turns. What is timed is kubectl 1.37
as a process, or one client in Python for both ways. Lists are of pods that run nothing, in one answer without
compression.
The age of a watch event counts from before the write that caused it. An echo is a line of 64 bytes to `cat` in a
container and back, by exec over a v5 WebSocket. Among 50 execs one prints as fast as kubectl reads, and 49 echo
five lines a second each.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path

import aiohttp
import uvloop
from benchmarks.common import Row, cpu_seconds, forget_peak, peak_bytes, resident_bytes, table
from benchmarks.kubernetes_bed import FILE, Bed, Flood, Shell, Way, running_bed, shell

FEW = 500
GETS = 11
WATCH_PAUSE = 0.02
EXECS = 50
ECHO_PAUSE = 0.2
"""Seconds between the lines of one exec: five a second, as fast as people type."""
ROOM_BYTES = 8 * 2**20
"""What memory may grow by and still count as flat: a quarter of one answer, for windows, buffers and the allocator."""
WAIT = 60.0
MEBIBYTE = 2**20
TURNS_SECONDS = 18.0
"""After this time no further round of a part begins: a slow machine measures less, so that the whole ends in time."""

GET_GOAL, LIST_GOAL, BULK_GOAL = 1.3, 0.5, 0.5
WATCH_GOAL_MS, ECHO_GOAL_MS, CROWD_GOAL_MS = 5.0, 3.0, 50.0

Times = dict[str, list[float]]
"""Seconds by the name of the way."""


def middle(times: Times) -> tuple[float, float]:
    """Return the medians: direct, through Towline."""
    return statistics.median(times["direct"]), statistics.median(times["Towline"])


def p95(values: list[float]) -> float:
    """Return the 95th percentile."""
    return statistics.quantiles(values, n=20)[-1]


def turns(rounds: int) -> Iterator[int]:
    """Count rounds while there is time: one at least."""
    end = time.monotonic() + TURNS_SECONDS
    for number in range(rounds):
        if number and time.monotonic() > end:
            return
        yield number


# -- lists -------------------------------------------------------------------------------------


def get_pods(bed: Bed) -> list[Row]:
    """Run `kubectl get pods` on both ways."""
    times: Times = {way.name: [] for way in bed.ways}
    for number in range(GETS + 1):
        for way in bed.ways:
            begun = time.monotonic()
            way.kubectl.succeed("-n", bed.few, "get", "pods")
            if number:  # the first one fills the client's cache
                times[way.name].append(time.monotonic() - begun)
    direct, ours = middle(times)
    goal = f"direct {direct * 1000:.0f} ms: x{ours / direct:.2f}, goal x{GET_GOAL}"
    what = f"`kubectl get pods`, {FEW} pods, median of {GETS}"
    return [(what, f"{ours * 1000:.0f} ms", goal, ours / direct <= GET_GOAL)]


async def list_pods(bed: Bed, rounds: int) -> list[Row]:
    """Read all pods in one answer on both ways; what it costs server and agent is looked at for Towline's turns."""
    times: Times = {way.name: [] for way in bed.ways}
    pids = {name: bed.stack.pid(name) for name in ("server", "agent")}
    before = {name: resident_bytes(pid) for name, pid in pids.items()}
    cpu = {name: cpu_seconds(pid) for name, pid in pids.items()}
    for pid in pids.values():
        forget_peak(pid)
    size = 0
    async with bed.direct.session() as straight, bed.through.session() as tunnelled:
        for _ in range(rounds):
            for way, session in zip(bed.ways, (straight, tunnelled), strict=True):
                begun = time.monotonic()
                size = await _read_all(session, f"api/v1/namespaces/{bed.many}/pods")
                times[way.name].append(time.monotonic() - begun)
    direct, ours = middle(times)
    grown = {name: peak_bytes(pid) - before[name] for name, pid in pids.items()}
    used = ", ".join(f"{name} {(cpu_seconds(pid) - cpu[name]) / rounds * 1000:.0f} ms" for name, pid in pids.items())
    what = f"LIST of {bed.pods:,} pods, {size / MEBIBYTE:.0f} MiB, median of {rounds}"
    memory = ", ".join(f"{name} {growth / MEBIBYTE:+.1f} MiB" for name, growth in grown.items())
    flat = f"flat: at most {ROOM_BYTES / MEBIBYTE:.0f} MiB"
    return [
        _rate(what, size, direct, ours, LIST_GOAL),
        ("most memory during the lists, against before", memory, flat, max(grown.values()) <= ROOM_BYTES),
        ("CPU for one of them", used, "", None),
    ]


async def _read_all(session: aiohttp.ClientSession, path: str) -> int:
    size = 0
    async with session.get(path) as answer:
        answer.raise_for_status()
        async for piece in answer.content.iter_any():
            size += len(piece)
    return size


def _rate(what: str, size: int, direct: float, ours: float, least: float) -> Row:
    """Return a row of bytes per second."""
    rates = [size / MEBIBYTE / seconds for seconds in (direct, ours)]
    goal = f"direct {rates[0]:.0f} MiB/s: x{direct / ours:.2f}, goal x{least}"
    return what, f"{rates[1]:.0f} MiB/s", goal, direct / ours >= least


# -- watches -----------------------------------------------------------------------------------


async def watch(bed: Bed, seconds: float) -> list[Row]:
    """Change one object again and again, and see when both ways tell of it."""
    ages: Times = {way.name: [] for way in bed.ways}
    ready = [asyncio.Event() for _ in bed.ways]
    async with asyncio.timeout(seconds + WAIT):
        await asyncio.gather(
            _change(bed, seconds, ready),
            *(_follow(way, bed.real, ages[way.name], told) for way, told in zip(bed.ways, ready, strict=True)),
        )
    later = [ours - direct for direct, ours in zip(ages["direct"], ages["Towline"], strict=True)]
    direct, ours = (p95(ages[way.name]) * 1000 for way in bed.ways)
    medians = [value * 1000 for value in middle(ages)]
    more = p95(later) * 1000
    return [
        (f"age of a watch event, p95 of {len(later)}", f"{ours:.1f} ms", f"direct {direct:.1f} ms", None),
        ("age of a watch event, median", f"{medians[1]:.1f} ms", f"direct {medians[0]:.1f} ms", None),
        ("a watch event comes later than the same one directly, p95", f"{more:.1f} ms",
         f"at most {WATCH_GOAL_MS:.0f} ms", more <= WATCH_GOAL_MS),
    ]  # fmt: skip


async def _change(bed: Bed, seconds: float, ready: list[asyncio.Event]) -> None:
    path = f"api/v1/namespaces/{bed.real}/configmaps/clock"
    headers = {"content-type": "application/merge-patch+json"}
    async with bed.direct.session() as session:

        async def tell(word: str) -> None:
            body = json.dumps({"data": {"sent": word}})
            async with session.patch(path, data=body, headers=headers) as answer:
                answer.raise_for_status()
                await answer.read()

        for event in ready:
            await event.wait()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            await tell(repr(time.monotonic()))
            await asyncio.sleep(WATCH_PAUSE)
        await tell("end")


async def _follow(way: Way, namespace: str, ages: list[float], ready: asyncio.Event) -> None:
    """Keep the age of every event, until one says that it is the last."""
    path = f"api/v1/namespaces/{namespace}/configmaps?watch=1&fieldSelector=metadata.name%3Dclock"
    async with way.session() as session, session.get(path) as answer:
        answer.raise_for_status()
        async for line in answer.content:
            came = time.monotonic()
            sent = json.loads(line)["object"]["data"]["sent"]
            ready.set()
            if sent == "end":
                return
            if sent:
                ages.append(came - float(sent))


# -- exec --------------------------------------------------------------------------------------


async def echo(bed: Bed, seconds: float) -> list[Row]:
    """Send lines in turns over both ways."""
    times: Times = {way.name: [] for way in bed.ways}
    async with AsyncExitStack() as stack:
        shells = []
        for way in bed.ways:
            session = await stack.enter_async_context(way.session())
            shells.append((way.name, await stack.enter_async_context(shell(session, bed.real))))
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for name, each in shells:
                times[name].append(await each.echo())
    direct, ours = (value * 1000 for value in middle(times))
    goal = f"direct {direct:.2f} ms: {ours - direct:+.2f} ms, goal {ECHO_GOAL_MS:.0f} ms more"
    what = f"echo through an exec, median of {len(times['Towline'])}"
    return [(what, f"{ours:.2f} ms", goal, ours - direct <= ECHO_GOAL_MS)]


async def crowd(bed: Bed, seconds: float) -> list[Row]:
    """Let one exec of many flood, on one way and then on the other."""
    measured = [await _crowd_of(way, bed.real, seconds) for way in bed.ways]
    (direct, straight), (ours, tunnelled) = ((p95(times) * 1000, rate) for times, rate in measured)
    most = max(measured[1][0]) * 1000
    return [
        (f"{EXECS - 1} execs beside one that floods, p95 of an echo", f"{ours:.1f} ms, at most {most:.0f} ms",
         f"direct {direct:.1f} ms; goal under {CROWD_GOAL_MS:.0f} ms", ours < CROWD_GOAL_MS),
        ("what the flood moved meanwhile", f"{tunnelled:.0f} MiB/s", f"direct {straight:.0f} MiB/s", None),
    ]  # fmt: skip


async def _crowd_of(way: Way, namespace: str, seconds: float) -> tuple[list[float], float]:
    """Return: seconds of every echo, and MiB per second of the flood."""
    times: list[float] = []

    async def talk(each: Shell, number: int, end: float) -> None:
        await asyncio.sleep(ECHO_PAUSE * number / EXECS)
        while (begun := time.monotonic()) < end:
            times.append(await each.echo())
            await asyncio.sleep(max(0.0, begun + ECHO_PAUSE - time.monotonic()))

    async with way.session() as session, AsyncExitStack() as stack:
        opening = [stack.enter_async_context(shell(session, namespace)) for _ in range(EXECS - 1)]
        shells = [await each for each in opening]
        with ExitStack() as flooding:
            flood = flooding.enter_context(Flood(way, namespace))
            await asyncio.sleep(0.5)
            before, begun = flood.read(), time.monotonic()
            await asyncio.gather(*(talk(each, number, begun + seconds) for number, each in enumerate(shells)))
            rate = (flood.read() - before) / MEBIBYTE / (time.monotonic() - begun)
    return times, rate


# -- bulk --------------------------------------------------------------------------------------


def copy(bed: Bed, megabytes: int, rounds: int) -> list[Row]:
    """Copy a file out of the real pod and into it."""
    size = megabytes * MEBIBYTE
    out: Times = {way.name: [] for way in bed.ways}
    into: Times = {way.name: [] for way in bed.ways}
    local, remote = bed.folder / "copied", f"{bed.real}/real"
    for _ in turns(rounds):
        for way in bed.ways:
            out[way.name].append(_timed(way, "cp", f"{remote}:{FILE}", str(local)))
            if local.stat().st_size != size:
                raise SystemExit(f"{way.name}: {local.stat().st_size} bytes were copied, not {size}")
            into[way.name].append(_timed(way, "cp", str(local), f"{remote}:/data/copied"))
    done = len(out["Towline"])
    return [
        _rate(f"`kubectl cp` of {megabytes} MiB out of a pod, median of {done}", size, *middle(out), BULK_GOAL),
        _rate(f"`kubectl cp` of {megabytes} MiB into a pod, median of {done}", size, *middle(into), BULK_GOAL),
    ]


def _timed(way: Way, *words: str) -> float:
    begun = time.monotonic()
    way.kubectl.succeed(*words, timeout=WAIT)
    return time.monotonic() - begun


def forward(bed: Bed, megabytes: int, rounds: int) -> list[Row]:
    """Fetch the file from the pod's own web server over `kubectl port-forward`."""
    size = megabytes * MEBIBYTE
    times: Times = {way.name: [] for way in bed.ways}
    with ExitStack() as stack:
        words = ("-n", bed.real, "port-forward", "pod/real", ":8080")
        ports = {}
        for way in bed.ways:
            going = stack.enter_context(way.kubectl.going(*words))
            _, line = going.line("Forwarding from 127.0.0.1")
            ports[way.name] = int(line.partition("127.0.0.1:")[2].split()[0])
        for _ in turns(rounds):
            for way in bed.ways:
                times[way.name].append(_fetch(ports[way.name], size))
    what = f"{megabytes} MiB over a port-forward, median of {len(times['Towline'])}"
    return [_rate(what, size, *middle(times), BULK_GOAL)]


def _fetch(port: int, size: int) -> float:
    """Return how long it took to read the file."""
    begun, came, room = time.monotonic(), 0, bytearray(2**18)
    with socket.create_connection(("127.0.0.1", port), timeout=WAIT) as connection:
        connection.sendall(f"GET /{Path(FILE).name} HTTP/1.0\r\n\r\n".encode())
        while read := connection.recv_into(room):
            came += read
    if came < size:
        raise SystemExit(f"{came} bytes came over the port-forward, not {size}")
    return time.monotonic() - begun


# -- all of it ---------------------------------------------------------------------------------


def measure(given: argparse.Namespace) -> list[Row]:
    """Run every part on one bed."""
    rows: list[Row] = []
    begun = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="towline-kubernetes-") as folder,
        running_bed(Path(folder), few=FEW, many=given.pods, megabytes=given.megabytes) as bed,
    ):
        parts: dict[str, Callable[[], list[Row]]] = {
            "get": lambda: get_pods(bed),
            "list": lambda: uvloop.run(list_pods(bed, given.rounds)),
            "watch": lambda: uvloop.run(watch(bed, given.seconds)),
            "echo": lambda: uvloop.run(echo(bed, given.seconds)),
            "crowd": lambda: uvloop.run(crowd(bed, given.seconds)),
            "copy": lambda: copy(bed, given.megabytes, given.rounds),
            "forward": lambda: forward(bed, given.megabytes, given.rounds),
        }
        tell(begun, "ready")
        for name, part in parts.items():
            rows += part()
            tell(begun, name)
    tell(begun, "removed")
    return rows


def tell(begun: float, what: str) -> None:
    """Say how far it is: a run takes two minutes."""
    print(f"{time.monotonic() - begun:4.0f} s: {what}", file=sys.stderr, flush=True)


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pods", type=int, default=5_000)
    parser.add_argument("--megabytes", type=int, default=200)
    print(table(measure(parser.parse_args())))


if __name__ == "__main__":
    main()
