"""The gateway beside nginx: small requests, bulk, latency, fairness, TLS, and the look-up of routes.

    python -m benchmarks.gateway [--seconds 3] [--rounds 3]

wrk asks for a file of 1 KiB, and for one of 100 MiB, through edge, tunnel and agent, and through nginx as a reverse
proxy that keeps its upstream connections; small files also through an nginx as one line of configuration makes it,
which opens a connection for each request. All ask the same nginx for the files. Edge and nginx proxies are pinned to
one core, the agent to the other; wrk and the files share both. The edge routes by a table of 50,000 routes, one of
which is asked for. Paths take turns in each round; the table holds medians. Beside bulk, the small requests of one
second to the last are counted. TLS is ended by the edge and by nginx, with the same certificate (P-256). No cap on
connections per address, access log off.
"""

import argparse
import os
import re
import secrets
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import timeit
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path

import structlog
import uvloop
from benchmarks.common import Row, table
from benchmarks.proxy import (
    FILES,
    LARGE_BYTES,
    SMALL_BYTES,
    Door,
    be_agent,
    cpu_seconds,
    ignore,
    nginx,
    process,
    wait_for,
)
from tests.support.tunnel_pair import OpenDoor

from towline.aio.malloc import keep_large_blocks
from towline.aio.tasks import TaskOwner
from towline.gateway.connectors import TcpConnector
from towline.gateway.edge import Edge
from towline.gateway.interfaces import Peer, Route, ToApi, ToLink, ToTarget
from towline.gateway.options import EdgeOptions
from towline.gateway.paths import LINK_PATH
from towline.gateway.routing import RouteEntry, RouteTable
from towline.gateway.tls import server_context
from towline.gateway.tunnelled import TunnelConnector
from towline.tunnel.accept import LinkAcceptor
from towline.tunnel.session import LinkSession
from towline.wire.http1 import RequestHead
from towline.wire.streams import Tcp

HOST = "app-25000.example.test"
TLS_HOST = "localhost"
"""What wrk asks for over TLS: the name in its address, which has to be the Host as well."""
ROUTES = 50_000
OURS, NGINX, SIMPLE = "gateway", "nginx", "nginx without kept connections"
REVERSE = """
  upstream files {{ server 127.0.0.1:{files}; keepalive 128; keepalive_requests 1000000000; }}
  server {{ listen 127.0.0.1:{simple}; location / {{ proxy_pass http://127.0.0.1:{files}; }} }}
  server {{ listen 127.0.0.1:{port}; listen 127.0.0.1:{tls} ssl;
    ssl_certificate {folder}/cert.pem; ssl_certificate_key {folder}/key.pem; ssl_session_cache none;
    location / {{ proxy_pass http://files; proxy_http_version 1.1; proxy_set_header Connection ""; }} }}
"""


class Routes:
    """Routes by a full table, as the control plane has it."""

    def __init__(self, route: ToTarget) -> None:
        entries = [RouteEntry(f"rte_{number}", f"app-{number}.example.test", route) for number in range(ROUTES)]
        self.table = RouteTable([*entries, RouteEntry("rte_tls", TLS_HOST, route)])

    def route(self, head: RequestHead, peer: Peer) -> Route:
        found = self.table.find(head.host, head.path)
        if found is not None:
            return found.route
        return ToLink() if head.path == LINK_PATH else ToApi()


async def serve(port: int, files: int, folder: Path) -> None:
    """Be the control plane's edge; the same port speaks TLS."""
    async with TaskOwner("benchmark") as owner:
        door, sessions = OpenDoor(), list[LinkSession]()
        connector = TunnelConnector(lambda: sessions[-1] if sessions else None, Tcp(host="127.0.0.1", port=files))
        context = server_context(folder / "cert.pem", folder / "key.pem")
        edge = Edge(
            EdgeOptions(connections_per_address=100_000, log_good_targets=False),
            router=Routes(ToTarget("app", connector, id="rte_app")),
            api=TcpConnector("127.0.0.1", files, owner),
            links=Door(LinkAcceptor(door, owner=owner)),
            tls=lambda: context,
            access_log=lambda record: None,
        )
        edge.listen("127.0.0.1", port)
        while True:
            session = await door.sessions.get()
            session.start(ignore)
            sessions.append(session)


def role(name: str, port: int, files: int, folder: Path, core: int) -> list[str]:
    """Return the command of one of our own processes, on one core."""
    options = ["--port", str(port), "--files", str(files), "--folder", str(folder)]
    return ["taskset", "-c", str(core), sys.executable, "-m", "benchmarks.gateway", "--role", name, *options]


