"""`tail`: requests to a published route, as they end."""

import json
import sys
import time
from typing import Annotated, Any

import typer
from rich.text import Text

from towline.cli.client import Client, quoted
from towline.cli.errors import AWAY, CliError
from towline.cli.options import Output, client
from towline.cli.output import Format, done, out, printable

RECONNECT_LIMIT = 120.0
"""Seconds that a broken connection to the server is tried again: longer than a restart takes."""
RECONNECT_PAUSE = 1.0
STYLES = {2: "green", 3: "cyan", 4: "yellow", 5: "red", 0: "red"}


def register(root: typer.Typer) -> None:
    root.command()(tail)


def tail(
    route: Annotated[str, typer.Argument(help="Name or id of a route.", metavar="ROUTE")],
    last: Annotated[int, typer.Option("-n", "--last", min=0, max=500, help="Begin with so many of before.")] = 20,
    follow: Annotated[bool, typer.Option(help="Go on as requests end.")] = True,
    failed: Annotated[bool, typer.Option("--failed", help="Only those that were not answered well.")] = False,
    output: Output = Format.TABLE,
) -> None:
    """Watch the requests to a published route: when, from where, what was asked, and how it was answered."""
    path = f"routes/{quoted(route)}/tail"
    with client() as api:
        if not follow:
            for line in api.get(path, last=last, follow="false", failed=_word(failed)):
                _print(line, output)
            return
        try:
            _follow(api, path, last, output, failed=failed)
        except KeyboardInterrupt:
            raise SystemExit(0) from None


def _follow(api: Client, path: str, last: int, output: Format, *, failed: bool) -> None:
    deadline = time.monotonic() + RECONNECT_LIMIT
    while True:
        try:
            for event in api.events(path, last=last, follow="true", failed=_word(failed)):
                deadline, last = time.monotonic() + RECONNECT_LIMIT, 0
                _take(event.kind, json.loads(event.data), output)
        except CliError as error:
            if error.code != AWAY or time.monotonic() > deadline:
                raise
            done(f"{error.message}; trying again")
        time.sleep(RECONNECT_PAUSE)


def _take(kind: str, data: Any, output: Format) -> None:
    if kind == "request":
        _print(data, output)
    elif kind == "dropped":
        done(f"{data['count']} requests came too fast and are not shown")
    elif kind == "end":
        raise CliError(data["error"]["message"])


def _print(line: dict[str, Any], output: Format) -> None:
    if output is not Format.TABLE:
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()
        return
    text = Text()
    text.append(line["at"][11:23] + "  ")
    text.append(f"{line['status'] or '---':<4}", STYLES.get(line["status"] // 100, ""))
    text.append(f"{line['seconds'] * 1000:>8.0f} ms  {line['address']:<16} ")
    text.append(printable(f"{line['method']} {line['host']}{line['path']}"))
    if line["outcome"] not in ("done", "upgraded"):
        text.append(printable(f"  {line['outcome']}"), "red")
    out.print(text, soft_wrap=True)


def _word(value: bool) -> str:
    return "true" if value else "false"
