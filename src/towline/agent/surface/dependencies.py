"""What the agent needs, and how each of it stands: the control plane, Kubernetes, Docker, the disk.

Read from what the agent looks at anyway, every 20 seconds and whenever Docker's events end: asking costs nothing, so a
probe may ask each second. Which of them are required here is decided here, too.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from towline.agent.errors import KubernetesAbsent, KubernetesError
from towline.agent.policy import LocalPolicy
from towline.agent.surface import control_plane
from towline.agent.surface.linkstate import Standing
from towline.agent.surface.parts import Parts
from towline.wire import link

DISK_LEAST_BYTES = 64 * 1024 * 1024
"""Free on the disk of the state folder: twice the largest bundle; with less, jobs begin to fail."""

_NOT_LOOKED = "not looked at yet"


class State(StrEnum):
    """Of one dependency."""

    UP = "up"
    DOWN = "down"
    ABSENT = "absent"
    """Not there, switched off or not allowed, and nothing is wrong with that."""


@dataclass(frozen=True, slots=True)
class Dependency:
    """One of them at a moment."""

    name: str
    state: State
    required: bool
    """Whether the agent is of use without it."""
    since: float = 0.0
    """Seconds since the epoch; 0 when that is not known."""
    version: str = ""
    reason: str = ""
    last_error: str = ""
    last_error_at: float = 0.0
    address: str = ""

    @property
    def is_ready(self) -> bool:
        """Whether it keeps the agent from being ready."""
        return self.state is State.UP or not self.required

    def shown(self) -> dict[str, Any]:
        """Return it for those who may read."""
        return {
            "name": self.name,
            "state": self.state.value,
            "required": self.required,
            "since": moment(self.since),
            "version": self.version,
            "address": self.address,
            "reason": self.reason,
            "last_error": self.last_error,
            "last_error_at": moment(self.last_error_at),
        }


def moment(seconds: float) -> str | None:
    """Write a moment in RFC 3339; None for 0."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds") if seconds else None


def all_of(parts: Parts) -> list[Dependency]:
    """Return every dependency as it is now."""
    policy = parts.policy()
    cluster = _kubernetes(parts, policy)
    return [_control_plane(parts), cluster, _docker(parts, policy, cluster), _disk(parts)]


def _control_plane(parts: Parts) -> Dependency:
    view, status = parts.link.view, parts.counts.status()
    state = State.UP if view.standing is Standing.CONNECTED else State.DOWN
    if view.standing is Standing.STANDALONE:
        state = State.ABSENT
    error = control_plane.shown(parts)["last_error"]
    return Dependency(
        "control_plane",
        state,
        required=not parts.settings.standalone,
        since=view.since,
        reason="" if state is State.UP else error or f"{view.standing}",
        last_error=error,
        address=view.server or status.server,
    )


def _kubernetes(parts: Parts, policy: LocalPolicy) -> Dependency:
    address, absent = "", ""
    if parts.kubernetes is None:
        absent = "this agent serves no Kubernetes"
    elif "kubernetes" not in policy.capabilities or not policy.kubernetes.enabled:
        absent = "the policy of this host does not allow it"
    else:
        try:
            address = parts.kubernetes.credentials.current().authority.decode()
        except KubernetesAbsent as error:
            absent = str(error)
        except KubernetesError:
            address = ""  # the look at the capability says the same, and since when
    if absent:
        return Dependency("kubernetes", State.ABSENT, required=False, reason=absent)
    return _seen(parts, "kubernetes", parts.capabilities.versions.get("kubernetes"), required=True, address=address)


def _docker(parts: Parts, policy: LocalPolicy, cluster: Dependency) -> Dependency:
    if parts.docker is None or "compose" not in policy.capabilities:
        reason = "the policy of this host does not allow it" if parts.docker else "this agent serves no Docker"
        return Dependency("docker", State.ABSENT, required=False, reason=reason)
    version, address = parts.capabilities.versions.get("docker"), parts.docker.engine.host
    if version is None and cluster.state is not State.ABSENT and not _has_socket(address):
        found = parts.capabilities.found("compose")
        return Dependency("docker", State.ABSENT, required=False, reason=found.reason if found else _NOT_LOOKED)
    return _seen(parts, "docker", version, required=cluster.state is State.ABSENT, address=address)


def _has_socket(address: str) -> bool:
    return os.path.exists(address.removeprefix("unix://"))  # noqa: PTH110 - a text that need not be a path


def _seen(parts: Parts, name: str, version: str | None, *, required: bool, address: str) -> Dependency:
    """Return what the last look at a capability said; an engine that answers without Compose is up."""
    capability = "compose" if name == "docker" else name
    found: link.Capability | None = parts.capabilities.found(capability)
    error, error_at = parts.capabilities.last_errors.get(capability, ("", 0.0))
    up = version is not None and found is not None
    return Dependency(
        name,
        State.UP if up else State.DOWN,
        required=required,
        since=found.since if found else 0.0,
        version=version or "",
        reason="" if found is not None and found.ready else found.reason if found else _NOT_LOOKED,
        last_error=error,
        last_error_at=error_at,
        address=address,
    )


def _disk(parts: Parts) -> Dependency:
    folder = parts.settings.state_folder
    try:
        status = os.statvfs(folder)
    except OSError as error:
        return Dependency("disk", State.DOWN, required=True, reason=error.strerror or str(error), address=str(folder))
    free = status.f_bavail * status.f_frsize
    problem = f"{free} bytes are free, {DISK_LEAST_BYTES} are needed" if free < DISK_LEAST_BYTES else ""
    if not os.access(folder, os.W_OK):
        problem = "it cannot be written"
    return Dependency("disk", State.DOWN if problem else State.UP, required=True, reason=problem, address=str(folder))
