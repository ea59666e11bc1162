"""`cluster_caches` as a process of its own: asked for what it knows and what it holds, a line at a time."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.cluster_caches import digest, fresh_rows

from towline.agent.kubernetes.api import Api
from towline.agent.surface import cluster

POLL = 0.1
MEBIBYTE = 1024 * 1024


@dataclass(frozen=True)
class Told:
    """What the process says of itself."""

    pods: int
    digest: str
    tasks: int
    resident: int
    objects: int


@dataclass
class CacheProcess:
    """See the module."""

    process: Process

    async def ask(self) -> Told:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(b"\n")
        return Told(**json.loads(await self.process.stdout.readline()))

    async def agree(self, truth: Api, *, within: float) -> tuple[float, Told]:
        """Wait until it knows the pods of a fresh list. Returns: after how many seconds, and what it holds then."""
        began = time.monotonic()
        wanted = digest(await fresh_rows(truth, cluster.PODS))
        while (told := await self.ask()).digest != wanted:
            took = time.monotonic() - began
            assert took < within, f"after {took:.1f} s it knows {told.pods} pods, and not as they are"
            await asyncio.sleep(POLL)
        return time.monotonic() - began, told

    async def settled(self, most: int, *, within: float) -> Told:
        """Wait until it holds no more than so many bytes. Returns: what it holds then, or at last."""
        deadline = time.monotonic() + within
        while (told := await self.ask()).resident > most and time.monotonic() < deadline:
            await asyncio.sleep(POLL)
        return told


@asynccontextmanager
async def cache_process(kubeconfig: Path) -> AsyncIterator[CacheProcess]:
    """Start it for a block."""
    words = (sys.executable, "-m", "tests.support.cluster_caches", str(kubeconfig))
    process = await asyncio.create_subprocess_exec(*words, stdin=PIPE, stdout=PIPE)
    try:
        yield CacheProcess(process)
    finally:
        process.kill()
        await process.wait()
