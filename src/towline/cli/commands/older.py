"""`import`: taking over what an older control plane knew."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from towline.cli.errors import USAGE, CliError
from towline.cli.instadeploy_file import Database
from towline.cli.options import Output, client
from towline.cli.output import Format, err, printable, show

app = typer.Typer(help="Take over what an older control plane knew.", no_args_is_help=True)


def register(root: typer.Typer) -> None:
    root.add_typer(app, name="import")


@app.callback()
def _group() -> None:
    """Take over what an older control plane knew."""


@app.command("instadeploy")
def instadeploy(
    database: Annotated[Path, typer.Option(help="InstaDeploy's SQLite file; it is only read.")],
    projects: Annotated[
        Path | None, typer.Option(help="Folder with `HOST/PROJECT/docker-compose.yml`, copied from the hosts.")
    ] = None,
    token_stdin: Annotated[
        bool, typer.Option("--token-stdin", help="Read the token of its agents from standard input.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    output: Output = Format.TABLE,
) -> None:
    """Take over agents, deployments and jobs of InstaDeploy. Repeating it changes nothing."""
    found = Database(database)
    if not token_stdin:
        hint = "for example: towline import instadeploy --database app.db --token-stdin < token"
        raise CliError("give the token of its agents on standard input, with --token-stdin", hint=hint, code=USAGE)
    token = sys.stdin.readline().strip()
    if not token:
        raise CliError("no token came on standard input")
    report: dict[str, Any] = {"dry_run": dry_run, "notes": found.left_out()}
    with client() as api:
        for batch in found.batches(projects):
            _add(report, api.post("compat/instadeploy/import", batch | {"token": token, "dry_run": dry_run}))
    show(report, output, lambda: _print(report))


def _add(report: dict[str, Any], part: dict[str, Any]) -> None:
    """Join the report of one request to those before: an agent comes with each that holds something of its own."""
    for name, value in part.items():
        if isinstance(value, bool):
            continue
        if isinstance(value, list):
            report[name] = list(dict.fromkeys([*report.get(name, []), *value]))
        else:
            report[name] = report.get(name, 0) + value
    made = set(report.get("agents_made", []))
    report["agents_known"] = [name for name in report.get("agents_known", []) if name not in made]
    made = set(report.get("deployments_made", []))
    report["deployments_known"] = [name for name in report.get("deployments_known", []) if name not in made]


def _print(report: dict[str, Any]) -> None:
    verb = "would be imported" if report["dry_run"] else "imported"
    for what in ("agents", "deployments"):
        made, known = report.get(f"{what}_made", []), report.get(f"{what}_known", [])
        err.print(f"{len(made)} {what} {verb}, {len(known)} were known")
    made, known, left = (report.get(f"jobs_{name}", 0) for name in ("made", "known", "left_out"))
    err.print(f"{made} jobs {verb} as history, {known} were known, {left} left out")
    for name in report.get("without_file", []):
        err.print(printable(f"no file yet: {name}; its first deploy makes revision 1, or give --projects"))
    for note in report["notes"]:
        err.print(printable(note))
