"""`towline server`: run and look after the control plane. Its modules are imported inside the commands."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from towline.cli.errors import FAILED, USAGE, CliError
from towline.cli.options import confirm, secret
from towline.cli.output import done, err
from towline.cli.standing import stand_in

if TYPE_CHECKING:
    from towline.control.server import Running
    from towline.control.settings import Settings

app = typer.Typer(help="Run and look after the control plane.", invoke_without_command=True)
ConfigFile = Annotated[Path | None, typer.Option("--config", help="TOML file of settings.")]
DataFolder = Annotated[Path | None, typer.Option("--data-folder", help="Folder of database, keys and certificates.")]
PassphraseFile = Annotated[Path | None, typer.Option(help="File with the passphrase; - for standard input.")]


def register(root: typer.Typer) -> None:
    root.add_typer(app, name="server")


@app.callback()
def _default(context: typer.Context, config: ConfigFile = None, data_folder: DataFolder = None) -> None:
    if context.invoked_subcommand is None:
        run(config, data_folder)


@app.command()
def run(config: ConfigFile = None, data_folder: DataFolder = None) -> None:
    """Run the server until it is told to stop."""
    from towline.control import server
    from towline.control.errors import StartupError

    try:
        server.run(settings(config, data_folder), ready=show_setup, stand_ins=stand_in)
    except StartupError as error:
        raise CliError(str(error)) from error


@app.command()
def check(config: ConfigFile = None) -> None:
    """Read the settings and explain what is wrong with them."""
    from towline.control.settings import check as problems_of

    problems = problems_of(file=config)
    if problems:
        raise CliError("the settings are not right", problems=tuple(problems), code=USAGE)
    done("the settings are right")


@app.command()
def backup(
    target: Annotated[Path, typer.Argument(help="File to write; it must not exist.")],
    passphrase_file: PassphraseFile = None,
    config: ConfigFile = None,
    data_folder: DataFolder = None,
) -> None:
    """Write everything to one encrypted file: database, sealing keys, authority. The server may be running."""
    from towline.control.backup import service as backups

    if target.exists():
        raise CliError(f"{target} is there already", hint="a backup is never written over another", code=USAGE)
    passphrase = secret("Passphrase of the backup", passphrase_file)
    _run(backups.backup(settings(config, data_folder), target, passphrase))
    done(f"{target} holds everything; keep its passphrase somewhere else")


@app.command()
def restore(
    source: Annotated[Path, typer.Argument(help="A file that `towline server backup` wrote.")],
    passphrase_file: PassphraseFile = None,
    config: ConfigFile = None,
    data_folder: DataFolder = None,
) -> None:
    """Put a backup into an empty data folder or database, here or elsewhere. Agents come back by themselves."""
    from towline.control.backup import service as backups

    passphrase = secret("Passphrase of the backup", passphrase_file)
    _run(backups.restore(settings(config, data_folder), source, passphrase))
    done("restored; start the server")


@app.command("reset-admin")
def reset_admin(
    username: Annotated[str, typer.Argument(help="The user; made when missing.")] = "admin",
    password_file: Annotated[Path | None, typer.Option(help="File with the password; - for standard input.")] = None,
    config: ConfigFile = None,
    data_folder: DataFolder = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Give a user a new password and the role of owner, when nobody can sign in any more."""
    confirm(f"Make {username} an owner with a new password?", yes=yes or password_file is not None)
    password = secret(f"New password of {username}", password_file)
    word = _run(_reset(settings(config, data_folder), username, password))
    done(f"{username} was {word} and may do everything")


async def _reset(loaded: "Settings", username: str, password: str) -> str:
    from towline.control.access import setup
    from towline.control.opening import opened

    async with opened(loaded, exclusive=False) as control:
        return await setup.reset_admin(control, username, password)


def settings(config: Path | None, data_folder: Path | None, **overrides: Any) -> "Settings":
    """Read the settings. Raises: CliError: every problem, one a line."""
    from towline.control.errors import StartupError
    from towline.control.settings import load

    if data_folder is not None:
        overrides["data_folder"] = data_folder
    try:
        return load(file=config, **overrides)
    except StartupError as error:
        problems = tuple(str(error).splitlines())
        raise CliError("the settings are not right", problems=problems, code=USAGE) from error


def show_setup(running: "Running") -> None:
    """Print the one-time address that makes the first user. It is a secret: standard error, never a log."""
    if running.setup_url:
        err.print(f"\nMake the first user here, within 30 minutes:\n\n  {running.setup_url}\n", soft_wrap=True)


def _run(work: Any) -> Any:
    from towline.control.backup.container import BadBackup
    from towline.control.errors import ApiError, StartupError

    try:
        return asyncio.run(work)
    except BadBackup as error:
        raise CliError(str(error)) from error
    except ApiError as error:
        raise CliError(error.message, hint=error.hint) from error
    except StartupError as error:
        raise CliError(str(error), code=FAILED) from error
