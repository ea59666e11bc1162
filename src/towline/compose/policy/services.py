"""Rules on services: privileges, namespaces, ports, labels, logging, and everything they refer to."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from towline.compose import normal, ports
from towline.compose.document import KeyPath
from towline.compose.policy import images, keys, mounts
from towline.compose.policy.findings import Rule, Violation
from towline.compose.policy.levels import Level
from towline.compose.policy.look import ASK_FOR_PRIVILEGED, Look, as_list, as_mapping
from towline.compose.text import shown

OWN_LABELS = "towline."
COMPOSE_LABELS = "com.docker.compose."
# The one label that only we put into a project: the digest of the files that a service mounts; see `overrides`.
FILES_LABEL = "towline.files"
ROUTE_LABELS = "towline.route."
"""Ask for a public name; whether it is given is decided where routes are."""

_LOCAL_LOGGING = frozenset({"", "json-file", "local", "none", "journald"})
_SAFE_SYSCTLS = ("net.", "fs.mqueue.", "kernel.msg", "kernel.sem", "kernel.shm")
_HARMLESS_MODES = frozenset({"", "none", "bridge", "default", "private", "shareable"})
_NAMESPACES = ("network_mode", "pid", "ipc", "uts", "userns_mode", "cgroup")

Body = Mapping[str, Any]


def service(look: Look, name: str, body: Body) -> Iterator[Violation]:
    """Check one service."""
    path: KeyPath = ("services", name)
    yield from _keys(look, path, body)
    for rule in _RULES:
        yield from rule(look, path, body)


def _keys(look: Look, path: KeyPath, body: Body) -> Iterator[Violation]:
    granted = keys.DEVICE_KEYS if look.policy.devices else frozenset()
    for key in body:
        if key in keys.NEVER:
            message = "a provider runs a program on the host"
            yield look.finding((*path, key), Rule.PROVIDER, message, "remove it; no level allows it")
    rest = {key: value for key, value in body.items() if key not in keys.NEVER and key not in granted}
    yield from look.keys(path, rest, keys.SERVICE)
    yield from look.keys((*path, "deploy"), as_mapping(body.get("deploy")), keys.DEPLOY)
    yield from look.keys((*path, "logging"), as_mapping(body.get("logging")), keys.LOGGING)


def _image(look: Look, path: KeyPath, body: Body) -> Iterator[Violation]:
    build = body.get("build")
    if build is not None:
        yield from images.build(look, (*path, "build"), build)
        yield from _labels(look, (*path, "build", "labels"), build.get("labels"))
    elif body.get("image"):
        yield from images.image(look, (*path, "image"), body["image"])
    yield from images.pull_policy(look, (*path, "pull_policy"), body.get("pull_policy", ""))


def _mounts(look: Look, path: KeyPath, body: Body) -> Iterator[Violation]:
    for index, entry in enumerate(body.get("volumes", [])):
        yield from mounts.mount(look, (*path, "volumes", index), entry)
        if entry["type"] == "image" and entry.get("source"):
            yield from images.image(look, (*path, "volumes", index), normal.scalar_text(entry["source"]))
    for index, entry in enumerate(body.get("volumes_from", [])):
        text = normal.scalar_text(entry)
        if text.split(":")[0] not in look.model["services"] and not look.is_privileged:
            message = f"{shown(text)} takes the volumes of a container outside of the project"
            yield look.finding((*path, "volumes_from", index), Rule.NAMESPACE, message, "name a service of the project")


def _files(look: Look, path: KeyPath, body: Body) -> Iterator[Violation]:
    for key in ("env_file", "label_file"):
        for index, entry in enumerate(body.get(key, [])):
            yield from mounts.project_file(look, (*path, key, index), entry["path"])
    extends = as_mapping(body.get("extends"))
    yield from look.keys((*path, "extends"), extends, keys.EXTENDS)
    if "file" in extends:
        yield from mounts.project_file(look, (*path, "extends", "file"), extends["file"])
    for key in ("secrets", "configs"):
        for index, entry in enumerate(body.get(key, [])):
            yield from look.keys((*path, key, index), entry, keys.GRANT)


def _capabilities(look: Look, path: KeyPath, body: Body) -> Iterator[Violation]:
    for index, entry in enumerate(body.get("cap_add", [])):
        capability = normal.scalar_text(entry).upper().removeprefix("CAP_")
        if not look.policy.may_add(capability):
            message = f"the capability {shown(capability)} is not granted"
            yield look.finding((*path, "cap_add", index), Rule.CAPABILITY, message, "remove it, or ask for it")


def _namespaces(look: Look, path: KeyPath, body: Body) -> Iterator[Violation]:
    for key in _NAMESPACES:
        mode = body.get(key, "")
        if mode in _HARMLESS_MODES:
            continue
        kind, _, target = mode.partition(":")
        if kind == "service" and target in look.model["services"]:
            continue
        if mode == "host" and key == "network_mode":
            if not look.policy.host_network:
                message = "the container would use the host's network"
                yield look.finding((*path, key), Rule.HOST_NETWORK, message, "publish ports instead")
        elif not look.is_privileged:
            message = f"{shown(mode)} shares the {key.removesuffix('_mode')} namespace beyond the project"
            yield look.finding((*path, key), Rule.NAMESPACE, message, ASK_FOR_PRIVILEGED)


def _devices(look: Look, path: KeyPath, body: Body) -> Iterator[Violation]:
    resources = as_mapping(as_mapping(body.get("deploy")).get("resources"))
    for part in ("limits", "reservations"):
        where = (*path, "deploy", "resources", part)
        asked = dict(as_mapping(resources.get(part)))
        if asked.pop("devices", None) and not look.policy.devices:
            yield look.finding((*where, "devices"), Rule.DEVICE, "devices are not granted", "remove it, or ask for it")
        yield from look.keys(where, asked, keys.RESERVATION)


def _security(look: Look, path: KeyPath, body: Body) -> Iterator[Violation]:
    for index, entry in enumerate(body.get("security_opt", [])):
        option, _, value = normal.scalar_text(entry).replace("=", ":", 1).partition(":")
        is_safe = (option, value) in {("no-new-privileges", ""), ("no-new-privileges", "true")}
        is_level = option == "label" and value.startswith("level:") and look.allows(Level.STANDARD)
        if not (is_safe or is_level or look.is_privileged):
            message = f"the security option {shown(normal.scalar_text(entry))} weakens the container's walls"
            yield look.finding((*path, "security_opt", index), Rule.SECURITY_OPTION, message, "remove it")
    for name in as_mapping(body.get("sysctls")):
        if not name.startswith(_SAFE_SYSCTLS) and not look.is_privileged:
            message = f"the sysctl {shown(name)} is not one of the container's own"
            yield look.finding((*path, "sysctls", name), Rule.SYSCTL, message, "remove it")


def _networks(look: Look, path: KeyPath, body: Body) -> Iterator[Violation]:
    for name, options in as_mapping(body.get("networks")).items():
        yield from look.keys((*path, "networks", name), as_mapping(options), keys.SERVICE_NETWORK)


def _ports(look: Look, path: KeyPath, body: Body) -> Iterator[Violation]:
    for index, entry in enumerate(body.get("ports", [])):
        where = (*path, "ports", index)
        try:
            published = ports.check(entry)
        except ports.PortMistake as error:
            yield look.finding(where, Rule.PORT, str(error), 'write it as "8080:80"')
            continue
        if published.is_chosen_by_docker:
            continue
        if published.first < look.policy.lowest_port:
            message = f"ports below {look.policy.lowest_port} are not granted"
            yield look.finding(where, Rule.PORT, message, "publish a higher port, or add a route")
        taken = [port for port in look.context.taken_ports if published.first <= port <= published.last]
        for port in sorted(taken)[:1]:
            message = f"port {port} is taken by {shown(look.context.taken_ports[port])}"
            yield look.finding(where, Rule.PORT, message, "publish another port")
        if published.address in look.context.refused_addresses:
            message = f"nothing may be published on {published.address}"
            yield look.finding(where, Rule.PORT, message, "leave the address out, or use another")


def _all_labels(look: Look, path: KeyPath, body: Body) -> Iterator[Violation]:
    for key in ("labels", "annotations"):
        yield from _labels(look, (*path, key), body.get(key))
    yield from _labels(look, (*path, "deploy", "labels"), as_mapping(body.get("deploy")).get("labels"))


def _labels(look: Look, path: KeyPath, labels: Any) -> Iterator[Violation]:
    names = labels if isinstance(labels, dict) else [normal.scalar_text(item).split("=")[0] for item in as_list(labels)]
    for name in names:
        is_open = name == FILES_LABEL or name.startswith(ROUTE_LABELS)
        if name.startswith((OWN_LABELS, COMPOSE_LABELS)) and not is_open:
            yield look.finding((*path, name), Rule.LABEL, f"the label {shown(name)} is reserved", "use another prefix")


def _logging(look: Look, path: KeyPath, body: Body) -> Iterator[Violation]:
    driver = normal.scalar_text(as_mapping(body.get("logging")).get("driver"))
    if driver not in _LOCAL_LOGGING and not look.is_privileged:
        message = f"the logging driver {shown(driver)} sends logs elsewhere in the host's name"
        yield look.finding((*path, "logging", "driver"), Rule.LOGGING, message, "use json-file, local or journald")


def _hooks(look: Look, path: KeyPath, body: Body) -> Iterator[Violation]:
    for key in ("post_start", "pre_stop"):
        for index, entry in enumerate(as_list(body.get(key))):
            hook = as_mapping(entry)
            yield from look.keys((*path, key, index), hook, keys.HOOK)


def resource_labels(look: Look, section: str, name: str, body: Body) -> Iterator[Violation]:
    """Check the labels of a top-level volume, network, secret or config."""
    yield from _labels(look, (section, name, "labels"), body.get("labels"))


_RULES: tuple[Callable[[Look, KeyPath, Body], Iterator[Violation]], ...] = (
    _image, _mounts, _files, _capabilities, _namespaces, _devices, _security, _networks, _ports, _all_labels, _logging,
    _hooks,
)  # fmt: skip
