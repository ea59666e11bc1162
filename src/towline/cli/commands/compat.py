"""`compat-token`: letting agents of older systems in."""

import sys
from typing import Annotated, Literal

import typer

from towline.cli.client import quoted
from towline.cli.errors import CliError
from towline.cli.options import Output, client, pairs
from towline.cli.output import Column, Format, ago, cell, done, err, out, show, show_list

app = typer.Typer(help="Tokens of PipeOps and InstaDeploy agents.", invoke_without_command=True)

TokenId = Annotated[str, typer.Argument(help="Id of a token; see `towline compat-token`.", metavar="TOKEN")]
HOUR = 3600


def register(root: typer.Typer) -> None:
    root.add_typer(app, name="compat-token")


@app.callback()
def _list(context: typer.Context, output: Output = Format.TABLE) -> None:
    """List tokens of older agents; their text is never shown again."""
    if context.invoked_subcommand:
        return
    with client() as api:
        show_list(api.items("compat/tokens"), output, COLUMNS, empty="no tokens for older agents")


@app.command()
def create(
    protocol: Annotated[Literal["pipeops", "instadeploy"], typer.Option(help="What the agents speak.")],
    cluster: Annotated[str, typer.Option(help="Name of the cluster that its agent becomes, or joins.")] = "",
    shared: Annotated[bool, typer.Option("--shared", help="Several agents have it; each needs approval.")] = False,
    open_hours: Annotated[
        float, typer.Option("--open-hours", min=0, max=720, help="Hours in which nobody needs approval.")
    ] = 0,
    label: Annotated[list[str] | None, typer.Option("--label", "-l", help="Label that the cluster gets.")] = None,
    network: Annotated[list[str] | None, typer.Option(help="Network that it may come from, as CIDR.")] = None,
    secret_stdin: Annotated[
        bool, typer.Option("--secret-stdin", help="Take a token over that agents have already: read it from stdin.")
    ] = False,
    output: Output = Format.TABLE,
) -> None:
    """Make a token for agents of an older system, or take theirs over."""
    body = {
        "protocol": protocol, "cluster": cluster or None, "shared": shared, "open_for": open_hours * HOUR,
        "labels": pairs(label or [], "labels"), "networks": network or [],
        "secret": _from_stdin() if secret_stdin else None,
    }  # fmt: skip
    with client() as api:
        made = api.post("compat/tokens", body)

    def lines() -> None:
        err.print("The token, shown only now:\n")
        out.print(cell(made["token"]))
        err.print(f"\nWhere it goes: docs/how-to/{protocol}.md")

    show(made, output, lines)


@app.command("open")
def open_token(
    token: TokenId, hours: Annotated[float, typer.Option(min=0, max=720, help="0 ends the window.")] = 24
) -> None:
    """Let agents that come with a shared token in without approval for a while."""
    with client() as api:
        api.post(f"compat/tokens/{quoted(token)}/open", {"seconds": hours * HOUR})
    done(f"{token} is open for {hours:g} hours" if hours else f"{token} asks for approval again")


@app.command()
def revoke(token: TokenId) -> None:
    """End a token: who presents it is refused from the next connect on."""
    with client() as api:
        api.call("DELETE", f"compat/tokens/{quoted(token)}")
    done(f"{token} was revoked")


def _from_stdin() -> str:
    secret = sys.stdin.readline().strip()
    if not secret:
        raise CliError("no token came on standard input")
    return secret


COLUMNS: list[Column] = [
    ("ID", lambda token: token["id"]),
    ("SYSTEM", lambda token: token["protocol"]),
    ("FOR", lambda token: token["cluster_name"] or ("several agents" if token["shared"] else "one agent")),
    ("AGENTS", lambda token: token["agents"]),
    ("LAST USED", lambda token: ago(token["last_used_at"]) if token["last_used_at"] else "never"),
    ("STATE", lambda token: "revoked" if token["revoked"] else ""),
]
