"""Runs of commands as people follow them: what is printed as it comes, or equal answers once, and the exit code."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any, TextIO

from rich.text import Text

from towline.cli.client import Client, quoted
from towline.cli.errors import AWAY, FAILED, CliError
from towline.cli.follow import INTERRUPTED, RECONNECT_LIMIT, RECONNECT_PAUSE
from towline.cli.output import Format, done, err, out, printable, show
from towline.cli.sse import ServerEvent

FEW_TARGETS = 4
"""Targets whose output is printed as it comes, each line behind its name; of more, equal answers are shown once."""
SHOWN_BYTES = 1024 * 1024
"""Of each output of a group: what the server keeps of a command unless it is told otherwise."""
RUNS = "commands/runs"
OPEN = ("running", "cancelling")

Write = Callable[[str, str, str], None]
"""Takes target, stage and a whole line."""


def finish(api: Client, run: dict[str, Any], format: Format) -> None:
    """Follow a run to its end and print what came of it; ends the program with 1 when not every target succeeded."""
    targets = api.get(f"{RUNS}/{run['id']}")["targets"]
    streams = format is Format.TABLE and len(targets) <= FEW_TARGETS
    refused(targets)
    try:
        Follower(api, run["id"], prefix=len(targets) > 1, streams=streams).follow()
    except KeyboardInterrupt:
        done(f"stopped following; run {run['id']} goes on")
        done(f"see it with `towline runs show {run['id']}`, end it with `towline run --cancel {run['id']}`")
        raise SystemExit(INTERRUPTED) from None
    conclude(api, run["id"], format, streamed=streams)


def follow_quietly(api: Client, run_id: str) -> None:
    """Wait for the end of a run; on a terminal, say who answered."""
    Follower(api, run_id, prefix=False, streams=False).follow()


def conclude(api: Client, run_id: str, format: Format, *, streamed: bool = False) -> None:
    """Print the answers of a run that has ended. Ends the program with 1 when not every target succeeded."""
    found = results(api, run_id)
    groups = found["groups"]
    if streamed:
        for group in groups:
            _print_failure(group)
    else:
        show(groups, format, lambda: print_groups(groups))
    if found["state"] != "succeeded":
        raise SystemExit(FAILED)


def results(api: Client, run_id: str) -> dict[str, Any]:
    """Return what the targets of a run answered, in groups."""
    found: dict[str, Any] = api.get(f"{RUNS}/{quoted(run_id)}/results", bytes=SHOWN_BYTES)
    return found


def print_groups(groups: list[dict[str, Any]]) -> None:
    """Print each answer under the names of those who gave it."""
    for place, group in enumerate(groups):
        names = group["targets"]
        head = f"{len(names)} clusters" if len(names) > 1 else "1 cluster"
        out.print(Text(printable(f"== {head}: {', '.join(names)}{_ending(group)}"), style="bold"))
        for line in (*group["stdout"].splitlines(), *group["stderr"].splitlines()):
            out.print(Text(printable(line)))
        if group["hidden"]:
            out.print(Text("what it printed is for those who may run it there", style="bright_black"))
        elif group["truncated"]:
            out.print(Text("… cut off", style="bright_black"))
        if place + 1 < len(groups):
            out.print()


def refused(targets: list[dict[str, Any]]) -> None:
    """Say where a command may not run."""
    for one in targets:
        if one["state"] == "refused":
            err.print(Text(printable(f"{one['cluster']}: not run: {one['error']}"), style="yellow"))


def _ending(group: dict[str, Any]) -> str:
    if group["state"] == "succeeded":
        return ""
    if group["exit_code"]:
        return f", exit code {group['exit_code']}"
    return f", {group['state']}" + (f": {group['error']}" if group["error"] else "")


def _print_failure(group: dict[str, Any]) -> None:
    """Say why targets did not succeed whose output was printed as it came."""
    if group["state"] != "succeeded" and group["state"] != "refused":
        done(f"{', '.join(group['targets'])}{_ending(group)}")
    if group["truncated"]:
        done(f"{', '.join(group['targets'])}: the output was cut off")


class Lines:
    """Puts pieces of output together to lines: what one target prints is never mixed into a line of another."""

    def __init__(self, write: Write) -> None:
        self._write = write
        self._held: dict[tuple[str, str], str] = {}

    def take(self, target: str, stage: str, text: str) -> None:
        """Take a piece; whole lines go on at once."""
        *whole, rest = (self._held.pop((target, stage), "") + text).split("\n")
        for line in whole:
            self._write(target, stage, line)
        if rest:
            self._held[target, stage] = rest

    def end(self, target: str) -> None:
        """Pass on what a target printed last, without the end of a line."""
        for key in [key for key in self._held if key[0] == target]:
            self._write(*key, self._held.pop(key))


class Follower:
    """Follows one run; a connection that breaks is made again and goes on behind the last event."""

    def __init__(self, api: Client, run_id: str, *, prefix: bool, streams: bool) -> None:
        self._api = api
        self._run_id = run_id
        self._prefix = prefix
        self._streams = streams
        self._after = ""
        self._ended = False
        self._lines = Lines(self._print)

    def follow(self) -> None:
        """Return when the run has ended. Raises: CliError: the server stays away."""
        deadline = time.monotonic() + RECONNECT_LIMIT
        while not self._ended:
            try:
                for event in self._api.events(self._path, after=self._after, output=str(self._streams).lower()):
                    deadline = time.monotonic() + RECONNECT_LIMIT
                    self._take(event)
            except CliError as error:
                if error.code != AWAY or time.monotonic() > deadline:
                    error.hint = f"the run goes on; see it with `towline runs show {self._run_id}`"
                    raise
                done(f"{error.message}; trying again")
            if not self._ended:
                time.sleep(RECONNECT_PAUSE)

    @property
    def _path(self) -> str:
        return f"{RUNS}/{quoted(self._run_id)}/events"

    def _take(self, event: ServerEvent) -> None:
        data = json.loads(event.data)
        self._after = event.id or self._after
        if event.kind == "end":
            self._ended = data.get("state") not in (None, *OPEN)
        elif event.kind == "output" and data["stage"] == "restarted":
            done(f"{data['target']}: begun anew; what it printed so far does not count")
        elif event.kind == "output":
            self._lines.take(data["target"], data["stage"], data["text"])
        elif event.kind == "target":
            self._target(data)

    def _target(self, data: dict[str, Any]) -> None:
        if data["state"] in ("pending", "active"):
            return
        self._lines.end(data["target"])
        if not self._streams and err.is_terminal:
            done(f"{data['target']}: {data['state']}")

    def _print(self, target: str, stage: str, line: str) -> None:
        place: TextIO = sys.stderr if stage == "stderr" else sys.stdout
        head = f"{target} | " if self._prefix else ""
        place.write(printable(f"{head}{line}") + "\n")
        place.flush()
