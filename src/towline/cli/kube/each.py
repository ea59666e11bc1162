"""One command on many clusters side by side: bounded, each with its own output, grouped by equal answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from towline.cli.errors import AWAY

MAX_OUTPUT_BYTES = 16 * 1024 * 1024
"""Of one cluster: what is longer is cut off, with a note, rather than held for every cluster."""
END_TIMEOUT = 5.0
"""Seconds that a command has after it was asked to end."""


@dataclass(frozen=True, slots=True)
class Said:
    """What one cluster answered."""

    cluster: str
    code: int
    stdout: str
    stderr: str


@dataclass(frozen=True, slots=True)
class Group:
    """Clusters that gave the very same answer."""

    clusters: tuple[str, ...]
    code: int
    stdout: str
    stderr: str


def grouped(answers: Sequence[Said]) -> list[Group]:
    """Return groups of equal answers: the most common first, failures last, then by name."""
    found: dict[tuple[int, str, str], list[str]] = {}
    for answer in answers:
        found.setdefault((answer.code, answer.stdout, answer.stderr), []).append(answer.cluster)
    groups = [Group(tuple(sorted(names)), *key) for key, names in found.items()]
    return sorted(groups, key=lambda group: (group.code != 0, -len(group.clusters), group.clusters))


async def run_each(
    commands: Mapping[str, Sequence[str]], *, parallel: int, timeout: float, ended: Callable[[Said], None]
) -> list[Said]:
    """Run one command for each cluster.

    Args: commands: argument lists by cluster. timeout: seconds for each; a command that takes longer is ended.
        ended: told each answer as it comes.
    """
    slots = asyncio.Semaphore(parallel)

    async def one(cluster: str, command: Sequence[str]) -> Said:
        async with slots:
            said = await _run(cluster, command, timeout)
        ended(said)
        return said

    return list(await asyncio.gather(*(one(cluster, command) for cluster, command in commands.items())))


async def _run(cluster: str, command: Sequence[str], timeout: float) -> Said:
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None and process.stderr is not None
    late = ""
    reading = asyncio.gather(_read(process.stdout), _read(process.stderr), process.wait())
    try:
        async with asyncio.timeout(timeout):
            stdout, stderr, code = await asyncio.shield(reading)
    except TimeoutError:
        late = f"no end after {timeout:g} s\n"
        stdout, stderr, _ = await _end(process, reading)
        code = AWAY
    except asyncio.CancelledError:
        await _end(process, reading)
        raise
    return Said(cluster, code, stdout, stderr + late)


async def _end(
    process: asyncio.subprocess.Process, reading: asyncio.Future[tuple[str, str, int]]
) -> tuple[str, str, int]:
    if process.returncode is None:
        process.terminate()
    try:
        async with asyncio.timeout(END_TIMEOUT):
            return await asyncio.shield(reading)
    except TimeoutError:
        process.kill()
        return await reading


async def _read(stream: asyncio.StreamReader) -> str:
    held, size, cut = [], 0, False
    while data := await stream.read(65536):
        if size < MAX_OUTPUT_BYTES:
            held.append(data[: MAX_OUTPUT_BYTES - size])
        size += len(data)
        cut = size > MAX_OUTPUT_BYTES
    return b"".join(held).decode("utf-8", "replace") + ("\n… cut off\n" if cut else "")
