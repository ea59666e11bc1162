"""Checking what somebody wants to deploy, before a row is written: structure, variables, files, policy.

Pure, and possibly slow for a large file: callers run it in a thread. The judge is `docker compose config` on the
host; what is found here is found with its line before anything leaves this machine.
"""

import posixpath
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from towline.compose import layout, policy
from towline.compose.document import KeyPath, Mark
from towline.compose.errors import DocumentRefused, EnvironmentRefused, NameRefused
from towline.compose.model import FileKind, FileUse, Lifetime
from towline.compose.problems import dotted
from towline.compose.project import UNKNOWN_FOLDER, Parsed
from towline.compose.revision import Revision, check_secrets
from towline.compose.text import shown
from towline.control.deployments.schemas import Problem


@dataclass(frozen=True, slots=True)
class Draft:
    """A project as it was sent, and where it is meant to run. No secret value is in it."""

    content: Revision
    policy_level: str = "standard"
    has_own_folder: bool = False
    """An adopted project: its folder on the host has files that nobody sent."""


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
                "may_end": service.lifetime is not Lifetime.LONG,
            }
            for service in self.parsed.project.active()
        ]


def check(draft: Draft) -> Checked:
    """Find everything that is wrong with a draft."""
    revision = draft.content
    try:
        check_secrets(revision.secrets, revision.variables)
        parsed = revision.parse()
    except EnvironmentRefused as error:
        return Checked(None, (Problem(message=error.message, line=error.line, path="env"),))
    except DocumentRefused as error:
        refused = Problem(message=error.message, line=error.line, column=error.column, hint=error.fix)
        return Checked(None, (refused,))
    except NameRefused as error:
        return Checked(None, (Problem(message=str(error), path="secrets"),))
    found = [*_structure(parsed, draft), *_files(parsed, draft), *_policy(parsed, draft)]
    return Checked(parsed, tuple(sorted(found, key=lambda problem: problem.severity != "error")))


def _structure(parsed: Parsed, draft: Draft) -> Iterator[Problem]:
    for found in parsed.problems:
        if not _is_our_secret(parsed, draft, found.path):
            severity: Literal["error", "warning"] = "error" if found.is_error else "warning"
            yield _problem(found.message, found.path, found.mark, found.fix, severity=severity)


def _is_our_secret(parsed: Parsed, draft: Draft, path: KeyPath) -> bool:
    """Tell whether a finding is about a secret that needs no definition in the file: the host wires it."""
    match path:
        case ("services", str(service), "secrets", int(index)):
            used = parsed.project.services[service].secrets
            return index < len(used) and used[index] in draft.content.secrets
    return False


_IN_BUNDLE = frozenset(
    {FileKind.ENV_FILE, FileKind.LABEL_FILE, FileKind.CONFIG, FileKind.SECRET, FileKind.EXTENDS, FileKind.INCLUDE}
)
"""What must be there before anything starts. Mounts may come into being on the host, builds have a folder."""


def _files(parsed: Parsed, draft: Draft) -> Iterator[Problem]:
    """Find files that the project needs and nobody sent. An adopted project has files of its own on the host."""
    if draft.has_own_folder:
        return
    for use in parsed.project.files:
        path = posixpath.relpath(use.path, UNKNOWN_FOLDER)
        if not use.required or path.startswith("..") or _is_there(use, path, draft.content):
            continue
        if use.kind in _IN_BUNDLE:
            yield _missing(parsed, use, f"the file {shown(path)} is not in the bundle")
        elif use.kind is FileKind.BUILD and not _builds_inline(parsed, use):
            yield _missing(parsed, use, f"the build context {shown(path)} is not in the bundle")


def _is_there(use: FileUse, path: str, revision: Revision) -> bool:
    if use.kind is FileKind.BUILD:
        return bool(revision.files) and (
            path == "." or any(f"{each}/".startswith(f"{path}/") for each in revision.files)
        )
    return path in revision.files or (path == layout.ENV_FILE and bool(revision.env))


def _builds_inline(parsed: Parsed, use: FileUse) -> bool:
    service = parsed.project.services[use.services[0]]
    return bool((service.build or {}).get("dockerfile_inline"))


def _missing(parsed: Parsed, use: FileUse, message: str) -> Problem:
    hint = "send the folder of the Compose file along as a bundle"
    return _problem(message, use.key_path, parsed.document.mark(use.key_path), hint)


def _policy(parsed: Parsed, draft: Draft) -> Iterator[Problem]:
    granted = policy.for_level(policy.Level(draft.policy_level))
    context = policy.Context(project=draft.content.project)
    for found in policy.check(parsed.project.model, granted, context, parsed.document):
        mark = parsed.document.mark(found.key_path)
        yield _problem(found.message, found.key_path, mark, found.fix, rule=found.rule.value)


def _problem(
    message: str,
    path: KeyPath,
    mark: Mark | None,
    hint: str,
    *,
    rule: str = "",
    severity: Literal["error", "warning"] = "error",
) -> Problem:
    line, column = mark if mark else (0, 0)
    return Problem(
        message=message, line=line, column=column, path=dotted(path), hint=hint, rule=rule, severity=severity
    )
