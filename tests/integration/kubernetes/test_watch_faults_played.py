"""What an agent keeps of a cluster, when the API server's answers break in every way: it equals a fresh list again.

The API server is played on loopback, with a history and a memory that ends; `tests/soak/test_watch_faults.py` strikes a
real one.
"""

import asyncio
import random
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Literal

import pytest
import time_machine
import yaml
from tests.support.cache_process import MEBIBYTE, cache_process
from tests.support.cluster_caches import Caches, following
from tests.support.faulty_api import FaultyApi
from tests.support.scripted_agent import until
from tests.support.small_api import pod
from tests.testbed.kubernetes import configuration

from towline.agent.kubernetes import upstream
from towline.agent.kubernetes.api import KEEP_ALIVE_AFTER, LOST_AFTER, Api
from towline.agent.kubernetes.credentials import Credentials
from towline.agent.surface import cluster

WITHIN = 10.0
"""Seconds after a fault in which everything is known again."""
DAY = 86_400.0
MANY = 10_000
WARMED = 1_000
"""Pods that come and go before memory is looked at: what a process needs once is not what it fails to give back."""
GROWTH = 20 * MEBIBYTE
"""What may stay of 10,000 pods, most of it in Python's own pools: 10 of 45 MiB, and 27 if nothing is done."""
LABELS = {f"label-{number}": "x" * 60 for number in range(20)}
"""What makes each pod take some kilobytes."""


@pytest.fixture
async def api() -> AsyncIterator[FaultyApi]:
    """A cluster with a node, a namespace and some pods."""
    made = FaultyApi(seed=20261)
    made.put("nodes", {"metadata": {"name": "n1"}})
    made.put("namespaces", {"metadata": {"name": "web"}, "status": {"phase": "Active"}})
    for number in range(20):
        made.put("pods", pod(f"p{number}"))
    await made.begin()
    yield made
    await made.end()


@pytest.fixture
async def caches(api: FaultyApi) -> AsyncIterator[Caches]:
    async with following(Credentials(api.material)) as made:
        await made.agree(within=WITHIN)
        yield made


def stir(api: FaultyApi, draw: random.Random, changes: int = 50) -> None:
    """Let pods come, change and go."""
    for _ in range(changes):
        name = f"p{draw.randrange(100)}"
        if f"web/{name}" in api.objects["pods"] and draw.random() < 0.3:
            api.remove("pods", f"web/{name}")
        else:
            api.put("pods", pod(name, phase=draw.choice(("Running", "Pending", "Failed"))))


async def asked_again(api: FaultyApi, times: int = 10) -> None:
    """Wait until so many more questions were asked."""
    before = len(api.asked)
    await until(lambda: len(api.asked) >= before + times, WITHIN)


async def test_answers_that_are_cut_anywhere_lose_nothing(api: FaultyApi, caches: Caches) -> None:
    draw = random.Random(20261)
    for longest in (400, 4000):
        api.cut_within = (1, longest)
        api.drop()
        for _ in range(2):
            stir(api, draw)
            await asked_again(api)
    api.cut_within = None
    await caches.agree(within=WITHIN)


@pytest.mark.parametrize("told", ["status", "event"])
async def test_versions_that_are_too_old_are_made_up_for(
    api: FaultyApi, caches: Caches, told: Literal["status", "event"]
) -> None:
    api.expire_by = told
    stir(api, random.Random(1))
    await api.end()
    stir(api, random.Random(2))
    api.forget_history()
    await api.begin()
    await caches.agree(within=WITHIN)


async def test_an_api_server_that_is_back_after_a_while_is_known_again(api: FaultyApi, caches: Caches) -> None:
    await api.end()
    await until(lambda: caches.cache.standing()["state"] == "away", WITHIN)
    stir(api, random.Random(3))
    await api.begin()
    await caches.agree(within=WITHIN)


@pytest.mark.parametrize("status", [401, 403, 503])
async def test_an_api_server_that_refuses_while_it_starts_takes_nothing_away(
    api: FaultyApi, caches: Caches, status: int
) -> None:
    await api.end()
    api.refuse = status
    stir(api, random.Random(4))
    await api.begin()
    await asked_again(api, 20)
    assert len(await caches.rows(cluster.PODS)) == 20
    api.refuse = 0
    await caches.agree(within=WITHIN)


async def test_garbage_large_events_and_bookmarks_between_changes_do_no_harm(api: FaultyApi, caches: Caches) -> None:
    draw = random.Random(5)
    large = pod("large") | {"data": "x" * MEBIBYTE}
    for garbage in (b"nonsense\n", b'{"type":"ADDED","object":{"metadata":{"name":"\xff"}}}\n', b"\0" * 9 + b"\n"):
        stir(api, draw)
        api.put("pods", large)
        api.bookmark()
        api.say(garbage)
        stir(api, draw)
        await caches.agree(within=WITHIN)


@pytest.mark.parametrize("jump", [-DAY, DAY])
async def test_a_clock_that_jumps_by_a_day_does_no_harm(api: FaultyApi, caches: Caches, jump: float) -> None:
    with time_machine.travel(time.time() + jump, tick=True):
        stir(api, random.Random(6))
        await caches.agree(within=WITHIN)
        api.drop()
        stir(api, random.Random(7))
        await caches.agree(within=WITHIN)
    api.drop()
    stir(api, random.Random(8))
    await caches.agree(within=WITHIN)


async def test_ten_thousand_pods_at_once_are_known_and_their_memory_is_given_back(
    api: FaultyApi, tmp_path: Path
) -> None:
    config = configuration.kubeconfig(f"http://127.0.0.1:{api.port}", tmp_path / "none", "agent", "secret")
    del config["clusters"][0]["cluster"]["certificate-authority"]
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(config))
    (tmp_path / "kubeconfig").chmod(0o600)
    truth = Api(Credentials(api.material))
    async with cache_process(tmp_path / "kubeconfig") as process:
        flood(api, WARMED)
        await process.agree(truth, within=WITHIN)
        drain(api)
        _, before = await process.agree(truth, within=WITHIN)
        flood(api, MANY)
        took, full = await process.agree(truth, within=WITHIN)
        drain(api)
        emptied, _ = await process.agree(truth, within=WITHIN)
        after = await process.settled(before.resident + GROWTH, within=WITHIN)
        print(f"known after {took:.1f} s, gone after {emptied:.1f} s: {before}, {full}, {after}")
        assert full.pods == MANY + 20
        assert after.resident - before.resident <= GROWTH
        assert after.tasks <= before.tasks


def flood(api: FaultyApi, count: int) -> None:
    for number in range(count):
        api.put("pods", pod(f"flood-{number}", waiting="ContainerCreating", phase="Pending", **LABELS))


def drain(api: FaultyApi) -> None:
    for key in [key for key in api.objects["pods"] if key.startswith("web/flood-")]:
        api.remove("pods", key)


async def test_lines_that_die_without_a_word_are_noticed_by_the_kernel(api: FaultyApi) -> None:
    transport, _ = await upstream.dial(Credentials(api.material).current(), asyncio.Protocol)
    upstream.keep_alive(transport, KEEP_ALIVE_AFTER, lost_after=LOST_AFTER)
    opened = transport.get_extra_info("socket")
    asked = [opened.getsockopt(socket.IPPROTO_TCP, option) for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL)]
    assert asked == [KEEP_ALIVE_AFTER] * 2
    assert opened.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == LOST_AFTER * 1000
    transport.close()
