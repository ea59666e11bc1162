"""The host's Docker Compose: finding it, the environment it runs in, and calls that have no effect.

Calls with an effect are steps (`jobs/steps.py`). The Compose plugin is run itself, not through the Docker CLI: the
same program starts in 40 ms instead of 85 ms. Not here: argument lists (`towline.compose.argv`).
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from towline.compose import argv
from towline.compose.text import clean

PROBE_TIMEOUT = 10.0
CALL_TIMEOUT = 60.0
"""Seconds for `config`: it may read hundreds of files from a slow disk."""

MAX_OUTPUT_BYTES = 16 * 1024 * 1024
"""Largest normal form of a project that is read."""

_PLUGIN_FOLDERS = (
    "/usr/local/lib/docker/cli-plugins",
    "/usr/local/libexec/docker/cli-plugins",
    "/usr/lib/docker/cli-plugins",
    "/usr/libexec/docker/cli-plugins",
)
_PASSED_ON = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy", "XDG_RUNTIME_DIR")
_FIXED = {
    "NO_COLOR": "1",
    "COMPOSE_ANSI": "never",
    "COMPOSE_MENU": "0",
    "DOCKER_CLI_HINTS": "false",
    "LC_ALL": "C.UTF-8",
}


@dataclass(frozen=True, slots=True)
class Called:
    """What a call printed. `output` of `config` holds secrets: never log it."""

    code: int
    output: bytes
    error: str

    def __repr__(self) -> str:
        return f"Called(code={self.code}, {len(self.output)} bytes)"


@dataclass(frozen=True, slots=True)
class ComposeTool:
    """One Compose binary on this host, and how to run it."""

    dialect: argv.Dialect
    docker_host: str

    @property
    def version(self) -> str:
        return ".".join(str(part) for part in self.dialect.version)

    def environment(self, docker_config: Path | None = None) -> dict[str, str]:
        """Return the whole environment of a call; nothing of the agent's own leaks into interpolation.

        Args: docker_config: folder with registry credentials, instead of the host's own.
        """
        passed = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        base = {"PATH": os.environ.get("PATH", os.defpath), "HOME": os.environ.get("HOME", "/"), **passed, **_FIXED}
        base["DOCKER_HOST"] = self.docker_host
        config = docker_config or os.environ.get("DOCKER_CONFIG")
        return {**base, "DOCKER_CONFIG": str(config)} if config else base

    async def call(self, arguments: Sequence[str], folder: Path, *, timeout: float = CALL_TIMEOUT) -> Called:
        """Run something without effect. Raises: TimeoutError. OSError: it cannot be started."""
        return await _run(arguments, folder, self.environment(), timeout)


async def find(docker_host: str, setting: str = "") -> ComposeTool | None:
    """Look for Compose: version 2 first, then docker-compose of version 1."""
    for probe in _probes(setting):
        tool = await _probe(probe, docker_host)
        if tool is not None:
            return tool
    return None


def _probes(setting: str) -> list[tuple[str, ...]]:
    suffix = ("version", "--short")
    if setting:
        return [(setting, *suffix)]
    home = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")
    plugins = [str(Path(folder) / "docker-compose") for folder in (home / "cli-plugins", *_PLUGIN_FOLDERS)]
    found = [(path, *suffix) for path in plugins if os.access(path, os.X_OK)]
    return found + [probe for probe in argv.PROBES if shutil.which(probe[0])]


async def _probe(probe: tuple[str, ...], docker_host: str) -> ComposeTool | None:
    try:
        called = await _run(probe, Path("/"), {**os.environ, **_FIXED}, PROBE_TIMEOUT)
    except (OSError, TimeoutError):
        return None
    dialect = argv.detect(probe, called.output.decode("utf-8", "replace")) if called.code == 0 else None
    return None if dialect is None else ComposeTool(replace(dialect), docker_host)


async def _run(arguments: Sequence[str], folder: Path, environment: Mapping[str, str], timeout: float) -> Called:
    process = await asyncio.create_subprocess_exec(
        *arguments,
        cwd=folder,
        env=dict(environment),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        limit=MAX_OUTPUT_BYTES,
    )
    try:
        async with asyncio.timeout(timeout):
            output, error = await process.communicate()
    except BaseException:
        if process.returncode is None:
            process.kill()
            await process.wait()
        raise
    return Called(process.returncode or 0, output[:MAX_OUTPUT_BYTES], clean(error.decode("utf-8", "replace")))
