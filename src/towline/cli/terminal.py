"""The local end of `towline exec`: a raw terminal, its size, standard input and the exit code."""

import asyncio
import contextlib
import json
import os
import signal
import sys
import termios
import tty as terminal_modes
from collections.abc import Iterator

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from towline.aio.tasks import TaskOwner
from towline.cli import stdin
from towline.cli.client import Client
from towline.cli.errors import AWAY, FAILED, CliError, from_close
from towline.wire.streams import CLOSE_STDIN, EXIT, RESIZE, STDERR, STDIN, STDOUT, FrameReader, encode_frame

ENDING = (signal.SIGTERM, signal.SIGHUP)
"""Signals that end the program on the spot; Ctrl-C is a key like others on a raw terminal."""
USUAL_SIZE = (80, 24)
"""For a command without a terminal, to which it means nothing."""


async def run_terminal(api: Client, path: str, query: list[tuple[str, str]], *, tty: bool) -> int:
    """Run a command at the other end and return its exit code. Raises: CliError: it could not be run, or broke off."""
    columns, rows = terminal_size()
    query = [*query, ("columns", str(columns)), ("rows", str(rows))]
    async with api.websocket(path, query) as socket, TaskOwner("terminal") as tasks:
        with raw_terminal() if tty else contextlib.nullcontext():
            if tty:
                _follow_size(socket, tasks)
            tasks.spawn("stdin", _send_input(socket))
            return await _receive(socket)


async def _receive(socket: ClientConnection) -> int:
    reader = FrameReader()
    try:
        async for message in socket:
            for frame in reader.feed(message if isinstance(message, bytes) else message.encode()):
                if frame.kind in (STDOUT, STDERR):
                    write(
                        sys.stdout.buffer.fileno() if frame.kind == STDOUT else sys.stderr.buffer.fileno(), frame.body
                    )
                elif frame.kind == EXIT:
                    return _exit_code(json.loads(frame.body))
    except ConnectionClosed as error:
        raise _broken(error) from error
    raise CliError(socket.close_reason or "the session ended without an exit code", code=AWAY)


def _exit_code(ended: dict[str, object]) -> int:
    if ended.get("error"):
        raise CliError(str(ended["error"]), code=FAILED)
    return int(str(ended.get("code", FAILED)))


def _broken(error: ConnectionClosed) -> CliError:
    code, reason = (error.rcvd.code, error.rcvd.reason) if error.rcvd else (0, "")
    return from_close(code, reason or "the connection broke; the command may still run")


def write(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


async def _send_input(socket: ClientConnection) -> None:
    """Send standard input until it ends; a closed connection is the receiver's to report."""
    with contextlib.suppress(ConnectionClosed):
        async for data in stdin.chunks():
            await socket.send(encode_frame(STDIN, data))
        await socket.send(encode_frame(CLOSE_STDIN, b""))


def _follow_size(socket: ClientConnection, tasks: TaskOwner) -> None:
    async def send() -> None:
        columns, rows = terminal_size()
        with contextlib.suppress(ConnectionClosed):
            await socket.send(encode_frame(RESIZE, json.dumps({"columns": columns, "rows": rows}).encode()))

    asyncio.get_running_loop().add_signal_handler(signal.SIGWINCH, lambda: tasks.spawn("resize", send()))


def terminal_size() -> os.terminal_size:
    """Return columns and rows as the terminal itself says; the environment may still name those of its start."""
    for stream in (sys.__stdout__, sys.__stdin__, sys.__stderr__):
        with contextlib.suppress(OSError, AttributeError, ValueError):  # no terminal, no stream, a closed one
            return os.get_terminal_size(stream.fileno())  # type: ignore[union-attr]
    return os.terminal_size(USUAL_SIZE)


@contextlib.contextmanager
def raw_terminal() -> Iterator[None]:
    """Pass every key on as it is; the terminal is as before afterwards, also when a signal ends the program."""
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)

    def end(number: int, _: object) -> None:
        termios.tcsetattr(descriptor, termios.TCSANOW, before)
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    taken = [number for number in ENDING if signal.getsignal(number) is signal.SIG_DFL]
    for number in taken:
        signal.signal(number, end)
    try:
        terminal_modes.setraw(descriptor, termios.TCSADRAIN)  # keys that were typed ahead stay
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
        for number in taken:
            signal.signal(number, signal.SIG_DFL)
