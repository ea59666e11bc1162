"""What the Kubernetes benchmark runs on: two ways to one cluster, idle pods, a real one, and commands in it.

Everything lies in namespaces `bench-…`, which go away at the end. Nothing is judged here.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from tests.support import kubernetes_objects as objects
from tests.support.kubectl import Client
from tests.support.kubernetes_stack import Stack
from tests.support.product import wait_for
from tests.testbed import kubectl
from tests.testbed.kubernetes.cluster import Cluster

POD_BYTES = 6_000
"""A pod as JSON, what the API server adds included: as those of ordinary workloads."""
POD_OVERHEAD_BYTES = 2_200
"""What the API server makes of a pod without annotations."""
WRITERS = 24
"""Requests at once while pods are made: more did not make them faster."""
NOBODY = "bench-nobody"
"""The scheduler that these pods wait for. Pods of a node that is not there would be collected after forty seconds."""
FILE = "/data/file"
SHELL = """\
dd if=/dev/urandom of={file} bs=1048576 count={megabytes} 2>/dev/null
exec httpd -f -p 8080 -h /data
"""
ECHO = b"x" * 63 + b"\n"
STDIN, STDOUT = b"\0", 1
PROTOCOL = "v5.channel.k8s.io"
GONE_TIMEOUT = 45.0
ACCOUNT = "bench-agent"
USER = "bench"


@dataclass(frozen=True)
class Way:
    """One way to the cluster's API: straight, or through Towline."""

    name: str
    url: str
    token: str
    trust: ssl.SSLContext
    kubectl: Client

    @asynccontextmanager
    async def session(self) -> AsyncIterator[aiohttp.ClientSession]:
        """A client that asks for plain answers over TLS, as many at once as wanted."""
        headers = {"authorization": f"Bearer {self.token}", "accept-encoding": "identity"}
        connector = aiohttp.TCPConnector(ssl=self.trust, limit=0)
        timeout = aiohttp.ClientTimeout(total=60)
        async with aiohttp.ClientSession(
            self.url, headers=headers, connector=connector, timeout=timeout, read_bufsize=2**20
        ) as session:
            yield session


@dataclass(frozen=True)
class Bed:
    """A control plane and an agent in processes of their own, and what is asked for."""

    stack: Stack
    folder: Path
    direct: Way
    through: Way
    few: str
    many: str
    real: str
    pods: int

    @property
    def ways(self) -> tuple[Way, Way]:
        return self.direct, self.through


@contextmanager
def running_bed(folder: Path, *, few: int, many: int, megabytes: int) -> Iterator[Bed]:
    """Start everything, and make the pods.

    Args: few, many: pods that run nothing, in two namespaces; megabytes: size of the real pod's file.
    """
    cluster = Cluster()
    cluster.up(with_node=True)
    mark = secrets.token_hex(2)
    with Stack(folder, cluster, kubectl.ensure(), namespace=ACCOUNT) as stack:
        bed = _bed(stack, folder, mark, many)
        names = [bed.few, bed.many, bed.real]
        try:
            for name in names:
                _make_namespace(bed, name)
            objects.apply(bed.direct.kubectl, bed.real, real_pod(megabytes), clock())
            asyncio.run(_make_pods(bed, {bed.few: few, bed.many: many}))
            objects.wait_for_pods(bed.direct.kubectl, bed.real, "pod/real")
            yield bed
        finally:
            _clean_up(bed, [*names, ACCOUNT])


def _bed(stack: Stack, folder: Path, mark: str, pods: int) -> Bed:
    user = stack.user(USER, "admin", bound_to="cluster-admin")
    token = (stack.cluster.home / "tokens.csv").read_text().split(",")[0]
    trust = ssl.create_default_context(cafile=stack.cluster.home / "authority.crt")
    address = f"https://127.0.0.1:{stack.cluster.api_port}"
    direct = Way("direct", f"{address}/", token, trust, stack.direct())
    through = Way("Towline", f"{stack.server()}/", user.token, stack.trust(), user.client())
    names = [f"bench-{kind}-{mark}" for kind in ("few", "many", "real")]
    return Bed(stack, folder, direct, through, names[0], names[1], names[2], pods)


