"""Base images for building Towline's own images where no registry is reachable: Debian with Python, and a Docker CLI.

A root file system made by debootstrap is kept as one archive in the cache; making it takes forty seconds.
"""

import io
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from tests.testbed import compose_plugin, debian, images, paths, processes
from tests.testbed.requirement import Missing

PART = "bases"
PYTHON = "towline-test/python:1"
DOCKER_CLI = "towline-test/docker-cli:1"
SUITE = "bookworm"
INCLUDED = ("ca-certificates", "python3", "python3-venv", "python3-pip")
PACKAGES = {"debootstrap": "debootstrap"}
SYSTEM_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
# Where the official image has them, so that one Dockerfile serves both.
CLI_PATH = "usr/local/bin/docker"
PLUGIN_PATH = "usr/local/libexec/docker/cli-plugins/docker-compose"


def ensure() -> str:
    """Have both base images in the engine. Raises: Missing."""
    if not images.exists(PYTHON):
        images.docker("import", str(python_archive()), PYTHON)
    if not images.exists(DOCKER_CLI):
        images.docker("import", "-", DOCKER_CLI, stdin=cli_archive())
    return f"{PYTHON}, {DOCKER_CLI}"


def status() -> str:
    """One line for people."""
    return ", ".join(name for name in (PYTHON, DOCKER_CLI) if images.exists(name)) or "not made yet"


def python_archive() -> Path:
    """The root file system as a tar archive, made once for its list of packages."""
    archive = paths.built("python-base", paths.digest([], SUITE, *INCLUDED)) / "root.tar"
    if not archive.exists():
        if not processes.is_root():
            raise Missing(
                PART, "only root can make a root file system", "run the tests as root on a machine of your own"
            )
        debian.ensure(PACKAGES)
        archive.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="towline-base-") as folder:
            _make_root(Path(folder) / "root")
            _pack(Path(folder) / "root", archive)
    return archive


def _make_root(root: Path) -> None:
    words = ["debootstrap", "--variant=minbase", f"--include={','.join(INCLUDED)}", SUITE, str(root)]
    done = subprocess.run([*words, *mirror()], capture_output=True, text=True)
    if done.returncode:
        raise Missing(PART, f"debootstrap failed: {done.stdout.strip()[-500:]}", "run it by hand")
    # What this machine trusts, so that a build behind an inspecting proxy can fetch its packages.
    shutil.copy(SYSTEM_CERTIFICATES, root / SYSTEM_CERTIFICATES.relative_to("/"))


def mirror() -> list[str]:
    """The archive that this machine's own apt uses, when it can be told; else debootstrap has its default."""
    asked = ["apt-get", "indextargets", "--format", "$(SITE) $(RELEASE)", "Created-By: Packages"]
    lines = subprocess.run(asked, capture_output=True, text=True).stdout.splitlines()
    sites = [site for site, _, release in (line.partition(" ") for line in lines) if release == SUITE]
    return sites[:1]


def _pack(root: Path, archive: Path) -> None:
    partial = archive.with_suffix(".partial")
    words = ["tar", "-C", root, "--exclude=./var/cache/apt/*", "--exclude=./var/lib/apt/lists/*", "-cf", partial, "."]
    subprocess.run([str(word) for word in words], check=True)
    partial.rename(archive)


def cli_archive() -> bytes:
    """A tar with the Docker CLI and Compose as the official image `docker:cli` places them."""
    found = shutil.which("docker")
    if found is None:
        raise Missing(PART, "there is no docker command", "apt-get install docker.io")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.add(Path(found).resolve(), CLI_PATH)
        tar.add(compose_plugin.build(), PLUGIN_PATH)
    return buffer.getvalue()


def build(dockerfile: Path, name: str) -> str:
    """Build an image from the project's tree on the local base images. Returns: its id."""
    arguments = [f"PYTHON_IMAGE={PYTHON}", f"DOCKER_IMAGE={DOCKER_CLI}"]
    words = [word for argument in arguments for word in ("--build-arg", argument)]
    # The engine's own builder: it takes local images for FROM without asking a registry.
    command = ["env", "DOCKER_BUILDKIT=0", "docker", "build", "--quiet", "--network", "host", *words]
    done = subprocess.run(
        [*command, "--file", dockerfile, "--tag", name, paths.PROJECT], capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(f"docker build failed: {done.stderr.strip()[-2000:]}")
    return done.stdout.strip()
