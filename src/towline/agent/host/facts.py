"""Facts about this machine that seldom change: system, sizes, addresses, versions, and which cloud it is in."""

from __future__ import annotations

import os
import platform
import socket
import sys
from pathlib import Path

import towline
from towline.agent.host.measures import memory_info
from towline.wire import link

_REAL_FILE_SYSTEMS = frozenset({"ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "overlay", "jfs", "bcachefs"})
MAX_DISKS = 32
"""Disks shown; a host of containers may mount thousands."""

_CLOUDS = {
    "amazon": "aws",
    "google": "gcp",
    "microsoft corporation": "azure",
    "digitalocean": "digitalocean",
    "hetzner": "hetzner",
    "openstack": "openstack",
    "oracle": "oracle",
    "scaleway": "scaleway",
    "vultr": "vultr",
    "linode": "linode",
    "akamai": "linode",
    "alibaba": "alibaba",
    "upcloud": "upcloud",
}


def system_facts() -> link.Facts:
    """Return everything that needs no other process. `versions` and `policy` are added by the caller."""
    return link.Facts(
        hostname=socket.gethostname(),
        system=_system(),
        kernel=platform.release(),
        architecture=platform.machine(),
        cpus=_cpus(),
        memory_bytes=memory_info().get("MemTotal", 0),
        disks=disks(),
        addresses=tuple(sorted(own_addresses())),
        cloud=cloud(),
        region=_region(),
        boot_at=_boot_at(),
        versions={"agent": towline.__version__, "python": platform.python_version()},
    )


def own_addresses(proc: Path = Path("/proc")) -> set[str]:
    """Return the addresses of this machine's interfaces, loopback left out."""
    return (_addresses4(proc) | _addresses6(proc)) - {"127.0.0.1", "::1"}


def _addresses4(proc: Path) -> set[str]:
    """Read the local table of the routing trie: lines `|-- ADDRESS` before `/32 host LOCAL`."""
    found, last = set(), ""
    try:
        lines = (proc / "net/fib_trie").read_text().splitlines()
    except OSError:
        return set()
    for line in lines:
        stripped = line.strip()
        if stripped.startswith("|-- "):
            last = stripped[4:]
        elif stripped == "/32 host LOCAL" and not last.startswith("127."):
            found.add(last)
    return found


def _addresses6(proc: Path) -> set[str]:
    try:
        lines = (proc / "net/if_inet6").read_text().splitlines()
    except OSError:
        return set()
    parts = (line.split() for line in lines)
    return {
        socket.inet_ntop(socket.AF_INET6, bytes.fromhex(fields[0]))
        for fields in parts
        if len(fields) >= 6 and fields[3] == "00"  # global scope
    }


def disks(proc: Path = Path("/proc")) -> tuple[link.Disk, ...]:
    """Return the mounted file systems that hold data, each device once."""
    found: dict[str, link.Disk] = {}
    for line in (proc / "self/mounts").read_text().splitlines():
        device, mount, kind, *_ = line.split()
        if kind not in _REAL_FILE_SYSTEMS or device in found or len(found) >= MAX_DISKS:
            continue
        if kind == "overlay" and mount != "/":
            continue
        mount = mount.replace("\\040", " ")
        try:
            status = os.statvfs(mount)
        except OSError:
            continue
        total = status.f_blocks * status.f_frsize
        if total and Path(mount).is_dir():
            free = _rounded(status.f_bavail * status.f_frsize)
            found[device] = link.Disk(mount=mount, total_bytes=total, free_bytes=free, device=device)
    return tuple(sorted(found.values(), key=lambda disk: disk.mount))


def _rounded(size: int) -> int:
    """Round to 64 MiB, so that facts do not change with every byte that is written."""
    return size // (64 * 1024 * 1024) * (64 * 1024 * 1024)


def cloud(sys_folder: Path = Path("/sys/class/dmi/id")) -> str:
    """Return the name of the cloud that the machine's firmware names; nobody is asked over the network."""
    text = " ".join(_read(sys_folder / name) for name in ("sys_vendor", "product_name", "chassis_asset_tag")).lower()
    return next((name for word, name in _CLOUDS.items() if word in text), "")


def _region() -> str:
    """Return the region that cloud-init has noted."""
    import json

    try:
        data = json.loads(_read(Path("/run/cloud-init/instance-data.json")) or "{}")
    except ValueError:
        return ""
    region = data.get("v1", {}).get("region") if isinstance(data, dict) else ""
    return region if isinstance(region, str) else ""


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""


def _system() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", sys.platform)
    except OSError:
        return f"{platform.system()} {platform.release()}"


def _cpus() -> int:
    return len(os.sched_getaffinity(0))


def _boot_at() -> float:
    for line in Path("/proc/stat").read_text().splitlines():
        if line.startswith("btime "):
            return float(line.split()[1])
    return 0.0
