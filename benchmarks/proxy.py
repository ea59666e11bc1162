"""Requests and bulk through the edge: direct, and through a tunnel and an agent, against an nginx reverse proxy.

    python -m benchmarks.proxy [--seconds 3] [--rounds 3]

wrk asks for a file of 1 KiB over 32 kept connections, and for one of 100 MiB over one; FastAPI answers a small JSON
document behind the edge. Every proxy runs in a process of its own and asks the same nginx. The paths take turns in
each round; the table holds medians, and their ratio to the nginx reverse proxy in the same run: once as one line of
configuration makes it, once with kept upstream connections. Limits: no cap on
connections per address, access log off; everything plain HTTP on loopback.
"""

import argparse
import asyncio
import os
import re
import secrets
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import structlog
import uvloop
from fastapi import FastAPI
from tests.support.tunnel_pair import AnySigner, OpenDoor

from towline.agent.policy import LocalPolicy
from towline.agent.streams.dialling import Dialler
from towline.agent.streams.router import StreamRouter
from towline.aio.malloc import keep_large_blocks
from towline.aio.tasks import TaskOwner
from towline.gateway.api_server import ApiServer
from towline.gateway.connectors import TcpConnector, UnixConnector
from towline.gateway.edge import Edge
from towline.gateway.interfaces import Peer, Route, ToApi, ToLink, ToTarget
from towline.gateway.options import EdgeOptions
from towline.gateway.paths import LINK_PATH
from towline.gateway.tunnelled import TunnelConnector
from towline.tunnel.accept import LinkAcceptor
from towline.tunnel.dial import Endpoint, dial
from towline.tunnel.dial import Route as DialRoute
from towline.tunnel.handshake import enter
from towline.tunnel.session import LinkSession
from towline.wire.http1 import RequestHead
from towline.wire.streams import Tcp

SMALL_BYTES = 1024
LARGE_BYTES = 100 * 1024 * 1024
CONNECTIONS = 32
STOCK_NAME, KEPT_NAME = "nginx, reverse proxy", "nginx, reverse proxy that keeps connections"
"""As it is configured by one line; and with a pool of upstream connections, as an expert sets it up."""
READY_TIMEOUT = 15.0

NGINX = """
daemon off; master_process off; pid {folder}/{name}.pid; error_log {folder}/{name}.log;
events {{ worker_connections 1024; }}
http {{
  access_log off; sendfile on; keepalive_requests 1000000000; client_body_temp_path {folder}/{name}-body;
  proxy_temp_path {folder}/{name}-proxy; fastcgi_temp_path {folder}/{name}-f; uwsgi_temp_path {folder}/{name}-u;
  scgi_temp_path {folder}/{name}-s;
  {server}
}}
"""
FILES = "server {{ listen 127.0.0.1:{port}; root {folder}/www; }}"
REVERSE = """
  upstream files {{ server 127.0.0.1:{files}; keepalive 64; keepalive_requests 1000000000; }}
  server {{ listen 127.0.0.1:{port};
    location / {{ proxy_pass http://files; proxy_http_version 1.1; proxy_set_header Connection ""; }} }}
"""


STOCK = """
  server {{ listen 127.0.0.1:{port};
    location / {{ proxy_pass http://127.0.0.1:{files}; }} }}
"""


class Routes:
    """Routes by host name."""

    def __init__(self, targets: dict[str, Route]) -> None:
        self._targets = targets

    def route(self, head: RequestHead, peer: Peer) -> Route:
        found = self._targets.get(head.host)
        if found is not None:
            return found
        return ToLink() if head.path == LINK_PATH else ToApi()


class Door:
    """Hands links from the edge to the tunnel."""

    def __init__(self, acceptor: LinkAcceptor) -> None:
        self._acceptor = acceptor

    def accept(self, transport: asyncio.Transport, head_bytes: bytes, peer: Peer) -> None:
        self._acceptor.accept(transport, head_bytes, peer.address)


