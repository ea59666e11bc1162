"""What a project consists of, as frozen data: services, mounts, references to files.

Not here: reading it from a file (`project`), judging it (`policy`).
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from towline.compose.document import KeyPath
from towline.compose.ports import Published


class Lifetime(StrEnum):
    """How long a service is meant to live, as far as the file tells.

    `unknown`: may stay up or end with 0, both are fine (no restart policy, no healthcheck, no published port).
    """

    LONG = "long"
    ONE_SHOT = "one-shot"
    UNKNOWN = "unknown"


class FileKind(StrEnum):
    """Why a project needs a file or folder of the bundle."""

    ENV_FILE = "env_file"
    LABEL_FILE = "label_file"
    CONFIG = "config"
    SECRET = "secret"  # noqa: S105
    EXTENDS = "extends"
    INCLUDE = "include"
    BUILD = "build context"
    MOUNT = "mount"


@dataclass(frozen=True, slots=True)
class FileUse:
    """A path that the project refers to, absolute under the project's folder, or outside of it.

    Attributes: services: who uses it; empty for `include`.
    """

    kind: FileKind
    path: str
    key_path: KeyPath
    required: bool = True
    services: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Mount:
    """One entry of a service's `volumes`. `source` is a volume's name, an absolute path, or empty."""

    kind: str
    source: str
    target: str
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class Service:
    """One service as the deploy needs to know it; `body` is its whole normal form.

    Attributes: depends_on: name of a service to the condition it waits for. is_active: no profile keeps it off.
    """

    name: str
    image: str
    build: dict[str, Any] | None
    lifetime: Lifetime
    replicas: int
    is_active: bool
    has_healthcheck: bool
    restart: str
    depends_on: dict[str, str]
    ports: tuple[Published, ...]
    mounts: tuple[Mount, ...]
    networks: tuple[str, ...]
    secrets: tuple[str, ...]
    configs: tuple[str, ...]
    body: dict[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Project:
    """A whole project. `model` is the normal form that `policy.check` takes."""

    name: str
    services: dict[str, Service]
    volumes: tuple[str, ...]
    networks: tuple[str, ...]
    secrets: tuple[str, ...]
    configs: tuple[str, ...]
    files: tuple[FileUse, ...]
    model: dict[str, Any] = field(repr=False)

    def active(self) -> tuple[Service, ...]:
        """The services that a plain `up` starts."""
        return tuple(service for service in self.services.values() if service.is_active)
