"""The `towline` command: puts the commands together and turns failures into messages and exit codes."""

import sys
from typing import Annotated

import typer
from rich.markup import escape

from towline import __version__
from towline.cli.errors import FAILED, USAGE, CliError
from towline.cli.output import err, printable

app = typer.Typer(
    name="towline",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="One line to everything you run where nobody can reach it.",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True)] = False,
) -> None:
    if version:
        print(__version__)
        raise typer.Exit


def build() -> typer.Typer:
    """Register every command and return the application."""
    from towline.cli import agent as agent_commands
    from towline.cli import server as server_commands
    from towline.cli import up as up_command
    from towline.cli.commands import access, account, audit, clusters, completion, deployments, jobs, links, streams

    if not app.registered_groups:
        for module in (account, clusters, links, deployments, streams, jobs, access, audit, completion):
            module.register(app)
        app.command("up")(up_command.up)
        app.add_typer(server_commands.app, name="server", help="Run and look after the control plane.")
        app.add_typer(agent_commands.app, name="agent", help="Run and look after the agent of this host.")
    return app


def main() -> None:
    """Run the command line. Exit codes: 0 done, 1 failed, 2 usage, 3 not allowed, 4 not found, 5 away or timed out."""
    try:
        code = build()(standalone_mode=False)
    except CliError as error:
        _report(error)
        sys.exit(error.code)
    except KeyboardInterrupt:
        sys.exit(130)
    except (typer.Abort, EOFError):
        sys.exit(FAILED)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(FAILED)
    except Exception as error:
        if not hasattr(error, "exit_code"):
            raise
        error.show()  # type: ignore[attr-defined]  # a usage error of the parser
        sys.exit(USAGE)
    sys.exit(code if isinstance(code, int) else 0)


def _report(error: CliError) -> None:
    err.print(f"[bold red]error[/]: {escape(printable(error.message))}")
    for problem in error.problems:
        err.print(f"  {escape(printable(problem))}")
    if error.hint:
        err.print(f"[bright_black]{escape(printable(error.hint))}[/]")


if __name__ == "__main__":
    main()
