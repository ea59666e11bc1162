"""What a deploy would change: services added, removed, recreated and why, and the file line by line.

Values of variables are never shown, only their names. Not here: what really runs (`drift`).
"""

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from towline.compose import overrides, paths
from towline.compose.model import FileKind, Project, Service
from towline.compose.project import UNKNOWN_FOLDER
from towline.compose.revision import Revision

# Comparing lines costs their product in the worst case; nobody reads a longer diff.
MAX_DIFF_LINES = 3_000
_CONTEXT_LINES = 3
# What Compose leaves out when it decides whether a container must be made anew; builds show in their image.
_NOT_HASHED = frozenset({"build", "pull_policy", "scale", "depends_on", "profiles", "develop", "env_file", "extends"})
_WORDS = {"volumes": "mounts", "networks": "networks", "cap_add": "capabilities"}
_WITH_VALUES = frozenset({"image", "restart", "user", "hostname", "container_name", "working_dir", "platform"})


class Change(StrEnum):
    """What happens to a service."""

    ADDED = "added"
    REMOVED = "removed"
    RECREATED = "recreated"
    SCALED = "scaled"
    UNCHANGED = "unchanged"


@dataclass(frozen=True, slots=True)
class ServiceChange:
    """One service's fate, with the reasons in words."""

    service: str
    change: Change
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the file's diff. `sign` is " ", "+", "-" or "@" for a gap; the numbers are 0 where there is none."""

    sign: str
    text: str
    old: int = 0
    new: int = 0


@dataclass(frozen=True, slots=True)
class Difference:
    """Everything that differs between two revisions. Names only, no values of variables."""

    services: tuple[ServiceChange, ...]
    volumes_added: tuple[str, ...] = ()
    volumes_removed: tuple[str, ...] = ()
    networks_added: tuple[str, ...] = ()
    networks_removed: tuple[str, ...] = ()
    variables: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    lines: tuple[Line, ...] = ()

    @property
    def changes_containers(self) -> bool:
        return any(each.change is not Change.UNCHANGED for each in self.services)


def compare(old: Revision | None, new: Revision, folder: str = UNKNOWN_FOLDER) -> Difference:
    """Compare two revisions of a project; without an old one everything is added.

    Raises: DocumentRefused, EnvironmentRefused, NameRefused, for a revision that cannot be read.
    """
    before = _Side(old or Revision(new.project, "services: {}"), folder)
    after = _Side(new, folder)
    return Difference(
        services=tuple(_services(before, after)),
        volumes_added=_only(after.project.volumes, before.project.volumes),
        volumes_removed=_only(before.project.volumes, after.project.volumes),
        networks_added=_only(after.project.networks, before.project.networks),
        networks_removed=_only(before.project.networks, after.project.networks),
        variables=_changed(before.plain, after.plain),
        secrets=_changed(before.revision.secrets, after.revision.secrets),
        files=_changed(before.revision.files, after.revision.files),
        lines=lines(old.compose if old is not None else "", new.compose),
    )


class _Side:
    """One of the two revisions, read."""

    def __init__(self, revision: Revision, folder: str) -> None:
        values = revision.values()
        self.revision = revision
        self.folder = folder
        self.plain = {name: value for name, value in values.items() if name not in revision.secrets}
        self.project: Project = revision.parse(folder).project
        self.active = {service.name: service for service in self.project.active()}

    def content(self, service: Service) -> dict[str, str]:
        revision = self.revision
        return overrides.watched_content(self.project, service, self.folder, revision.secrets, revision.files)

    def env_files(self, service: Service) -> dict[str, str]:
        return self._used(service, FileKind.ENV_FILE)

    def build_files(self, service: Service) -> dict[str, str]:
        return self._used(service, FileKind.BUILD)

    def _used(self, service: Service, kind: FileKind) -> dict[str, str]:
        folders = [use.path for use in self.project.files if use.kind is kind and service.name in use.services]
        return {
            path: digest
            for path, digest in self.revision.files.items()
            if paths.is_within_any(paths.resolve(self.folder, path), folders)
        }


