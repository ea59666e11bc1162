"""The `towline` command: puts the commands together and turns failures into messages and exit codes."""

import os
import sys
from importlib import import_module
from typing import Annotated

import typer
from rich.markup import escape
from typer._completion_classes import completion_init

from towline import __version__
from towline.cli.errors import FAILED, USAGE, CliError
from towline.cli.output import COMPLETION, err, printable

app = typer.Typer(
    name="towline",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="One line to everything you run where nobody can reach it.",
    context_settings={"help_option_names": ["-h", "--help"]},
)

_COMMANDS = "towline.cli.commands."
MODULES = {
    f"{_COMMANDS}account": "login logout whoami",
    f"{_COMMANDS}clusters": "clusters join-token",
    f"{_COMMANDS}manifest": "cluster",
    f"{_COMMANDS}compat": "compat-token",
    f"{_COMMANDS}links": "link forward ssh",
    f"{_COMMANDS}deployments": "deploy diff deployments revisions rollback redeploy stop start restart scale "
    "remove prune adopt",
    f"{_COMMANDS}routes": "publish unpublish routes",
    f"{_COMMANDS}tail": "tail",
    f"{_COMMANDS}domains": "domains",
    f"{_COMMANDS}streams": "logs exec",
    f"{_COMMANDS}kubeconfig": "kubeconfig k8s-token",
    f"{_COMMANDS}kube": "kube",
    f"{_COMMANDS}certs": "certs",
    f"{_COMMANDS}run": "run",
    f"{_COMMANDS}saved": "commands runs",
    f"{_COMMANDS}jobs": "jobs",
    f"{_COMMANDS}alerts": "alerts",
    f"{_COMMANDS}access": "tokens users",
    f"{_COMMANDS}audit": "audit",
    f"{_COMMANDS}recordings": "recordings",
    f"{_COMMANDS}older": "import",
    f"{_COMMANDS}completion": "completion",
    "towline.cli.up": "up",
    "towline.cli.server": "server",
    "towline.cli.agent": "agent",
}
"""Every module of commands, and the words that it serves, in the order of the help."""


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True)] = False,
) -> None:
    if version:
        print(__version__)
        raise typer.Exit


def build(word: str = "") -> typer.Typer:
    """Register commands and return the application.

    Args: word: what the command line begins with. Only the module that serves it is imported: the others cost more
        time than most commands take. Anything else registers all of them.
    """
    wanted = [module for module, words in MODULES.items() if word in words.split()] or list(MODULES)
    for name in wanted:
        import_module(name).register(app)
    return app


def main() -> None:
    """Run the command line. Exit codes: 0 done, 1 failed, 2 usage, 3 not allowed, 4 not found, 5 away or timed out."""
    if COMPLETION in os.environ:
        completion_init()
    try:
        code = build(sys.argv[1] if len(sys.argv) > 1 else "")(standalone_mode=False)
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
    except OSError as error:  # a file that was named, a folder that cannot be written
        _report(CliError(f"{error.filename}: {error.strerror}" if error.filename else str(error)))
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