async def serve(port: int, files: int, folder: Path) -> None:
    """Be the control plane: `direct.test` goes to nginx, `tunnel.test` through the tunnel, the rest to FastAPI."""
    app = FastAPI()

    @app.get("/api/v1/version")
    async def version() -> dict[str, str]:
        return {"version": "0", "commit": "0", "api": "v1"}

    async with TaskOwner("benchmark") as owner:
        door, sessions = OpenDoor(), []
        api = ApiServer(app, folder / "run" / "api.sock")
        await api.start()
        targets: dict[str, Route] = {
            "direct.test": ToTarget("direct", TcpConnector("127.0.0.1", files, owner)),
            "tunnel.test": ToTarget(
                "tunnel", TunnelConnector(lambda: sessions[-1] if sessions else None, Tcp(host="127.0.0.1", port=files))
            ),
        }
        edge = Edge(
            EdgeOptions(connections_per_address=100_000),
            router=Routes(targets),
            api=UnixConnector(str(api.path), owner),
            links=Door(LinkAcceptor(door, owner=owner)),
        )
        edge.listen("127.0.0.1", port)
        while True:
            session = await door.sessions.get()
            session.start(ignore)
            sessions.append(session)


async def ignore(message: object) -> None:
    """Handle no message."""


async def be_agent(port: int) -> None:
    """Be an agent that dials what streams name."""
    async with TaskOwner("benchmark") as owner:
        session = await dial(Endpoint.parse(f"http://127.0.0.1:{port}"), DialRoute(), owner=owner)
        await enter(session, AnySigner())
        assert isinstance(session, LinkSession)

        router = StreamRouter({Tcp: Dialler(LocalPolicy, lambda: ()).serve_tcp}, owner, 512)
        session.on_stream = router.take
        session.start(ignore)
        await session.wait_closed()


@contextmanager
def process(arguments: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program until the block ends."""
    child = subprocess.Popen(arguments)
    try:
        yield child
    finally:
        child.terminate()
        child.wait(10)


def role(name: str, port: int, files: int, folder: Path) -> list[str]:
    """Return the command of one of our own processes."""
    options = ["--port", str(port), "--files", str(files), "--folder", str(folder)]
    return [sys.executable, "-m", "benchmarks.proxy", "--role", name, *options]


def nginx(folder: Path, name: str, server: str) -> list[str]:
    """Write a configuration and return the command."""
    path = folder / f"{name}.conf"
    path.write_text(NGINX.format(folder=folder, name=name, server=server))
    return [shutil.which("nginx") or "/usr/sbin/nginx", "-p", str(folder), "-c", str(path)]


def wrk(url: str, host: str, connections: int, seconds: float) -> tuple[float, float]:
    """Return (requests, MiB) per second."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}", "--timeout", "30", "-H", f"Host: {host}", url]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in out or "Socket errors" in out:
        raise SystemExit(f"{url} {host}: {out}")
    requests = re.search(r"Requests/sec:\s+([\d.]+)", out)
    transfer = re.search(r"Transfer/sec:\s+([\d.]+)(\w+)", out)
    assert requests is not None
    assert transfer is not None
    unit = {"B": 2**-20, "KB": 2**-10, "MB": 1.0, "GB": 1024.0}[transfer[2]]
    return float(requests[1]), float(transfer[1]) * unit


