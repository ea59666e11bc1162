"""`run`: one command on clusters and hosts, by name or by labels."""

import itertools
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text
from typer.core import TyperCommand

from towline.cli import runs
from towline.cli.client import Client, quoted
from towline.cli.errors import NOT_ALLOWED, USAGE, CliError
from towline.cli.options import Output, client, confirm, pairs, readable
from towline.cli.output import Format, cell, done, err, printable, show

PROGRAMS = ("kubectl", "docker", "compose")
STDIN_WORDS = (("-f", "-"), ("--filename", "-"))
COMMAND = "towline.command"
"""Key in the context of the words behind `--`."""
SHOWN_TARGETS = 40
"""Names that are listed before the question; of more, the number is said."""


class RunCommand(TyperCommand):
    """A command whose words behind `--` are another's: they are taken away before anything is read."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Keep what stands behind the first `--` in the context."""
        at = args.index("--") if "--" in args else len(args)
        ctx.meta[COMMAND] = args[at + 1 :]
        left: list[str] = super().parse_args(ctx, args[:at])
        return left


def register(root: typer.Typer) -> None:
    root.command("run", cls=RunCommand)(run)


def run(
    context: typer.Context,
    targets: Annotated[
        list[str] | None, typer.Argument(help="Clusters, by name or id.", metavar="[CLUSTER]... -- PROGRAM ARGUMENT...")
    ] = None,
    selector: Annotated[str, typer.Option("--selector", "-l", help="Clusters with these labels, env=prod.")] = "",
    everything: Annotated[bool, typer.Option("--all", help="Every cluster that serves the program.")] = False,
    namespace: Annotated[str, typer.Option("-n", "--namespace", help="For kubectl; default: default.")] = "",
    project: Annotated[str, typer.Option("-p", "--project", help="The Compose project, for compose.")] = "",
    stdin: Annotated[Path | None, typer.Option("--stdin", help="File for `-f -`; - is standard input.")] = None,
    saved: Annotated[str, typer.Option("--saved", help="A saved command, instead of one behind --.")] = "",
    values: Annotated[
        list[str] | None, typer.Option("--set", help="NAME=VALUE of a saved command's parameter.")
    ] = None,
    wave: Annotated[int, typer.Option("--wave", min=0, help="So many at once, the next when they ended; 0: all.")] = 0,
    stop: Annotated[bool, typer.Option("--stop-on-failure", help="Begin none after one that failed.")] = False,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds on each target.")] = 120.0,
    patience: Annotated[float, typer.Option(min=1, help="Seconds that an agent that is away is waited for.")] = 60.0,
    only_list: Annotated[bool, typer.Option("--list", help="Only say where it would run.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    detach: Annotated[bool, typer.Option("--detach", help="Do not wait; print the run's id.")] = False,
    cancel: Annotated[str, typer.Option("--cancel", metavar="RUN", help="End a run that was begun before.")] = "",
    output: Output = Format.TABLE,
) -> None:
    """Run a command on clusters and hosts: kubectl, docker or compose. Exit code 1: not every target succeeded."""
    words = context.meta[COMMAND]
    with client() as api:
        if cancel:
            end_run(api, cancel)
            return
        body = what(words, targets or [], selector, saved, values or [], everything=everything)
        body |= {"namespace": namespace, "project": project, "stdin": _stdin(stdin, words)}
        seen = api.post("commands/preview", body)
        if only_list:
            show(seen, output, lambda: _print_targets(seen))
            return
        _ask(seen, named=bool(targets), yes=yes)
        body |= {"wave": wave, "stop_on_failure": stop, "timeout": timeout, "patience": patience}
        begun = api.post_once(runs.RUNS, body)
        if detach:
            show(begun, output, lambda: print(begun["id"]))
            return
        runs.finish(api, begun, output)


def what(
    words: list[str], targets: list[str], selector: str, saved: str, values: list[str], *, everything: bool
) -> dict[str, Any]:
    """Return the body that says what runs where. Raises: CliError: it does not say it."""
    if bool(saved) == bool(words):
        hint = "for example: towline run --selector env=prod -- kubectl get nodes"
        raise CliError("write the command behind --, or name one with --saved", hint=hint, code=USAGE)
    if words and words[0] not in PROGRAMS:
        hint = "for a program in a container there is `towline exec`"
        raise CliError(f"the program is {', '.join(PROGRAMS)}, not {printable(words[0])!r}", hint=hint, code=USAGE)
    if targets and (selector or everything):
        raise CliError("names and labels exclude each other", code=USAGE)
    if values and not saved:
        raise CliError("--set is for the parameters of a saved command", code=USAGE)
    if not (targets or selector or everything or saved):
        hint = "name them, or use --selector or --all"
        raise CliError("which clusters?", hint=hint, code=USAGE)
    body: dict[str, Any] = {"clusters": targets}
    body |= {"selector": selector} if selector or everything else {}
    if saved:
        return body | {"saved": saved, "values": pairs(values, "a parameter")}
    return body | {"program": words[0], "arguments": words[1:]}


def end_run(api: Client, run_id: str) -> None:
    """Cancel a run and say how it stands."""
    found = api.post(f"{runs.RUNS}/{quoted(run_id)}/cancel")
    done(f"run {found['id']} is {found['state']}")


def _stdin(file: Path | None, words: list[str]) -> str:
    """Return what goes to the command's standard input: a file, or ours when the command reads it."""
    if file is not None and str(file) != "-":
        return readable(file)
    reads = any(pair in itertools.pairwise(words) for pair in STDIN_WORDS) or "--filename=-" in words
    if file is None and (not reads or sys.stdin.isatty()):
        return ""
    return sys.stdin.read()


def _ask(seen: dict[str, Any], *, named: bool, yes: bool) -> None:
    """Say where it would run; ask when somebody is there who may not have meant all of that."""
    chosen = [one for one in seen["targets"] if one["allowed"]]
    if not chosen:
        first = seen["targets"][0]
        raise CliError(f"{first['name']}: {first['reason']}", code=NOT_ALLOWED)
    if len(seen["targets"]) > 1:
        _print_targets(seen)
    is_meant = named and (len(chosen) == 1 or not seen["writes"])
    if not is_meant and not yes and sys.stdin.isatty():
        confirm(f"Run it on {len(chosen)} cluster{'s' if len(chosen) != 1 else ''}?", yes=False)


def _print_targets(seen: dict[str, Any]) -> None:
    line = " ".join([seen["program"], *seen["arguments"]])
    err.print(Text(printable(line), style="bold"))
    for one in seen["targets"][:SHOWN_TARGETS]:
        state = "" if one["connected"] else "  away"
        reason = "" if one["allowed"] else f"  not run: {one['reason']}"
        err.print(Text("  ").append_text(cell(one["name"])).append(printable(f"{state}{reason}"), style="yellow"))
    if len(seen["targets"]) > SHOWN_TARGETS:
        done(f"  and {len(seen['targets']) - SHOWN_TARGETS} more")
