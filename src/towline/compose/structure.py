"""Checks that a project hangs together: known sections, defined names, sound references, no cycles.

Not here: what a policy allows. Findings carry the line and what to do.
"""

import re
from collections.abc import Collection, Iterable, Iterator

from towline.compose import names, ports, references
from towline.compose.document import Document, KeyPath
from towline.compose.errors import NameRefused, ReferenceRefused
from towline.compose.model import Project, Service
from towline.compose.problems import Problem, Severity
from towline.compose.text import nearest, shown

TOP_LEVEL = frozenset({"version", "name", "include", "services", "models", "networks", "volumes", "secrets", "configs"})
# What follows a key of `environment` when its value is a bare number.
_NUMBER_AFTER_KEY = re.compile(r"[\"']?\s*:\s+([-+.]?[0-9][0-9a-zA-Z_.+-]*)\s*(?:[,}#]|$)")
_CONDITIONS = frozenset({"service_started", "service_healthy", "service_completed_successfully"})


def check(project: Project, document: Document, secrets: Collection[str] = ()) -> tuple[Problem, ...]:
    """Everything about the structure of a project that Compose would stumble over.

    Args: secrets: names that Towline itself will define.
    """
    return tuple(_Check(project, document, secrets).problems())


class _Check:
    def __init__(self, project: Project, document: Document, secrets: Collection[str]) -> None:
        self._project = project
        self._secrets = secrets
        self._document = document

    def problems(self) -> Iterator[Problem]:
        yield from self._top_level()
        for service in self._project.services.values():
            yield from self._service(service)
        yield from self._cycles()

    def _problem(self, path: KeyPath, message: str, fix: str, severity: Severity = Severity.ERROR) -> Problem:
        return Problem(path, self._document.mark(path), message, fix, severity)

    def _top_level(self) -> Iterator[Problem]:
        model = self._project.model
        for key in model:
            if key not in TOP_LEVEL and not key.startswith("x-"):
                yield self._problem((key,), f"unknown section {shown(key)}", _did_you_mean(key, TOP_LEVEL))
        if not self._project.services and not model.get("include"):
            yield self._problem(("services",), "the project has no services", "add one under 'services:'")
        if "version" in model:
            yield self._problem(("version",), "'version' has no meaning any more", "remove it", Severity.WARNING)
        written = model.get("name")
        if isinstance(written, str) and self._project.name and written != self._project.name:
            message = f"the file names the project {shown(written)}, the deployment is {shown(self._project.name)}"
            yield self._problem(("name",), message, "remove 'name', or deploy under that name")
        for section in ("volumes", "networks", "secrets", "configs"):
            for name in model[section]:
                if not names.is_resource_name(name):
                    yield self._problem(
                        (section, name), f"the name {shown(name)} is not allowed", "use letters and digits"
                    )

    def _service(self, service: Service) -> Iterator[Problem]:
        path: KeyPath = ("services", service.name)
        try:
            names.service_name(service.name)
        except NameRefused as error:
            yield self._problem(path, str(error), "rename the service")
        if not service.image and service.build is None and not {"extends", "provider"} & service.body.keys():
            yield self._problem(path, f"{service.name} has neither an image nor a build", "add 'image:'")
        if service.image:
            yield from self._image(service, path)
        yield from self._ports(service, path)
        yield from self._dependencies(service, path)
        yield from self._defined(service, path)
        yield from self._environment(service, path)

    def _image(self, service: Service, path: KeyPath) -> Iterator[Problem]:
        try:
            if not references.is_image_id(service.image):
                references.parse(service.image)
        except ReferenceRefused as error:
            yield self._problem((*path, "image"), str(error), "write it as name:tag or name@sha256:digest")

    def _ports(self, service: Service, path: KeyPath) -> Iterator[Problem]:
        for index, entry in enumerate(service.body.get("ports", [])):
            try:
                ports.check(entry)
            except ports.PortMistake as error:
                yield self._problem((*path, "ports", index), str(error), 'write it as "8080:80"')

    def _dependencies(self, service: Service, path: KeyPath) -> Iterator[Problem]:
        known = self._project.services
        optional = service.body.get("depends_on", {})
        for other, condition in service.depends_on.items():
            where = (*path, "depends_on", other)
            if other not in known and optional[other].get("required") is not False:
                message = f"{service.name} depends on {shown(other)}, which does not exist"
                yield self._problem(where, message, _did_you_mean(other, known))
            if condition not in _CONDITIONS:
                yield self._problem(
                    where, f"unknown condition {shown(condition)}", _did_you_mean(condition, _CONDITIONS)
                )
            elif condition == "service_healthy" and other in known and known[other].body.get("healthcheck") is None:
                message = f"{other} has no healthcheck here, so its image must bring one"
                yield self._problem(where, message, "add a healthcheck", Severity.WARNING)

    def _defined(self, service: Service, path: KeyPath) -> Iterator[Problem]:
        for section, used in (
            ("networks", service.networks),
            ("secrets", service.secrets),
            ("configs", service.configs),
        ):
            known = self._project.model[section]
            for index, name in enumerate(used):
                is_ours = name in self._secrets if section == "secrets" else (section, name) == ("networks", "default")
                if name not in known and not is_ours:
                    where = (*path, section, name if section == "networks" else index)
                    message = f"{service.name} uses {section[:-1]} {shown(name)}, which is not defined"
                    yield self._problem(where, message, f"define it under '{section}:'")
        for index, mount in enumerate(service.mounts):
            if mount.kind == "volume" and mount.source and mount.source not in self._project.volumes:
                message = f"{service.name} uses volume {shown(mount.source)}, which is not defined"
                yield self._problem((*path, "volumes", index), message, "define it under 'volumes:'")

    def _environment(self, service: Service, path: KeyPath) -> Iterator[Problem]:
        """Find numbers that YAML changes before Compose makes text of them again: 0777, 1.10, 1e3."""
        lines = self._document.text.split("\n")
        for name, value in service.body.get("environment", {}).items():
            where = (*path, "environment", name)
            if (mark := self._document.marks.get(where)) is None:
                continue
            written = _NUMBER_AFTER_KEY.match(lines[mark.line - 1], mark.column - 1 + len(name))
            if written is not None and written.group(1) != value:
                message = f"{name} is written as a number that YAML changes before the container gets it"
                yield self._problem(where, message, "put the value in quotes", Severity.WARNING)

    def _cycles(self) -> Iterator[Problem]:
        if cycle := _find_cycle({name: set(each.depends_on) for name, each in self._project.services.items()}):
            chain = " → ".join((*cycle, cycle[0]))
            yield self._problem(("services", cycle[0], "depends_on"), f"a circle of dependencies: {chain}", "break it")


def _find_cycle(needs: dict[str, set[str]]) -> list[str]:
    """Take away what needs nothing until only circles, and what needs them, are left; then follow one around."""
    left = {name: others & needs.keys() for name, others in needs.items()}
    while free := [name for name, others in left.items() if not others & left.keys()]:
        for name in free:
            del left[name]
    trail: list[str] = []
    name = next(iter(left), "")
    while name and name not in trail:
        trail.append(name)
        name = next(other for other in sorted(left[name]) if other in left)
    return trail[trail.index(name) :] if name else []


def _did_you_mean(word: str, known: Iterable[str]) -> str:
    found = nearest(word, known)
    return f"did you mean {shown(found)}?" if found else "remove it"
