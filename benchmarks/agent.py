"""An idle agent: its memory and its processor time while it watches Docker and heartbeats.

    python -m benchmarks.agent [--seconds 35]

The agent is the one that `towline up` starts, on a host whose Docker answers, with one small project running. The
server's process is shown beside it.
"""

import argparse
import time

from benchmarks.common import Row, cpu_seconds, resident_bytes, running_product, table
from tests.testbed import images

MEMORY_GOAL = 80 * 2**20
CPU_GOAL = 0.01
WARM_UP = 5.0
COMPOSE = f"services:\n  web:\n    image: {images.WEB}\n    stop_signal: KILL\n"


def measure(seconds: float) -> list[Row]:
    """Return the rows of the table."""
    with running_product() as bench:
        bench.deploy("idle", COMPOSE)
        time.sleep(WARM_UP)
        pids = (bench.agent_pid, bench.server_pid)
        before = [cpu_seconds(pid) for pid in pids]
        time.sleep(seconds)
        used = [(cpu_seconds(pid) - was) / seconds for pid, was in zip(pids, before, strict=True)]
        memory = [resident_bytes(pid) for pid in pids]
        bench.remove("idle")
    return [
        ("agent, memory after a deploy", f"{memory[0] / 2**20:.0f} MiB", "under 80 MiB", memory[0] < MEMORY_GOAL),
        ("agent, processor time", f"{used[0]:.2%} of a core", "under 1 % of a core", used[0] < CPU_GOAL),
        ("server with one agent, memory", f"{memory[1] / 2**20:.0f} MiB", "", None),
        ("server with one agent, processor time", f"{used[1]:.2%} of a core", "", None),
    ]


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=35)
    images.ensure()
    print(table(measure(parser.parse_args().seconds)))


if __name__ == "__main__":
    main()
