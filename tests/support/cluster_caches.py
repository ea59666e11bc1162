"""What an agent keeps of a cluster, its inventory and its surface's cache together, and whether a fresh list agrees.

async with following(credentials) as caches: await caches.agree(within=10)

As a process of its own, `python -m tests.support.cluster_caches KUBECONFIG`, it answers each line of its input with one
line of JSON, so that its memory can be looked at.
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
import json
import resource
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import structlog
import uvloop

from towline.agent.errors import KubernetesError
from towline.agent.kubernetes.api import Api
from towline.agent.kubernetes.credentials import Credentials, find_source
from towline.agent.kubernetes.inventory import KubernetesInventory
from towline.agent.policy import LocalPolicy
from towline.agent.settings import AgentSettings
from towline.agent.surface import cluster
from towline.agent.surface.cache import ClusterCache
from towline.agent.surface.cluster import Sort
from towline.agent.surface.errors import SurfaceError
from towline.aio.malloc import keep_large_blocks
from towline.aio.tasks import TaskOwner
from towline.kube.objects import List

LARGEST_PAGE = 64 * 1024 * 1024
POLL = 0.05


class Unheard:
    """A link that takes everything."""

    async def send(self, message: Any) -> None:
        return


@dataclass
class Caches:
    """Both caches, on one way to the API server."""

    api: Api
    inventory: KubernetesInventory
    cache: ClusterCache

    async def rows(self, sort: Sort[Any]) -> dict[str, bytes]:
        """What the surface would show of one kind."""
        shelf = await self.cache.shelf(sort)
        return {key: row.shown for key, row in shelf.rows.items()}

    def kept(self, sort: Sort[Any]) -> int:
        """How many of one kind are known, whatever the API server does."""
        return len(self.cache._shelves[sort.source.kind].rows)

    def pods_told(self) -> dict[str, int]:
        """How many pods each namespace has, as the control plane is told."""
        message = self.inventory.teller.book
        names = [key for key in self.namespaces if message.has("namespaces", key)]
        found = {name: message.get("namespaces", name) for name in names}
        return {name: entry.pods.total for name, entry in found.items() if entry.pods.total}

    namespaces: tuple[str, ...] = ()
    """Those that were in the last fresh list."""

    async def differences(self, truth: Api | None = None) -> list[str]:
        """Compare with fresh lists. Args: truth: another way to the API server, that nobody disturbs."""
        found: list[str] = []
        try:
            for sort in cluster.SORTS:
                kept, fresh = await self.rows(sort), await fresh_rows(truth or self.api, sort)
                wrong = [key for key in kept.keys() | fresh.keys() if kept.get(key) != fresh.get(key)]
                found += [f"{sort.name}s: {len(wrong)} differ, such as {wrong[0]}"] if wrong else []
                if sort is cluster.NAMESPACES:
                    self.namespaces = tuple(json.loads(one)["name"] for one in fresh.values())
                if sort is cluster.PODS:
                    counts = Counter(key.partition("/")[0] for key in fresh)
                    if (told := self.pods_told()) != counts:
                        found.append(f"counts: {told} are told, {dict(counts)} are there")
        except (SurfaceError, KubernetesError) as error:
            found.append(f"not readable: {error}")
        return found

    async def agree(self, *, within: float, truth: Api | None = None) -> float:
        """Wait until nothing differs. Returns: after how many seconds. Raises: AssertionError: something still does."""
        began = time.monotonic()
        while found := await self.differences(truth):
            took = time.monotonic() - began
            assert took < within, f"after {took:.1f} s: {found}"
            await asyncio.sleep(POLL)
        return time.monotonic() - began


async def fresh_rows(api: Api, sort: Sort[Any]) -> dict[str, bytes]:
    """Read everything of one kind anew. Raises: KubernetesError."""
    decoder: Any = msgspec.json.Decoder(List[sort.source.type])  # type: ignore[name-defined]
    found: dict[str, bytes] = {}
    token = ""
    async with api.connection() as connection:
        while True:
            asked: dict[str, str | int] = {"limit": 500, **({"continue": token} if token else {})}
            page = await connection.get(sort.source.target(**asked), decoder, LARGEST_PAGE)
            for one in page.items or ():
                row = sort.row(one, api.now())
                found[row.key] = row.shown
            if not (token := page.metadata.continue_token):
                return found


@asynccontextmanager
async def following(credentials: Credentials) -> AsyncIterator[Caches]:
    """Follow the cluster with both, for a block."""
    api, policy = Api(credentials), LocalPolicy()
    inventory = KubernetesInventory(credentials, lambda: policy, api=api)
    session: Any = Unheard()
    inventory.teller.connected(session)
    async with TaskOwner("caches") as owner:
        cache = ClusterCache(api, lambda: policy, owner)
        cache.listen(lambda *_: None)
        cache.use()
        owner.spawn("inventory", inventory.run())
        yield Caches(api, inventory, cache)


def credentials_of(kubeconfig: Path) -> Credentials:
    settings = AgentSettings(state_folder=kubeconfig.parent, kubeconfig=kubeconfig)
    return Credentials(find_source(settings, {}))


# -- as a process --------------------------------------------------------------------------------


def digest(rows: dict[str, bytes]) -> str:
    """Return what two that know the same have in common."""
    found = hashlib.sha256()
    for key in sorted(rows):
        found.update(key.encode() + b"\0" + rows[key] + b"\0")
    return found.hexdigest()


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


async def _answer_lines(caches: Caches) -> None:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while await reader.readline():
        rows = await caches.rows(cluster.PODS)
        told = {"pods": len(rows), "digest": digest(rows), "tasks": len(asyncio.all_tasks())}
        del rows
        print(json.dumps(told | {"resident": resident_bytes(), "objects": len(gc.get_objects())}), flush=True)


async def _main(kubeconfig: Path) -> None:
    async with following(credentials_of(kubeconfig)) as caches:
        await _answer_lines(caches)


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    keep_large_blocks()
    uvloop.run(_main(Path(sys.argv[1])))
