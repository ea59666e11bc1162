"""Commands in containers: the engine's hijacked connection on one side, frames of the link on the other.

Source: Docker Engine API, "Exec"; frames in docs/wire-protocol.md.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec
import structlog

from towline.agent.docker import containers
from towline.agent.docker.engine import Engine
from towline.agent.docker.logs import STDERR, Demultiplexer
from towline.agent.errors import DockerError, DockerNotFound
from towline.agent.policy import LocalPolicy
from towline.agent.streams.refusal import Refused
from towline.aio.streams import StreamError
from towline.aio.tasks import TaskOwner
from towline.aio.transports import TransportStream
from towline.tunnel.opening import IncomingStream, TunnelStream
from towline.wire import streams

BEST_SHELL = ("/bin/sh", "-c", "command -v bash >/dev/null 2>&1 && exec bash || exec sh")
MAX_TERMINAL = 10_000
"""Columns or rows; more is a mistake."""

_log = structlog.get_logger("towline.agent")


class _Created(msgspec.Struct, frozen=True, rename="pascal"):
    id: str


class _Inspected(msgspec.Struct, frozen=True, rename="pascal"):
    exit_code: int | None = None
    running: bool = False
    pid: int = 0


class _Size(msgspec.Struct, frozen=True):
    columns: int
    rows: int


class ExecServer:
    """Serves `Exec` targets."""

    def __init__(self, engine: Engine, policy: Callable[[], LocalPolicy]) -> None:
        self._engine = engine
        self._policy = policy

    async def serve(self, incoming: IncomingStream, target: streams.Exec) -> None:
        """Run a command until it or the stream ends. Raises: PolicyRefused, Refused, DockerError."""
        inspected = await containers.inspect(self._engine, target.container)
        self._policy().require_exec(inspected.labels.get(containers.PROJECT_LABEL, ""))
        if not inspected.state.running:
            raise Refused("not_found", f"{inspected.name.removeprefix('/')} does not run: {inspected.state.status}")
        created = await self._engine.post(_Created, f"/containers/{inspected.id}/exec", _order(target))
        far, rest = await self._engine.hijack(f"/exec/{created.id}/start", {"Detach": False, "Tty": target.tty})
        try:
            near = incoming.accept_stream(info={"exec": created.id[:12]})
            session = _ExecSession(self._engine, created.id, inspected.id, target, near, far)
            await session.run(rest)
        finally:
            far.abort()


def _order(target: streams.Exec) -> dict[str, object]:
    order: dict[str, object] = {
        "AttachStdin": True,
        "AttachStdout": True,
        "AttachStderr": True,
        "Tty": target.tty,
        "Cmd": list(target.argv or BEST_SHELL),
        "Env": [f"{name}={value}" for name, value in target.environment.items()],
        "User": target.user,
        "WorkingDir": target.workdir,
    }
    if target.tty:
        order["Env"] = [*_terminal(target), *[f"{name}={value}" for name, value in target.environment.items()]]
    return order


def _terminal(target: streams.Exec) -> list[str]:
    return [] if "TERM" in target.environment else ["TERM=xterm-256color"]


class _ExecSession:
    def __init__(
        self,
        engine: Engine,
        exec_id: str,
        container: str,
        target: streams.Exec,
        near: TunnelStream,
        far: TransportStream,
    ) -> None:
        self._engine = engine
        self._id = exec_id
        self._container = container
        self._target = target
        self._near = near
        self._far = far

    async def run(self, first: bytes) -> None:
        async with TaskOwner(f"exec {self._id[:12]}") as owner:
            if self._target.tty:
                await self._resize(_Size(self._target.columns, self._target.rows))
            owner.spawn("input", self._copy_input())
            try:
                await self._copy_output(first)
                await self._send_exit()
            except BaseException:
                self._near.abort("the command was ended")
                await self._end_command()
                raise
        await self._near.aclose()

    async def _copy_input(self) -> None:
        reader = streams.FrameReader()
        try:
            while data := await self._near.read():
                for frame in reader.feed(data):
                    await self._take(frame)
            # The other side finished without a word: a shell ends with its input.
            await self._far.write_eof()
        except (StreamError, streams.BadFrame) as error:
            self._far.abort(str(error))

    async def _take(self, frame: streams.Frame) -> None:
        if frame.kind == streams.STDIN:
            await self._far.write(frame.body)
        elif frame.kind == streams.CLOSE_STDIN:
            await self._far.write_eof()
        elif frame.kind == streams.RESIZE:
            with suppress(msgspec.DecodeError):
                await self._resize(msgspec.json.decode(frame.body, type=_Size))

    async def _copy_output(self, first: bytes) -> None:
        demultiplexer = Demultiplexer()
        data = first or await self._read()
        while data:
            if self._target.tty:
                await self._near.write(streams.encode_frame(streams.STDOUT, data))
            else:
                for output, part in demultiplexer.feed(data):
                    kind = streams.STDERR if output == STDERR else streams.STDOUT
                    for at in range(0, len(part), streams.MAX_FRAME_BYTES):
                        await self._near.write(streams.encode_frame(kind, part[at : at + streams.MAX_FRAME_BYTES]))
            data = await self._read()

    async def _read(self) -> bytes:
        try:
            return await self._far.read()
        except StreamError:
            return b""

    async def _resize(self, size: _Size) -> None:
        if not (0 < size.columns <= MAX_TERMINAL and 0 < size.rows <= MAX_TERMINAL):
            return
        try:
            await self._engine.call("POST", f"/exec/{self._id}/resize", h=size.rows, w=size.columns)
        except DockerError as error:
            _log.debug("terminal not resized", reason=str(error))

    async def _send_exit(self) -> None:
        inspected = await self._engine.get(_Inspected, f"/exec/{self._id}/json")
        body = msgspec.json.encode({"code": inspected.exit_code if inspected.exit_code is not None else 0})
        await self._near.write(streams.encode_frame(streams.EXIT, body))

    async def _end_command(self) -> None:
        """Hang up on a command whose caller is gone; Docker itself leaves it running for ever."""
        with suppress(DockerError, DockerNotFound):
            inspected = await self._engine.get(_Inspected, f"/exec/{self._id}/json")
            if inspected.running and _is_in_container(inspected.pid, self._container):
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(inspected.pid, signal.SIGHUP)


def _is_in_container(pid: int, container: str) -> bool:
    """Tell whether a process id means the same here as for the engine."""
    try:
        return pid > 1 and container in Path(f"/proc/{pid}/cgroup").read_text()
    except OSError:
        return False
