"""`towline up`: a server and an agent of this machine in one command, for a first real use.

The server runs in this process, the agent in one of its own that is started again when it ends. Ctrl-C stops both;
the next start goes on where this one ended.
"""

import asyncio
import os
import signal
import socket
import sys
from asyncio.subprocess import PIPE, Process
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from towline.aio.backoff import Backoff
from towline.aio.tasks import TaskOwner
from towline.cli.errors import CliError
from towline.cli.output import done, err
from towline.cli.standing import stand_in

if TYPE_CHECKING:
    from towline.control.server import Running
    from towline.control.settings import Settings

AGENT_STOP_TIMEOUT = 15.0
"""Seconds that the agent gets to say goodbye; its jobs on the host go on without it."""


def register(root: typer.Typer) -> None:
    root.command()(up)


def up(
    folder: Annotated[Path | None, typer.Option(help="Folder for all data; default: in your own data folder.")] = None,
    listen: Annotated[str, typer.Option(help="Address and port to listen on.")] = "0.0.0.0:8443",
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show the logs here.")] = False,
) -> None:
    """Start a control plane and an agent for this machine, and print where to sign in."""
    import platformdirs
    import uvloop

    from towline.aio.malloc import keep_large_blocks
    from towline.cli.server import settings
    from towline.control import logging
    from towline.control.errors import StartupError

    home = (folder or Path(platformdirs.user_data_path("towline")) / "up").expanduser().absolute()
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    loaded = settings(None, home / "server", listen=listen, log_level="info" if verbose else "error")
    logging.configure(loaded.log_level, loaded.log_format)
    keep_large_blocks()
    try:
        uvloop.run(_run(loaded, LocalAgent(home / "agent", verbose=verbose)))
    except StartupError as error:
        raise CliError(str(error)) from error


async def _run(settings: "Settings", agent: "LocalAgent") -> None:
    from towline.control.server import serving

    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with serving(settings, stand_ins=stand_in) as running:
        _welcome(running)
        async with TaskOwner("up") as tasks:
            tasks.spawn("agent", agent.keep_running(running))
            await stop.wait()
            await agent.stop()
    done("stopped; `towline up` goes on where this ended")


def _welcome(running: "Running") -> None:
    local = f"http://127.0.0.1:{running.port}"
    err.print(f"\nTowline runs at  {running.url}\n          here:  {local}", soft_wrap=True)
    if running.control.setup_token:
        err.print(f"\nMake the first user, within 30 minutes:\n\n  {local}/setup#{running.control.setup_token}")
    err.print("\nCtrl-C stops it.\n")


class LocalAgent:
    """The agent of this machine: joins once, then runs for as long as the server does."""

    def __init__(self, state_folder: Path, *, verbose: bool) -> None:
        self._folder = state_folder
        self._verbose = verbose
        self._process: Process | None = None
        self._ended = asyncio.Event()

    async def keep_running(self, running: "Running") -> None:
        """Join when this machine has not, then run the agent and start it again when it ends by itself."""
        backoff = Backoff()
        while not self._ended.is_set():
            if not (self._folder / "identity.json").exists():
                await self._join(running)
            if self._ended.is_set():
                return
            self._process = await self._start("run")
            code = await self._process.wait()
            if self._ended.is_set():
                return
            pause = backoff.next_delay()
            err.print(f"the agent of this machine ended with {code}; starting it again in {pause:.0f} s")
            await asyncio.sleep(pause)

    async def stop(self) -> None:
        """Let the agent say goodbye; kill it when it does not within the limit."""
        self._ended.set()
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.terminate()
        try:
            async with asyncio.timeout(AGENT_STOP_TIMEOUT):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()

    async def _join(self, running: "Running") -> None:
        """Make a join token for this machine and hand it over on standard input."""
        from towline.control.access.actor import system_access
        from towline.control.agents.join_tokens import Wanted

        made = await running.control.fleet.join_tokens.create(system_access("up"), Wanted(cluster_name=_host_name()))
        url, pin = f"https://127.0.0.1:{running.port}", running.control.fingerprint
        self._process = process = await self._start(
            "join", "--server", url, "--fingerprint", pin, "--token-file", "-", stdin=PIPE
        )
        await process.communicate(made.token.encode())
        if process.returncode and not self._ended.is_set():
            err.print("this machine could not join; the server runs all the same (see above for the reason)")
            self._ended.set()

    async def _start(self, *arguments: str, stdin: int = asyncio.subprocess.DEVNULL) -> Process:
        environment = os.environ | {
            "TOWLINE_AGENT_STATE_FOLDER": str(self._folder),
            "TOWLINE_AGENT_LOG_LEVEL": "info" if self._verbose else "error",
        }
        command = (sys.executable, "-m", "towline.cli.main", "agent", *arguments)
        return await asyncio.create_subprocess_exec(*command, stdin=stdin, env=environment, start_new_session=True)


def _host_name() -> str:
    """Return this machine's name as a cluster may be called."""
    name = socket.gethostname().partition(".")[0].lower()
    plain = "".join(letter if (letter.isascii() and letter.isalnum()) or letter in "-_" else "-" for letter in name)
    return plain.strip("-_")[:63] or "local"
