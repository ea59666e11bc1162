"""`audit`: who did what, when, from where, and how it ended."""

from typing import Annotated, Any

import typer

from towline.cli.errors import CliError
from towline.cli.options import Output, client, past
from towline.cli.output import Column, Format, done, moment, show, show_list

app = typer.Typer(help="The audit log.", invoke_without_command=True)


def register(root: typer.Typer) -> None:
    root.add_typer(app, name="audit")


@app.callback()
def _list(
    context: typer.Context,
    actor: Annotated[str, typer.Option(help="Only what this user did.")] = "",
    action: Annotated[str, typer.Option(help="Only this action, like deployment.deploy.")] = "",
    cluster: Annotated[str, typer.Option(help="Only on this cluster.")] = "",
    result: Annotated[str, typer.Option(help="done, refused or failed.")] = "",
    since: Annotated[str, typer.Option(help="From this moment on: RFC 3339, or 10m, 2h, 3d ago.")] = "",
    until: Annotated[str, typer.Option(help="Until this moment: RFC 3339, or 10m, 2h, 3d ago.")] = "",
    most: Annotated[int, typer.Option("--limit", min=1, max=100_000, help="At most so many.")] = 50,
    output: Output = Format.TABLE,
) -> None:
    """List audit events, the newest first."""
    if context.invoked_subcommand:
        return
    with client() as api:
        query = {
            "actor": actor, "action": action, "cluster": cluster, "result": result,
            "since": past(since), "until": past(until),
        }  # fmt: skip
        show_list(api.items("audit", most=most, **query), output, COLUMNS, empty="no such events")


@app.command()
def verify(output: Output = Format.TABLE) -> None:
    """Check that no event was changed or taken out since it was written."""
    with client() as api:
        answer = api.get("audit/verify")
    if not answer.get("ok"):
        raise CliError(f"the audit log was changed: {answer.get('reason', '')}")
    show(answer, output, lambda: done(f"{answer.get('events', 0)} events, the chain holds"))


def _target(event: dict[str, Any]) -> str:
    target = event["target"]
    return " ".join(filter(None, (target["kind"], target["name"] or target["id"])))


COLUMNS: list[Column] = [
    ("AT", lambda event: moment(event["at"])),
    ("WHO", lambda event: event["actor"]["name"]),
    ("FROM", lambda event: event["actor"]["address"]),
    ("ACTION", lambda event: event["action"]),
    ("ON", _target),
    ("RESULT", lambda event: " ".join(filter(None, (event["result"], event.get("reason"))))),
]