def _make_namespace(bed: Bed, name: str) -> None:
    """Make a namespace, and wait for the account that its pods run as."""
    bed.direct.kubectl.succeed("create", "namespace", name)
    account = ("-n", name, "get", "serviceaccount", "default")
    wait_for(lambda: bed.direct.kubectl.run(*account).returncode == 0, f"the account of {name}", 20)


def real_pod(megabytes: int) -> dict[str, Any]:
    """A pod with a shell, and a large file that it serves; the file lies in memory."""
    pod = objects.pod("real", "sh", "-c", SHELL.format(file=FILE, megabytes=megabytes))
    pod["spec"]["volumes"] = [{"name": "data", "emptyDir": {"medium": "Memory"}}]
    pod["spec"]["containers"][0] |= {
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
        "readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1},
    }
    return pod


def clock() -> dict[str, Any]:
    """The object whose changes are watched."""
    return objects.named("ConfigMap", "clock", data={"sent": ""})


def idle_pod(number: int) -> dict[str, Any]:
    """A pod that no scheduler takes."""
    pod = objects.pod(f"app-{number % 200}-7d9f8c6b5-{number:05}", schedulerName=NOBODY)
    filling = {f"example.org/{n}": "x" * 80 for n in range((POD_BYTES - POD_OVERHEAD_BYTES) // 105)}
    pod["metadata"]["annotations"] = filling
    return pod


async def _make_pods(bed: Bed, counts: dict[str, int]) -> None:
    wanted = iter([(name, number) for name, count in counts.items() for number in range(count)])
    async with bed.direct.session() as session:

        async def write() -> None:
            for name, number in wanted:
                path = f"api/v1/namespaces/{name}/pods"
                async with session.post(path, json=idle_pod(number)) as answer:
                    if answer.status != 201:
                        raise SystemExit(await answer.text())

        await asyncio.gather(*(write() for _ in range(WRITERS)))


def _clean_up(bed: Bed, namespaces: list[str]) -> None:
    """Remove what was made, and wait until it is gone: whatever is measured next wants a quiet cluster."""
    direct = bed.direct.kubectl
    direct.run("delete", "clusterrolebinding", ACCOUNT, f"k8-{USER}", "--ignore-not-found")
    direct.run("delete", "clusterrole", ACCOUNT, "--ignore-not-found")
    with contextlib.suppress(subprocess.TimeoutExpired):
        direct.run("delete", "namespace", *namespaces, "--ignore-not-found", timeout=GONE_TIMEOUT)


# -- commands in the real pod ---------------------------------------------------------------------


class Shell:
    """One exec of `cat`, as a client library speaks it."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket

    async def echo(self) -> float:
        """Send a line, and wait for it to come back. Returns: seconds."""
        begun, missing = time.monotonic(), len(ECHO)
        await self._socket.send_bytes(STDIN + ECHO)
        while missing:
            data = await self._socket.receive_bytes()
            missing -= len(data) - 1 if data[0] == STDOUT else 0
        return time.monotonic() - begun


@asynccontextmanager
async def shell(session: aiohttp.ClientSession, namespace: str) -> AsyncIterator[Shell]:
    """Open an exec in the real pod."""
    path = f"api/v1/namespaces/{namespace}/pods/real/exec?command=cat&stdin=1&stdout=1"
    async with session.ws_connect(path, protocols=[PROTOCOL]) as socket:
        if socket.protocol != PROTOCOL:
            raise SystemExit(f"{PROTOCOL} was not agreed on")
        made = Shell(socket)
        await made.echo()
        yield made


class Flood:
    """An exec that prints without end to a kubectl that throws it away."""

    def __init__(self, way: Way, namespace: str) -> None:
        client = way.kubectl
        self._process = subprocess.Popen(
            client.command("-n", namespace, "exec", "real", "--", "cat", "/dev/zero"),
            env=client.environment, cwd=client.home, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        )  # fmt: skip

    def read(self) -> int:
        """Return how many bytes kubectl has written so far, as the kernel counts them."""
        words = dict(line.split(": ") for line in Path(f"/proc/{self._process.pid}/io").read_text().splitlines())
        return int(words["wchar"])

    def __enter__(self) -> Flood:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
