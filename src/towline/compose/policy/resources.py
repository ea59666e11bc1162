"""Rules on top-level volumes, networks, secrets, configs and includes."""

from collections.abc import Iterator, Mapping
from typing import Any

from towline.compose import normal
from towline.compose.document import KeyPath
from towline.compose.policy import keys
from towline.compose.policy.findings import Rule, Violation
from towline.compose.policy.levels import Level
from towline.compose.policy.look import ASK_FOR_PRIVILEGED, Look, as_list, as_mapping
from towline.compose.policy.mounts import host_path, project_file
from towline.compose.text import shown

_NETWORK_DRIVERS = frozenset({"", "bridge", "default", "overlay"})
_NETWORK_OPTIONS = ("com.docker.network.bridge.", "com.docker.network.driver.mtu", "com.docker.network.enable_ipv")
_SHARED_STORAGE = frozenset({"nfs", "nfs4", "cifs", "smb3"})
# As a driver, or as the name of an external network: both are the host's own network.
_HOST = "host"


def volume(look: Look, name: str, body: Mapping[str, Any]) -> Iterator[Violation]:
    path: KeyPath = ("volumes", name)
    yield from look.keys(path, body, keys.VOLUME)
    yield from _shared(look, path, body)
    driver = normal.scalar_text(body.get("driver"))
    if driver not in ("", "local") and not look.is_privileged:
        message = f"the volume driver {shown(driver)} is a program on the host"
        yield look.finding((*path, "driver"), Rule.DRIVER, message, "use the driver 'local'")
    if options := as_mapping(body.get("driver_opts")):
        yield from _volume_options(look, (*path, "driver_opts"), options)


def _volume_options(look: Look, path: KeyPath, options: Mapping[str, Any]) -> Iterator[Violation]:
    """The local driver passes its options to mount(2), which can mount anything anywhere."""
    kind, device, flags = (normal.scalar_text(options.get(key)) for key in ("type", "device", "o"))
    words = {word.strip() for word in flags.split(",")}
    if words & {"bind", "rbind"} or kind == "bind":
        yield from host_path(look, path, device, read_only="ro" in words)
        return
    is_memory = kind == "tmpfs"
    is_shared = kind in _SHARED_STORAGE and not words & {"remount", "move"} and look.allows(Level.STANDARD)
    is_sizing = not kind and not device and not flags and set(options) <= {"size"}
    if not (is_memory or is_shared or is_sizing or look.is_privileged):
        message = f"a volume of the type {shown(kind or 'none')} mounts something of the host"
        yield look.finding(path, Rule.DRIVER_OPTION, message, "use a plain volume, or type tmpfs, nfs or cifs")


def network(look: Look, name: str, body: Mapping[str, Any]) -> Iterator[Violation]:
    path: KeyPath = ("networks", name)
    yield from look.keys(path, body, keys.NETWORK)
    yield from _shared(look, path, body)
    driver = normal.scalar_text(body.get("driver"))
    real_name = normal.scalar_text(body.get("name")) or (name if body.get("external") else "")
    is_host = _HOST in (driver, real_name)
    if is_host and not look.policy.host_network:
        yield look.finding(path, Rule.HOST_NETWORK, "this is the host's own network", ASK_FOR_PRIVILEGED)
    elif driver not in _NETWORK_DRIVERS and not is_host and not look.is_privileged:
        message = f"the network driver {shown(driver)} reaches the host's own links"
        yield look.finding((*path, "driver"), Rule.DRIVER, message, "use the driver 'bridge'")
    for option in as_mapping(body.get("driver_opts")):
        if not option.startswith(_NETWORK_OPTIONS) and not look.is_privileged:
            where = (*path, "driver_opts", option)
            yield look.finding(where, Rule.DRIVER_OPTION, f"the option {shown(option)} is not allowed", "remove it")
    ipam = as_mapping(body.get("ipam"))
    if normal.scalar_text(ipam.get("driver")) not in ("", "default") and not look.is_privileged:
        yield look.finding((*path, "ipam", "driver"), Rule.DRIVER, "this address driver is not allowed", "remove it")


def _shared(look: Look, path: KeyPath, body: Mapping[str, Any]) -> Iterator[Violation]:
    """Things that other projects may own."""
    what, name = path[0], normal.scalar_text(body.get("name"))
    external = normal.is_true(body.get("external"))
    real_name = name or str(path[1])
    if external and not look.allows(Level.STANDARD):
        message = f"external {what} belong to somebody else"
        yield look.finding((*path, "external"), Rule.EXTERNAL, message, "let the project make its own")
    is_own = not name or name == look.context.project or name.startswith((f"{look.context.project}_", f"{path[1]}"))
    if not external and look.context.project and not is_own and not look.allows(Level.STANDARD):
        message = f"the name {shown(name)} could belong to another project"
        yield look.finding(
            (*path, "name"), Rule.EXTERNAL, message, f"begin it with {shown(look.context.project + '_')}"
        )
    if (external or name) and real_name in look.context.foreign:
        message = f"{shown(real_name)} belongs to another project"
        yield look.finding(path, Rule.FOREIGN, message, "use another name")


def secret(look: Look, name: str, body: Mapping[str, Any]) -> Iterator[Violation]:
    yield from _file_source(look, ("secrets", name), body, keys.SECRET)


def config(look: Look, name: str, body: Mapping[str, Any]) -> Iterator[Violation]:
    yield from _file_source(look, ("configs", name), body, keys.CONFIG)


def _file_source(look: Look, path: KeyPath, body: Mapping[str, Any], known: keys.Keys) -> Iterator[Violation]:
    yield from look.keys(path, body, known)
    if normal.is_true(body.get("external")):
        yield look.finding(
            (*path, "external"), Rule.EXTERNAL, "Docker without Swarm has no external ones", "use 'file:'"
        )
    if "file" in body:
        yield from project_file(look, (*path, "file"), body["file"])


def includes(look: Look) -> Iterator[Violation]:
    """Check `include` entries: files of the bundle, never fetched."""
    value = look.model.get("include")
    if value is not None and not isinstance(value, list):
        yield look.finding(("include",), Rule.SHAPE, "must be a list", "write one '- file' a line")
    for index, entry in enumerate(as_list(value)):
        path: KeyPath = ("include", index)
        body = as_mapping(entry) or {"path": entry}
        yield from look.keys(path, body, keys.INCLUDE)
        for key in ("path", "project_directory", "env_file"):
            if (written := body.get(key)) is not None:
                for each in written if isinstance(written, list) else [written]:
                    yield from project_file(look, path, each)
