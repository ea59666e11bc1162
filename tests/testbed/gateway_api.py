"""The kinds of the Gateway API for the test bed's cluster, as their makers publish them: from the Go module, pinned."""

import json
import os
import subprocess
from pathlib import Path

from tests.testbed import golang, paths
from tests.testbed.requirement import Missing

PART = "gateway-api"
MODULE = "sigs.k8s.io/gateway-api"
HTTPROUTES = "config/crd/standard/gateway.networking.k8s.io_httproutes.yaml"
DOWNLOAD_TIMEOUT = 120.0


def http_routes() -> Path:
    """Return the file of the kind HTTPRoute. Raises: Missing: the module cannot be had."""
    command: list[str] = [str(golang.toolchain()), "mod", "download", "-json", MODULE]
    done = subprocess.run(
        command, cwd=paths.SOURCE / PART, capture_output=True, text=True, timeout=DOWNLOAD_TIMEOUT, check=False,
        env={**os.environ, "GOTOOLCHAIN": "local", "GOFLAGS": "-mod=readonly"},
    )  # fmt: skip
    if done.returncode:
        raise Missing(PART, f"the Go module {MODULE} cannot be had", done.stderr[-500:].strip() or done.stdout[-500:])
    return Path(json.loads(done.stdout)["Dir"]) / HTTPROUTES
