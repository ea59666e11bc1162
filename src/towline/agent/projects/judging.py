"""Asking the host whether a staged project is right: `docker compose config` for its form, the policy for the rest."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from towline.agent.docker import containers
from towline.agent.docker.compose import ComposeTool
from towline.agent.docker.engine import Engine
from towline.agent.errors import JobFailed
from towline.agent.policy import LocalPolicy
from towline.compose import argv, normal, paths, policy, project
from towline.compose.document import Document, KeyPath
from towline.compose.problems import dotted
from towline.compose.text import clean
from towline.wire import orders

MAX_MESSAGE = 4_000
_LINE = re.compile(r"\bline (\d+)\b")


class Volume(msgspec.Struct, frozen=True, rename="pascal"):
    name: str
    labels: dict[str, str] | None = None


class Volumes(msgspec.Struct, frozen=True, rename="pascal"):
    volumes: list[Volume] | None = None


class Invalid(JobFailed):
    """Compose refuses the files."""

    def __init__(self, message: str, problem: orders.Problem) -> None:
        super().__init__("invalid_project", message)
        self.problem = problem


async def normal_form(
    tool: ComposeTool, compose: argv.Compose, stage: Path, folder: str, parsed: project.Parsed
) -> dict[str, Any]:
    """Let Compose read the staged files. Returns: the model, with paths as in the project's folder.

    Raises: Invalid: with Compose's words and the line when it names one. JobFailed: it does not answer.
    """
    try:
        called = await tool.call(compose.config(), stage)
    except TimeoutError as error:
        raise JobFailed("timeout", "docker compose config did not answer in time") from error
    if called.code != 0:
        message = clean(called.error.replace(f"{stage}/", "").replace(str(stage), "."), MAX_MESSAGE).strip()
        found = _LINE.search(message)
        problem = orders.Problem(message=message, line=int(found[1]) if found else 0)
        raise Invalid(f"docker compose refuses the project: {message}", problem)
    if compose.dialect.is_v1:
        return parsed.project.model
    model = normal.from_config(msgspec.json.decode(called.output))
    moved: dict[str, Any] = normal.normalise(_moved(model, str(stage), folder), _ignore)
    return moved


def _ignore(path: KeyPath, message: str) -> None:
    """Compose has judged the shapes already."""


async def violations(
    model: Mapping[str, Any],
    local: LocalPolicy,
    level: str,
    engine: Engine,
    *,
    name: str,
    folder: str,
    protected: tuple[str, ...],
    document: Document | None,
) -> tuple[orders.Problem, ...]:
    """Check a normal form against the stricter of the order's level and the host's own policy. Raises: DockerError."""
    context = policy.Context(
        folder=folder,
        project=name,
        protected=protected,
        real_paths=dict(_real_paths(model, folder)),
        foreign=await _foreign(engine, name),
    )
    found = policy.check(model, local.for_project(level), context, document)
    return tuple(
        orders.Problem(
            message=each.message, line=each.line or 0, path=dotted(each.key_path), rule=each.rule.value, fix=each.fix
        )
        for each in found
    )


def _moved(value: Any, stage: str, folder: str) -> Any:
    if isinstance(value, str):
        is_below = value == stage or value.startswith(f"{stage}/")
        return folder + value[len(stage) :] if is_below else value
    if isinstance(value, dict):
        return {key: _moved(item, stage, folder) for key, item in value.items()}
    if isinstance(value, list):
        return [_moved(item, stage, folder) for item in value]
    return value


def _real_paths(model: Mapping[str, Any], folder: str) -> Iterator[tuple[str, str]]:
    """Give what each host path of the model really is, symlinks followed."""
    for text in _host_paths(model):
        resolved = paths.resolve(folder, text)
        if resolved.startswith("/") and "\0" not in resolved:
            real = str(Path(resolved).resolve())
            # The project's folder may itself lie behind a symlink: what is in it stays in it.
            own = str(Path(folder).resolve())
            yield resolved, folder + real[len(own) :] if paths.is_within(real, own) else real


def _host_paths(model: Mapping[str, Any]) -> Iterator[str]:
    for body in (model.get("services") or {}).values():
        for entry in (body or {}).get("volumes") or ():
            if isinstance(entry, dict) and entry.get("type") == "bind" and isinstance(entry.get("source"), str):
                yield entry["source"]
    for section in ("secrets", "configs"):
        for body in (model.get(section) or {}).values():
            if isinstance(body, dict) and isinstance(body.get("file"), str):
                yield body["file"]


async def _foreign(engine: Engine, name: str) -> frozenset[str]:
    """Return the volumes and networks that belong to other projects."""
    volumes = await engine.get(Volumes, "/volumes")
    networks = await engine.get(list[Volume], "/networks")
    return frozenset(
        each.name
        for each in (*(volumes.volumes or ()), *networks)
        if (each.labels or {}).get(containers.PROJECT_LABEL, name) != name
    )
