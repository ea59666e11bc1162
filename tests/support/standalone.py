"""A standalone agent as a process of its own, started by the shipped command, and questions to its surface."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

START_TIMEOUT = 30.0
STOP_TIMEOUT = 15.0
WAIT = 60.0
TIME_IS_UP = 28
"""Exit code of curl for `--max-time`, which ends the examples of streams."""


@dataclass
class Standalone:
    """One that runs."""

    url: str
    folder: Path
    pid: int

    def token(self, *, operate: bool = False) -> str:
        """What `towline agent token` prints."""
        words = [*_command("token"), "--state-folder", str(self.folder), *(["--operate"] if operate else [])]
        return subprocess.run(words, check=True, capture_output=True, text=True, timeout=30).stdout.strip()

    async def towline(self, word: str, *words: str, stdin: str = "", **variables: str) -> str:
        """Run `towline agent WORD …` for it; returns what was said. `variables` are settings."""
        command = [*_command(word), "--state-folder", str(self.folder), *words]
        run = await asyncio.to_thread(
            subprocess.run,
            command,
            env=_environment(variables),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert run.returncode == 0, run.stderr
        return run.stdout + run.stderr

    @property
    def runs(self) -> bool:
        """Whether the process that was started is still there."""
        return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"

    async def get(self, path: str, token: str) -> tuple[int, Any]:
        """Ask; returns status and JSON."""
        headers = {"Authorization": f"Bearer {token}"}
        async with aiohttp.ClientSession() as client, client.get(self.url + path, headers=headers) as answer:
            return answer.status, await answer.json()

    async def until(self, path: str, token: str, what: Callable[[int, Any], bool]) -> Any:
        """Ask until the answer is as it should be."""
        async with asyncio.timeout(WAIT):
            while not what(*(found := await self.get(path, token))):
                await asyncio.sleep(0.1)
        return found[1]

    async def curl(self, example: str, token: str, **variables: str) -> tuple[int, str, str]:
        """Run a documented example. Returns status, media type and body; of what never ends, what came in time."""
        environment = os.environ | {"URL": self.url, "TOKEN": token, **variables}
        command = f"curl -sS -w '\\n%{{http_code}} %{{content_type}}' {example}"
        words = ["sh", "-c", command]
        run = await asyncio.to_thread(
            subprocess.run, words, env=environment, capture_output=True, text=True, timeout=60, errors="replace"
        )
        assert run.returncode in (0, TIME_IS_UP), run.stderr
        body, _, ending = run.stdout.rpartition("\n")
        status, _, kind = ending.partition(" ")
        return int(status), kind, body


@asynccontextmanager
async def standalone(folder: Path, *options: str, **variables: str) -> AsyncIterator[Standalone]:
    """Run `towline agent run --standalone` on a free port of loopback. `variables` are settings."""
    environment = _environment(variables) | {"TOWLINE_AGENT_LOG_FORMAT": "json"}
    words = [*_command("run"), "--standalone", "--listen", "127.0.0.1:0", "--state-folder", str(folder), *options]
    process = await asyncio.create_subprocess_exec(*words, env=environment, stderr=subprocess.PIPE)
    assert process.stderr is not None
    try:
        async with asyncio.timeout(START_TIMEOUT):
            address = await _address(process.stderr)
        reading = asyncio.create_task(process.stderr.read())
        yield Standalone(f"http://{address}", folder, process.pid)
        process.terminate()
        async with asyncio.timeout(STOP_TIMEOUT):
            assert await process.wait() == 0
        await reading
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _address(log: asyncio.StreamReader) -> str:
    while line := await log.readline():
        if line.startswith(b"{"):
            event = json.loads(line)
            if event.get("event") == "local surface listens":
                return str(event["address"])
    raise AssertionError("the agent ended before it listened")


def _environment(variables: dict[str, str]) -> dict[str, str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TOWLINE_")}
    return environment | {f"TOWLINE_AGENT_{name.upper()}": value for name, value in variables.items()}


def _command(word: str) -> list[str]:
    return [sys.executable, "-m", "towline.cli.start", "agent", word]
