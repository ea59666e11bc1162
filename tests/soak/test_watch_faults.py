"""A real API server is killed, frozen, cut off and flooded: soon what the agent keeps equals a fresh list again.

The cluster is one of the test's own, without a node, in a network of its own. The agent reads with the rights of a
ServiceAccount, so that an API server that has just started refuses it, as it does. `make soak` strikes more often, with
10,000 pods, and makes the line itself silent, which takes a quarter of a minute each time.
"""

import asyncio
import json
import os
import random
import signal
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.support.cache_process import MEBIBYTE, CacheProcess, Told, cache_process
from tests.support.cluster_caches import Caches, credentials_of, following
from tests.support.cutting_relay import CuttingRelay
from tests.support.kube_agent import Admin, make_agent_account, write_kubeconfig
from tests.testbed import debian, paths
from tests.testbed.isolation import own_network
from tests.testbed.kubernetes import program
from tests.testbed.kubernetes.cluster import Cluster

from towline.agent.kubernetes.api import Api
from towline.agent.surface.cluster import PODS as POD_SORT

pytestmark = [pytest.mark.root]

SEED = int(os.environ.get("TOWLINE_CHAOS_SEED", "20261"))
ROUNDS = int(os.environ.get("TOWLINE_SOAK_ROUNDS", "5"))
"""Of strikes of each kind in the long form, some 80 seconds each."""
WITHIN = 10.0
"""Seconds after a fault in which everything is known again."""
NAMESPACE = "watched"
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
OWN = "watch-faults-"
"""What the cluster of a run is called, before the number of its process."""
PATIENCE = 2.0
"""Seconds that the cluster's servers have to end politely: they would wait for every watch."""
AT_ONCE = 50
"""Writes under way at the same time."""
GROWTH = 32 * MEBIBYTE
"""What may stay of a flood of pods, in Python's own pools; 10,000 pods take some 53 MiB."""
GROWTH_LATER = 8 * MEBIBYTE
"""What a second flood may add: it fills what the first one left."""
LABELS = {f"label-{number}": "x" * 60 for number in range(20)}
"""What makes each pod of a flood take some kilobytes."""


class WatchBed:
    """The cluster, and what is done to it."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.cluster = cluster
        self.admin = Admin(cluster)
        self.draw = random.Random(SEED)
        self.token = make_agent_account(self.admin, NAMESPACE, inventory=True)
        self.kubeconfig = write_kubeconfig(folder / "kubeconfig", cluster, self.token)
        self.kubeconfig.chmod(0o600)
        self.truth = Api(credentials_of(Path(cluster.kubeconfig)))

    # -- strikes -----------------------------------------------------------------------------------

    def kill_api(self) -> None:
        pid = self.cluster.running("kube-apiserver")
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        self.cluster.stop("kube-apiserver", timeout=PATIENCE)

    def start_api(self) -> None:
        words = self.cluster._api_words(with_node=False)
        self.cluster.start("kube-apiserver", program.build() / "kube-apiserver", *words)
        self.cluster.wait("kube-apiserver", self.cluster.is_ready)

    def freeze_api(self, how: signal.Signals) -> None:
        pid = self.cluster.running("kube-apiserver")
        assert pid is not None
        os.kill(pid, how)

    def stop_etcd(self, seconds: float) -> None:
        self.cluster.stop("etcd", timeout=PATIENCE)
        time.sleep(seconds)
        self.cluster.start("etcd", program.build() / "etcd", *self.cluster._etcd_words())
        if self.cluster.running("kube-apiserver") is None:
            self.start_api()
        self.cluster.wait("kube-apiserver", self.cluster.is_ready)

    def is_fresh(self) -> bool:
        """Whether the API server's own cache, which feeds every watch, has what etcd has; it needs a while too."""
        try:
            version = json.loads(self.cluster.api(f"{PODS}?limit=1"))["metadata"]["resourceVersion"]
            self.cluster.api(f"{PODS}?resourceVersion={version}&resourceVersionMatch=NotOlderThan")
        except OSError:
            return False
        return True

    # -- changes -----------------------------------------------------------------------------------

    async def stir(self, changes: int = 20) -> None:
        """Let pods come, change and go."""
        async with self._writer() as write:
            for _ in range(changes):
                name = f"p{self.draw.randrange(30)}"
                status = await write("POST", PODS, _pod(name))
                if status == 409 and self.draw.random() < 0.5:
                    await write("DELETE", f"{PODS}/{name}", {"gracePeriodSeconds": 0})
                elif status == 409:
                    labels = {"metadata": {"labels": {"stirred": str(self.draw.random())}}}
                    await write("PATCH", f"{PODS}/{name}", labels)

    async def flood(self, count: int) -> float:
        """Make so many pods. Returns: the seconds it took."""
        began = time.monotonic()
        turns = asyncio.Semaphore(AT_ONCE)
        async with self._writer() as write:

            async def make(number: int) -> None:
                async with turns:
                    assert await write("POST", PODS, _pod(f"flood-{number}", of="flood", **LABELS)) == 201

            await asyncio.gather(*(make(number) for number in range(count)))
        return time.monotonic() - began

    async def drain(self) -> float:
        """Take the pods of a flood away. Returns: the seconds it took."""
        began = time.monotonic()
        async with self._writer() as write:
            wanted = f"{PODS}?labelSelector=of%3Dflood"
            while True:
                with suppress(aiohttp.ClientError):  # the API server gives up on what takes more than a minute
                    await write("DELETE", wanted, {"gracePeriodSeconds": 0})
                if not await asyncio.to_thread(self.cluster.items, f"{wanted}&limit=1"):
                    return time.monotonic() - began

    def _writer(self) -> "_Writer":
        return _Writer(self.cluster)


