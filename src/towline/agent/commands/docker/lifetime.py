"""`restart`, `start` and `stop`, of docker's containers or of a project's."""

from __future__ import annotations

from typing import Any

from towline.agent.commands.docker import reach
from towline.agent.commands.ending import FAILED, CommandEnds
from towline.agent.commands.invocation import Invocation
from towline.agent.docker.containers import Inspected
from towline.agent.errors import DockerAway, DockerError

GRACE_SECONDS = 10
"""That a container has to end when nobody says otherwise, as the engine's own default."""
ENGINE_SECONDS = 60.0
"""Beyond the grace: stopping unmounts and starting mounts, on disks that may be slow."""
LONGEST_GRACE = 3600
"""A longer one would outlive most runs."""


async def restart(invocation: Invocation) -> None:
    await _each(invocation, "restart")


async def start(invocation: Invocation) -> None:
    await _each(invocation, "start")


async def stop(invocation: Invocation) -> None:
    await _each(invocation, "stop")


async def _each(invocation: Invocation, verb: str) -> None:
    """Do it to every container that is meant; one that fails is told, the others go on. Raises: CommandEnds."""
    grace = invocation.plan.parsed.number("time", GRACE_SECONDS)
    if not -1 <= grace <= LONGEST_GRACE:
        raise CommandEnds(f"--time is from -1 to {LONGEST_GRACE} seconds")
    found = await reach.targets(invocation)
    has_failed = False
    for one in found:
        try:
            await _act(invocation, one, verb, grace)
        except DockerAway:
            raise
        except DockerError as error:
            has_failed = True
            invocation.output.error(f"Error response from daemon: {error}")
        else:
            invocation.output.line(reach.name_of(one))
    if has_failed:
        raise CommandEnds("", FAILED)


async def _act(invocation: Invocation, one: Inspected, verb: str, grace: int) -> None:
    query: dict[str, Any] = {} if verb == "start" else {"t": grace}
    wait = max(grace, 0) + ENGINE_SECONDS
    invocation.before_write()
    await invocation.engine.call("POST", f"/containers/{one.id}/{verb}", timeout=wait, **query)