def wrk(url: str, connections: int, seconds: int) -> tuple[float, float, float]:
    """Return requests per second, MiB per second, and the median latency in milliseconds."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}", "--timeout", "30", "--latency"]
    command += ["-H", f"Host: {TLS_HOST if url.startswith('https') else HOST}"]
    out = subprocess.run([*command, url], capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in out or "Socket errors" in out:
        raise SystemExit(f"{url}: {out}")
    requests = re.search(r"Requests/sec:\s+([\d.]+)", out)
    transfer = re.search(r"Transfer/sec:\s+([\d.]+)(\w+)", out)
    median = re.search(r"50%\s+([\d.]+)(us|ms|s)", out)
    assert requests is not None
    assert transfer is not None
    assert median is not None
    size = {"B": 2**-20, "KB": 2**-10, "MB": 1.0, "GB": 1024.0}[transfer[2]]
    return (
        float(requests[1]),
        float(transfer[1]) * size,
        float(median[1]) * {"us": 1e-3, "ms": 1.0, "s": 1e3}[median[2]],
    )


def beside_bulk(base: str, downloads: int, seconds: int) -> float:
    """Return the small requests per second of 8 connections while large files are fetched."""
    command = ["wrk", "-t1", f"-c{downloads}", f"-d{seconds + 1}", "--timeout", "60", "-H", f"Host: {HOST}"]
    bulk = subprocess.Popen([*command, f"{base}/large"], stdout=subprocess.DEVNULL)
    time.sleep(0.5)
    rate, _, _ = wrk(f"{base}/small", 8, seconds)
    bulk.wait()
    return rate


Figures = dict[tuple[str, str], list[float]]


def one_round(bases: dict[str, tuple[str, str]], children: dict[str, list[int]], seconds: int, found: Figures) -> None:
    """Let all take their turn: nginx without kept connections at small requests, the others at everything."""
    for connections in (32, 128):
        found[SIMPLE, f"small {connections}"].append(wrk(f"{bases[SIMPLE][0]}/small", connections, seconds)[0])
    for name in (NGINX, OURS):
        base, tls = bases[name]
        for connections in (32, 128):
            before = [cpu_seconds(pid) for pid in children[name]]
            rate, _, _ = wrk(f"{base}/small", connections, seconds)
            found[name, f"small {connections}"].append(rate)
            for pid, was, part in zip(children[name], before, ("server", "agent"), strict=False):
                found[name, f"{part} {connections}"].append((cpu_seconds(pid) - was) * 1e6 / (rate * seconds))
        found[name, "latency"].append(wrk(f"{base}/small", 1, seconds)[2])
        found[name, "bulk"].append(wrk(f"{base}/large", 1, seconds)[1])
        found[name, "bulk 4"].append(wrk(f"{base}/large", 4, seconds)[1])
        found[name, "tls"].append(wrk(f"{tls}/small", 32, seconds)[0])
        found[name, "tls bulk"].append(wrk(f"{tls}/large", 1, seconds)[1])
        for downloads in (1, 4):
            found[name, f"beside {downloads}"].append(beside_bulk(base, downloads, seconds))
        found[name, "alone"].append(wrk(f"{base}/small", 8, seconds)[0])


def look_up() -> float:
    """Return the microseconds of one look-up among 50,000 routes."""
    routes = Routes(ToTarget("app", NoConnector()))
    find, times = routes.table.find, 100_000
    return min(timeit.repeat(lambda: find(HOST, b"/a/b/c"), number=times, repeat=5)) / times * 1e6


class NoConnector:
    """Connects nowhere."""

    def connect(self, protocol: object, first_bytes: bytes) -> None:
        raise AssertionError("nobody asks")


def certificate(folder: Path) -> None:
    """Make one that signs itself."""
    subject = ["-subj", "/CN=example.test", "-days", "2"]
    out = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    subprocess.run(["openssl", "req", "-x509", *kind, *subject, *out], check=True, capture_output=True)


def measure(seconds: int, rounds: int) -> None:
    """Run everything and print the table."""
    files = 20_000 + secrets.randbelow(20_000)
    reverse, tls, ours, simple = files + 1, files + 2, files + 3, files + 4
    found: Figures = defaultdict(list)
    with tempfile.TemporaryDirectory(prefix="towline-gateway-") as name, ExitStack() as stack:
        folder = Path(name)
        (folder / "www").mkdir()
        folder.chmod(0o755)  # nginx's worker may be another user
        (folder / "www" / "small").write_bytes(os.urandom(SMALL_BYTES))
        (folder / "www" / "large").write_bytes(os.urandom(LARGE_BYTES))
        certificate(folder)
        stack.enter_context(process(nginx(folder, "files", FILES.format(port=files, folder=folder))))
        text = REVERSE.format(port=reverse, files=files, tls=tls, simple=simple, folder=folder)
        proxy = stack.enter_context(process(["taskset", "-c", "0", *nginx(folder, "reverse", text)]))
        server = stack.enter_context(process(role("server", ours, files, folder, 0)))
        wait_for(f"http://127.0.0.1:{ours}/small", "api.test")
        agent = stack.enter_context(process(role("agent", ours, files, folder, 1)))
        bases = {
            NGINX: (f"http://127.0.0.1:{reverse}", f"https://{TLS_HOST}:{tls}"),
            SIMPLE: (f"http://127.0.0.1:{simple}", ""),
            OURS: (f"http://127.0.0.1:{ours}", f"https://{TLS_HOST}:{ours}"),
        }
        for base, _ in bases.values():
            wait_for(f"{base}/small", HOST)
        for _ in range(rounds):
            one_round(bases, {NGINX: [proxy.pid], OURS: [server.pid, agent.pid]}, seconds, found)
    print(table(rows({key: statistics.median(values) for key, values in found.items()}, look_up())))


def rows(middle: dict[tuple[str, str], float], microseconds: float) -> list[Row]:
    """Return the table."""

    def ratio(kind: str, unit: str, label: str, goal: float, other: str = NGINX) -> Row:
        mine, theirs = middle[OURS, kind], middle[other, kind]
        measured = f"{mine:,.0f} {unit}, {other} {theirs:,.0f}: x{mine / theirs:.2f}"
        return label, measured, f"x{goal:g}" if goal else "", mine / theirs >= goal if goal else None

    def kept(downloads: int) -> Row:
        mine = middle[OURS, f"beside {downloads}"] / middle[OURS, "alone"]
        theirs = middle[NGINX, f"beside {downloads}"] / middle[NGINX, "alone"]
        label = f"small requests beside {downloads} bulk, of those alone"
        measured = (
            f"{mine:.2f} ({middle[OURS, f'beside {downloads}']:,.0f}/s), nginx {theirs:.2f}: x{mine / theirs:.2f}"
        )
        return label, measured, "x0.5", mine / theirs >= 0.5

    latency, other = middle[OURS, "latency"], middle[NGINX, "latency"]
    server, agent, nginx_cpu = middle[OURS, "server 32"], middle[OURS, "agent 32"], middle[NGINX, "server 32"]
    spent = f"{server:.0f} + {agent:.0f} µs, nginx {nginx_cpu:.0f} µs"
    return [
        ratio("small 32", "requests/s", "1 KiB, 32 connections", 0.6),
        ratio("small 128", "requests/s", "1 KiB, 128 connections", 0.6),
        ratio("small 32", "requests/s", "the same, 32 connections", 0, SIMPLE),
        ratio("small 128", "requests/s", "the same, 128 connections", 0, SIMPLE),
        ("processor time of one request, server + agent", spent, "", None),
        ratio("bulk", "MiB/s", "100 MiB, one download", 0.8),
        ratio("bulk 4", "MiB/s", "100 MiB, four downloads", 0.8),
        (
            "p50 of one connection",
            f"{latency:.2f} ms, nginx {other:.2f} ms: x{latency / other:.1f}",
            "x3",
            latency <= 3 * other,
        ),
        kept(1),
        kept(4),
        ratio("tls", "requests/s", "1 KiB over TLS, 32 connections", 0),
        ratio("tls bulk", "MiB/s", "100 MiB over TLS", 0),
        ("look-up among 50,000 routes", f"{microseconds:.2f} µs", "under 2 µs", microseconds < 2),
    ]


def main() -> None:
    """Measure, or be one of the processes that are measured."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--role", choices=["server", "agent"])
    parser.add_argument("--port", type=int)
    parser.add_argument("--files", type=int)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(30))
    if arguments.role is None:
        if shutil.which("wrk") is None:
            raise SystemExit("this benchmark needs wrk")
        measure(arguments.seconds, arguments.rounds)
        return
    keep_large_blocks()
    if arguments.role == "server":
        uvloop.run(serve(arguments.port, arguments.files, arguments.folder))
    else:
        uvloop.run(be_agent(arguments.port))


if __name__ == "__main__":
    main()
