"""Checking what somebody wants to deploy, before a row is written: structure, variables, files, policy.

Pure, and possibly slow for a large file: callers run it in a thread. The judge is `docker compose config` on the
host; what is found here is found with its line before anything leaves this machine.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from towline.compose import environment, project
from towline.compose.errors import DocumentRefused, EnvironmentRefused
from towline.compose.model import Lifetime
from towline.compose.problems import dotted
from towline.compose.project import Parsed
from towline.control.deployments.schemas import Problem

SECRET_STAND_IN = "towline-secret"  # noqa: S105 - shown to rules instead of a value
"""What a secret variable is while rules look at a file: no rule needs the value, and no message can repeat it."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A project as it was sent. No secret value is in it."""

    name: str
    compose: str
    env: str | None = None
    variables: Mapping[str, str] = field(default_factory=dict)
    secret_names: Sequence[str] = ()
    bundle_paths: frozenset[str] | None = None
    """Paths in the bundle; None without one."""
    policy_level: str = "standard"


@dataclass(frozen=True, slots=True)
class Checked:
    """What was found in a draft."""

    parsed: Parsed | None
    problems: tuple[Problem, ...]
    """Everything that is wrong, worst first; warnings too."""

    @property
    def errors(self) -> tuple[Problem, ...]:
        return tuple(problem for problem in self.problems if problem.severity == "error")

    @property
    def breaks_policy(self) -> bool:
        """True when nothing is wrong but what the policy forbids."""
        return bool(self.errors) and all(problem.rule for problem in self.errors)

    def variables(self) -> list[str]:
        """Return the names of variables that the file uses."""
        return sorted(self.parsed.variables()) if self.parsed else []

    def services(self) -> list[dict[str, Any]]:
        """Return what a revision keeps of each service that a deploy starts."""
        if self.parsed is None:
            return []
        return [
            {
                "name": service.name,
                "image": service.image,
                "replicas": service.replicas,
                "one_shot": service.lifetime is Lifetime.ONE_SHOT,
            }
            for service in self.parsed.project.active()
        ]


def check(draft: Draft) -> Checked:
    """Find everything that is wrong with a draft."""
    try:
        values = values_of(draft)
    except EnvironmentRefused as error:
        return Checked(None, (Problem(message=error.message, line=error.line, path="env"),))
    try:
        parsed = project.parse(draft.compose, values, name=draft.name)
    except DocumentRefused as error:
        refused = Problem(message=error.message, line=error.line, column=error.column, hint=error.fix)
        return Checked(None, (refused,))
    return Checked(parsed, tuple(_structure(parsed)))


def values_of(draft: Draft) -> dict[str, str]:
    """Return the values that the file's variables get, secrets replaced. Raises: EnvironmentRefused."""
    hidden = dict.fromkeys(draft.secret_names, SECRET_STAND_IN)
    known = {**draft.variables, **hidden}
    return {**environment.parse(draft.env or "", known), **known}


def _structure(parsed: Parsed) -> list[Problem]:
    return [
        Problem(
            message=found.message,
            line=found.mark.line if found.mark else 0,
            column=found.mark.column if found.mark else 0,
            path=dotted(found.path),
            hint=found.fix,
            severity="error" if found.is_error else "warning",
        )
        for found in parsed.problems
    ]
