"""`docker stats`, `top`, `version`, `info`, `system df`; `compose top`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec

from towline.agent.commands.docker import reach
from towline.agent.commands.docker.listing import SHORT_ID, size
from towline.agent.commands.docker.reach import Object
from towline.agent.commands.ending import CommandEnds
from towline.agent.commands.invocation import Invocation
from towline.agent.commands.tables import Table
from towline.agent.docker import containers
from towline.agent.errors import DockerError, DockerNotFound
from towline.aio.tasks import TaskOwner

AT_ONCE = 8
"""Containers whose use is asked for side by side: the engine takes a second for each."""
STATS_SECONDS = 20.0
"""For one answer: the engine measures twice, a second apart."""


# -- use ---------------------------------------------------------------------------------------


async def stats(invocation: Invocation) -> None:
    """Print the use of CPU, memory, network and disk, measured once."""
    listed = await _measured(invocation)
    slots = asyncio.Semaphore(AT_ONCE)

    async def measure(each: Object) -> list[str] | None:
        async with slots:
            try:
                path = f"/containers/{each['Id']}/stats"
                found = await invocation.engine.get(Object, path, timeout=STATS_SECONDS, stream=False)
            except DockerNotFound:
                return None
        return _use(each, found, whole=invocation.plan.parsed.has("no-trunc"))

    async with TaskOwner("stats") as owner:
        rows = await asyncio.gather(*(owner.spawn(each["Id"][:SHORT_ID], measure(each)) for each in listed))
    header = ["Container ID", "Name", "CPU %", "Mem usage / limit", "Mem %", "Net I/O", "Block I/O", "PIDs"]
    _print(invocation, header, [row for row in rows if row is not None])


async def _measured(invocation: Invocation) -> list[Object]:
    parsed = invocation.plan.parsed
    if parsed.words:
        return [{"Id": one.id, "Names": [one.name]} for one in await reach.named(invocation)]
    found = await invocation.engine.get(list[Object], "/containers/json", all=parsed.has("all"))
    return [
        each
        for each in found
        if reach.may_reach(invocation, (each.get("Labels") or {}).get(containers.PROJECT_LABEL, ""))
    ]


def _use(each: Object, found: Object, *, whole: bool) -> list[str]:
    memory, processes = found.get("memory_stats") or {}, found.get("pids_stats") or {}
    used = memory.get("usage", 0) - (memory.get("stats") or {}).get("inactive_file", 0)
    limit = memory.get("limit", 0)
    networks = (found.get("networks") or {}).values()
    received, sent = (sum(one.get(key, 0) for one in networks) for key in ("rx_bytes", "tx_bytes"))
    return [
        each["Id"] if whole else each["Id"][:SHORT_ID],
        ",".join(name.removeprefix("/") for name in each.get("Names") or ()),
        f"{_cpu(found):.2f}%",
        f"{size(used)} / {size(limit)}",
        f"{used / limit:.2%}" if limit else "--",
        f"{size(received)} / {size(sent)}",
        " / ".join(size(amount) for amount in _blocks(found)),
        str(processes.get("current", 0)),
    ]


def _cpu(found: Object) -> float:
    """Return per cent of one core. Source: Docker Engine API, "Get container stats"."""
    now, before = found.get("cpu_stats") or {}, found.get("precpu_stats") or {}
    used = _total(now) - _total(before)
    passed = now.get("system_cpu_usage", 0) - before.get("system_cpu_usage", 0)
    if used <= 0 or passed <= 0:
        return 0.0
    return float(used / passed * (now.get("online_cpus") or 1) * 100)


def _total(part: Object) -> int:
    return int((part.get("cpu_usage") or {}).get("total_usage", 0))


def _blocks(found: Object) -> tuple[int, int]:
    entries = (found.get("blkio_stats") or {}).get("io_service_bytes_recursive") or ()
    read, written = (sum(one["value"] for one in entries if one["op"].lower() == op) for op in ("read", "write"))
    return read, written


# -- processes ---------------------------------------------------------------------------------


async def top(invocation: Invocation) -> None:
    """Print the processes of containers."""
    found = await reach.targets(invocation)
    for one in found:
        if invocation.plan.project:
            invocation.output.line(reach.name_of(one))
        try:
            told = await invocation.engine.get(Object, f"/containers/{one.id}/top")
        except DockerError as error:
            if not invocation.plan.project:
                raise CommandEnds(f"Error response from daemon: {error}") from error
            invocation.output.line(f"({error})")
            continue
        for line in Table(told.get("Titles") or ()).lay_out(told.get("Processes") or ()):
            invocation.output.line(line)


# -- the engine --------------------------------------------------------------------------------


async def version(invocation: Invocation) -> None:
    """Print the version of the engine."""
    found = await invocation.engine.get(Object, "/version")
    keys = ("Version", "ApiVersion", "MinAPIVersion", "GitCommit", "GoVersion", "Os", "Arch", "KernelVersion")
    _tell(invocation, {key: found.get(key, "") for key in keys})


_INFO = (
    "ServerVersion", "Name", "OperatingSystem", "OSType", "Architecture", "KernelVersion", "NCPU", "MemTotal",
    "Containers", "ContainersRunning", "ContainersPaused", "ContainersStopped", "Images", "Driver", "LoggingDriver",
    "CgroupDriver", "CgroupVersion", "DefaultRuntime", "DockerRootDir", "LiveRestoreEnabled", "SecurityOptions",
    "Warnings",
)  # fmt: skip
"""What `info` shows of the engine; its proxies, which may hold passwords, are not among it."""


async def info(invocation: Invocation) -> None:
    """Print how the engine is set up."""
    found = await invocation.engine.get(Object, "/info")
    _tell(invocation, {key: found.get(key) for key in _INFO})


def _tell(invocation: Invocation, values: dict[str, Any]) -> None:
    if invocation.plan.parsed.text("format") == "json":
        invocation.output.line(msgspec.json.encode(values).decode())
        return
    for name, value in values.items():
        text = ", ".join(map(str, value)) if isinstance(value, list) else value
        invocation.output.line(f"{name}: {text}")


async def system_df(invocation: Invocation) -> None:
    """Print what takes room on the disk."""
    found = await invocation.engine.get(Object, "/system/df", timeout=120.0)
    images, volumes = found.get("Images") or [], found.get("Volumes") or []
    boxes, cache = found.get("Containers") or [], found.get("BuildCache") or []
    rows = [
        ["Images", len(images), sum(one.get("Containers", 0) > 0 for one in images), size(found.get("LayersSize", 0))],
        ["Containers", len(boxes), sum(one.get("State") == "running" for one in boxes), _sum(boxes, "SizeRw")],
        ["Local Volumes", len(volumes), sum(_usage(one, "RefCount") > 0 for one in volumes),
         size(sum(max(0, _usage(one, "Size")) for one in volumes))],
        ["Build Cache", len(cache), sum(bool(one.get("InUse")) for one in cache), _sum(cache, "Size")],
    ]  # fmt: skip
    _print(invocation, ["Type", "Total", "Active", "Size"], rows)


def _sum(entries: Sequence[Object], key: str) -> str:
    return size(sum(one.get(key) or 0 for one in entries))


def _usage(volume: Object, key: str) -> int:
    return int((volume.get("UsageData") or {}).get(key, 0))


def _print(invocation: Invocation, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    if invocation.plan.parsed.text("format") == "json":
        for row in rows:
            invocation.output.line(msgspec.json.encode(dict(zip(header, row, strict=True))).decode())
        return
    for line in Table(header).lay_out(rows):
        invocation.output.line(line)
