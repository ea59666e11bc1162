"""What a job's row says of the work: small, without content and without secrets. Pure.

The order for the agent is made from it and from the revision when the job is sent (`handlers`).
"""

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from towline.control.deployments.models import Deployment, Revision
from towline.control.jobs.work import Submission

DEFAULT_DEADLINE = 86400.0
"""Seconds that work waits for an agent that is away: a host that comes back tomorrow still gets it."""
OPERATION_TIMEOUT = 300.0
"""Seconds for stop, start, restart, scale: Compose itself waits 10 s per container that does not stop."""
PRUNE_TIMEOUT = 600.0
PRUNE_DEADLINE = 3600.0
"""A scheduled pruning that found nobody there comes again by itself."""
VALIDATE_DEADLINE = 60.0
"""Somebody waits for the answer in an editor."""

DEPLOY = "compose.deploy"
VALIDATE = "compose.validate"
ADOPT = "compose.adopt"
PRUNE = "compose.prune"
REMOVE = "compose.remove"
SCALE = "compose.scale"

Action = Literal["deploy", "rollback", "redeploy"]


class DeployIntent(msgspec.Struct, frozen=True, kw_only=True):
    """Payload of a `compose.deploy` job's row."""

    action: Action
    revision_id: str
    revision: int
    pull: Literal["missing", "always"]
    build: bool
    auto_rollback: bool
    settle_seconds: float
    pinned: bool = False
    """Run the recorded digests, not the tags of the file."""


def read_deploy(payload: Mapping[str, Any]) -> DeployIntent:
    """Read a payload back."""
    return msgspec.convert(dict(payload), DeployIntent)


def serial_key(deployment: Deployment) -> str:
    """Return the key that jobs of one project queue behind."""
    return f"project/{deployment.cluster_id}/{deployment.name}"


def deploy(
    deployment: Deployment,
    revision: Revision,
    *,
    action: Action,
    pull: Literal["missing", "always"] = "missing",
    build: bool = True,
    auto_rollback: bool | None = None,
    settle_seconds: float | None = None,
    timeout: float = 600.0,
    deadline_seconds: float | None = None,
    supersede: bool = True,
    pinned: bool = False,
    idem_key: str | None = None,
) -> Submission:
    """Return the job that puts a revision onto its host."""
    intent = DeployIntent(
        action=action,
        revision_id=revision.id,
        revision=revision.number,
        pull=pull,
        build=build,
        auto_rollback=deployment.auto_rollback if auto_rollback is None else auto_rollback,
        settle_seconds=deployment.settle_seconds if settle_seconds is None else settle_seconds,
        pinned=pinned,
    )
    return Submission(
        cluster_id=deployment.cluster_id,
        deployment_id=deployment.id,
        kind=DEPLOY,
        payload=msgspec.to_builtins(intent),
        serial_key=serial_key(deployment),
        timeout=timeout,
        deadline_seconds=deadline_seconds or DEFAULT_DEADLINE,
        idem_key=idem_key,
        supersede=supersede,
    )


def operation(
    deployment: Deployment,
    kind: str,
    payload: Mapping[str, Any],
    *,
    timeout: float = OPERATION_TIMEOUT,
    deadline_seconds: float = DEFAULT_DEADLINE,
    idem_key: str | None = None,
) -> Submission:
    """Return a job of any other kind on a project."""
    return Submission(
        cluster_id=deployment.cluster_id,
        deployment_id=deployment.id,
        kind=kind,
        payload=payload,
        serial_key=serial_key(deployment),
        timeout=timeout,
        deadline_seconds=deadline_seconds,
        idem_key=idem_key,
    )


def idem_key(deployment_id: str, action: str, given: str | None) -> str | None:
    """Return the key under which the queue knows a repeated request; None when the caller gave none."""
    return f"{deployment_id}/{action}/{given}" if given else None
