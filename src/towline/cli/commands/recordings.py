"""`recordings`: sessions that were recorded, and what is recorded."""

import contextlib
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from towline.cli import replay
from towline.cli.client import quoted
from towline.cli.errors import FAILED, USAGE, CliError
from towline.cli.options import ClusterName, Output, client
from towline.cli.output import Column, Format, done, moment, show, show_facts, show_list, size, state

app = typer.Typer(help="Sessions that were recorded, and what is recorded.", no_args_is_help=True)
Id = Annotated[str, typer.Argument(help="Id of a recording, from the list.", metavar="RECORDING")]
CAST = "application/x-asciicast"
FOLLOWS = "settings"
"""The word for a rule that follows the server's settings again."""
SMALLEST_TERMINAL = (20, 5)
_RESET = "\x1b[0m\x1b[?25h\x1b[?1049l\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\x1b[?2004l\x1b[?1l\x1b>\r\n"
"""Undoes what a recording that was left in the middle may have switched on."""


def register(root: typer.Typer) -> None:
    root.add_typer(app, name="recordings")


@app.command("list")
def list_(
    user: Annotated[str, typer.Option(help="Only sessions of this user.")] = "",
    cluster: Annotated[str, typer.Option(help="Only on this cluster.")] = "",
    namespace: Annotated[str, typer.Option("-n", "--namespace", help="Only in this namespace.")] = "",
    target: Annotated[str, typer.Option(help="Only in this pod, service or container.")] = "",
    search: Annotated[str, typer.Option(help="Only with this text in user, place or command.")] = "",
    most: Annotated[int, typer.Option("--limit", min=1, max=100_000, help="At most so many.")] = 50,
    output: Output = Format.TABLE,
) -> None:
    """List recorded sessions that you may play, the newest first."""
    with client() as api:
        query = {"user": user, "cluster": cluster, "namespace": namespace, "target": target, "search": search}
        show_list(api.items("recordings", most=most, **query), output, COLUMNS, empty="no recorded sessions")


@app.command("show")
def show_(recording: Id, output: Output = Format.TABLE) -> None:
    """Show one recorded session, without playing it."""
    with client() as api:
        found = api.get(f"recordings/{quoted(recording)}")
    show_facts(found, output, [(name.replace("_", " "), found[name]) for name in FACTS])


@app.command("play")
def play(
    recording: Annotated[
        str, typer.Argument(help="Id of a recording, or a file that was downloaded.", metavar="RECORDING")
    ],
    speed: Annotated[float, typer.Option("-s", "--speed", min=0.1, max=100, help="So many times as fast.")] = 1.0,
    idle_limit: Annotated[
        float, typer.Option("-i", "--idle-limit", min=0, help="Longest pause, in seconds; 0: any.")
    ] = 2.0,
) -> None:
    """Play a recorded session in this terminal; Ctrl-C ends it. That you do is on record."""
    pace = replay.Pace(speed, idle_limit)
    with contextlib.suppress(KeyboardInterrupt):
        if Path(recording).is_file():
            with Path(recording).open("rb") as file:
                _play(file, pace)
        else:
            with client() as api:
                _play(api.raw(f"recordings/{quoted(recording)}/cast", accept=CAST, how="play"), pace)


def _play(chunks: Any, pace: replay.Pace) -> None:
    head, events = replay.parse(chunks)
    columns, rows = shutil.get_terminal_size()
    if sys.stdout.isatty() and (columns, rows) < (head.width, head.height) and (columns, rows) > SMALLEST_TERMINAL:
        done(f"recorded at {head.width}x{head.height}, and this terminal is {columns}x{rows}: lines may break")
    done(head.title)
    try:
        seconds = replay.play(events, pace, _write, time.sleep)
    finally:
        if sys.stdout.isatty():
            _write(_RESET)
    done(f"the end, after {seconds:.0f} s")


def _write(text: str) -> None:
    data = text.encode()
    while data:
        data = data[os.write(sys.stdout.fileno(), data) :]


