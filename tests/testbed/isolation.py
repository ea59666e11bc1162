"""A network and mounts of one thread's own, so that a second cluster with a node can run beside the test bed's.

A node takes fixed addresses, bridges and rules; in a network namespace of its own nobody meets them. Everything that
the thread starts inside, processes and threads, lives there too. Source: unshare(2), setns(2).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

OWN_FILES, NEW_MOUNTS, NEW_NETWORK = 0x00000200, 0x00020000, 0x40000000
# What network plugins and `ip netns` keep on disk about the addresses and names of a network, and the logs of pods: a
# kubelet removes those of pods that it does not know.
OF_ONE_NODE = (Path("/run/netns"), Path("/var/lib/cni"), Path("/var/log/pods"), Path("/var/log/containers"))

_libc = ctypes.CDLL(None, use_errno=True)


@contextlib.contextmanager
def own_network() -> Iterator[None]:
    """Run the block of this thread in a network with nothing but loopback. Needs root. Raises: OSError."""
    before = [(os.open(f"/proc/self/task/{threading.get_native_id()}/ns/{name}", os.O_RDONLY | os.O_CLOEXEC), kind)
              for name, kind in (("net", NEW_NETWORK), ("mnt", NEW_MOUNTS))]  # fmt: skip
    folder = Path.cwd()
    try:
        _call("unshare", NEW_NETWORK | NEW_MOUNTS)
        try:
            _furnish()
            yield
        finally:
            _call("unshare", OWN_FILES)  # threads that still run share a root folder with us, which stays as it is
            for namespace, kind in before:
                _call("setns", namespace, kind)
            os.chdir(folder)  # joining mounts leads to their root
    finally:
        for namespace, _ in before:
            os.close(namespace)


def _furnish() -> None:
    """Bring loopback up, show this network's devices under /sys, and hide what belongs to the node outside."""
    cgroups = Path(tempfile.mkdtemp(prefix="towline-cgroups-"))
    for words in (
        "mount --make-rprivate /",
        f"mount --rbind /sys/fs/cgroup {cgroups}",
        "mount -t sysfs sysfs /sys",
        f"mount --rbind {cgroups} /sys/fs/cgroup",
        f"umount --lazy --recursive {cgroups}",
        "ip link set lo up",
    ):
        subprocess.run(words.split(), check=True)
    cgroups.rmdir()
    for folder in OF_ONE_NODE:
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(folder)], check=True)


def _call(name: str, *arguments: int) -> None:
    if getattr(_libc, name)(*arguments):
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
