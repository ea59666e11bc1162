"""Hanging up on a command whose opener is gone: the engine itself leaves it running for ever.

Every process that the command started inherits a mark in its environment; those that carry it get the signal that a
closed terminal sends. What was meant to outlive a terminal (nohup) outlives this as well.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import structlog

from towline.agent.docker.engine import Engine
from towline.agent.errors import DockerError

MARK = "TOWLINE_EXEC"

HANG_UP_TIMEOUT = 5.0
"""Seconds for the search through the container's processes."""

SCRIPT = (
    'for file in $(grep -ls "$1" /proc/[0-9]*/environ); do '
    "pid=${file#/proc/}; pid=${pid%/environ}; kill -HUP $pid; kill -CONT $pid; done 2>/dev/null"
)
"""The mark is an argument, so that neither the shell nor grep, whose environment is not marked, finds itself."""

_log = structlog.get_logger("towline.agent")


async def hang_up(engine: Engine, container: str, user: str, mark: str) -> None:
    """Send SIGHUP to everything that a command started. A container without a shell, or that ended, is left alone."""
    body = {"Cmd": ["/bin/sh", "-c", SCRIPT, "hang-up", f"{MARK}={mark}"], "User": user}
    with suppress(DockerError):
        created = await engine.post(dict[str, Any], f"/containers/{container}/exec", body, timeout=HANG_UP_TIMEOUT)
        start = {"Detach": True, "Tty": False}
        await engine.call("POST", f"/exec/{created['Id']}/start", start, timeout=HANG_UP_TIMEOUT)
        _log.debug("command hung up", container=container[:12])
