"""The local end of `towline kube exec`: numbered channels on a WebSocket, a raw terminal, and the exit code.

Each message is one channel byte and data. Source: kubernetes.md 2.3, `v5.channel.k8s.io`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
from typing import TYPE_CHECKING, Any

from websockets.exceptions import ConnectionClosed

from towline.aio.tasks import TaskOwner
from towline.cli import stdin
from towline.cli.errors import AWAY, FAILED, NOT_ALLOWED, CliError
from towline.cli.kube.api import ClusterApi, Query
from towline.cli.terminal import raw_terminal, terminal_size, write

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection

STDIN, STDOUT, STDERR, STATUS, RESIZE, CLOSE = 0, 1, 2, 3, 4, 255
V5, V4 = "v5.channel.k8s.io", "v4.channel.k8s.io"
"""v4, of servers before 1.30, is the same without CLOSE: the command never sees the end of its input."""


async def run_shell(api: ClusterApi, path: str, query: Query, *, tty: bool) -> int:
    """Run a command in a container and return its exit code. Raises: CliError: it could not be run, or broke off."""
    async with api.websocket(path, query, (V5, V4)) as socket, TaskOwner("terminal") as tasks:
        with raw_terminal() if tty else contextlib.nullcontext():
            if tty:
                await _send_size(socket)
                resized = asyncio.get_running_loop().add_signal_handler
                resized(signal.SIGWINCH, lambda: tasks.spawn("resize", _send_size(socket)))
            tasks.spawn("stdin", _send_input(socket))
            return await _receive(socket)


async def _receive(socket: ClientConnection) -> int:
    try:
        async for message in socket:
            data = message if isinstance(message, bytes) else message.encode()
            if data[:1] == bytes([STATUS]) and len(data) > 1:
                return exit_code(json.loads(data[1:]))
            if len(data) > 1 and data[0] in (STDOUT, STDERR):
                stream = sys.stdout if data[0] == STDOUT else sys.stderr
                write(stream.buffer.fileno(), data[1:])
    except ConnectionClosed as error:
        raise CliError("the connection broke; the command may still run", code=AWAY) from error
    raise CliError("the session ended without an exit code; the command may still run", code=AWAY)


def exit_code(status: dict[str, Any]) -> int:
    """Return the exit code that a Status names. Raises: CliError: the command could not be run."""
    if status.get("status") == "Success":
        return 0
    causes = (status.get("details") or {}).get("causes") or []
    for cause in causes:
        if status.get("reason") == "NonZeroExitCode" and cause.get("reason") == "ExitCode":
            return int(cause["message"])
    code = NOT_ALLOWED if status.get("code") in (401, 403) else FAILED
    raise CliError(str(status.get("message") or "the command could not be run"), code=code)


async def _send_input(socket: ClientConnection) -> None:
    """Send standard input until it ends; a closed connection is the receiver's to report."""
    with contextlib.suppress(ConnectionClosed):
        async for data in stdin.chunks():
            await socket.send(bytes([STDIN]) + data)
        if socket.subprotocol == V5:
            await socket.send(bytes([CLOSE, STDIN]))


async def _send_size(socket: ClientConnection) -> None:
    columns, rows = terminal_size()
    with contextlib.suppress(ConnectionClosed):
        await socket.send(bytes([RESIZE]) + json.dumps({"Width": columns, "Height": rows}).encode() + b"\n")
