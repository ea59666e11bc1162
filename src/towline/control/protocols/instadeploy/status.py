"""What an InstaDeploy agent answers to STATUS: the table of `docker compose ps`, read as far as it can be. Pure.

The table lists running containers alone, and leaves out ids, exit codes of what is gone, and times. Releases of Compose
differ in its columns; each cell is found by where its heading stands. What is not understood says so: it is never
taken for "nothing runs". Source: tests/data/traces/instadeploy.jsonl; Compose 2.0 to 2.40.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from towline.compose.containers import Container
from towline.wire import instadeploy, link

MOST_ROWS = 500
"""Containers of one project that are read."""

_HEADINGS = ("NAME", "IMAGE", "COMMAND", "SERVICE", "CREATED", "STATUS", "PORTS")
_NEEDED = {"NAME", "SERVICE", "STATUS"}
_HEADING = re.compile(r"\S+")
_NUMBER = re.compile(r"[-_](\d{1,6})$")
_HEALTH = re.compile(r"\((?:health: )?(starting|healthy|unhealthy)\)")
_CODE = re.compile(r"\((-?\d{1,10})\)")
_AGO = re.compile(r"(?:about )?(an?|less than a|\d+) (second|minute|hour|day|week|month|year)s?", re.IGNORECASE)
_SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400, "week": 604800, "month": 2592000, "year": 31536000}
_STATES = {
    "up": "running", "running": "running", "restarting": "restarting", "exited": "exited", "created": "created",
    "paused": "paused", "dead": "dead", "removal": "removing", "removing": "removing",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Row:
    """One container of the table."""

    name: str
    service: str
    state: str
    """Docker's word; empty when the table's is none that is known."""
    image: str = ""
    health: str = ""
    exit_code: int = 0
    uptime: float | None = None
    """Seconds, rounded as Docker rounds; None when it does not say."""
    ports: tuple[str, ...] = ()

    @property
    def number(self) -> int:
        found = _NUMBER.search(self.name)
        return int(found[1]) if found else 1


@dataclass(frozen=True, slots=True)
class Status:
    """One answer. `unclear` says why nothing is known; then `rows` means nothing."""

    rows: tuple[Row, ...] = ()
    exists: bool = True
    """False: the agent has no folder for the project."""
    unclear: str = ""


def read(response: instadeploy.Response) -> Status:
    """Read the final answer to a STATUS."""
    if response.status is not instadeploy.Standing.COMPLETED:
        return Status(unclear=(response.error or response.logs or "the agent gave no reason").strip())
    text = response.logs.replace("\r\n", "\n")
    if instadeploy.NO_PROJECT.lower() in text.lower():
        return Status(exists=False)
    lines = [line for line in text.split("\n") if line.strip()]
    for place, line in enumerate(lines):
        columns = _columns(line)
        if columns:
            return Status(tuple(_row(each, columns) for each in lines[place + 1 :][:MOST_ROWS] if each[:1].strip()))
    return Status(unclear="its answer holds no table of `docker compose ps` that Towline can read")


def _columns(line: str) -> dict[str, slice]:
    """Return where the cells of each heading are; empty when this is no heading."""
    found = [(each.group(), each.start()) for each in _HEADING.finditer(line)]
    names = [name for name, _ in found]
    if not set(names) >= _NEEDED or not set(names) <= set(_HEADINGS):
        return {}
    ends = [start for _, start in found[1:]]
    return {name: slice(start, end) for (name, start), end in zip(found, [*ends, None], strict=True)}


def _row(line: str, columns: dict[str, slice]) -> Row:
    def cell(name: str) -> str:
        return line[columns[name]].strip() if name in columns else ""

    status = cell("STATUS")
    words = status.lower()
    state = "paused" if "(paused)" in words else _STATES.get(words.split(" ")[0].split("(")[0], "") if words else ""
    health, code = _HEALTH.search(words), _CODE.search(words)
    return Row(
        name=cell("NAME"),
        service=cell("SERVICE"),
        state=state,
        image=cell("IMAGE"),
        health=health[1] if health and state == "running" else "",
        exit_code=int(code[1]) if code and state in ("exited", "restarting") else 0,
        uptime=_uptime(words) if state == "running" else None,
        ports=tuple(part.strip() for part in cell("PORTS").split(",") if part.strip()),
    )


def _uptime(words: str) -> float | None:
    found = _AGO.search(words)
    if found is None:
        return None
    count = found[1].lower()
    if count.startswith("less"):
        return 0.0
    return float(_SECONDS[found[2].lower()] * (1 if count.startswith("a") else int(count)))


def container(row: Row, project: str) -> link.Container:
    """Return a row as an entry of the inventory. Its name stands for the id, which such an agent does not tell."""
    return link.Container(
        id=row.name,
        name=row.name,
        project=project,
        service=row.service,
        number=row.number,
        image=row.image,
        state=row.state or "unknown",
        health=row.health,
        exit_code=row.exit_code,
        ports=row.ports,
    )


def judged(row: Row, restarts: int) -> Container:
    """Return a row as the health gate looks at it. Args: restarts: those that were noticed from one look to another."""
    return Container(
        id=row.name,
        service=row.service,
        state=row.state or "unknown",
        health=row.health,
        exit_code=row.exit_code,
        restarts=restarts,
        uptime=row.uptime,
        name=row.name,
        number=row.number,
    )


def unseen(services: Sequence[str], rows: Sequence[Row]) -> tuple[str, ...]:
    """Return the services of which the table shows no container."""
    seen = {row.service for row in rows}
    return tuple(name for name in services if name not in seen)
