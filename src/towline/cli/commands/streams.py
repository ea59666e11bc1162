"""`logs` and `exec`: what containers say, and a shell inside them."""

import asyncio
import sys
import time
from typing import Annotated, Any

import typer

from towline.cli.client import Client, quoted
from towline.cli.errors import AWAY, CliError
from towline.cli.logs import LogPrinter
from towline.cli.options import Place, client, split_place
from towline.cli.output import done, quiet_logs
from towline.cli.terminal import run_terminal
from towline.wire.streams import STDERR, STDOUT

LOG_STREAM = "application/vnd.towline.logs"
RECONNECT_LIMIT = 300.0
"""Seconds that a followed log waits for a link that went away before it gives up."""
RECONNECT_PAUSE = 1.0


def register(root: typer.Typer) -> None:
    root.command()(logs)
    root.command("exec", context_settings={"ignore_unknown_options": True})(exec_)


def logs(
    place: Place,
    services: Annotated[list[str] | None, typer.Argument(help="Only these services.")] = None,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on as lines are written.")] = False,
    tail: Annotated[int, typer.Option("-n", "--tail", min=-1, help="So many lines of each container; -1: all.")] = 200,
    since: Annotated[str, typer.Option(help="From this moment on: RFC 3339, or 10m, 2h, 3d.")] = "",
    until: Annotated[str, typer.Option(help="Until this moment: RFC 3339, or 10m, 2h, 3d.")] = "",
    grep: Annotated[str, typer.Option(help="Only lines that hold this text.")] = "",
    timestamps: Annotated[bool, typer.Option("-t", "--timestamps", help="With the time of each line.")] = False,
    prefix: Annotated[bool, typer.Option(help="With the service's name before each line.")] = True,
) -> None:
    """Print the logs of a deployment; with --follow it survives a broken connection without loss or doubles."""
    cluster, project = split_place(place)
    printer = LogPrinter(timestamps=timestamps, names=prefix, colours=sys.stdout.isatty())
    query: dict[str, Any] = {
        "project": project, "service": services or [], "follow": "1" if follow else "", "tail": tail,
        "since": since, "until": until, "grep": grep,
    }  # fmt: skip
    with client() as api:
        try:
            _print_all(api, f"clusters/{quoted(cluster)}/logs", query, printer, follow=follow)
        except KeyboardInterrupt:
            raise SystemExit(0) from None


def exec_(
    place: Place,
    service: Annotated[str, typer.Argument(help="A service of the deployment, or a container's name.")],
    command: Annotated[list[str] | None, typer.Argument(help="Command to run; default: a shell.")] = None,
    user: Annotated[str, typer.Option("-u", "--user", help="User to run it as.")] = "",
    workdir: Annotated[str, typer.Option("-w", "--workdir", help="Folder to run it in.")] = "",
    no_tty: Annotated[bool, typer.Option("-T", "--no-tty", help="Without a terminal, for pipes.")] = False,
) -> None:
    """Run a command in a container, with a terminal when there is one; ends with its exit code."""
    quiet_logs()
    cluster, project = split_place(place)
    tty = not no_tty and sys.stdin.isatty() and sys.stdout.isatty()
    query = [("project", project), ("service", service), ("user", user), ("workdir", workdir)]
    query += [("tty", "1")] if tty else []
    query += [("arg", argument) for argument in command or []]
    with client() as api:
        code = asyncio.run(run_terminal(api, f"clusters/{quoted(cluster)}/exec", query, tty=tty))
    raise SystemExit(code)


def _print_all(api: Client, path: str, query: dict[str, Any], printer: LogPrinter, *, follow: bool) -> None:
    deadline = time.monotonic() + RECONNECT_LIMIT
    while True:
        try:
            for chunk in api.raw(path, accept=LOG_STREAM, **query, cursor=_cursors(printer)):
                deadline = time.monotonic() + RECONNECT_LIMIT
                _print(printer, chunk)
            if not follow:
                return
        except CliError as error:
            if not follow or error.code != AWAY or time.monotonic() > deadline:
                raise
            done(f"{error.message}; waiting for it to come back")
        printer.reconnected()
        time.sleep(RECONNECT_PAUSE)


def _cursors(printer: LogPrinter) -> list[str]:
    return [f"{container}={cursor}" for container, cursor in printer.cursors.items()]


def _print(printer: LogPrinter, chunk: bytes) -> None:
    for kind, text in printer.feed(chunk):
        stream = sys.stdout.buffer if kind in (STDOUT, STDERR) else sys.stderr.buffer
        stream.write(text)
    sys.stdout.buffer.flush()