@app.command("download")
def download(
    recording: Id,
    file: Annotated[
        Path | None, typer.Argument(help="File to write; default: RECORDING.cast; -: standard output.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
) -> None:
    """Download a recording as asciicast v2, which other players read too."""
    target = file or Path(f"{recording}.cast")
    with client() as api:
        chunks = api.raw(f"recordings/{quoted(recording)}/cast", accept=CAST, how="download")
        if str(target) == "-":
            for chunk in chunks:
                sys.stdout.buffer.write(chunk)
            return
        try:
            with open(target, "wb" if force else "xb", opener=_private) as out:
                for chunk in chunks:
                    out.write(chunk)
        except FileExistsError as error:
            raise CliError(f"{target} exists already", hint="--force replaces it", code=USAGE) from error
        except OSError as error:
            raise CliError(f"{target} cannot be written: {error.strerror}", code=FAILED) from error
    done(f"{target}, {size(target.stat().st_size)}")


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


@app.command("rm")
def remove(recordings: Annotated[list[str], typer.Argument(help="Ids of recordings.", metavar="RECORDING…")]) -> None:
    """Remove recordings before their time; owners only, and it is on record."""
    with client() as api:
        for recording in recordings:
            api.call("DELETE", f"recordings/{quoted(recording)}")
            done(f"{recording} was removed")


@app.command("policy")
def policy(
    cluster: ClusterName,
    mode: Annotated[str, typer.Option(help="off, interactive or all.")] = "",
    namespaces: Annotated[str, typer.Option(help="Only these, between commas.")] = "",
    on_loss: Annotated[str, typer.Option(help="continue or end: a session whose recording cannot go on.")] = "",
    on_unreadable: Annotated[str, typer.Option(help="refuse or unrecorded: a session in an unknown protocol.")] = "",
    keys: Annotated[str, typer.Option(help="yes or no: what is typed as well, passwords too.")] = "",
    minutes: Annotated[str, typer.Option(help="Longest recording.")] = "",
    keep_days: Annotated[str, typer.Option(help="Days that recordings are kept.")] = "",
    output: Output = Format.TABLE,
) -> None:
    """Show or change what is recorded on a cluster; `settings` as a value follows the server's settings again."""
    given = {
        "mode": mode, "namespaces": namespaces, "on_loss": on_loss, "on_unreadable": on_unreadable, "keys": keys,
        "minutes": minutes, "keep_days": keep_days,
    }  # fmt: skip
    changes = {name: value for name, value in given.items() if value}
    path = f"clusters/{quoted(cluster)}/recording-policy"
    with client() as api:
        found = api.get(path)
        if changes:
            found = api.call("PUT", path, body=changed(found["own"], changes))
    facts = [(name.replace("_", " "), _rule(found, name)) for name in given]
    show(found, output, lambda: show_facts(found, output, facts))


def changed(own: dict[str, Any], changes: dict[str, str]) -> dict[str, Any]:
    """Return a cluster's own rules with some of them changed. Raises: CliError."""
    rules = {name: value for name, value in own.items() if value is not None}
    for name, value in changes.items():
        rules.pop(name, None)
        if value != FOLLOWS:
            rules[name] = _value(name, value)
    return rules


def _value(name: str, value: str) -> Any:
    if name == "namespaces":
        return [word.strip() for word in value.split(",") if word.strip()]
    if name == "keys":
        if value not in ("yes", "no"):
            raise CliError(f"{value!r} is neither yes nor no", code=USAGE)
        return value == "yes"
    if name in ("minutes", "keep_days"):
        if not value.isdigit():
            raise CliError(f"{value!r} is no number", code=USAGE)
        return int(value)
    return value


def _rule(found: dict[str, Any], name: str) -> str:
    value, own = found["now"][name], found["own"].get(name)
    words = ", ".join(value) or "all" if isinstance(value, list) else {True: "yes", False: "no"}.get(value, str(value))
    return f"{words}" if own is not None else f"{words} (by the settings)"


def place(row: dict[str, Any]) -> str:
    """Return where a session was, as people name it."""
    return "/".join(filter(None, (row["cluster"], row["namespace"] or row["project"], row["target"])))


COLUMNS: list[Column] = [
    ("ID", lambda row: row["id"]),
    ("AT", lambda row: moment(row["began_at"])),
    ("WHO", lambda row: row["user"]),
    ("WHERE", place),
    ("COMMAND", lambda row: row["command"][:60]),
    ("SECONDS", lambda row: f"{row['seconds']:.0f}"),
    ("SIZE", lambda row: size(row["shown_bytes"])),
    ("STATE", lambda row: state(row["state"], row["reason"])),
]
FACTS = (
    "id", "user", "address", "cluster", "namespace", "project", "target", "container", "command", "began_at",
    "ended_at", "expires_at", "seconds", "state", "reason", "exit", "keys", "shown_bytes", "dropped_bytes",
    "stored_bytes",
)  # fmt: skip
