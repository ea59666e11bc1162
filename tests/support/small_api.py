"""An API server on loopback that holds what a test puts into it: lists, watches and logs, for the agent's surface.

api = SmallApi(); await api.begin(); api.put("pods", pod("a")); api.write("web/a/app", "a line")
"""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from typing import Any

from aiohttp import web

from towline.agent.kubernetes.material import Material

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


class SmallApi:
    """Only what the surface asks for; every other path answers 404."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
        self.logs: dict[str, list[bytes]] = defaultdict(list)
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        """Method, target and header of every request."""
        self.answers: dict[str, tuple[int, str, bytes]] = {}
        """By path: status, content type and body."""
        self.log_connections: list[asyncio.Task[Any]] = []
        self.ended: set[str] = set()
        """Logs of containers that have ended: their answers end as well."""
        self._version = 10
        self._watches: dict[str, list[asyncio.Queue[bytes]]] = defaultdict(list)
        self._written = asyncio.Condition()
        self._runner: web.AppRunner | None = None
        self.port = 0

    async def begin(self) -> None:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def end(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    def material(self) -> Material:
        return Material(server=f"http://127.0.0.1:{self.port}", token="secret-of-the-agent")

    def put(self, kind: str, found: dict[str, Any]) -> None:
        """Add or change an object."""
        self._version += 1
        metadata = found["metadata"]
        metadata["resourceVersion"] = str(self._version)
        key = f"{metadata.get('namespace', '')}/{metadata['name']}"
        self._tell(kind, "MODIFIED" if key in self.objects[kind] else "ADDED", found)
        self.objects[kind][key] = found

    def remove(self, kind: str, key: str) -> None:
        self._version += 1
        found = self.objects[kind].pop(key)
        found["metadata"]["resourceVersion"] = str(self._version)
        self._tell(kind, "DELETED", found)

    async def write(self, source: str, *lines: str) -> None:
        """Write lines to a container's log, `namespace/pod/container`, each a millisecond later than the last one."""
        for line in lines:
            moment = BEGIN + timedelta(milliseconds=len(self.logs[source]))
            self.logs[source].append(f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond:06d}000Z {line}\n".encode())
        async with self._written:
            self._written.notify_all()

    async def finish(self, source: str) -> None:
        """End a container."""
        self.ended.add(source)
        async with self._written:
            self._written.notify_all()

    def cut_logs(self) -> None:
        """Break every connection that reads a log."""
        for task in self.log_connections:
            task.cancel()

    def _tell(self, kind: str, what: str, found: dict[str, Any]) -> None:
        for queue in self._watches[kind]:
            queue.put_nowait(json.dumps({"type": what, "object": found}).encode() + b"\n")

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        fields = {name.lower(): value for name, value in request.headers.items()}
        self.asked.append((request.method, request.raw_path, fields))
        if request.path in self.answers:
            status, kind, body = self.answers[request.path]
            return web.Response(status=status, body=body, headers={"Content-Type": kind})
        parts = request.path.strip("/").split("/")
        if parts[-1] == "log":
            return await self._log(request, parts[-4], parts[-2])
        if parts[-1] in ("pods", "nodes", "namespaces", "deployments", "services", "events"):
            return await self._watch(request, parts[-1]) if "watch" in request.query else self._list(parts[-1])
        status = {"kind": "Status", "code": 404, "reason": "NotFound", "message": f"no {request.path}"}
        return web.json_response(status, status=404)

    def _list(self, kind: str) -> web.Response:
        items = list(self.objects[kind].values())
        return web.json_response({"metadata": {"resourceVersion": str(self._version)}, "items": items})

    async def _watch(self, request: web.Request, kind: str) -> web.StreamResponse:
        queue: asyncio.Queue[bytes] = asyncio.Queue()
        response = web.StreamResponse()
        self._watches[kind].append(queue)
        try:
            await response.prepare(request)
            while True:
                await response.write(await queue.get())
        finally:
            self._watches[kind].remove(queue)

    async def _log(self, request: web.Request, namespace: str, pod: str) -> web.StreamResponse:
        found = self.objects["pods"].get(f"{namespace}/{pod}")
        if found is None:
            status = {"kind": "Status", "code": 404, "reason": "NotFound", "message": f'pods "{pod}" not found'}
            return web.json_response(status, status=404)
        container = request.query.get("container", found["spec"]["containers"][0]["name"])
        source = f"{namespace}/{pod}/{container}"
        response = web.StreamResponse()
        task = asyncio.current_task()
        assert task is not None
        self.log_connections.append(task)
        try:
            await response.prepare(request)
            await self._write_log(request, response, source)
        except asyncio.CancelledError:
            if request.transport is not None:
                request.transport.abort()
            raise
        finally:
            self.log_connections.remove(task)
        return response

    async def _write_log(self, request: web.Request, response: web.StreamResponse, source: str) -> None:
        query, lines = request.query, self.logs[source]
        at = max(0, len(lines) - int(query["tailLines"])) if "tailLines" in query else 0
        if "sinceTime" in query:
            since = query["sinceTime"][:19].encode()
            at = next((index for index, line in enumerate(lines) if line[:19] >= since), len(lines))
        while True:
            while at < len(lines):
                line, at = lines[at], at + 1
                await response.write(line if "timestamps" in query else line.split(b" ", 1)[1])
            if "follow" not in query or source in self.ended:
                return
            async with self._written:
                while len(lines) <= at and source not in self.ended:
                    await self._written.wait()


def pod(
    name: str, *, namespace: str = "web", waiting: str = "", phase: str = "Running", **labels: str
) -> dict[str, Any]:
    """A pod with one container `app`."""
    state: dict[str, Any] = {"waiting": {"reason": waiting}} if waiting else {"running": {}}
    return {
        "metadata": {"name": name, "namespace": namespace, "uid": f"uid-{name}", "labels": labels},
        "spec": {"nodeName": "n1", "containers": [{"name": "app", "image": "shop:1"}]},
        "status": {
            "phase": phase,
            "containerStatuses": [{"name": "app", "ready": not waiting, "restartCount": 0, "state": state}],
        },
    }


def thing(name: str, *, namespace: str = "", **more: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, **({"namespace": namespace} if namespace else {})}, **more}