def cpu_seconds(pid: int) -> float:
    """Return the processor time that all threads of a process have used, as the scheduler counted it."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9


def wait_for(url: str, host: str) -> None:
    """Wait until a path answers."""
    deadline = time.monotonic() + READY_TIMEOUT
    while True:
        try:
            with urllib.request.urlopen(urllib.request.Request(url, headers={"Host": host}), timeout=5) as answer:
                answer.read()
                return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def measure(seconds: float, rounds: int) -> None:
    """Run everything and print the table."""
    base = 20_000 + secrets.randbelow(20_000)
    files, reverse, ours, stock = base, base + 1, base + 2, base + 3
    with tempfile.TemporaryDirectory(prefix="towline-proxy-") as name, ExitStack() as stack:
        folder = Path(name)
        (folder / "www").mkdir()
        folder.chmod(0o755)  # nginx's worker may be another user
        (folder / "www" / "small").write_bytes(os.urandom(SMALL_BYTES))
        (folder / "www" / "large").write_bytes(os.urandom(LARGE_BYTES))
        stack.enter_context(process(nginx(folder, "files", FILES.format(port=files, folder=folder))))
        proxy = stack.enter_context(process(nginx(folder, "reverse", REVERSE.format(port=reverse, files=files))))
        plain = stack.enter_context(process(nginx(folder, "stock", STOCK.format(port=stock, files=files))))
        server = stack.enter_context(process(role("server", ours, files, folder)))
        wait_for(f"http://127.0.0.1:{ours}/api/v1/version", "api.test")
        agent = stack.enter_context(process(role("agent", ours, files, folder)))
        paths = {
            "nginx, direct": (files, "files.test", None, None),
            STOCK_NAME: (stock, "files.test", plain, None),
            KEPT_NAME: (reverse, "files.test", proxy, None),
            "edge": (ours, "direct.test", server, None),
            "edge, tunnel, agent": (ours, "tunnel.test", server, agent),
        }
        for port, host, *_ in paths.values():
            wait_for(f"http://127.0.0.1:{port}/small", host)
        rates: dict[tuple[str, str], list[float]] = {}
        cost: dict[tuple[str, str], list[float]] = {}
        for _ in range(rounds):
            for path, (port, host, *children) in paths.items():
                before = [cpu_seconds(child.pid) if child else 0.0 for child in children]
                rate, _ = wrk(f"http://127.0.0.1:{port}/small", host, CONNECTIONS, seconds)
                rates.setdefault((path, "small"), []).append(rate)
                for part, child, was in zip(("server", "agent"), children, before, strict=True):
                    used = (cpu_seconds(child.pid) - was) * 1e6 / (rate * seconds) if child else 0.0
                    cost.setdefault((path, part), []).append(used)
                _, speed = wrk(f"http://127.0.0.1:{port}/large", host, 1, seconds)
                rates.setdefault((path, "large"), []).append(speed)
            was = cpu_seconds(server.pid)
            rate, _ = wrk(f"http://127.0.0.1:{ours}/api/v1/version", "api.test", CONNECTIONS, seconds)
            rates.setdefault(("FastAPI behind the edge", "small"), []).append(rate)
            used = (cpu_seconds(server.pid) - was) * 1e6 / (rate * seconds)
            cost.setdefault(("FastAPI behind the edge", "server"), []).append(used)
        show(list(paths), rates, cost)


def show(paths: list[str], rates: dict[tuple[str, str], list[float]], cost: dict[tuple[str, str], list[float]]) -> None:
    """Print the table of medians."""
    middle = {key: statistics.median(values) for key, values in rates.items()}
    used = {key: statistics.median(values) for key, values in cost.items()}
    print("| path | 1 KiB, requests/s | ratio | CPU us per request, server / agent | 100 MiB, MiB/s | ratio |")
    print("|---|---|---|---|---|---|")
    for path in paths:
        small, large = middle[path, "small"], middle[path, "large"]
        spent = f"{used[path, 'server']:.0f} / {used[path, 'agent']:.0f}" if used[path, "server"] else "-"
        print(
            f"| {path} | {small:,.0f} | {small / middle[STOCK_NAME, 'small']:.2f} | {spent} "
            f"| {large:,.0f} | {large / middle[STOCK_NAME, 'large']:.2f} |"
        )
    api, each = middle["FastAPI behind the edge", "small"], used["FastAPI behind the edge", "server"]
    print(f"| FastAPI behind the edge | {api:,.0f} | - | {each:.0f} / 0 | - | - |")
    goals(middle, each)


def goals(middle: dict[tuple[str, str], float], api_microseconds: float) -> None:
    """Say which goals are met, against both baselines."""
    per_core = 1e6 / api_microseconds
    words = {True: "met", False: "**missed**"}
    print()
    print("| goal | measured | |")
    print("|---|---|---|")
    for baseline in (STOCK_NAME, KEPT_NAME):
        for kind, label in (("small", "requests of 1 KiB"), ("large", "bulk")):
            ratio = middle["edge, tunnel, agent", kind] / middle[baseline, kind]
            print(f"| {label}: 0.5 of {baseline} | {ratio:.2f} | {words[ratio >= 0.5]} |")
    print(f"| API through the edge: 3,000 requests/s a core | {per_core:,.0f} | {words[per_core >= 3000]} |")


def main() -> None:
    """Measure, or be one of the processes that are measured."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--role", choices=["server", "agent"])
    parser.add_argument("--port", type=int)
    parser.add_argument("--files", type=int)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(30))
    if arguments.role is None:
        measure(int(arguments.seconds), arguments.rounds)
        return
    keep_large_blocks()
    if arguments.role == "server":
        uvloop.run(serve(arguments.port, arguments.files, arguments.folder))
    else:
        uvloop.run(be_agent(arguments.port))


if __name__ == "__main__":
    main()
