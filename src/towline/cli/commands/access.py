"""`tokens` and `users`: who and what may sign in, and with which roles."""

from pathlib import Path
from typing import Annotated, Any

import typer

from towline.cli.client import quoted
from towline.cli.errors import USAGE, CliError
from towline.cli.options import Output, client, confirm, pairs, secret
from towline.cli.output import Column, Format, ago, cell, done, err, out, reach, show, show_facts, show_list

tokens = typer.Typer(help="API tokens.", invoke_without_command=True)
users = typer.Typer(help="Users and their roles.", invoke_without_command=True)
UserName = Annotated[str, typer.Argument(help="Name or id of a user.", metavar="USER")]
Role = Annotated[str, typer.Option(help="viewer, operator, deployer, admin or owner.")]
On = Annotated[
    str, typer.Option("--on", help="Where it holds: everything, cluster=NAME, project=CLUSTER/NAME, labels=env=prod.")
]


def register(root: typer.Typer) -> None:
    root.add_typer(tokens, name="tokens")
    root.add_typer(users, name="users")


@tokens.callback()
def _tokens(context: typer.Context, output: Output = Format.TABLE) -> None:
    """List your API tokens; their secrets are never shown again."""
    if context.invoked_subcommand:
        return
    with client() as api:
        show_list(api.items("tokens"), output, TOKEN_COLUMNS, empty="no tokens")


@tokens.command("create")
def create_token(
    name: Annotated[str, typer.Argument(help="What it is for.")],
    role: Role = "",
    on: On = "everything",
    days: Annotated[int, typer.Option(min=1, max=3650, help="How long it is good for.")] = 90,
    service: Annotated[bool, typer.Option("--service", help="For a program, not for you.")] = False,
    output: Output = Format.TABLE,
) -> None:
    """Make an API token and print it, this once."""
    body: dict[str, Any] = {"name": name, "kind": "service" if service else "user", "expires_in": days * 86400}
    with client() as api:
        made = api.post("tokens", body | ({"role": role, "scope": scope(on)} if role else {}))

    def lines() -> None:
        out.print(cell(made["token"]))
        err.print("It is shown only now.")

    show(made, output, lines)


@tokens.command("revoke")
def revoke_token(token: Annotated[str, typer.Argument(help="Id of a token.")]) -> None:
    """Make a token useless at once."""
    with client() as api:
        api.call("DELETE", f"tokens/{quoted(token)}")
    done(f"{token} was revoked")


@users.callback()
def _users(context: typer.Context, output: Output = Format.TABLE) -> None:
    """List users with their roles."""
    if context.invoked_subcommand:
        return
    with client() as api:
        show_list(api.items("users"), output, USER_COLUMNS, empty="no users")


@users.command("show")
def show_user(name: UserName, output: Output = Format.TABLE) -> None:
    """Show a user, and the ids of the roles that `revoke-grant` takes away."""
    with client() as api:
        found = api.get(f"users/{quoted(name)}")
    grants = [(f"{grant['role']} on {reach(grant['scope'])}", grant["id"]) for grant in found.get("grants") or []]
    facts = [("user", found["username"]), ("id", found["id"]), ("created", ago(found.get("created_at"))), *grants]
    show_facts(found, output, facts)


@users.command("create")
def create_user(
    name: UserName,
    role: Role = "viewer",
    on: On = "everything",
    password_file: Annotated[Path | None, typer.Option(help="File with the password; - for standard input.")] = None,
) -> None:
    """Make a user with one role."""
    password = secret(f"Password of {name}", password_file)
    with client() as api:
        made = api.post("users", {"username": name, "password": password})
        api.post("grants", {"user": made["id"], "role": role, "scope": scope(on)})
    done(f"{name} was made, {role} on {on}")


@users.command()
def grant(name: UserName, role: Annotated[str, typer.Argument(help="The role.")], on: On = "everything") -> None:
    """Give a user a role somewhere."""
    with client() as api:
        made = api.post("grants", {"user": name, "role": role, "scope": scope(on)})
    done(f"{name} is {role} on {on} ({made['id']})")


@users.command("revoke-grant")
def revoke_grant(grant: Annotated[str, typer.Argument(help="Id of a grant.")]) -> None:
    """Take a role away."""
    with client() as api:
        api.call("DELETE", f"grants/{quoted(grant)}")
    done(f"{grant} was taken away")


@users.command("set-password")
def set_password(
    name: UserName,
    password_file: Annotated[Path | None, typer.Option(help="File with the password; - for standard input.")] = None,
) -> None:
    """Set a user's password; it signs them out everywhere."""
    with client() as api:
        api.call("PUT", f"users/{quoted(name)}/password", body={"password": secret("New password", password_file)})
    done(f"the password of {name} was set")


@users.command("remove")
def remove_user(name: UserName, yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False) -> None:
    """Remove a user; their sessions and tokens end at once."""
    confirm(f"Remove the user {name}?", yes=yes)
    with client() as api:
        api.call("DELETE", f"users/{quoted(name)}")
    done(f"{name} was removed")


def scope(text: str) -> dict[str, Any]:
    """Read where a role holds. Raises: CliError."""
    kind, _, value = text.partition("=")
    if text in {"everything", "org"}:
        return {"kind": "org"}
    if kind == "cluster" and value:
        return {"kind": "cluster", "cluster": value}
    if kind == "project" and value:
        cluster, _, project = value.rpartition("/")
        return {"kind": "project", "project": project} | ({"cluster": cluster} if cluster else {})
    if kind == "labels" and value:
        return {"kind": "selector", "selector": pairs(value.split(","), "labels")}
    hint = "write everything, cluster=NAME, project=CLUSTER/NAME or labels=env=prod"
    raise CliError(f"{text!r} is no place", hint=hint, code=USAGE)


def _roles(entry: dict[str, Any]) -> str:
    return ", ".join(f"{grant['role']} on {reach(grant['scope'])}" for grant in entry.get("grants") or [])


TOKEN_COLUMNS: list[Column] = [
    ("ID", lambda token: token["id"]),
    ("NAME", lambda token: token["name"]),
    ("KIND", lambda token: token.get("kind")),
    ("EXPIRES", lambda token: ago(token.get("expires_at"))),
    ("LAST USED", lambda token: ago(token.get("used_at"))),
]
USER_COLUMNS: list[Column] = [
    ("NAME", lambda user: user["username"]),
    ("ID", lambda user: user["id"]),
    ("ROLES", _roles),
    ("CREATED", lambda user: ago(user.get("created_at"))),
]
