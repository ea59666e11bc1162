"""Runs all benchmarks, or the named ones, and writes what they print into docs/benchmarks.md.

    python -m benchmarks [name…]

Each benchmark runs in a process of its own. A run of some of them leaves the sections of the others as they were; each
section says when, on what and under which load it was measured.
"""

import argparse
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

PAGE = Path(__file__).resolve().parents[1] / "docs" / "benchmarks.md"
LIMIT = 480.0
"""Seconds for one benchmark: 2,000 older agents register one after the other before anything is measured."""

BENCHMARKS = {
    "deploy": ("A deploy", "benchmarks.deploy"),
    "proxy": ("Streams through the edge, a tunnel and an agent", "benchmarks.proxy"),
    "gateway": ("The gateway beside nginx", "benchmarks.gateway --seconds 2 --rounds 2"),
    "gateway-memory": ("The gateway's memory", "benchmarks.gateway_memory"),
    "http2": ("What HTTP/2 to the client would cost", "benchmarks.http2"),
    "mux": ("The tunnel alone", "benchmarks.mux"),
    "idle": ("Idle agents", "benchmarks.idle"),
    "idle-tls": ("Idle agents over TLS", "benchmarks.idle --agents 1000 --tls"),
    "pipeops-rest": ("PipeOps REST agents", "benchmarks.pipeops_rest --poll"),
    "pipeops-ws": ("PipeOps agents on their WebSocket", "benchmarks.pipeops_ws"),
    "older-links": ("Kubernetes clients through a PipeOps agent", "benchmarks.older_links"),
    "follow": ("Logs from a container to their readers", "benchmarks.follow"),
    "logs": ("Logs through the agent and a tunnel", "benchmarks.logs"),
    "agent": ("An idle agent", "benchmarks.agent"),
    "route-lookup": ("Finding the route of a request", "benchmarks.route_lookup"),
    "inventory": ("The inventory of a Kubernetes cluster", "benchmarks.inventory"),
    "usage": ("The history of usage of a Kubernetes cluster", "benchmarks.usage"),
    "commands": ("A command on 1,000 clusters", "benchmarks.commands"),
    "surface": ("The agent of a cluster with 5,000 pods", "benchmarks.surface"),
    "fan-in": ("The logs of 100 pods as one", "benchmarks.fan_in"),
    "kubernetes": ("Kubernetes clients through Towline", "benchmarks.kubernetes"),
}
NOTES = "What the figures say"
"""A section written by hand, which stays as it is."""
HEAD = """\
# Benchmarks

`make bench` writes this page; `make bench ARGS="deploy proxy"` renews single sections. Ratios are between things that
were measured in the same run on the same machine, and mean more than the figures themselves. Everything runs on one
machine: the load generator, the service, server and agent share its cores. A goal that was missed says so.
"""


def machine() -> str:
    """Return one line about what the figures were measured on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if "model name" in line), platform.machine())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    system = f"Linux {platform.release()}, Python {platform.python_version()}"
    return f"{os.cpu_count()} cores of {model}, {memory:.0f} GiB, {system}"


def load() -> str:
    """Return how busy the machine is, by the one-minute average and by what runs right now."""
    one_minute, _, _, running, _ = Path("/proc/loadavg").read_text().split()
    return f"load {one_minute}, {running.partition('/')[0]} running"


def run(name: str) -> tuple[str, bool]:
    """Run one benchmark; return its section, and whether it ended well."""
    title, command = BENCHMARKS[name]
    module, *options = command.split()
    before, moment = load(), time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    print(f"{name} …", flush=True)
    done = subprocess.run(
        [sys.executable, "-m", module, *options], capture_output=True, text=True, check=False, timeout=LIMIT
    )
    if done.returncode:
        print(done.stdout + done.stderr, file=sys.stderr)
        return "", False
    printed = done.stdout.strip()
    print(printed, flush=True)
    about = f"{moment}; {before} before, {load()} after. {machine()}."
    words = describe(module)
    return f"## {title}\n\n{words}\n\n    python -m {command}\n\n{about}\n\n{printed}\n", True


def describe(module: str) -> str:
    """Return the description of a benchmark without its command line."""
    import importlib

    paragraphs = (importlib.import_module(module).__doc__ or "").strip().split("\n\n")
    return "\n\n".join(one for one in paragraphs if not one.startswith("    "))


def sections(page: str) -> dict[str, str]:
    """Return the sections of a page by their titles."""
    parts = page.split("\n## ")[1:]
    return {part.partition("\n")[0]: f"## {part.strip()}\n" for part in parts}


def main() -> int:
    """Run, and write the page; returns how many benchmarks failed."""
    parser = argparse.ArgumentParser(prog="benchmarks")
    parser.add_argument("names", nargs="*", metavar="name", help=f"one of {', '.join(BENCHMARKS)}; default: all")
    names = parser.parse_args().names or list(BENCHMARKS)
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"no such benchmark: {', '.join(unknown)}")
    known = sections(PAGE.read_text()) if PAGE.exists() else {}
    failed = 0
    for name in names:
        section, ended_well = run(name)
        failed += not ended_well
        if ended_well:
            known[BENCHMARKS[name][0]] = section
        titles = [NOTES, *(title for title, _ in BENCHMARKS.values())]
        ordered = [known[title] for title in titles if title in known]
        PAGE.write_text("\n".join([HEAD, *ordered]))
    return failed


if __name__ == "__main__":
    sys.exit(main())
