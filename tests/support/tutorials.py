"""Reads the commands and files of a tutorial from its page."""

import re

CONSOLE = re.compile(r"```console\n(.*?)```", re.DOTALL)
FILE = re.compile(r"```yaml\n(.*?)```", re.DOTALL)


def commands(page: str) -> list[str]:
    """Every `$` line of the console blocks."""
    lines = [line for block in CONSOLE.findall(page) for line in block.splitlines()]
    return [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]


def files(page: str) -> list[str]:
    """The YAML files that the reader is told to write, in their order."""
    return [str(text) for text in FILE.findall(page)]
