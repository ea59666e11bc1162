"""Rules on what a container sees of the host's file system: bind mounts, sockets, and files that Compose reads."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from towline.compose import layout, normal, paths
from towline.compose.document import KeyPath
from towline.compose.policy import keys
from towline.compose.policy.findings import Rule, Violation
from towline.compose.policy.levels import Binds
from towline.compose.policy.look import Look, as_mapping
from towline.compose.text import shown

# Mounting one of these, something in it, or something around it, is a way to own the host.
SYSTEM_PATHS = (
    "/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/proc", "/root", "/run", "/sbin", "/sys",
    "/usr", "/var/lib/containerd", "/var/lib/containers", "/var/lib/docker", "/var/lib/kubelet", "/var/run",
    "/var/spool/cron",
)  # fmt: skip
# Read by half of all published Compose files, harmless to read.
READABLE = frozenset({"/etc/localtime", "/etc/timezone"})
_SOCKETS = (".sock", ".socket")
_WINDOWS_PATH = re.compile(r"[A-Za-z]:[\\/]")
_PRIVATE_PROPAGATION = frozenset({"", "private", "rprivate"})
_KINDS = frozenset({"bind", "volume", "tmpfs", "image"})


def mount(look: Look, path: KeyPath, entry: Mapping[str, Any]) -> Iterator[Violation]:
    """Check one entry of a service's `volumes`."""
    yield from look.keys(path, entry, keys.MOUNT)
    kind = entry["type"]
    if kind not in _KINDS:
        yield look.finding(path, Rule.BIND, f"mounts of the type {shown(kind)} are not allowed", "use a named volume")
    if kind in ("bind", "volume") and entry.get("target") and not normal.scalar_text(entry["target"]).startswith("/"):
        message = "the target must be an absolute path; a volume's name needs at least two characters"
        yield look.finding(path, Rule.SHAPE, message, "write NAME:/path")
    options = as_mapping(entry.get("bind"))
    yield from look.keys((*path, "bind"), options, keys.BIND_OPTIONS)
    propagation = normal.scalar_text(options.get("propagation"))
    if propagation not in _PRIVATE_PROPAGATION and not look.is_privileged:
        message = f"the propagation {shown(propagation)} lets mounts reach the host"
        yield look.finding(path, Rule.PROPAGATION, message, "remove it")
    if kind == "bind":
        source = normal.scalar_text(entry.get("source"))
        yield from host_path(look, path, source, read_only=bool(entry.get("read_only")))


def host_path(look: Look, path: KeyPath, source: str, *, read_only: bool) -> Iterator[Violation]:
    """Check a path of the host that a container is to see, as written and as it really is."""
    if not source or "\0" in source or len(source.encode(errors="replace")) > paths.MAX_PATH_BYTES:
        yield look.finding(path, Rule.SHAPE, "the mount has no usable source", "name a path")
        return
    if _WINDOWS_PATH.match(source):
        yield look.finding(path, Rule.SHAPE, f"{shown(source)} is a path of Windows", "write a path of the host")
        return
    resolved = paths.resolve(look.context.folder, source)
    seen = dict.fromkeys((resolved, look.context.real_paths.get(resolved, resolved)))
    for place in seen:
        found = _refusal(look, place, read_only)
        if found is not None:
            rule, message, fix = found
            via = f" (it leads to {shown(place)})" if place != resolved else ""
            yield look.finding(path, rule, f"{shown(source)}: {message}{via}", fix)
            return


def _refusal(look: Look, place: str, read_only: bool) -> tuple[Rule, str, str] | None:
    folder, policy = look.context.folder, look.policy
    if not place.startswith("/"):
        if look.is_privileged and place.startswith("~"):
            return None
        return Rule.BIND, "only absolute paths and paths in the project's folder can be mounted", "write it out"
    in_project = paths.is_within(place, folder)
    for own in look.context.protected:
        is_around = paths.is_within(own, place) and not (look.is_privileged and read_only)
        if (paths.is_within(place, own) and not in_project) or is_around:
            return Rule.OWN_PATH, "the agent's own files cannot be mounted", "mount another folder"
    if policy.binds is Binds.NONE:
        return Rule.BIND, "this host allows no bind mounts", "use a named volume"
    if in_project:
        return _in_project(paths.relative(place, folder), read_only)
    if look.is_privileged and "/" in policy.bind_folders:
        return None
    return _outside(look, place, read_only)


def _in_project(place: str, read_only: bool) -> tuple[Rule, str, str] | None:
    """In the project's folder all is allowed, but a container must not rewrite what Compose will read."""
    if place.endswith(_SOCKETS):
        return Rule.SOCKET, "sockets cannot be mounted", "use the network"
    is_decisive = place == "." or place.partition("/")[0] in layout.DECISIVE
    if place.partition("/")[0] == layout.OWN_FOLDER and not paths.is_within("/" + place, "/" + layout.SECRETS_FOLDER):
        return Rule.PROJECT_FILES, f"{layout.OWN_FOLDER} belongs to Towline", "mount another folder"
    if is_decisive and not read_only:
        return Rule.PROJECT_FILES, "a container could rewrite its own project", "mount a folder below, or add ':ro'"
    return None


def _outside(look: Look, place: str, read_only: bool) -> tuple[Rule, str, str] | None:
    granted = [folder for folder in look.policy.bind_folders if paths.is_within(place, folder)]
    if place.endswith(_SOCKETS):
        return Rule.SOCKET, "a socket hands its service over, Docker's the whole host", "ask for the level 'privileged'"
    if place in READABLE and read_only and look.policy.binds is Binds.FOLDERS:
        return None
    if place == "/" or any(_touches(place, system, granted) for system in SYSTEM_PATHS):
        return Rule.SYSTEM_PATH, "a folder of the system cannot be mounted", "copy what you need into the project"
    if look.policy.binds is not Binds.FOLDERS or not granted:
        fix = "use a named volume, a folder of the project, or let the host's own policy grant the folder"
        return Rule.BIND, "this path is outside of the project's folder", fix
    return None


def _touches(place: str, system: str, granted: list[str]) -> bool:
    """Tell whether a path lies in or around a system path without a grant for that very part of it."""
    if paths.is_within(system, place):
        return True
    return paths.is_within(place, system) and not any(paths.is_within(folder, system) for folder in granted)


def project_file(look: Look, path: KeyPath, written: Any) -> Iterator[Violation]:
    """Check a file that Compose itself reads: it must lie in the bundle."""
    if not isinstance(written, str) or not written:
        yield look.finding(path, Rule.SHAPE, "must name a file", "name a file of the bundle")
        return
    if paths.is_remote(written):
        yield look.finding(path, Rule.REMOTE, f"{shown(written)} would be fetched", "put the file into the bundle")
        return
    resolved = paths.resolve(look.context.folder, written)
    for place in {resolved, look.context.real_paths.get(resolved, resolved)}:
        if not paths.is_within(place, look.context.folder):
            message = f"{shown(written)} is outside of the project's folder"
            yield look.finding(path, Rule.OUTSIDE_FILE, message, "put the file into the bundle")
            return
