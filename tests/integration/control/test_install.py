"""The installer: what it serves, and the copied line run by sh with curl against a real server over TLS."""

import asyncio
import hashlib
import os
import shutil
import signal
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.support.control_app import ControlApp
from tests.support.scripted_agent import join_token, until

from towline.control.access.actor import system_access
from towline.control.agents.join_tokens import Wanted
from towline.control.install.commands import join_command
from towline.control.install.targets import own_kind
from towline.control.server import Running, serving
from towline.control.settings import load

KIND = own_kind()
QUERY = f"python={KIND.python[0]}.{KIND.python[1]}&machine={KIND.machine}&libc={KIND.libc}"
OTHER = f"python=3.{13 if KIND.python[1] != 13 else 12}&machine=aarch64&libc=glibc"
INSTALL_TIMEOUT = 100.0


async def test_the_script_is_for_anybody_and_holds_no_secret(control_app: ControlApp) -> None:
    answer = await control_app.client().get("/install")
    assert answer.status_code == 200
    assert answer.text.startswith("#!/bin/sh")
    assert "server=https://towline.test" in answer.text
    assert "twj_" in answer.text  # the shape of a token, and no token
    assert "BEGIN" not in answer.text


async def test_the_files_of_this_kind_are_listed_with_hashes_that_fit(control_app: ControlApp) -> None:
    client = control_app.client()
    first = await client.get(f"/install/files?{QUERY}")
    assert first.status_code in (200, 202)
    await control_app.control.fleet.packer.packed(KIND)
    lines = (await client.get(f"/install/files?{QUERY}")).text.splitlines()
    assert any(" towline-" in line for line in lines)
    for line in lines:
        digest, path, name = line.split()
        if name.startswith(("towline-", "structlog-", "requirements")):
            assert hashlib.sha256((await client.get(path)).content).hexdigest() == digest
    names = [line.split()[2] for line in lines]
    assert not [name for name in names if name.startswith(("fastapi-", "sqlalchemy-"))]


@pytest.mark.parametrize("path", ["files/x/y", "files/../../keys", f"files/{KIND}/..%2f..%2ftowline.sqlite", "image/x"])
async def test_nothing_else_of_the_server_can_be_fetched(control_app: ControlApp, path: str) -> None:
    await control_app.control.fleet.packer.packed(KIND)
    assert (await control_app.client().get(f"/install/{path}")).status_code in (400, 404)


async def test_an_unknown_host_is_told_what_would_do(control_app: ControlApp) -> None:
    answer = await control_app.client().get("/install/files?python=3.9&machine=x86_64&libc=glibc")
    assert answer.status_code == 404
    assert "3.11" in answer.text
    assert (await control_app.client().get("/install/image?machine=x86_64")).status_code == 404


async def test_strangers_cannot_make_the_server_download(control_app: ControlApp) -> None:
    assert (await control_app.client().get(f"/install/files?{OTHER}")).status_code == 403
    made = await join_token(control_app)
    await control_app.joiner.delete(f"/api/v1/join-tokens/{made['id']}")
    assert (await control_app.client().get(f"/install/files?{OTHER}")).status_code == 403


async def test_wheels_that_an_operator_has_put_there_are_used(control_app: ControlApp) -> None:
    await join_token(control_app)
    kind = f"cp3{OTHER[9:11]}-aarch64-glibc"
    folder = control_app.settings.data_folder / "wheels" / kind
    folder.mkdir(parents=True)
    (folder / "given-1.0-py3-none-any.whl").write_bytes(b"a wheel")
    answer = await control_app.client().get(f"/install/files?{OTHER}")
    while answer.status_code == 202:
        await asyncio.sleep(0.05)
        answer = await control_app.client().get(f"/install/files?{OTHER}")
    assert " given-1.0-py3-none-any.whl" in answer.text


# -- the copied line, for real --------------------------------------------------------------------

needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")


