"""The JavaScript client of Kubernetes for tests: one run of `javascript_client.mjs`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.support.kubectl import Client

SCRIPT = Path(__file__).with_name("javascript_client.mjs")


def run(client: Client, *words: str, timeout: float = 60.0) -> Any:
    """Run the script as this client. Returns: what it printed."""
    modules = {"CLIENT_MODULES": str(client.clients.modules)}
    done = client.program(str(client.clients.node), str(SCRIPT), *words, timeout=timeout, env=modules)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)