def _services(before: _Side, after: _Side) -> Iterator[ServiceChange]:
    for name, service in after.active.items():
        earlier = before.active.get(name)
        if earlier is None:
            yield ServiceChange(name, Change.ADDED)
            continue
        reasons = tuple(_reasons(before, after, earlier, service))
        if reasons:
            yield ServiceChange(name, Change.RECREATED, reasons)
        elif earlier.replicas != service.replicas:
            words = f"{earlier.replicas} → {service.replicas} containers"
            yield ServiceChange(name, Change.SCALED, (words,))
        else:
            yield ServiceChange(name, Change.UNCHANGED)
    for name in before.active:
        if name not in after.active:
            yield ServiceChange(name, Change.REMOVED)


def _reasons(before: _Side, after: _Side, old: Service, new: Service) -> Iterator[str]:
    keys = dict.fromkeys([*old.body, *new.body])
    for key in keys:
        if key in _NOT_HASHED or key.startswith("x-"):
            continue
        one, other = _comparable(key, old.body.get(key)), _comparable(key, new.body.get(key))
        if one != other:
            yield _reason(key, one, other)
    yield from _named("files", _changed(before.content(old), after.content(new)))
    yield from _named("env_file", _changed(before.env_files(old), after.env_files(new)))
    if old.build != new.build:
        yield "build: the section changed"
    yield from _named("build context", _changed(before.build_files(old), after.build_files(new)))
    for section, used in (("networks", new.networks), ("volumes", tuple(mount.source for mount in new.mounts))):
        for name in used:
            one, other = before.project.model[section].get(name), after.project.model[section].get(name)
            if one is not None and other is not None and one != other:
                yield f"{section[:-1]} {name} changed"
    ran, will_run = before.revision.images.get(old.name), after.revision.images.get(new.name)
    if ran and will_run and ran != will_run and old.image == new.image:
        yield f"image content: {_short(ran)} → {_short(will_run)}"


def _comparable(key: str, value: Any) -> Any:
    """Bring a value to where equal ones are equal; what is empty is as good as absent."""
    if key == "deploy" and isinstance(value, dict):
        value = {name: item for name, item in value.items() if name != "replicas"}
    return value or None


def _reason(key: str, one: Any, other: Any) -> str:
    if key in ("environment", "labels"):
        return f"{key}: " + ", ".join(_pair_words(one or {}, other or {}))
    if key in _WITH_VALUES:
        return f"{key}: {one or 'none'} → {other or 'none'}"
    return f"{_WORDS.get(key, key)} {'added' if one is None else 'removed' if other is None else 'changed'}"


def _pair_words(one: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[str]:
    for name in _changed(one, other):
        yield f"{name} {'added' if name not in one else 'removed' if name not in other else 'changed'}"


def _named(what: str, names: tuple[str, ...]) -> Iterator[str]:
    if names:
        yield f"{what}: {', '.join(names)}"


def _changed(one: Mapping[str, Any], other: Mapping[str, Any]) -> tuple[str, ...]:
    absent = object()
    names = sorted(one.keys() | other.keys())
    return tuple(name for name in names if one.get(name, absent) != other.get(name, absent))


def _only(these: tuple[str, ...], those: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in these if name not in those)


def _short(image: str) -> str:
    return image.rpartition("sha256:")[2][:12] or image


def lines(old: str, new: str) -> tuple[Line, ...]:
    """Compare two texts line by line, with three lines around each change. Empty when one is too long to compare."""
    one, other = old.splitlines(), new.splitlines()
    if max(len(one), len(other)) > MAX_DIFF_LINES:
        return ()
    found: list[Line] = []
    for group in difflib.SequenceMatcher(None, one, other).get_grouped_opcodes(_CONTEXT_LINES):
        if found:
            found.append(Line("@", ""))
        for tag, start, end, new_start, new_end in group:
            if tag == "equal":
                pairs = zip(range(start, end), range(new_start, new_end), strict=True)
                found.extend(Line(" ", one[at], at + 1, new_at + 1) for at, new_at in pairs)
            else:
                found.extend(Line("-", one[at], at + 1) for at in range(start, end))
                found.extend(Line("+", other[at], 0, at + 1) for at in range(new_start, new_end))
    return tuple(found)
