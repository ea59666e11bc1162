"""A Docker registry (Debian's docker-registry) on loopback, open or with accounts."""

import json
from pathlib import Path
from typing import Any

from tests.testbed import passwords, processes, servers

PART = "registry"
PACKAGE = "docker-registry"


def find() -> str:
    """Path of the program. Raises: Missing."""
    return servers.program(PART, "docker-registry", PACKAGE)


def start(folder: Path, *, accounts: dict[str, str] | None = None, port: int | None = None) -> servers.Server:
    """Start a registry and wait until it accepts; the Docker engine takes loopback registries without TLS.

    Args: accounts: name to password; without any, everybody may push and pull.
    """
    chosen = port or processes.free_port()
    settings: dict[str, Any] = {
        "version": "0.1",
        "log": {"level": "info"},
        "storage": {"filesystem": {"rootdirectory": str(folder / "data")}, "delete": {"enabled": True}},
        "http": {"addr": f"127.0.0.1:{chosen}"},
    }
    if accounts:
        names = passwords.write(folder / "accounts", accounts)
        settings["auth"] = {"htpasswd": {"realm": "towline-test", "path": str(names)}}
    configuration = folder / "registry.yml"
    configuration.write_text(json.dumps(settings))  # JSON is YAML
    return servers.Server(PART, [find(), "serve", configuration], folder, chosen).start()
