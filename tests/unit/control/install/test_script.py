"""The installer script and the line that fetches it."""

import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from towline.control.agents.identity import ServerIdentity
from towline.control.install.commands import join_command
from towline.control.install.script import render

PINNED = ServerIdentity("https://a.test:8443", ("https://a.test:8443",), ("sha256:00",), ("sha256//AA=",))
PUBLIC = ServerIdentity("https://a.test", ("https://a.test",), ())


def test_the_line_pins_the_servers_key_and_names_no_token_as_argument_of_a_process() -> None:
    line = join_command(PINNED, "twj_x")
    fetch = "curl -fsS -k --pinnedpubkey sha256//AA= https://a.test:8443/install"
    assert line == f"""printf %s twj_x | sh -c "$({fetch})" towline-install"""


def test_with_a_public_certificate_the_systems_trust_is_used() -> None:
    assert "-k" not in join_command(PUBLIC, "twj_x").split()
    assert "pinnedpubkey" not in join_command(PUBLIC, "twj_x")


def test_nothing_is_left_to_be_filled_in() -> None:
    text = render(PINNED)
    assert "@SERVER@" not in text and "@VERSION@" not in text and "@PINS@" not in text and "@FINGERPRINT@" not in text
    assert "server=https://a.test:8443" in text


def test_an_odd_address_cannot_leave_its_quotes() -> None:
    odd = "https://a.test/'; rm -rf /; '"
    assert f"server={shlex.quote(odd)}" in render(ServerIdentity(odd, (odd,), ()))


@pytest.mark.parametrize("shell", ["sh", "dash", "bash"])
def test_the_script_is_valid_in_every_shell(shell: str, tmp_path: Path) -> None:
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"{shell} is not installed here")
    script = tmp_path / "install.sh"
    script.write_text(render(PINNED))
    assert subprocess.run([program, "-n", str(script)], check=False).returncode == 0
