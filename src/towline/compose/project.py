"""From a Compose file to a project: load, interpolate, normalise, check the structure.

Not here: what is allowed (`policy`). The host's `docker compose config` stays the judge; what is found here is found
before anything reaches a host, with the line.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from towline.compose import document, interpolation, normal, paths, ports, structure
from towline.compose.document import Document, KeyPath
from towline.compose.model import FileKind, FileUse, Lifetime, Mount, Project, Service
from towline.compose.problems import Problem

# Stands for the project's folder where it is not known yet; no real path begins like this.
UNKNOWN_FOLDER = "/.project"

_RESTARTS = frozenset({"always", "unless-stopped"})
_DEPLOY_RESTARTS = {"any": "always", "on-failure": "on-failure", "none": "no"}


@dataclass(frozen=True, slots=True)
class Parsed:
    """A file that was read: the project, all that is wrong with it, and the variables it uses."""

    document: Document
    project: Project
    problems: tuple[Problem, ...]
    uses: tuple[interpolation.Use, ...]

    @property
    def errors(self) -> tuple[Problem, ...]:
        return tuple(problem for problem in self.problems if problem.is_error)

    def variables(self) -> frozenset[str]:
        """Names of all variables that the file uses."""
        return frozenset(use.variable.name for use in self.uses)


def parse(
    raw: bytes | str,
    values: Mapping[str, str] | None = None,
    *,
    name: str = "",
    folder: str = "",
    secrets: Collection[str] = (),
) -> Parsed:
    """Read one Compose file.

    Args: values: variables for interpolation. name: the project's name. folder: the absolute project folder that
        relative paths are resolved against, when known. secrets: names that services may use without defining them.
    Raises: DocumentRefused, when it is not YAML that we accept. Everything else is in `problems`.
    """
    loaded = document.load(raw)
    data, problems = interpolation.interpolate(loaded, values or {})
    found = list(problems)

    def report(path: KeyPath, message: str) -> None:
        found.append(Problem(path, loaded.mark(path), message))

    model = normal.normalise(data, report)
    profiles = (values or {}).get("COMPOSE_PROFILES", "")
    project = build(model, name=name, folder=folder or UNKNOWN_FOLDER, profiles=profiles)
    found.extend(structure.check(project, loaded, secrets))
    return Parsed(loaded, project, tuple(found), interpolation.uses(loaded))


def build(model: dict[str, Any], *, name: str = "", folder: str = UNKNOWN_FOLDER, profiles: str = "") -> Project:
    """Make a project of a normal model, ours or that of `docker compose config`.

    Args: profiles: the chosen ones, with commas between, as `COMPOSE_PROFILES` has them.
    """
    chosen = {word.strip() for word in profiles.split(",")}
    waited_for = {
        other
        for body in model["services"].values()
        for other, terms in body.get("depends_on", {}).items()
        if terms.get("condition") == "service_completed_successfully"
    }
    services = {
        each: _service(each, body, folder, each in waited_for, chosen) for each, body in model["services"].items()
    }
    return Project(
        name=name or normal.scalar_text(model.get("name")),
        services=services,
        volumes=tuple(model["volumes"]),
        networks=tuple(model["networks"]),
        secrets=tuple(model["secrets"]),
        configs=tuple(model["configs"]),
        files=tuple(_files(model, services, folder)),
        model=model,
    )


def _service(name: str, body: dict[str, Any], folder: str, is_waited_for: bool, profiles: set[str]) -> Service:
    restart = restart_policy(body)
    published = tuple(_published(body))
    healthcheck = body.get("healthcheck") or {}
    has_healthcheck = bool(healthcheck) and not _is_disabled(healthcheck)
    return Service(
        name=name,
        image=body.get("image", ""),
        build=body.get("build"),
        lifetime=_lifetime(is_waited_for, restart, has_healthcheck or bool(published)),
        replicas=_replicas(body),
        is_active=not (own := body.get("profiles")) or "*" in profiles or bool(profiles & set(map(str, own))),
        has_healthcheck=has_healthcheck,
        restart=restart,
        depends_on={
            other: terms.get("condition") or "service_started" for other, terms in body.get("depends_on", {}).items()
        },
        ports=published,
        mounts=tuple(_mount(entry, folder) for entry in body.get("volumes", [])),
        networks=tuple(body.get("networks", {})),
        secrets=tuple(entry["source"] for entry in body.get("secrets", [])),
        configs=tuple(entry["source"] for entry in body.get("configs", [])),
        body=body,
    )


def restart_policy(body: Mapping[str, Any]) -> str:
    """The restart policy that the containers get: `no`, `on-failure`, `always` or `unless-stopped`."""
    condition = (body.get("deploy", {}).get("restart_policy") or {}).get("condition")
    chosen = body.get("restart") or _DEPLOY_RESTARTS.get(str(condition), "no")
    return chosen if chosen in _RESTARTS else "on-failure" if chosen.startswith("on-failure") else "no"


def _lifetime(is_waited_for: bool, restart: str, looks_lasting: bool) -> Lifetime:
    if is_waited_for:
        return Lifetime.ONE_SHOT
    if restart in _RESTARTS or looks_lasting:
        return Lifetime.LONG
    return Lifetime.UNKNOWN


def _is_disabled(check: Mapping[str, Any]) -> bool:
    test = check.get("test")
    return normal.is_true(check.get("disable")) or test == ["NONE"] or test == "NONE"


def _replicas(body: Mapping[str, Any]) -> int:
    for value in (body.get("scale"), body.get("deploy", {}).get("replicas")):
        text = normal.scalar_text(value)
        if text.isascii() and text.isdigit() and len(text) < 6:
            return int(text)
    return 1


def _published(body: Mapping[str, Any]) -> list[ports.Published]:
    found = []
    for entry in body.get("ports", []):
        try:
            found.append(ports.check(entry))
        except ports.PortMistake:
            continue  # `structure` reports it with its line
    return found


def _mount(entry: Mapping[str, Any], folder: str) -> Mount:
    kind, source = entry["type"], normal.scalar_text(entry.get("source"))
    if kind == "bind" and source:
        source = paths.resolve(folder, source)
    return Mount(kind, source, normal.scalar_text(entry.get("target")), bool(entry.get("read_only")))


def _files(model: Mapping[str, Any], services: Mapping[str, Service], folder: str) -> list[FileUse]:
    found = _include_files(model, folder)
    for service in services.values():
        found.extend(_service_files(service, folder))
    for section, kind in (("configs", FileKind.CONFIG), ("secrets", FileKind.SECRET)):
        for name, body in model[section].items():
            if isinstance(file := body.get("file"), str):
                users = tuple(each.name for each in services.values() if name in getattr(each, section))
                found.append(FileUse(kind, paths.resolve(folder, file), (section, name, "file"), services=users))
    return found


def _include_files(model: Mapping[str, Any], folder: str) -> list[FileUse]:
    entries = model.get("include")
    found = []
    for index, entry in enumerate(entries if isinstance(entries, list) else []):
        named = entry.get("path") if isinstance(entry, dict) else entry
        for text in named if isinstance(named, list) else [named]:
            if isinstance(text, str) and not paths.is_remote(text):
                found.append(FileUse(FileKind.INCLUDE, paths.resolve(folder, text), ("include", index)))
    return found


def _service_files(service: Service, folder: str) -> list[FileUse]:
    found: list[FileUse] = []
    body, path, by = service.body, ("services", service.name), (service.name,)
    for key, kind in (("env_file", FileKind.ENV_FILE), ("label_file", FileKind.LABEL_FILE)):
        for index, entry in enumerate(body.get(key, [])):
            required = normal.is_true(entry.get("required", True))
            found.append(FileUse(kind, paths.resolve(folder, entry["path"]), (*path, key, index), required, by))
    if isinstance(file := body.get("extends", {}).get("file"), str):
        found.append(FileUse(FileKind.EXTENDS, paths.resolve(folder, file), (*path, "extends", "file"), True, by))
    context = (service.build or {}).get("context", "." if service.build is not None else None)
    if isinstance(context, str) and not paths.is_remote(context):
        found.append(FileUse(FileKind.BUILD, paths.resolve(folder, context), (*path, "build", "context"), True, by))
    for index, mount in enumerate(service.mounts):
        if mount.kind == "bind":
            found.append(FileUse(FileKind.MOUNT, mount.source, (*path, "volumes", index), False, by))
    return found
