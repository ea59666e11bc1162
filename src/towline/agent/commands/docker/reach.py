"""Which containers a command reaches: those that it names, if the policy of this host leaves them to commands."""

from __future__ import annotations

from typing import Any

from towline.agent.commands.ending import CommandEnds
from towline.agent.commands.invocation import Invocation
from towline.agent.docker import containers
from towline.agent.docker.containers import Inspected
from towline.agent.errors import DockerNotFound, PolicyRefused
from towline.agent.policy import fits

Object = dict[str, Any]


def may_reach(invocation: Invocation, project: str) -> bool:
    """Tell whether commands may reach containers of a project, or of none.

    What jobs may not touch commands do not reach either: a policy from before there were commands means the same.
    """
    policy = invocation.policy()
    return all(fits(project or "-", each) for each in (policy.commands.containers, policy.compose.projects))


def require(invocation: Invocation, project: str) -> None:
    """Raises: PolicyRefused: the containers of this project are not for commands."""
    if not may_reach(invocation, project):
        words = f"the containers of {project!r}" if project else "containers outside of projects"
        raise PolicyRefused(f"the policy of this host keeps {words} from commands")


async def named(invocation: Invocation) -> list[Inspected]:
    """Return the containers that a docker command names. Raises: CommandEnds: one is not there. PolicyRefused."""
    found = []
    for name in invocation.plan.parsed.words:
        try:
            one = await containers.inspect(invocation.engine, name)
        except DockerNotFound as error:
            raise CommandEnds(f"Error response from daemon: {error}") from error
        require(invocation, one.labels.get(containers.PROJECT_LABEL, ""))
        found.append(one)
    return found


async def of_project(invocation: Invocation) -> list[Inspected]:
    """Return the containers of the plan's project, one-off ones left out; of its services when some are named.

    Raises: CommandEnds: the project or a service is not there. PolicyRefused.
    """
    plan = invocation.plan
    require(invocation, plan.project)
    found = [
        each
        for each in await containers.inspect_project(invocation.engine, plan.project)
        if not containers.describe(each).one_off
    ]
    if not found:
        raise CommandEnds(f"no containers of the project {plan.project} are on this host")
    services = {containers.describe(each).service for each in found}
    for word in plan.parsed.words:
        if word not in services:
            raise CommandEnds(f"no such service: {word}")
    wanted = set(plan.parsed.words) or services
    return sorted((each for each in found if containers.describe(each).service in wanted), key=_place)


def _place(one: Inspected) -> tuple[str, int]:
    shown = containers.describe(one)
    return shown.service, shown.number


async def targets(invocation: Invocation) -> list[Inspected]:
    """Return the containers that a command means, of either program."""
    return await (of_project(invocation) if invocation.plan.program == "compose" else named(invocation))


def name_of(one: Inspected) -> str:
    return one.name.removeprefix("/")
