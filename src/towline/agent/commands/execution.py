"""Doing one command: which code does which verb. Modules are imported when the first such command comes."""

from __future__ import annotations

import importlib
from collections.abc import Awaitable, Callable

from towline.agent.commands.ending import FAILED, SUCCEEDED, CommandEnds
from towline.agent.commands.invocation import Invocation
from towline.agent.errors import DockerError, KubernetesError
from towline.commandline.errors import BadCommand

Do = Callable[[Invocation], Awaitable[None]]

_MODULES = "towline.agent.commands"
_DOCKER = {
    "ps": "listing:ps",
    "images": "listing:images",
    "inspect": "listing:inspect",
    "logs": "logs:logs",
    "stats": "looking:stats",
    "top": "looking:top",
    "version": "looking:version",
    "info": "looking:info",
    "system df": "looking:system_df",
    "restart": "lifetime:restart",
    "start": "lifetime:start",
    "stop": "lifetime:stop",
}
"""Of docker and of compose."""
_KUBECTL = {
    "get": "get:get",
    "describe": "describe:describe",
    "top": "top:top",
    "apply": "apply:apply",
    "delete": "delete:delete",
    "scale": "delete:scale",
    "cordon": "nodes:cordon",
    "uncordon": "nodes:uncordon",
    "drain": "nodes:drain",
    "logs": "logs:logs",
    "rollout status": "rollout:status",
    "rollout history": "rollout:history",
    "rollout restart": "rollout:restart",
    "rollout pause": "rollout:pause",
    "rollout resume": "rollout:resume",
    "rollout undo": "rollout:undo",
}


async def execute(invocation: Invocation) -> int:
    """Do a command. Returns: its exit code; what went wrong is on the standard error.

    Raises: PolicyRefused, NotAnnounced: it may not be done, or not that far.
    """
    try:
        await _find(invocation)(invocation)
    except CommandEnds as error:
        if str(error):
            invocation.output.error(str(error))
        return error.exit_code
    except (BadCommand, KubernetesError, DockerError) as error:
        invocation.output.error(f"error: {error}")
        return FAILED
    return SUCCEEDED


def check(invocation: Invocation) -> None:
    """Hold a command against the policy of this host, as it is now. Raises: PolicyRefused."""
    plan, policy = invocation.plan, invocation.policy()
    policy.require_command(plan.program, writes=plan.writes)
    if plan.program == "kubectl":
        if plan.hosted:
            policy.require_verb(plan.verb)
        if invocation.api is not None:
            invocation.api.check()
        return
    policy.require("logs" if plan.verb == "logs" else "compose")
    if plan.project:
        policy.require_project(plan.project)


def _find(invocation: Invocation) -> Do:
    plan = invocation.plan
    if plan.hosted:
        from towline.agent.commands.kube import hosted

        return hosted.run
    folder, verbs = ("kube", _KUBECTL) if plan.program == "kubectl" else ("docker", _DOCKER)
    module, _, name = verbs[plan.verb].partition(":")
    found: Do = getattr(importlib.import_module(f"{_MODULES}.{folder}.{module}"), name)
    return found
