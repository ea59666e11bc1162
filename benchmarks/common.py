"""What several benchmarks share: the table, figures of processes from /proc, and a signed-in product.

No measuring happens here.
"""

import itertools
import logging
import resource
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import structlog
from tests.support.product import Product, wait_for

PAGE_BYTES = resource.getpagesize()
OPEN_FILES = 65_536  # descriptors for thousands of simulated agents, in one process each for both ends
FAST_API = {"TOWLINE_SERVER_API_RATE": "1000", "TOWLINE_SERVER_API_BURST": "1000"}
"""A benchmark asks more often than one person may."""

Row = tuple[str, str, str, bool | None]
"""(what, measured, goal or baseline, whether the goal is met; None without a goal)"""


def table(rows: Iterable[Row]) -> str:
    """Return rows as Markdown."""
    words = {True: "met", False: "**missed**", None: ""}
    lines = ["| what | measured | goal or baseline | |", "|---|---|---|---|"]
    return "\n".join([*lines, *(f"| {what} | {figure} | {goal} | {words[met]} |" for what, figure, goal, met in rows)])


def cpu_seconds(pid: int) -> float:
    """Return the processor time that all threads of a process have used, as the scheduler counted it."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9


def resident_bytes(pid: int) -> int:
    """Return the memory of a process, shared libraries included."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_BYTES


def peak_bytes(pid: int) -> int:
    """Return the most memory that a process had since `forget_peak`."""
    words = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(words.split()[1]) * 1024


def forget_peak(pid: int) -> None:
    """Begin to look for the peak of a process anew (proc(5), clear_refs)."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def child(pid: int, *words: str) -> int:
    """Return the process id of a child whose command line holds all these words."""
    children = [(task / "children").read_text().split() for task in Path(f"/proc/{pid}/task").iterdir()]
    for number in itertools.chain.from_iterable(children):
        command = Path(f"/proc/{number}/cmdline").read_bytes().split(b"\0")
        if all(word.encode() in command for word in words):
            return int(number)
    raise LookupError(f"process {pid} has no child with {words}")


def log_errors_alone() -> None:
    """Write errors of this process to standard error, and nothing else: standard output is what was measured."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def allow_open_files() -> None:
    """Lift the limit on open files for this process and its children."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(OPEN_FILES, hard), hard))


class Bench:
    """A running product with a signed-in user and one healthy cluster."""

    def __init__(self, product: Product, client: httpx.Client, cluster: dict[str, Any]) -> None:
        self.product = product
        self.client = client
        self.cluster = cluster

    @property
    def server_pid(self) -> int:
        assert self.product._process is not None
        return self.product._process.pid

    @property
    def agent_pid(self) -> int:
        return child(self.server_pid, "towline.agent")

    def get(self, path: str, **parameters: Any) -> Any:
        """Return what the API answers."""
        answer = self.client.get(path, params=parameters)
        answer.raise_for_status()
        return answer.json()

    def post(self, path: str, body: Any) -> Any:
        """Send something to the API and return its answer."""
        answer = self.client.post(path, json=body)
        if answer.is_error:
            raise SystemExit(f"{path}: {answer.text}")
        return answer.json()

    def wait_for_job(self, job: dict[str, Any]) -> str:
        """Follow the events of a job until it ends; return its state."""
        with self.client.stream("GET", f"jobs/{job['id']}/events", params={"follow": 1}, timeout=120) as answer:
            for line in answer.iter_lines():
                if line == "event: end":
                    break
        return str(self.get(f"jobs/{job['id']}")["state"])

    def deploy(self, name: str, compose: str, **options: Any) -> None:
        """Deploy and wait; ends the benchmark when that fails."""
        body = {"compose": compose, "options": {"settle_seconds": 0, **options}}
        job = self.post(f"clusters/{self.cluster['id']}/deployments/{name}/revisions", body)["job"]
        if self.wait_for_job(job) != "succeeded":
            raise SystemExit(f"deploying {name}: {self.get('jobs/' + job['id'])}")

    def remove(self, name: str) -> None:
        """Remove a deployment and wait."""
        job = self.post(f"clusters/{self.cluster['id']}/deployments/{name}/remove", {"volumes": True})["job"]
        self.wait_for_job(job)


@contextmanager
def running_product() -> Iterator[Bench]:
    """Start `towline up` in a folder of its own, sign in, and wait until this machine is healthy."""
    with tempfile.TemporaryDirectory(prefix="towline-bench-") as name:
        folder = Path(name)
        with Product(folder, environment=FAST_API) as product:
            wait_for(lambda: "/setup#" in product.text, "the link for the first user", 30, product)
            product.set_up("bench")
            (folder / "password.txt").write_text("correct horse battery staple")
            signed_in = product.run(f"towline login {product.url} --user bench --password-file password.txt")
            if signed_in.returncode:
                raise SystemExit(signed_in.stderr)
            body = {"username": "bench", "password": "correct horse battery staple", "client": "cli", "name": "bench"}
            token = httpx.post(f"{product.url}/api/v1/login", json=body, timeout=30).json()["token"]
            headers = {"authorization": f"Bearer {token}"}
            with httpx.Client(base_url=f"{product.url}/api/v1/", headers=headers, timeout=60) as client:
                yield Bench(product, client, wait_for(lambda: _healthy(client), "a healthy cluster", 60, product))


def _healthy(client: httpx.Client) -> dict[str, Any] | None:
    found = client.get("clusters").json()["items"]
    healthy = [one for one in found if one["health"]["state"] == "healthy"]
    return healthy[0] if healthy else None


def now() -> float:
    """Return a monotonic moment in seconds."""
    return time.monotonic()
