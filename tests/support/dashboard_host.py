"""An agent's surface in a thread of this process, beside an API server that a test fills, for tests with a browser.

with DashboardHost(folder) as host:
    host.put("pods", pod("a"))
    page.goto(host.url); host.read and host.operate are the tokens
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Coroutine, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Self, TypeVar

import uvloop
from tests.support.small_api import SmallApi
from tests.support.surface import Served, make_parts, served

from towline.agent.kubernetes.usage import METRICS as METRICS_API
from towline.agent.surface.parts import Parts
from towline.agent.uplink.silence import Silence
from towline.aio.tasks import TaskOwner

START_TIMEOUT = 30.0
T = TypeVar("T")


class DashboardHost:
    """`parts` and `api` belong to the thread's loop: touch them by `do` and `soon`."""

    def __init__(self, folder: Path, *, nodes: int = 1, **settings: Any) -> None:
        self._folder = folder
        self._nodes = nodes
        self._settings = settings
        self._ready = threading.Event()
        self._failed: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="dashboard-host")
        self.api: SmallApi
        self.parts: Parts
        self.served: Served

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(START_TIMEOUT), "the surface did not start"
        if self._failed:
            raise self._failed
        return self

    def __exit__(self, *_: object) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(START_TIMEOUT)

    @property
    def url(self) -> str:
        return self.served.url

    @property
    def read(self) -> str:
        return self.served.read

    @property
    def operate(self) -> str:
        return self.served.operate

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the surface's loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(START_TIMEOUT)

    def put(self, kind: str, found: dict[str, Any]) -> None:
        """Add or change an object of the cluster."""
        self.do(self._call(lambda: self.api.put(kind, found)))

    def remove(self, kind: str, key: str) -> None:
        self.do(self._call(lambda: self.api.remove(kind, key)))

    def call(self, function: Any) -> Any:
        """Call a function in the surface's loop."""
        return self.do(self._call(function))

    def measure(self, nodes: Mapping[str, tuple[str, str]], pods: Mapping[str, tuple[str, str]]) -> None:
        """Answer as a metrics server: CPU and memory of nodes, and of pods by `namespace/name`."""
        told = [
            {"metadata": {"name": name}, "usage": {"cpu": cpu, "memory": memory}}
            for name, (cpu, memory) in nodes.items()
        ]
        of_pods = []
        for key, (cpu, memory) in pods.items():
            namespace, _, name = key.partition("/")
            containers = [{"name": "app", "usage": {"cpu": cpu, "memory": memory}}]
            of_pods.append({"metadata": {"name": name, "namespace": namespace}, "containers": containers})
        for path, items in ((f"{METRICS_API}/nodes", told), (f"{METRICS_API}/pods", of_pods)):
            self.api.answers[path] = (200, "application/json", json.dumps({"items": items}).encode())

    def cut(self) -> None:
        """Break every connection to the surface, as a port-forward that ends."""
        self.call(self._cut)

    def _cut(self) -> None:
        runner = self.served.surface._runner
        assert runner is not None and runner.server is not None
        for connection in runner.server.connections:
            transport = connection.transport
            if transport is not None:
                transport.abort()

    async def _call(self, function: Any) -> Any:
        return function()

    def _run(self) -> None:
        try:
            uvloop.run(self._serve())
        except BaseException as error:
            self._failed = error
            self._ready.set()

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self.api = SmallApi()
        await self.api.begin()
        self.api.answers["/version"] = (
            200,
            "application/json",
            b'{"gitVersion": "v1.34.1", "platform": "linux/amd64"}',
        )
        for number in range(self._nodes):
            self.api.put("nodes", node(f"n{number + 1}"))
        made = make_parts(self._folder / "agent", cluster=self.api.material, **self._settings)
        self.silence = Silence(made.link, made.session, longest=0.0, reason=lambda: made.link.view.last_error)
        self.parts = replace(made, silence=self.silence)
        async with TaskOwner("dashboard host") as owner:
            await self.parts.capabilities.look()
            assert self.parts.kubernetes is not None
            owner.spawn("inventory", self.parts.kubernetes.inventory.run())
            async with served(self.parts) as self.served:
                self._ready.set()
                await self._stop.wait()
        await self.api.end()


def node(name: str, *, ready: bool = True, cpu: str = "4", memory: str = "8Gi") -> dict[str, Any]:
    """A node as an API server tells it."""
    amounts = {"cpu": cpu, "memory": memory, "pods": "110"}
    status = "True" if ready else "False"
    return {
        "metadata": {"name": name, "labels": {"node-role.kubernetes.io/worker": ""}},
        "spec": {},
        "status": {
            "capacity": amounts,
            "allocatable": amounts,
            "conditions": [
                {"type": "Ready", "status": status, "reason": "KubeletReady" if ready else "KubeletNotReady"},
                {"type": "MemoryPressure", "status": "False", "reason": "KubeletHasSufficientMemory"},
            ],
            "nodeInfo": {"kubeletVersion": "v1.34.1", "osImage": "Debian 13", "architecture": "amd64"},
        },
    }
