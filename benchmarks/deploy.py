"""One small service with a health check: a deploy by Towline against `docker compose up -d --wait` on the same host.

    python -m benchmarks.deploy [--pairs 7]

Both bring up the same new project from an image that is there; they take turns. Ours is measured from the API call to
the moment at which the control plane shows the deployment as healthy, settle time switched off. Server, agent and
Compose share the machine.
"""

import argparse
import statistics
import subprocess
import tempfile
from pathlib import Path

from benchmarks.common import Bench, Row, now, running_product, table
from tests.testbed import images

GOAL = 1.5
COMPOSE = """\
services:
  web:
    image: {image}
    stop_signal: KILL
    healthcheck:
      test: ["CMD", "wget", "-q", "-O", "/dev/null", "http://127.0.0.1/"]
      interval: {interval}
"""
INTERVALS = ("100ms", "1s")


def direct(project: str, compose: str, folder: Path) -> float:
    """Return the seconds that Compose needs by itself; removes the project again."""
    (folder / "compose.yaml").write_text(compose)
    command = ["docker", "compose", "--project-name", project]
    began = now()
    subprocess.run([*command, "up", "-d", "--wait"], cwd=folder, check=True, capture_output=True)
    seconds = now() - began
    subprocess.run([*command, "down", "-t", "0"], cwd=folder, check=True, capture_output=True)
    return seconds


def through_towline(bench: Bench, name: str, compose: str) -> float:
    """Return the seconds from the API call to healthy; removes the deployment again."""
    began = now()
    bench.deploy(name, compose)
    while bench.get(f"clusters/{bench.cluster['id']}/deployments/{name}")["state"] != "healthy":
        if now() - began > 60:
            raise SystemExit(f"{name} did not become healthy")
    seconds = now() - began
    bench.remove(name)
    return seconds


def measure(pairs: int) -> list[Row]:
    """Take turns, and return the rows of the table."""
    rows: list[Row] = []
    with running_product() as bench, tempfile.TemporaryDirectory(prefix="towline-bench-") as folder:
        for interval in INTERVALS:
            compose = COMPOSE.format(image=images.WEB, interval=interval)
            through_towline(bench, f"warm-{interval}", compose)
            ours, theirs = [], []
            for number in range(pairs):
                theirs.append(direct(f"direct-{number}", compose, Path(folder)))
                ours.append(through_towline(bench, f"bench-{interval}-{number}", compose))
            ratio = statistics.median(ours) / statistics.median(theirs)
            figure = f"{statistics.median(ours):.2f} s"
            baseline = f"Compose {statistics.median(theirs):.2f} s: x{ratio:.2f}, goal x{GOAL}"
            rows.append((f"deploy, health check every {interval}, median of {pairs}", figure, baseline, ratio <= GOAL))
    return rows


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, default=7)
    arguments = parser.parse_args()
    images.ensure()
    print(table(measure(arguments.pairs)))


if __name__ == "__main__":
    main()
