"""Argument lists for `docker compose`: version 2, and `docker-compose` version 1 as far as it goes.

Only lists, never a shell. Not here: running them, the environment of the process (registry credentials go in there).
Source: docs.docker.com, "docker compose" command reference; checked against Compose 2.40.
"""

import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from towline.compose import layout, names
from towline.compose.names import ProjectName

# The first release with `pull --policy`, and with `--progress=json` (2.30) in the form that `progress` reads.
FIRST_WITH_PULL_POLICY = (2, 22, 0)
FIRST_WITH_JSON_PROGRESS = (2, 30, 0)

_VERSION = re.compile(r"v?(\d+)\.(\d+)(?:\.(\d+))?")


class Pull(StrEnum):
    """Which images to fetch before anything stops."""

    MISSING = "missing"
    ALWAYS = "always"


@dataclass(frozen=True, slots=True)
class Dialect:
    """Which Compose a host has, and what that one understands."""

    program: tuple[str, ...]
    version: tuple[int, int, int]

    @property
    def is_v1(self) -> bool:
        return self.version[0] < 2

    @property
    def has_json_progress(self) -> bool:
        return self.version >= FIRST_WITH_JSON_PROGRESS

    @property
    def has_pull_policy(self) -> bool:
        return self.version >= FIRST_WITH_PULL_POLICY


# What to run to find the dialect, best first; the output goes to `detect`.
PROBES: tuple[tuple[str, ...], ...] = (
    ("docker", "compose", "version", "--short"),
    ("docker-compose", "version", "--short"),
)


def detect(probe: Sequence[str], output: str) -> Dialect | None:
    """Read what a probe of `PROBES` printed. Returns: None when it is not a version."""
    found = _VERSION.search(output)
    if found is None:
        return None
    program = tuple(probe[: list(probe).index("version")])
    return Dialect(program, (int(found[1]), int(found[2]), int(found[3] or 0)))


@dataclass(frozen=True, slots=True)
class Compose:
    """Builds the argument lists for one project on one host.

    Attributes: folder: the project's absolute folder. files: Compose files relative to it, later ones override.
        env_files: relative to it, too; only those that exist. Both may be absolute: a staged project keeps its env file
        outside of the folder, so that a build with the context "." cannot copy secrets into an image.
    """

    dialect: Dialect
    project: ProjectName
    folder: str
    files: tuple[str, ...] = (layout.COMPOSE_FILE,)
    env_files: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        names.project_name(self.project)
        if not self.folder.startswith("/"):
            raise ValueError("the project's folder must be an absolute path")

    def config(self) -> list[str]:
        """Print the normal form, which is also how a file is judged. The output holds secrets: never log it."""
        return self._command("config", "--quiet") if self.dialect.is_v1 else self._command("config", "--format", "json")

    def config_text(self) -> list[str]:
        """Print all files as one, variables and relative paths left as they were written."""
        return self._command("config", "--no-interpolate", "--no-path-resolution")

    def config_hashes(self) -> list[str]:
        """Print `service hash` lines: the label that a container of this very configuration carries."""
        return self._command("config", "--hash", "*")

    def config_images(self) -> list[str]:
        """Print the images' names, one a line."""
        return self._command("config", "--images")

    def pull(self, policy: Pull, services: Sequence[str] = ()) -> list[str]:
        """Fetch images and touch no container. Services that are built here are left out."""
        arguments = ["pull"]
        if self.dialect.is_v1:
            arguments.append("--quiet")
        else:
            arguments.append("--ignore-buildable")
            if self.dialect.has_pull_policy:
                arguments += ["--policy", policy.value]
        return self._command(*arguments, services=services, progress=True)

    def build(self, *, pull: bool = False, services: Sequence[str] = ()) -> list[str]:
        """Build images. Args: pull: look for newer base images."""
        return self._command("build", *(["--pull"] if pull else []), services=services, progress=True)

    def up(
        self, services: Sequence[str] = (), *, no_deps: bool = False, scales: Mapping[str, int] | None = None,
        recreate: bool = False,
    ) -> list[str]:  # fmt: skip
        """Create and start. Never pulls or builds, so that nothing slow happens once containers begin to stop.

        Args: services: all when empty. no_deps: start nothing but them. recreate: replace unchanged containers too.
        """
        arguments = ["up", "--detach", "--no-build", "--remove-orphans"]
        if not self.dialect.is_v1:
            arguments += ["--pull", "never"]
        if no_deps:
            arguments.append("--no-deps")
        if recreate:
            arguments.append("--force-recreate")
        arguments += _scales(scales or {})
        return self._command(*arguments, services=services, progress=True)

    def scale(self, services: Mapping[str, int]) -> list[str]:
        """Set the number of containers of some services, leaving all others alone.

        Not `scale`: that command forgets `env_file` when it decides what has changed, and makes the containers that
        run anew (seen with Compose 2.40.3).
        """
        arguments = ["up", "--detach", "--no-build", "--no-recreate", "--no-deps"]
        if not self.dialect.is_v1:
            arguments += ["--pull", "never"]
        return self._command(*arguments, *_scales(services), services=tuple(services), progress=True)

    def stop(self, services: Sequence[str] = (), *, timeout: int | None = None) -> list[str]:
        return self._command("stop", *_timeout(timeout), services=services, progress=True)

    def start(self, services: Sequence[str] = ()) -> list[str]:
        return self._command("start", services=services, progress=True)

    def restart(self, services: Sequence[str] = (), *, timeout: int | None = None) -> list[str]:
        return self._command("restart", *_timeout(timeout), services=services, progress=True)

    def remove(self, services: Sequence[str]) -> list[str]:
        """Stop and remove the containers of some services. Volumes stay."""
        return self._command("rm", "--force", "--stop", services=services, progress=True)

    def down(self, *, volumes: bool = False) -> list[str]:
        """Remove containers and networks. Args: volumes: the project's named volumes too, and so their data."""
        return self._command("down", "--remove-orphans", *(["--volumes"] if volumes else []), progress=True)

    def ps(self) -> list[str]:
        """List the project's containers, stopped ones too. Version 1 prints ids only."""
        return (
            self._command("ps", "--quiet") if self.dialect.is_v1 else self._command("ps", "--all", "--format", "json")
        )

    def ps_table(self) -> list[str]:
        """List the project's containers as a table for people."""
        return self._command("ps", *([] if self.dialect.is_v1 else ["--all"]))

    def _command(self, *arguments: str, services: Sequence[str] = (), progress: bool = False) -> list[str]:
        command = list(self.dialect.program)
        if progress and self.dialect.has_json_progress:
            command.append("--progress=json")
        command += ["--project-directory", self.folder, "--project-name", self.project]
        for path in self.env_files:
            command += ["--env-file", posixpath.join(self.folder, path)]
        for path in self.files:
            command += ["--file", posixpath.join(self.folder, path)]
        # Names are checked here once more, as the last thing before a process: none can be taken for an option.
        return [*command, *arguments, *(names.service_name(name) for name in services)]


def _scales(scales: Mapping[str, int]) -> list[str]:
    pairs = [f"{names.service_name(name)}={_count(count)}" for name, count in scales.items()]
    return [part for pair in pairs for part in ("--scale", pair)]


def _count(count: int) -> int:
    if count < 0:
        raise ValueError("a number of containers cannot be negative")
    return count


def _timeout(seconds: int | None) -> list[str]:
    return [] if seconds is None else ["--timeout", str(_count(seconds))]
