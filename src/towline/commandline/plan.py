"""What a command is once it has been read: for gates, for audit, and for the agent that does it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from towline.commandline.flags import Parsed
from towline.commandline.resources import Resource
from towline.kube.access import AccessTuple


class Level(StrEnum):
    """What right a command on a Docker host needs."""

    SEE = "see"
    """What exists, and how it is."""
    OPERATE = "operate"
    """Logs, inner settings, restarts."""
    DEPLOY = "deploy"
    """What runs."""


@dataclass(frozen=True, slots=True)
class Target:
    """Objects of one kind: those named, or all that a selector finds."""

    resource: Resource
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Manifest:
    """One object of the standard input."""

    resource: Resource
    namespace: str
    """Empty for objects of the whole cluster."""
    name: str
    body: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Plan:
    """A command that may be run, if whoever asks may do what it touches."""

    program: str
    verb: str
    """E.g. `get`, `rollout restart`."""
    writes: bool
    """It changes something: it is never begun twice."""
    follows: bool
    """It ends only when it is told to, or when what it looks at does."""
    level: Level
    """For `docker` and `compose`; for kubectl `touches` says more."""
    masked: tuple[str, ...]
    """The arguments as the audit log keeps them."""
    parsed: Parsed
    touches: tuple[AccessTuple, ...] = ()
    """Requests to the API server that it is made of; an empty name or namespace means all of them. For `docker` and
    `compose` the group is `docker`, the resource `containers`, `images` or `engine`, the namespace the project."""
    targets: tuple[Target, ...] = ()
    manifests: tuple[Manifest, ...] = ()
    namespace: str = ""
    """Of kubectl; empty for all of them."""
    project: str = ""
    """Of compose."""
    hosted: bool = False
    """Done by the host's own `kubectl`, where the local policy lists the verb."""

    def covers(self, asked: AccessTuple) -> bool:
        """Tell whether a request is one of those that were announced, and so were decided about."""
        return any(_covers(each, asked) for each in self.touches)


def _covers(announced: AccessTuple, asked: AccessTuple) -> bool:
    same = ("verb", "group", "resource", "subresource")
    if any(getattr(announced, name) != getattr(asked, name) for name in same):
        return False
    return announced.namespace in ("", asked.namespace) and announced.name in ("", asked.name)
