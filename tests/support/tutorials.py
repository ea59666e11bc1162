"""Reads the commands and files of a tutorial from its page."""

import re

CONSOLE = re.compile(r"```console\n(.*?)```", re.DOTALL)
FILE = re.compile(r"```yaml\n(.*?)```", re.DOTALL)


def commands(page: str) -> list[str]:
    """Every `$` line of the console blocks."""
    lines = [line for block in CONSOLE.findall(page) for line in block.splitlines()]
    return [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]


def first_file(page: str) -> str:
    """The first YAML file that the reader is told to write."""
    found = FILE.search(page)
    assert found, "the page has no file"
    return found[1]
