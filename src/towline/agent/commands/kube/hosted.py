"""Verbs that the host's own `kubectl` does: run by an argument list, as whoever asked, in an environment of its own.

It gets a kubeconfig that leads to a `Relay` and nowhere else, in a folder of its own that is gone afterwards. The
process group ends with the command, whatever ends that.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from towline.agent.commands.ending import CommandEnds
from towline.agent.commands.invocation import Invocation
from towline.agent.commands.kube import apply
from towline.agent.commands.kube.relay import LOOPBACK, Relay, relaying
from towline.agent.commands.output import Output
from towline.aio.tasks import TaskOwner
from towline.commandline import hosted
from towline.wire import orders

PROGRAM = "kubectl"
NOT_FOUND = 127
"""Exit code of a shell that finds no such program."""
READ_BYTES = 64 * 1024
"""One read of a pipe: as much as Linux keeps in one."""
FOLDER_PREFIX = "towline-kubectl-"
_in_use: set[Path] = set()
"""Folders of commands of this process."""


async def run(invocation: Invocation) -> None:
    """Do a command. Raises: CommandEnds: it failed. PolicyRefused, NotAnnounced: it wanted more than it may."""
    apply.check(invocation)
    program = find()
    try:
        with _private_folder() as folder:
            async with relaying(invocation.cluster) as relay:
                config = write_config(folder, relay, invocation.plan.namespace)
                own = (f"--kubeconfig={config}", f"--cache-dir={folder / 'cache'}")
                words = hosted.arguments(invocation.plan, *own)
                code = await _run([program, *words], folder, hosted.standard_input(invocation.plan), invocation.output)
    except OSError as error:
        raise CommandEnds(f"error: {PROGRAM} cannot be run on this host: {error.strerror or error}") from error
    if relay.refused is not None:
        raise relay.refused
    if relay.trouble:
        invocation.output.error(f"error: {relay.trouble}")
    if code:
        raise CommandEnds("", code if code > 0 else 128 - code)


def find() -> str:
    """Return the path of the host's `kubectl`. Raises: CommandEnds: there is none."""
    found = shutil.which(PROGRAM)
    if found is None:
        raise CommandEnds(f"error: there is no {PROGRAM} on this host", NOT_FOUND)
    return found


def write_config(folder: Path, relay: Relay, namespace: str) -> Path:
    """Write the kubeconfig, for this user alone."""
    cluster = {
        "server": f"https://{LOOPBACK}:{relay.port}",
        "certificate-authority-data": base64.b64encode(relay.authority).decode(),
    }
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "towline", "cluster": cluster}],
        "users": [{"name": "towline", "user": {"token": relay.token}}],
        "contexts": [{"name": "towline", "context": {"cluster": "towline", "user": "towline", "namespace": namespace}}],
        "current-context": "towline",
    }
    path = folder / "config"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(config, file)
    return path


def environment(folder: Path) -> dict[str, str]:
    """Return all that the program gets to know: neither the agent's settings nor a proxy."""
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(folder),
        "LC_ALL": "C.UTF-8",
        "KUBERC": "off",
        "KUBECTL_KUBERC": "false",
        "NO_PROXY": LOOPBACK,
    }


@contextlib.contextmanager
def _private_folder() -> Iterator[Path]:
    _sweep()
    folder = Path(tempfile.mkdtemp(prefix=f"{FOLDER_PREFIX}{os.getpid()}-"))
    _in_use.add(folder)
    try:
        yield folder
    finally:
        _in_use.discard(folder)
        shutil.rmtree(folder, ignore_errors=True)


def _sweep() -> None:
    """Remove the folders of agents that were killed; what is in them opens nothing any more."""
    for folder in Path(tempfile.gettempdir()).glob(f"{FOLDER_PREFIX}*"):
        owner = folder.name.removeprefix(FOLDER_PREFIX).partition("-")[0]
        is_ours = owner == str(os.getpid())  # in a container every life of the agent has the same number
        if folder not in _in_use and (is_ours or not Path(f"/proc/{owner}").exists()):
            shutil.rmtree(folder, ignore_errors=True)


async def _run(words: Sequence[str], folder: Path, stdin: bytes, output: Output) -> int:
    """Run the program to its end. Returns: its exit code, negative for a signal. Raises: OSError."""
    process = await asyncio.create_subprocess_exec(
        *words,
        cwd=folder,
        env=environment(folder),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        async with TaskOwner("kubectl") as owner:
            owner.spawn("stdin", _feed(process.stdin, stdin))
            reading = [
                owner.spawn("stdout", _copy(process.stdout, orders.STDOUT, output)),
                owner.spawn("stderr", _copy(process.stderr, orders.STDERR, output)),
            ]
            await asyncio.wait(reading)
            return await process.wait()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


async def _feed(stdin: asyncio.StreamWriter, data: bytes) -> None:
    with contextlib.suppress(ConnectionError):  # it may end without having read all
        stdin.write(data)
        await stdin.drain()
    stdin.close()


async def _copy(source: asyncio.StreamReader, stage: str, output: Output) -> None:
    while data := await source.read(READ_BYTES):
        output.write(stage, data)
