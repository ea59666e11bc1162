"""A container as the engine reports it, in the few fields that the rules of this package look at.

Not here: asking the engine. Labels are Compose's own (`com.docker.compose.*`).
"""

from collections.abc import Mapping
from dataclasses import dataclass

LABEL_PROJECT = "com.docker.compose.project"
LABEL_SERVICE = "com.docker.compose.service"
LABEL_CONFIG_HASH = "com.docker.compose.config-hash"
LABEL_NUMBER = "com.docker.compose.container-number"
LABEL_ONE_OFF = "com.docker.compose.oneoff"
LABEL_IMAGE = "com.docker.compose.image"
LABEL_FOLDER = "com.docker.compose.project.working_dir"
LABEL_FILES = "com.docker.compose.project.config_files"


@dataclass(frozen=True, slots=True)
class Container:
    """One container now.

    Attributes: state: created, running, paused, restarting, removing, exited or dead. health: "", starting, healthy or
        unhealthy. uptime: seconds since it started, by the engine's own clock; None when it does not run.
        health_output: the last line of a failing healthcheck. config_hash: Compose's hash of the configuration that it
        was made from. image: the image's id. started_in_this_run: it was started after the present `up` began.
    """

    id: str
    service: str
    state: str
    health: str = ""
    exit_code: int = 0
    restarts: int = 0
    out_of_memory: bool = False
    uptime: float | None = None
    error: str = ""
    health_output: str = ""
    name: str = ""
    number: int = 1
    config_hash: str = ""
    image: str = ""
    is_one_off: bool = False
    started_in_this_run: bool = False

    @property
    def has_ended(self) -> bool:
        return self.state in ("exited", "dead")


@dataclass(frozen=True, slots=True)
class Identity:
    """Which project, service and configuration a container belongs to, as its labels say."""

    project: str
    service: str
    config_hash: str
    number: int
    is_one_off: bool
    image: str


def identify(labels: Mapping[str, str]) -> Identity | None:
    """Read Compose's labels. Returns: None for a container that Compose did not make."""
    project, service = labels.get(LABEL_PROJECT, ""), labels.get(LABEL_SERVICE, "")
    if not project or not service:
        return None
    number = labels.get(LABEL_NUMBER, "")
    return Identity(
        project=project,
        service=service,
        config_hash=labels.get(LABEL_CONFIG_HASH, ""),
        number=int(number) if number.isascii() and number.isdigit() and len(number) < 7 else 1,
        is_one_off=labels.get(LABEL_ONE_OFF, "").lower() == "true",
        image=labels.get(LABEL_IMAGE, ""),
    )


def config_hashes(output: str) -> dict[str, str]:
    """Read what `docker compose config --hash '*'` printed: a service and its hash on each line."""
    pairs = (line.split() for line in output.splitlines())
    return {pair[0]: pair[1] for pair in pairs if len(pair) == 2}