@dataclass
class Host:
    """A folder that plays a user's home on a fresh host."""

    home: Path
    environment: dict[str, str]

    @property
    def state(self) -> Path:
        return self.home / "state"

    async def run(self, line: str, *, shell: str = "sh") -> tuple[int, str]:
        """Run a line as a user would paste it."""
        process = await asyncio.create_subprocess_exec(
            shell, "-c", line, env=self.environment, cwd=self.home, stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        async with asyncio.timeout(INSTALL_TIMEOUT):
            output, _ = await process.communicate()
        return process.returncode or 0, output.decode()

    def stop_agent(self) -> None:
        pid = self.state / "agent.pid"
        if pid.exists():
            with suppress(ProcessLookupError):
                os.kill(int(pid.read_text()), signal.SIGTERM)


@asynccontextmanager
async def _host(folder: Path) -> AsyncIterator[Host]:
    home = folder / "home"
    home.mkdir()
    environment = {
        "HOME": str(home),
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "TOWLINE_INSTALL_ROOT": str(home / "program"),
        "TOWLINE_INSTALL_BIN": str(home / "bin"),
        "TOWLINE_AGENT_STATE_FOLDER": str(home / "state"),
        "TMPDIR": str(home),
    }
    host = Host(home, environment)
    try:
        yield host
    finally:
        host.stop_agent()


@asynccontextmanager
async def _server(folder: Path) -> AsyncIterator[Running]:
    settings = load(
        {}, data_folder=str(folder / "server"), listen="127.0.0.1:0", hostnames=["127.0.0.1"], log_level="error"
    )
    async with serving(settings) as running:
        yield running


async def _token(running: Running, **wanted: object) -> str:
    made = await running.control.fleet.join_tokens.create(system_access("test"), Wanted(**wanted))
    return made.token


@needs_curl
async def test_the_copied_line_installs_joins_and_connects(tmp_path: Path) -> None:
    async with _server(tmp_path) as running, _host(tmp_path) as host:
        fleet = running.control.fleet
        line = join_command(fleet.identity(), await _token(running, cluster_name="edge-1"))
        code, output = await host.run(line, shell="dash" if shutil.which("dash") else "sh")
        assert code == 0, output
        assert "connected to https://127.0.0.1" in output
        (one,) = tuple(fleet.links)
        view = await fleet.clusters.get(system_access("test"), "edge-1")
        assert view.link is one
        program = host.home / "bin" / "towline"
        assert stat.S_IMODE((host.state / "identity.json").stat().st_mode) == 0o600
        code, output = await host.run(f"{program} agent status --state-folder {host.state} -o json")
        assert code == 0, output
        # The same host again, with a new token: the program is there, the identity is new.
        token = await _token(running, cluster_name="edge-1", rejoin=True)
        code, output = await host.run(join_command(fleet.identity(), token))
        assert code == 0, output
        await until(lambda: fleet.links.is_connected(view.row.id))
        host.stop_agent()
        await until(lambda: not len(fleet.links))


@needs_curl
async def test_a_server_with_another_key_gets_nothing_to_run(tmp_path: Path) -> None:
    async with _server(tmp_path) as running, _host(tmp_path) as host:
        token = await _token(running)
        line = join_command(running.control.fleet.identity(), token)
        pin = running.control.fleet.identity().spki_pins[0]
        wrong = line.replace(pin, "sha256//" + "A" * 43 + "=")
        _, output = await host.run(wrong)
        assert not (host.home / "program").exists()
        assert "90" in output or "pinned" in output


@needs_curl
@pytest.mark.parametrize(
    ("token", "words"),
    [("", "a join token on standard input is needed"), ("twl_x", "a join token")],
)
async def test_a_line_without_a_good_token_says_so(tmp_path: Path, token: str, words: str) -> None:
    async with _server(tmp_path) as running, _host(tmp_path) as host:
        code, output = await host.run(join_command(running.control.fleet.identity(), token or "''"))
        assert code != 0
        assert words in output
        assert not (host.state / "identity.json").exists()
