"""`docker ps`, `images`, `inspect`; `compose ps`, `images`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from towline.agent.commands.docker import reach
from towline.agent.commands.docker.reach import Object
from towline.agent.commands.ending import CommandEnds
from towline.agent.commands.invocation import Invocation
from towline.agent.commands.tables import Table, span
from towline.agent.docker import containers
from towline.agent.errors import DockerNotFound

SHORT_ID = 12
"""Characters of an id that people are shown."""
LONGEST_COMMAND = 20
_FILTERS = {
    "name", "id", "label", "status", "ancestor", "exited", "health", "network", "volume", "before", "since", "publish",
    "expose",
}  # fmt: skip
"""What containers may be filtered by; the engine knows the values. Source: Docker Engine API, "List containers"."""


async def ps(invocation: Invocation) -> None:
    """List the containers that commands reach."""
    parsed = invocation.plan.parsed
    filters = _filters(parsed.values.get("filter", ()))
    if invocation.plan.project:
        reach.require(invocation, invocation.plan.project)
        filters = {**filters, **containers.project_filter(invocation.plan.project)}
    last = parsed.number("last", 0)
    query: dict[str, Any] = {"all": parsed.has("all"), "filters": filters or None, "limit": last if last > 0 else None}
    found: list[Object] = await invocation.engine.get(list[Object], "/containers/json", **query)
    rows = [
        each
        for each in found
        if reach.may_reach(invocation, _labels(each).get(containers.PROJECT_LABEL, "")) and _is_wanted(invocation, each)
    ]
    _print(invocation, rows, _COMPOSE if invocation.plan.project else _DOCKER)


def _filters(given: Sequence[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for each in given:
        name, equals, value = each.partition("=")
        if not equals or name not in _FILTERS:
            raise CommandEnds(f"invalid filter {name[:60]!r}; known are {', '.join(sorted(_FILTERS))}")
        found.setdefault(name, []).append(value)
    return found


def _is_wanted(invocation: Invocation, each: Object) -> bool:
    services = invocation.plan.parsed.words
    return not services or _labels(each).get(containers.SERVICE_LABEL, "") in services


def _labels(each: Object) -> dict[str, str]:
    return each.get("Labels") or {}


Column = Callable[[Object, bool], Any]
"""A cell out of an object; True: nothing is cut."""


def _name(each: Object, whole: bool) -> str:
    return ",".join(name.removeprefix("/") for name in each.get("Names") or ())


def _command(each: Object, whole: bool) -> str:
    text = each.get("Command", "")
    return f'"{text}"' if whole or len(text) <= LONGEST_COMMAND else f'"{text[: LONGEST_COMMAND - 1]}…"'


def _made(each: Object, whole: bool) -> str:
    return f"{span(datetime.now(UTC).timestamp() - each.get('Created', 0))} ago"


def _ports(each: Object, whole: bool) -> str:
    found = []
    for port in each.get("Ports") or ():
        inner = f"{port.get('PrivatePort', '')}/{port.get('Type', '')}"
        public = f"{port.get('IP', '')}:{port['PublicPort']}->" if port.get("PublicPort") else ""
        found.append(public + inner)
    return ", ".join(sorted(found))


def _id(each: Object, whole: bool) -> str:
    text = str(each.get("Id", "")).removeprefix("sha256:")
    return text if whole else text[:SHORT_ID]


_DOCKER: dict[str, Column] = {
    "Container ID": _id,
    "Image": lambda each, whole: each.get("Image", ""),
    "Command": _command,
    "Created": _made,
    "Status": lambda each, whole: each.get("Status", ""),
    "Ports": _ports,
    "Names": _name,
}
_COMPOSE: dict[str, Column] = {
    "Name": _name,
    "Image": lambda each, whole: each.get("Image", ""),
    "Service": lambda each, whole: _labels(each).get(containers.SERVICE_LABEL, ""),
    "Created": _made,
    "Status": lambda each, whole: each.get("Status", ""),
    "Ports": _ports,
}


def _print(invocation: Invocation, rows: Sequence[Object], columns: dict[str, Column]) -> None:
    parsed = invocation.plan.parsed
    whole = parsed.has("no-trunc")
    if parsed.has("quiet"):
        for each in rows:
            invocation.output.line(_id(each, whole))
        return
    cells = [[column(each, whole) for column in columns.values()] for each in rows]
    if parsed.text("format") == "json":
        for line in cells:
            named = {name.replace(" ", ""): value for name, value in zip(columns, line, strict=True)}
            invocation.output.line(msgspec.json.encode(named).decode())
        return
    for text in Table(list(columns)).lay_out(cells):
        invocation.output.line(text)


# -- images ------------------------------------------------------------------------------------


async def images(invocation: Invocation) -> None:
    """List images; of a project those that its containers run."""
    if invocation.plan.project:
        found = await _of_project(invocation)
    else:
        found = await _images(invocation)
    _print(invocation, found, _IMAGES)


async def _images(invocation: Invocation) -> list[Object]:
    parsed = invocation.plan.parsed
    filters = {"reference": [parsed.words[0]]} if parsed.words else None
    listed = await invocation.engine.get(list[Object], "/images/json", all=parsed.has("all"), filters=filters)
    return [
        {**each, "Reference": reference}
        for each in listed
        for reference in (each.get("RepoTags") or ("<none>:<none>",))
    ]


async def _of_project(invocation: Invocation) -> list[Object]:
    once = {one.image: one for one in await reach.of_project(invocation)}
    found = []
    for one in once.values():
        path = f"/images/{containers.quoted(one.image, safe=':')}/json"
        try:
            image = await invocation.engine.get(Object, path)
        except DockerNotFound:
            image = {"Id": one.image}
        found.append(
            {**image, "Reference": one.config.image, "Created": containers.timestamp(image.get("Created", ""))}
        )
    return found


def _split(each: Object) -> tuple[str, str]:
    name, colon, tag = str(each.get("Reference", "")).rpartition(":")
    return (name, tag) if colon and "/" not in tag else (str(each.get("Reference", "")), "")


_IMAGES: dict[str, Column] = {
    "Repository": lambda each, whole: _split(each)[0],
    "Tag": lambda each, whole: _split(each)[1],
    "Image ID": _id,
    "Created": _made,
    "Size": lambda each, whole: size(each.get("Size", 0)),
}


def size(amount: float) -> str:
    """Return an amount of bytes as docker writes it: decimal, three digits."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if amount < 1000 or unit == "TB":
            return f"{amount:.3g}{unit}"
        amount /= 1000
    return ""


async def inspect(invocation: Invocation) -> None:
    """Print all that the engine knows of containers or images. Raises: CommandEnds: one is not there."""
    kind = invocation.plan.parsed.text("type")
    found = [await _inspect(invocation, name, kind) for name in invocation.plan.parsed.words]
    text = msgspec.json.format(msgspec.json.encode(found), indent=4).decode()
    for line in text.splitlines():
        invocation.output.line(line)


async def _inspect(invocation: Invocation, name: str, kind: str) -> Object:
    if kind != "image" and "/" not in name and ":" not in name and "@" not in name:
        try:
            one = await invocation.engine.get(Object, f"/containers/{containers.quoted(name)}/json")
        except DockerNotFound:
            pass
        else:
            labels = (one.get("Config") or {}).get("Labels") or {}
            reach.require(invocation, labels.get(containers.PROJECT_LABEL, ""))
            return one
    if kind != "container":
        try:
            return await invocation.engine.get(Object, f"/images/{containers.quoted(name, safe='/:@')}/json")
        except DockerNotFound as error:
            raise CommandEnds(f"Error: No such object: {name}") from error
    raise CommandEnds(f"Error: No such container: {name}")
