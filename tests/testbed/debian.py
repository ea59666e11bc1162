"""Debian packages of the real parts: which ones, which are missing, and their installation by root."""

import contextlib
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.testbed import processes, servers
from tests.testbed.requirement import Missing

PART = "packages"
SWITCH = "TOWLINE_TEST_INSTALL"
# A first boot may still be updating its packages.
LOCK_TIMEOUT = 300
START_POLICY = Path("/usr/sbin/policy-rc.d")

# The package, and the file or command whose presence makes it unnecessary: a machine may have it from elsewhere.
PACKAGES = {
    "docker.io": "dockerd",
    "iptables": "iptables",
    "iproute2": "ip",
    "busybox-static": "/bin/busybox",
    "postgresql": "/usr/lib/postgresql",
    "chromium": "chromium",
    "libatomic1": f"/usr/lib/{platform.machine()}-linux-gnu/libatomic.so.1",  # for the program that drives the browser
    "nginx-light": "nginx",
    "haproxy": "haproxy",
    "squid": "squid",
    "docker-registry": "docker-registry",
    "openssh-server": "sshd",
    "openssh-client": "ssh",
    "faketime": "faketime",
    "wrk": "wrk",
    "curl": "curl",
    "procps": "ps",
}
KUBERNETES_PACKAGES = {
    "docker.io": "containerd",
    "containernetworking-plugins": "/usr/lib/cni/bridge",
    "conntrack": "conntrack",
    "iptables": "iptables",
    "iproute2": "ip",
    "busybox-static": "/bin/busybox",
}
APPARMOR = Path("/sys/module/apparmor/parameters/enabled")


def is_there(mark: str) -> bool:
    """Tell whether a command is on the daemons' search path, or a path exists."""
    return Path(mark).exists() if mark.startswith("/") else shutil.which(mark, path=servers.SEARCH_PATH) is not None


def missing(packages: Mapping[str, str] = PACKAGES) -> list[str]:
    """Packages whose programs are not there."""
    wanted = dict(packages)
    if APPARMOR.exists() and APPARMOR.read_text().strip() == "Y":
        wanted["apparmor"] = "apparmor_parser"  # the engine starts no container where the kernel has it and we do not
    return [package for package, mark in wanted.items() if not is_there(mark)]


def ensure(wanted: Mapping[str, str] = PACKAGES) -> str:
    """Install what is missing when we may. Raises: Missing, naming the packages."""
    packages = missing(wanted)
    if not packages:
        return "all there"
    remedy = f"apt-get install {' '.join(packages)}"
    if os.environ.get(SWITCH) == "0":
        raise Missing(PART, f"{', '.join(packages)} are missing, and {SWITCH}=0", remedy)
    if not processes.is_root() or shutil.which("apt-get") is None:
        raise Missing(PART, f"{', '.join(packages)} are missing, and only root on Debian can install them", remedy)
    install(packages)
    if still := missing(wanted):
        raise Missing(PART, f"{', '.join(still)} are missing after their installation", remedy)
    return f"installed {', '.join(packages)}"


def install(packages: list[str]) -> None:
    """Install packages and nothing they only recommend; none of them starts a service."""
    apt = ["apt-get", "--quiet", "--quiet", "-o", f"DPkg::Lock::Timeout={LOCK_TIMEOUT}"]
    options = ["--yes", "--no-install-recommends", "-o", "Dpkg::Options::=--force-confold"]
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    with no_services_start():
        for words in (["update"], ["install", *options, *packages]):
            done = subprocess.run(
                [*apt, *words], env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True
            )
            if done.returncode:
                raise Missing(PART, f"apt-get {words[0]} failed: {done.stderr.strip()[-1000:]}", "run it by hand")


@contextlib.contextmanager
def no_services_start() -> Iterator[None]:
    """Forbid package scripts to start daemons, by Debian's own means for it; a policy that is there already stays."""
    if START_POLICY.exists():
        yield
        return
    START_POLICY.write_text("#!/bin/sh\nexit 101\n")
    START_POLICY.chmod(0o755)
    try:
        yield
    finally:
        START_POLICY.unlink(missing_ok=True)
