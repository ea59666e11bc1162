"""Options that many commands share, and the small words that commands start from."""

import contextlib
import getpass
import re
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from towline.cli import credentials
from towline.cli.client import Client, quoted
from towline.cli.errors import USAGE, CliError
from towline.cli.output import Format

Output = Annotated[Format, typer.Option("-o", "--output", help="Table for people, json or yaml for programs.")]
Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Follow the job to its end, or only say its id.")]


class State(StrEnum):
    """Health of a cluster or a deployment."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    DOWN = "down"
    WORKING = "working"
    UNKNOWN = "unknown"


StateFilter = Annotated[State | None, typer.Option("--state", help="Only in this state.")]
Selector = Annotated[str, typer.Option("--selector", "-l", help="Labels to match, like env=prod,tier!=db.")]
ClusterName = Annotated[str, typer.Argument(help="Name or id of a cluster.", metavar="CLUSTER")]
Place = Annotated[str, typer.Argument(help="A deployment, as CLUSTER/PROJECT.", metavar="CLUSTER/PROJECT")]


@contextlib.contextmanager
def client() -> Iterator[Client]:
    """Yield a client of the current login."""
    opened = Client(credentials.current())
    try:
        yield opened
    finally:
        opened.close()


def split_place(place: str) -> tuple[str, str]:
    """Return cluster and project. Raises: CliError: not of the form CLUSTER/PROJECT."""
    cluster, slash, project = place.partition("/")
    if not (slash and cluster and project) or "/" in project:
        raise CliError(f"{place!r} is not CLUSTER/PROJECT", hint="for example: edge-1/shop", code=USAGE)
    return cluster, project


def deployment_path(place: str, rest: str = "") -> str:
    """Return the API path of a deployment."""
    cluster, project = split_place(place)
    path = f"clusters/{quoted(cluster)}/deployments/{quoted(project)}"
    return f"{path}/{rest}" if rest else path


def pairs(entries: list[str], what: str) -> dict[str, str]:
    """Read `NAME=VALUE` entries. Raises: CliError."""
    found: dict[str, str] = {}
    for entry in entries:
        name, equals, value = entry.partition("=")
        if not equals or not name:
            raise CliError(f"{entry!r} is not NAME=VALUE", hint=f"write {what} as NAME=VALUE", code=USAGE)
        found[name] = value
    return found


def secret(prompt: str, file: Path | None) -> str:
    """Read a secret from a file, from standard input (`-` or no terminal), or at a prompt; never from arguments."""
    if file is not None and str(file) != "-":
        return _line(readable(file))
    if file is not None or not sys.stdin.isatty():
        return _line(sys.stdin.read())
    return getpass.getpass(f"{prompt}: ")


def past(text: str, now: datetime | None = None) -> str:
    """Return a moment as RFC 3339: `30s`, `10m`, `2h` and `3d` mean so long ago, anything else stays as it is."""
    span = re.fullmatch(r"(\d{1,6})([smhd])", text)
    if span is None:
        return text
    seconds = int(span[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[span[2]]
    return ((now or datetime.now(UTC)) - timedelta(seconds=seconds)).isoformat()


def readable(file: Path) -> str:
    """Return the text of a file that was named. Raises: CliError."""
    try:
        return file.read_text("utf-8")
    except FileNotFoundError as error:
        raise CliError(f"there is no file {file}", code=USAGE) from error
    except (OSError, UnicodeDecodeError) as error:
        raise CliError(f"cannot read {file}: {error}", code=USAGE) from error


def _line(text: str) -> str:
    return text.rstrip("\r\n")


def confirm(question: str, *, yes: bool) -> None:
    """Go on only when the person said yes. Raises: CliError: no terminal to ask on, or no."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise CliError(question, hint="add --yes to do it without being asked", code=USAGE)
    if not typer.confirm(question, err=True):
        raise CliError("nothing was changed")
