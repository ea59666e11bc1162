"""`kubectl logs`: of one pod, of a workload's pods, or of all that a selector finds; followed side by side."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

from towline.agent.commands.cluster import Rejected, path_of
from towline.agent.commands.ending import CommandEnds
from towline.agent.commands.invocation import Invocation
from towline.agent.commands.kube.objects import Object, Selector, items, selected
from towline.agent.commands.kube.selectors import of_workload
from towline.aio.tasks import TaskOwner
from towline.commandline.kubectl import PODS
from towline.wire import orders

MOST_SOURCES = 20
"""Logs of one command at once: each is a connection to the API server."""
TAIL_OF_MANY = 10
"""Last lines of each log when several are chosen by a selector, as for kubectl."""
DEFAULT_CONTAINER = "kubectl.kubernetes.io/default-container"


async def logs(invocation: Invocation) -> None:
    """Print what was written, and go on when asked to."""
    pods = await _pods(invocation)
    sources = [(pod, name) for pod in pods for name in _containers(invocation, pod)]
    if len(sources) > MOST_SOURCES:
        raise CommandEnds(f"error: {len(sources)} logs are chosen, at most {MOST_SOURCES} are shown at once")
    if not sources:
        invocation.output.error(f"No resources found in {invocation.plan.namespace or 'any'} namespace.")
        return
    prefixes = invocation.plan.parsed.has("prefix")
    readers = [_Reader(invocation, pod, name, with_prefix=prefixes) for pod, name in sources]
    if invocation.plan.follows and len(readers) > 1:
        await _side_by_side(readers)
        return
    for reader in readers:
        await reader.read()


async def _side_by_side(readers: list[_Reader]) -> None:
    async with TaskOwner("logs") as owner:
        tasks = [owner.spawn(reader.name, reader.guarded()) for reader in readers]
        done = await asyncio.gather(*tasks)
    for failure in done:
        if failure is not None:
            raise failure


async def _pods(invocation: Invocation) -> list[Object]:
    """Return the pods that are meant."""
    plan, target = invocation.plan, invocation.plan.targets[0]
    if not target.names:
        return [each async for each in items(invocation, PODS, selected(plan))]
    found = await invocation.cluster.get(path_of(target.resource, plan.namespace, target.names[0]))
    if target.resource is PODS:
        return [found]
    pods = [each async for each in items(invocation, PODS, Selector(of_workload(found)))]
    if not pods:
        raise CommandEnds(f"error: {target.resource.shown}/{target.names[0]} has no pods")
    if len(pods) > 1:
        pods.sort(key=lambda pod: (pod["status"].get("phase") != "Running", pod["metadata"]["name"]))
        name = pods[0]["metadata"]["name"]
        invocation.output.error(f"Found {len(pods)} pods, using pod/{name}")
    return pods[:1]


def _containers(invocation: Invocation, pod: Object) -> Iterator[str]:
    """Yield the containers of a pod whose logs are wanted. Raises: CommandEnds: it is not clear which."""
    parsed, spec, name = invocation.plan.parsed, pod["spec"], pod["metadata"]["name"]
    groups = ("initContainers", "containers", "ephemeralContainers")
    known = [each["name"] for group in groups for each in spec.get(group) or ()]
    if parsed.has("all-containers"):
        yield from known
        return
    wanted = parsed.text("container") or (parsed.words[1] if len(parsed.words) == 2 else "")
    if wanted:
        if wanted not in known:
            raise CommandEnds(f"error: container {wanted} is not valid for pod {name} (it has {', '.join(known)})")
        yield wanted
        return
    usual = [each["name"] for each in spec["containers"]]
    default = (pod["metadata"].get("annotations") or {}).get(DEFAULT_CONTAINER, "")
    if default not in known:
        default = usual[0]
        if len(usual) > 1:
            invocation.output.error(f"Defaulted container {default!r} out of: {', '.join(usual)}")
    yield default


class _Reader:
    """One log."""

    def __init__(self, invocation: Invocation, pod: Object, container: str, *, with_prefix: bool) -> None:
        self._invocation = invocation
        self._namespace = pod["metadata"]["namespace"]
        self._pod = pod["metadata"]["name"]
        self._container = container
        self._prefix = f"[pod/{self._pod}/{container}] ".encode() if with_prefix else b""
        self._rest = b""

    @property
    def name(self) -> str:
        return f"{self._pod}/{self._container}"

    async def guarded(self) -> Exception | None:
        """Read; returns what went wrong, so that the other logs go on."""
        try:
            await self.read()
        except Rejected as error:
            self._invocation.output.error(f"{self.name}: {error}")
            return error
        return None

    async def read(self) -> None:
        """Print the log to its end."""
        target = path_of(PODS, self._namespace, self._pod, "log", self._query())
        async with self._invocation.cluster.ask("GET", target, accept="*/*") as answer:
            async for piece in answer.pieces():
                self._print(piece)
        if self._rest:
            self._print(b"\n")

    def _print(self, piece: bytes) -> None:
        if not self._prefix:
            self._invocation.output.write(orders.STDOUT, piece)
            return
        whole, newline, self._rest = (self._rest + piece).rpartition(b"\n")
        if newline:
            lines = b"".join(self._prefix + line + b"\n" for line in whole.split(b"\n"))
            self._invocation.output.write(orders.STDOUT, lines)
        elif len(self._rest) > orders.MAX_OUTPUT_CHUNK:
            self._invocation.output.write(orders.STDOUT, self._prefix + self._rest + b"\n")
            self._rest = b""

    def _query(self) -> dict[str, Any]:
        parsed = self._invocation.plan.parsed
        usual = TAIL_OF_MANY if parsed.is_given("selector") else -1
        tail = parsed.number("tail", usual)
        seconds = int(parsed.seconds("since", 0))
        return {
            "container": self._container,
            "follow": "true" if parsed.has("follow") else "",
            "previous": "true" if parsed.has("previous") else "",
            "timestamps": "true" if parsed.has("timestamps") else "",
            "tailLines": tail if tail >= 0 else "",
            "sinceSeconds": max(1, seconds) if parsed.is_given("since") else "",
            "sinceTime": parsed.text("since-time"),
            "limitBytes": parsed.number("limit-bytes", 0) or "",
        }
