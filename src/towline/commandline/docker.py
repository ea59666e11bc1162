"""What a `docker` or `compose` command touches."""

from __future__ import annotations

import re

from towline.commandline.errors import BadCommand
from towline.commandline.flags import Parsed, shown
from towline.commandline.plan import Plan
from towline.commandline.verbs import Verb
from towline.compose import names
from towline.compose.errors import NameRefused
from towline.kube.access import AccessTuple

GROUP = "docker"
MOST_NAMES = 50
"""Containers of one command."""

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,254}")
_IMAGE = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.\-/:@]{0,511}")
_NUMBERS = {
    "logs": (1, 1), "inspect": (1, MOST_NAMES), "stats": (0, MOST_NAMES), "top": (1, 1), "images": (0, 1),
    "restart": (1, MOST_NAMES), "start": (1, MOST_NAMES), "stop": (1, MOST_NAMES),
}  # fmt: skip
"""Names behind each verb of docker; none behind the others."""
_IMAGES = ("inspect", "images")


def plan(program: str, verb: Verb, parsed: Parsed, masked: tuple[str, ...], *, project: str) -> Plan:
    """Return the plan of a command for a Docker host. Raises: BadCommand."""
    where = _project(parsed, project) if program == "compose" else ""
    fewest, most = (0, MOST_NAMES) if program == "compose" else _NUMBERS.get(verb.name, (0, 0))
    if not fewest <= len(parsed.words) <= most:
        raise BadCommand(f"{program} {verb.name} takes {_amount(fewest, most)}")
    pattern = _IMAGE if verb.name in _IMAGES and program == "docker" else _NAME
    for word in parsed.words:
        if pattern.fullmatch(word) is None:
            raise BadCommand(f"{shown(word)} is no name of a container or service")
    if verb.name == "stats" and not parsed.has("no-stream"):
        raise BadCommand("docker stats needs --no-stream here: it is shown once")
    _check_tail(parsed)
    return Plan(
        program, verb.name, verb.writes, parsed.has("follow"), verb.level, masked, parsed,
        touches=_touches(program, verb, parsed.words, where), project=where,
    )  # fmt: skip


def _project(parsed: Parsed, project: str) -> str:
    named = parsed.text("project-name", project)
    if project and named != project:
        raise BadCommand(f"the run is for the project {project}, but -p says {shown(named)}")
    if not named:
        raise BadCommand("name the Compose project with -p")
    try:
        names.project_name(named)
    except NameRefused as error:
        raise BadCommand(str(error)) from error
    return named


def _amount(fewest: int, most: int) -> str:
    if most == 0:
        return "no names"
    return (
        f"{fewest} names" if fewest == most != 1 else "one name" if most == 1 == fewest else f"{fewest} to {most} names"
    )


def _check_tail(parsed: Parsed) -> None:
    tail = parsed.text("tail", "all")
    if parsed.is_given("tail") and tail != "all" and not (tail.isascii() and tail.isdigit() and len(tail) < 10):
        raise BadCommand(f"--tail is a number or `all`, not {shown(tail)}")


def _touches(program: str, verb: Verb, words: tuple[str, ...], project: str) -> tuple[AccessTuple, ...]:
    resource = "images" if verb.name == "images" else "containers"
    if verb.name in ("version", "info", "system df"):
        resource = "engine"
    named = () if program == "compose" else words
    word = verb.name.replace(" ", "-")
    return tuple(AccessTuple(word, GROUP, "", resource, "", project, name) for name in named or ("",))
