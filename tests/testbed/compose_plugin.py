"""Docker Compose 2: the one that is there, or one compiled here and put where the Docker CLI looks for plugins."""

import json
import shutil
import subprocess
from pathlib import Path

from tests.testbed import golang, paths, processes
from tests.testbed.requirement import Missing

PART = "compose"
VERSION = "2.40.3"
# `--progress=json`, which a deployment's live progress needs, came with this version.
MINIMUM = (2, 31)
SYSTEM_PLUGINS = Path("/usr/local/lib/docker/cli-plugins")


def version() -> str | None:
    """The version that `docker compose` reports, None when it does not run."""
    try:
        done = subprocess.run(
            ["docker", "compose", "version", "--format", "json"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return str(json.loads(done.stdout)["version"]).lstrip("v")


def is_usable() -> bool:
    """Tell whether a Compose new enough for the tests runs."""
    found = version()
    return found is not None and tuple(int(word) for word in found.split(".")[:2]) >= MINIMUM


def build() -> Path:
    """Compile the pinned Compose; ninety seconds to two minutes on two cores the first time."""
    ldflags = f"-s -w -X github.com/docker/compose/v2/internal.Version=v{VERSION}"
    return golang.build("docker-compose", paths.SOURCE / "compose", "github.com/docker/compose/v2/cmd", ldflags=ldflags)


def plugin_folder() -> Path:
    """Root installs for everybody, as a test may change `HOME` or `DOCKER_CONFIG`; others for themselves."""
    return SYSTEM_PLUGINS if processes.is_root() else Path.home() / ".docker" / "cli-plugins"


def ensure() -> str:
    """Have Compose 2 answer to `docker compose`. Returns: its version."""
    if shutil.which("docker") is None:
        raise Missing(PART, "there is no docker command", "apt-get install docker.io")
    if not is_usable():
        program = build()
        link = plugin_folder() / "docker-compose"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(program)
    found = version()
    if found is None:
        raise Missing(PART, "docker compose does not run", f"look at {plugin_folder()}")
    return found
