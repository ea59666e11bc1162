"""`completion`: the script that teaches a shell to complete our commands."""

from enum import StrEnum
from typing import Annotated

import typer
from typer._completion_shared import get_completion_script

from towline.cli.output import COMPLETION


class Shell(StrEnum):
    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def register(root: typer.Typer) -> None:
    root.command()(completion)


def completion(shell: Annotated[Shell, typer.Argument(help="The shell.")]) -> None:
    """Print the completion script of a shell: source it from the shell's start file."""
    print(get_completion_script(prog_name="towline", complete_var=COMPLETION, shell=shell.value))
