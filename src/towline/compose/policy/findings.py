"""What a check reports, and what it is told about the place where the project will run."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from towline.compose.document import KeyPath
from towline.compose.problems import dotted
from towline.compose.project import UNKNOWN_FOLDER


class Rule(StrEnum):
    """Why something is refused. Stable: programs and the documentation name them."""

    SHAPE = "shape"
    UNKNOWN_KEY = "unknown-key"
    LEVEL = "level"
    PROVIDER = "provider"
    CAPABILITY = "capability"
    NAMESPACE = "namespace"
    HOST_NETWORK = "host-network"
    DEVICE = "device"
    SECURITY_OPTION = "security-option"
    SYSCTL = "sysctl"
    BIND = "bind"
    SYSTEM_PATH = "system-path"
    SOCKET = "socket"
    OWN_PATH = "own-path"
    PROJECT_FILES = "project-files"
    PROPAGATION = "propagation"
    OUTSIDE_FILE = "outside-file"
    REMOTE = "remote"
    DRIVER = "driver"
    DRIVER_OPTION = "driver-option"
    EXTERNAL = "external"
    FOREIGN = "foreign"
    PORT = "port"
    IMAGE = "image"
    DIGEST = "digest"
    BUILD = "build"
    LABEL = "label"
    LOGGING = "logging"


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing that a policy does not allow. Values of variables never appear in it."""

    key_path: KeyPath
    rule: Rule
    message: str
    fix: str
    line: int | None = None

    def __str__(self) -> str:
        where = f"line {self.line}: " if self.line else ""
        return f"{where}{dotted(self.key_path)}: {self.message} ({self.fix})"


@dataclass(frozen=True, slots=True)
class Context:
    """Where the project will run, as far as the checking end knows.

    Attributes: folder: the project's absolute folder; relative paths are resolved against it. protected: folders of
        the agent itself, never mounted at any level. real_paths: what the host says a path really is, symlinks
        followed; checked besides the path as written. foreign: volumes and networks that belong to other projects.
        taken_ports: published ports that are in use, and by whom. refused_addresses: where nothing may be published.
    """

    folder: str = UNKNOWN_FOLDER
    project: str = ""
    protected: tuple[str, ...] = ()
    real_paths: Mapping[str, str] = field(default_factory=dict)
    foreign: frozenset[str] = frozenset()
    taken_ports: Mapping[int, str] = field(default_factory=dict)
    refused_addresses: frozenset[str] = frozenset()