class _Writer:
    """Writes as the administrator, on connections that stay."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    async def __aenter__(self) -> Any:
        trust = ssl.create_default_context(cafile=str(self._cluster.home / "authority.crt"))
        token = (self._cluster.home / "tokens.csv").read_text().split(",")[0]
        self._client = aiohttp.ClientSession(
            f"https://127.0.0.1:{self._cluster.api_port}",
            connector=aiohttp.TCPConnector(ssl=trust, limit=AT_ONCE),
            headers={"Authorization": f"Bearer {token}"},
        )
        return self._write

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()

    async def _write(self, method: str, path: str, body: Any) -> int:
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        async with self._client.request(method, path, data=json.dumps(body), headers={"Content-Type": kind}) as answer:
            await answer.read()
            return answer.status


def _pod(name: str, **labels: str) -> dict[str, Any]:
    """A pod that nobody schedules."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": labels},
        "spec": {"schedulerName": "nobody", "containers": [{"name": "main", "image": "none"}]},
    }


@pytest.fixture(scope="module")
def bed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WatchBed]:
    debian.ensure(debian.KUBERNETES_PACKAGES)
    with own_network():
        for state in paths.state("").glob(f"kubernetes-{OWN}*"):  # what killed runs have left
            name = state.name.removeprefix("kubernetes-")
            if not Path(f"/proc/{name.removeprefix(OWN)}").exists():
                Cluster(name).down(timeout=PATIENCE)
        cluster = Cluster(f"{OWN}{os.getpid()}")
        try:
            cluster.up(with_node=False)
            yield WatchBed(cluster, tmp_path_factory.mktemp("watching"))
        finally:
            cluster.down(timeout=PATIENCE)


@pytest.fixture
async def caches(bed: WatchBed) -> AsyncIterator[Caches]:
    await bed.stir()
    async with following(credentials_of(bed.kubeconfig)) as made:
        await made.agree(within=30.0, truth=bed.truth)
        yield made


async def know_again(bed: WatchBed, caches: Caches, what: str) -> None:
    """The fault is over: change something at once, and wait until it is known."""
    over = time.monotonic()
    await bed.stir()
    await asyncio.to_thread(bed.cluster.wait, "kube-apiserver", bed.is_fresh)
    fresh = time.monotonic()
    await caches.agree(within=WITHIN, truth=bed.truth)
    print(f"{what}: known again after {time.monotonic() - fresh:.1f} s; the API server had needed {fresh - over:.1f} s")


async def kill_and_start(bed: WatchBed, caches: Caches) -> None:
    """Kill the API server, and look while it is away and starts whether anything seems to be gone."""
    kept = caches.kept(POD_SORT)
    await asyncio.to_thread(bed.kill_api)
    starting = asyncio.ensure_future(asyncio.to_thread(bed.start_api))
    while not starting.done():
        assert caches.kept(POD_SORT) == kept, "an API server that starts takes nothing away"
        await asyncio.wait({starting}, timeout=0.02)
    await starting
    await know_again(bed, caches, "API server killed and started")


async def freeze(bed: WatchBed, caches: Caches, seconds: float) -> None:
    bed.freeze_api(signal.SIGSTOP)
    await asyncio.sleep(seconds)
    bed.freeze_api(signal.SIGCONT)
    await know_again(bed, caches, f"API server frozen for {seconds:.0f} s")


