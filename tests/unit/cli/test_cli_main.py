import subprocess
import sys

import typer.main

from towline.cli.main import MODULES, build


def test_every_command_is_registered_under_the_word_that_loads_its_module() -> None:
    registered = set(typer.main.get_group(build()).commands)
    assert registered == {word for words in MODULES.values() for word in words.split()}


def test_a_command_starts_without_what_only_other_commands_need() -> None:
    script = "import sys; sys.argv = ['towline', 'clusters']; from towline.cli.main import build; build('clusters')"
    script += "; assert not {'fastapi', 'sqlalchemy', 'pydantic_settings', 'picows'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
