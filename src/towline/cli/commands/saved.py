"""`commands` and `runs`: commands under a name, and what was run."""

from typing import Annotated, Any

import typer

from towline.cli import runs
from towline.cli.client import quoted
from towline.cli.commands.run import COMMAND, PROGRAMS, RunCommand, end_run
from towline.cli.errors import USAGE, CliError
from towline.cli.options import Output, client, confirm, pairs
from towline.cli.output import Column, Format, ago, done, show_facts, show_list, state

app = typer.Typer(help="Saved commands; `towline run --saved NAME` runs one.", invoke_without_command=True)
runs_app = typer.Typer(help="What was run on clusters, and what came of it.", invoke_without_command=True)
Name = Annotated[str, typer.Argument(help="Name or id of a saved command.", metavar="NAME")]
RunId = Annotated[str, typer.Argument(help="Id of a run.", metavar="RUN")]
Description = Annotated[str, typer.Option("--description", help="What it is for.")]
Defaults = Annotated[list[str] | None, typer.Option("--default", help="NAME=VALUE of a parameter nobody gives.")]
Selector = Annotated[str, typer.Option("--selector", "-l", help="Where it runs unless targets are named.")]
Namespace = Annotated[str, typer.Option("-n", "--namespace", help="For kubectl.")]
Project = Annotated[str, typer.Option("-p", "--project", help="The Compose project, for compose.")]


def register(root: typer.Typer) -> None:
    root.add_typer(app, name="commands")
    root.add_typer(runs_app, name="runs")


@app.callback()
def _list(
    context: typer.Context,
    search: Annotated[str, typer.Option(help="Only with this in name or description.")] = "",
    output: Output = Format.TABLE,
) -> None:
    """List saved commands."""
    if context.invoked_subcommand:
        return
    with client() as api:
        items = api.items("commands/saved", search=search)
        show_list(items, output, SAVED_COLUMNS, empty="no saved commands; `towline commands save NAME -- PROGRAM …`")


@app.command("show")
def show_one(name: Name, output: Output = Format.TABLE) -> None:
    """Show one saved command."""
    with client() as api:
        found = api.get(f"commands/saved/{quoted(name)}")
    facts = [
        ("name", found["name"]), ("command", _line(found)), ("parameters", " ".join(found["parameters"])),
        ("defaults", " ".join(f"{key}={value}" for key, value in found["defaults"].items())),
        ("namespace", found["namespace"]), ("project", found["project"]), ("selector", found["selector"]),
        ("for", found["description"]), ("by", found["created_by"]), ("changed", ago(found["updated_at"])),
    ]  # fmt: skip
    show_facts(found, output, facts)


@app.command("save", cls=RunCommand)
def save(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of the command.", metavar="NAME -- PROGRAM ARGUMENT...")],
    description: Description = "",
    defaults: Defaults = None,
    selector: Selector = "",
    namespace: Namespace = "",
    project: Project = "",
    replace: Annotated[bool, typer.Option("--replace", help="Change the one that has this name.")] = False,
) -> None:
    """Save a command; `{{name}}` in an argument is a parameter."""
    words = context.meta[COMMAND]
    if not words or words[0] not in PROGRAMS:
        hint = "for example: towline commands save logs -- kubectl logs deploy/{{app}} --tail 100"
        raise CliError(f"write the command behind --; its program is {', '.join(PROGRAMS)}", hint=hint, code=USAGE)
    body: dict[str, Any] = {
        "name": name, "arguments": words[1:], "description": description, "selector": selector,
        "defaults": pairs(defaults or [], "a default"), "namespace": namespace, "project": project,
    }  # fmt: skip
    with client() as api:
        if replace:
            found = api.call("PATCH", f"commands/saved/{quoted(name)}", body=body)
        else:
            found = api.post("commands/saved", body | {"program": words[0]})
    done(f"{found['name']} is saved; run it with: towline run --saved {found['name']}{_values(found)}")


@app.command("remove")
def remove(name: Name, yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False) -> None:
    """Remove a saved command; what was run by it stays."""
    with client() as api:
        confirm(f"Remove the saved command {name}?", yes=yes)
        api.call("DELETE", f"commands/saved/{quoted(name)}")
    done(f"{name} was removed")


@runs_app.callback()
def _list_runs(
    context: typer.Context,
    cluster: Annotated[str, typer.Option(help="Only on this cluster.")] = "",
    most: Annotated[int, typer.Option("--limit", min=1, max=10_000, help="At most so many.")] = 50,
    output: Output = Format.TABLE,
) -> None:
    """List runs, the newest first."""
    if context.invoked_subcommand:
        return
    with client() as api:
        items = api.items(runs.RUNS, most=most, cluster=cluster)
        show_list(items, output, RUN_COLUMNS, empty="nothing was run yet; `towline run CLUSTER -- PROGRAM …`")


@runs_app.command("show")
def show_run(run: RunId, output: Output = Format.TABLE) -> None:
    """Show a run and what its targets answered."""
    with client() as api:
        found = api.get(f"{runs.RUNS}/{quoted(run)}")
        found["groups"] = runs.results(api, run)["groups"]
    facts = [
        ("run", found["id"]), ("command", _line(found)), ("state", state(found["state"])), ("targets", _counts(found)),
        ("by", found["created_by"]), ("begun", ago(found["created_at"])),
        ("ended", ago(found["ended_at"]) if found["ended_at"] else ""), ("cancelled by", found["cancelled_by"]),
    ]  # fmt: skip
    show_facts(found, output, facts)
    if output is Format.TABLE:
        runs.print_groups(found["groups"])


@runs_app.command("follow")
def follow_run(run: RunId) -> None:
    """Follow a run to its end; the exit code tells how it ended."""
    with client() as api:
        runs.finish(api, api.get(f"{runs.RUNS}/{quoted(run)}"), Format.TABLE)


@runs_app.command("cancel")
def cancel_run(run: RunId) -> None:
    """Begin no more targets, and ask those at work to stop."""
    with client() as api:
        end_run(api, run)


def _line(found: dict[str, Any]) -> str:
    return show_words([found["program"], *found["arguments"]])


def show_words(words: list[str]) -> str:
    """Return an argument list on one line; those with blanks are quoted so that one sees where each ends."""
    return " ".join(f"'{word}'" if not word or any(c.isspace() for c in word) else word for word in words)


def _values(found: dict[str, Any]) -> str:
    return "".join(f" --set {name}=…" for name in found["parameters"] if name not in found["defaults"])


def _counts(run: dict[str, Any]) -> str:
    return ", ".join(f"{count} {word}" for word, count in sorted(run["counts"].items()))


SAVED_COLUMNS: list[Column] = [
    ("NAME", lambda one: one["name"]),
    ("COMMAND", _line),
    ("WHERE", lambda one: one["selector"]),
    ("FOR", lambda one: one["description"]),
    ("BY", lambda one: one["created_by"]),
]
RUN_COLUMNS: list[Column] = [
    ("RUN", lambda run: run["id"]),
    ("COMMAND", _line),
    ("STATE", lambda run: state(run["state"])),
    ("TARGETS", _counts),
    ("BY", lambda run: run["created_by"]),
    ("BEGUN", lambda run: ago(run["created_at"])),
]
