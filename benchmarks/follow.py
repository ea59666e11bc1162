"""Log lines from a container to their readers: `towline logs` and the stream that the page reads.

    python -m benchmarks.follow [--megabytes 50] [--lines 200]

The whole way: container, Docker, agent, tunnel, API, edge, and a reader in another process. The age of a line is the
reader's clock minus the moment at which Docker says that it got the line. A slow reader asks for the large log and
reads nothing for some seconds; what that costs is the growth of the server's and the agent's memory.
"""

import argparse
import io
import subprocess
import time
from collections.abc import Iterator
from datetime import datetime

from benchmarks.common import Bench, Row, forget_peak, now, peak_bytes, resident_bytes, running_product, table
from tests.testbed import images

from towline.cli.logs import LogPrinter

LINE_BYTES = 100
PAUSE_MICROSECONDS = 20_000
WARM_LINES = 100
"""Lines that are not counted: they come while the reader itself starts."""
AGE_GOAL_MS = 100.0
RATE_GOAL = 20.0
WINDOW_BYTES = 256 * 1024
SLOW_SECONDS = 4.0
ROOM_BYTES = 8 * WINDOW_BYTES
"""What a slow reader may cost: its window, the buffers of two sockets on each hop, and what the allocator rounds up."""

LIVE = """\
services:
  web:
    image: {image}
    stop_signal: KILL
    command: ["sh", "-c", "while true; do echo a line; usleep {pause}; done"]
"""
BULK = """\
services:
  web:
    image: {image}
    stop_signal: KILL
    command: ["sh", "-c", "yes {text} | head -n {lines}; exec sleep 100000"]
"""


def stamps_of_cli(bench: Bench, project: str, lines: int) -> Iterator[float]:
    """Yield the ages of lines, in milliseconds, as `towline logs --follow` prints them."""
    name = f"{bench.cluster['name']}/{project}"
    command = ["towline", "logs", "--follow", "--tail", "0", "--timestamps", "--no-prefix", name]
    reader = subprocess.Popen(
        command, env=bench.product.environment, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True
    )
    assert reader.stdout is not None
    for number in range(WARM_LINES + lines):
        line = reader.stdout.readline()
        if number >= WARM_LINES:
            yield age(line)
    reader.terminate()
    reader.wait()
    reader.stdout.close()


def stamps_of_page(bench: Bench, project: str, lines: int) -> Iterator[float]:
    """Yield the ages of lines as the page's stream delivers them."""
    printer = LogPrinter(timestamps=True, names=False)
    address, question = f"clusters/{bench.cluster['id']}/logs", {"project": project, "follow": 1, "tail": 0}
    headers = {"accept": "application/vnd.towline.logs"}
    came = 0
    with bench.client.stream("GET", address, params=question, headers=headers, timeout=30) as answer:
        for data in answer.iter_raw():
            for _, text in printer.feed(data):
                for line in text.decode().splitlines():
                    if not line.startswith("--"):
                        came += 1
                        if came > WARM_LINES:
                            yield age(line)
            if came >= WARM_LINES + lines:
                return


def age(line: str) -> float:
    """Return the milliseconds since Docker got a line, by its stamp."""
    written = datetime.fromisoformat(line[:26] + "+00:00").timestamp()
    return (time.time() - written) * 1000


def whole(bench: Bench, project: str) -> tuple[float, int]:
    """Return (MB per second of text, lines) of a log that the CLI prints into a pipe; its start is included."""
    name = f"{bench.cluster['name']}/{project}"
    began = now()
    command = ["towline", "logs", "--tail", "-1", "--no-prefix", name]
    reader = subprocess.Popen(command, env=bench.product.environment, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
    assert isinstance(reader.stdout, io.BufferedReader)
    size = lines = 0
    while data := reader.stdout.read1(1 << 20):
        size += len(data)
        lines += data.count(b"\n")
    reader.wait()
    reader.stdout.close()
    return size / 1e6 / (now() - began), lines


def slow_reader(bench: Bench, project: str) -> tuple[int, int]:
    """Return how many bytes server and agent grew while somebody asked for a large log and did not read it."""
    pids = (bench.server_pid, bench.agent_pid)
    before = [resident_bytes(pid) for pid in pids]
    for pid in pids:
        forget_peak(pid)
    address, question = f"clusters/{bench.cluster['id']}/logs", {"project": project, "tail": -1}
    headers = {"accept": "application/vnd.towline.logs"}
    with bench.client.stream("GET", address, params=question, headers=headers, timeout=30):
        time.sleep(SLOW_SECONDS)
        grown = [max(0, peak_bytes(pid) - was) for pid, was in zip(pids, before, strict=True)]
    return grown[0], grown[1]


def measure(megabytes: int, lines: int) -> list[Row]:
    """Return the rows of the table."""
    rows: list[Row] = []
    wanted = megabytes * 1_000_000 // LINE_BYTES
    with running_product() as bench:
        bench.deploy("live", LIVE.format(image=images.BASE, pause=PAUSE_MICROSECONDS))
        for reader, ages in (("`towline logs`", stamps_of_cli), ("the page's stream", stamps_of_page)):
            found = sorted(ages(bench, "live", lines))
            late = found[int(len(found) * 0.95)]
            figure = f"{found[len(found) // 2]:.1f} ms, 95th percentile {late:.1f} ms"
            rows.append((f"age of a live line at {reader}", figure, "p95 at most 100 ms", late <= AGE_GOAL_MS))
        bench.remove("live")
        bench.deploy("bulk", BULK.format(image=images.BASE, text="x" * (LINE_BYTES - 1), lines=wanted))
        time.sleep(2)  # until `yes` has written all of it
        speed, came = max(whole(bench, "bulk") for _ in range(3))
        figure = f"{speed:.1f} MB/s, {came} of {wanted} lines"
        met = speed >= RATE_GOAL and came == wanted
        rows.append((f"{megabytes} MB to `towline logs`, best of 3", figure, "20 MB/s, all lines", met))
        server, agent = slow_reader(bench, "bulk")
        figure = f"server +{server / 1024:,.0f} KiB, agent +{agent / 1024:,.0f} KiB"
        met = server < ROOM_BYTES and agent < ROOM_BYTES
        rows.append(("memory for a reader that does not read", figure, "one window of 256 KiB, and buffers", met))
        bench.remove("bulk")
    return rows


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--megabytes", type=int, default=50)
    parser.add_argument("--lines", type=int, default=200)
    arguments = parser.parse_args()
    images.ensure()
    print(table(measure(arguments.megabytes, arguments.lines)))


if __name__ == "__main__":
    main()