async def lose_etcd(bed: WatchBed, caches: Caches, seconds: float) -> None:
    await asyncio.to_thread(bed.stop_etcd, seconds)
    await know_again(bed, caches, f"etcd stopped for {seconds:.0f} s")


async def silence(bed: WatchBed, caches: Caches, seconds: float) -> None:
    """Lose every packet of this network without a word."""
    set_line("down")
    await asyncio.sleep(seconds)
    set_line("up")
    await asyncio.to_thread(bed.cluster.wait, "kube-apiserver", bed.cluster.is_ready)
    await know_again(bed, caches, f"line silent for {seconds:.0f} s")


def set_line(state: str) -> None:
    subprocess.run(["ip", "link", "set", "lo", state], check=True)


@pytest.mark.timeout(120)
async def test_an_api_server_that_was_killed_or_frozen_is_known_again(bed: WatchBed, caches: Caches) -> None:
    await kill_and_start(bed, caches)
    await freeze(bed, caches, 2)


@pytest.mark.timeout(120)
async def test_answers_cut_at_random_bytes_lose_nothing(bed: WatchBed, tmp_path: Path) -> None:
    await cut_answers(bed, tmp_path, 8)


async def cut_answers(bed: WatchBed, folder: Path, cuts: int) -> None:
    """Stir while every answer is cut somewhere, until there were so many cuts."""
    relay = CuttingRelay(bed.cluster.api_port, SEED)
    await relay.begin()
    try:
        await _cut_answers(bed, relay, folder / "kubeconfig", cuts)
    finally:
        await relay.end()


async def _cut_answers(bed: WatchBed, relay: CuttingRelay, kubeconfig: Path, cuts: int) -> None:
    config = write_kubeconfig(kubeconfig, bed.cluster, bed.token, port=relay.port)
    config.chmod(0o600)
    async with following(credentials_of(config)) as caches:
        await caches.agree(within=30.0, truth=bed.truth)
        relay.within = (3_000, 60_000)
        relay.cut()
        while relay.cuts < cuts:
            await bed.stir(5)
        relay.within = None
        await know_again(bed, caches, f"{relay.cuts} cuts at random bytes")


@pytest.mark.timeout(180)
async def test_a_thousand_pods_at_once_are_known_and_their_memory_is_given_back(bed: WatchBed) -> None:
    await flood(bed, 1_000)


async def flood(bed: WatchBed, count: int, times: int = 1) -> None:
    """Make pods at once and take them away again, looking at a process that follows."""
    async with cache_process(bed.kubeconfig) as process:
        level = await flood_once(bed, process, count // 10)  # what a process needs once is not what stays of a flood
        most = level.resident + GROWTH
        for _ in range(times):
            after = await flood_once(bed, process, count, most)
            assert after.resident <= most
            assert after.tasks <= level.tasks
            most = min(most, after.resident + GROWTH_LATER)


async def flood_once(bed: WatchBed, process: CacheProcess, count: int, most: int = 0) -> Told:
    """Returns: what the process holds once it holds no more than `most` bytes, or ten seconds later."""
    made = await bed.flood(count)
    known, full = await process.agree(bed.truth, within=WITHIN)
    assert full.pods >= count
    emptied = await bed.drain()
    gone, _ = await process.agree(bed.truth, within=WITHIN)
    after = await process.settled(most, within=WITHIN) if most else await process.ask()
    print(f"{count} pods made in {made:.1f} s, known {known:.1f} s after that")
    print(f"removed in {emptied:.1f} s, gone {gone:.1f} s after that")
    print(f"MiB with them, and after: {full.resident / MEBIBYTE:.1f}, {after.resident / MEBIBYTE:.1f}")
    return after


@pytest.mark.soak
async def test_strike_after_strike_everything_is_known_again(bed: WatchBed, caches: Caches) -> None:
    print(f"seed {SEED}")
    for _ in range(ROUNDS):
        await kill_and_start(bed, caches)
        await freeze(bed, caches, bed.draw.uniform(1, 30))
        await lose_etcd(bed, caches, bed.draw.uniform(1, 30))
        await silence(bed, caches, bed.draw.uniform(1, 60))


@pytest.mark.soak
async def test_a_hundred_cuts_at_random_bytes_lose_nothing(bed: WatchBed, tmp_path: Path) -> None:
    await cut_answers(bed, tmp_path, 100)


@pytest.mark.soak
async def test_ten_thousand_pods_at_once_are_known_and_their_memory_is_given_back(bed: WatchBed) -> None:
    await flood(bed, 10_000, times=2)
