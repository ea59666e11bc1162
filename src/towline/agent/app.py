"""The agent's process: one per state folder, ended by signals, by final words, or to go on as a newer release."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import sys
from pathlib import Path
from typing import IO, Any

import structlog

import towline
from towline.agent import arriving, files, logging, policy
from towline.agent.agent import Agent
from towline.agent.errors import SettingsError, StorageError
from towline.agent.identity import Store
from towline.agent.protocols import names
from towline.agent.settings import AgentSettings
from towline.agent.watchdog import Watchdog
from towline.aio.malloc import keep_large_blocks
from towline.aio.tasks import TaskOwner

EXIT_STOPPED = 0
"""Somebody stopped the agent."""

EXIT_RESTART = 75
"""The link hangs and hangs: the supervisor starts the agent anew."""

EXIT_FINAL = 78
"""The control plane removed this agent: a supervisor should not start it again."""

ALIVE_FILE = "alive"
"""In the state folder; written every few seconds as long as the event loop runs, with the number of its tasks."""

_log = structlog.get_logger("towline.agent")


def run(settings: AgentSettings, reread: arriving.Reread | None = None) -> int:
    """Run the agent until it ends. Returns: the exit status of the process.

    Args: reread: reads the settings anew, for a control plane that is named later.
    Raises: SettingsError, IdentityError, StorageError: it cannot start; the text says why.
    """
    import uvloop

    logging.configure(settings.log_level, settings.log_format)
    keep_large_blocks()
    files.private_folder(settings.state_folder)
    with _only_one(settings.state_folder):
        policy.load(settings)
        return uvloop.run(_run(settings, reread))


async def _run(settings: AgentSettings, reread: arriving.Reread | None) -> int:
    watchdog = Watchdog(settings.watchdog_seconds, sign=settings.state_folder / ALIVE_FILE)
    watchdog.start()
    shared = arriving.shared_identity(settings)
    _need_a_server(settings)
    if shared is None and not settings.server and not settings.standalone:
        repr(Store(settings.state_folder).current)  # without one there is nothing to wait for
    agent = Agent(settings, shared=shared, reread=reread)
    async with TaskOwner("process") as owner:
        _log.info("agent starts", version=towline.__version__, standalone=settings.standalone)
        task = owner.spawn("agent", agent.run())
        _end_on_signals(task)
        replaced = owner.spawn("update", agent.replaced.wait())
        await asyncio.wait({task, replaced}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            task.cancel()
            await asyncio.wait({task})
    watchdog.stop()
    if agent.next_python is not None:
        _log.info("agent goes on as its newer release")
        # The same process id and environment: supervisors and running steps notice nothing.
        os.execve(agent.next_python, [str(agent.next_python), "-m", "towline.agent", *sys.argv[1:]], os.environ)  # noqa: S606
    if task.cancelled():
        _log.info("agent stopped")
        return EXIT_STOPPED
    ending = task.result()
    _log.warning("agent ended", reason=ending.reason, final=ending.final)
    return EXIT_FINAL if ending.final else EXIT_RESTART


def _need_a_server(settings: AgentSettings) -> None:
    """Raises: SettingsError: an older protocol is to be spoken, and nobody to speak it to is named."""
    if settings.protocol != "towline" and not settings.server and not settings.standalone:
        known = " or ".join(names.SERVER_NAMES[settings.protocol])
        raise SettingsError(f"no control plane: set {known}, or run with --standalone")


def _end_on_signals(task: asyncio.Task[Any]) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)


def check(settings: AgentSettings) -> str:
    """Start as far as possible without a link. Returns: the version. Raises: AgentError: not usable on this host."""
    policy.load(settings)
    store = Store(settings.state_folder)
    if store.exists():
        repr(store.current)
    return towline.__version__


def _only_one(state_folder: Path) -> IO[str]:
    """Keep a second agent out of the same folder. Raises: StorageError."""
    file = (state_folder / "agent.lock").open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise StorageError(f"another agent runs with the folder {state_folder}") from error
    return file
