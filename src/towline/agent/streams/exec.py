"""Commands in containers: the engine's hijacked connection on one side, frames of the link on the other.

Source: Docker Engine API, "Exec"; frames in docs/wire-protocol.md.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from contextlib import suppress

import msgspec
import structlog

from towline.agent.docker import containers
from towline.agent.docker.containers import Inspected
from towline.agent.docker.engine import Engine
from towline.agent.docker.logs import STDERR, Demultiplexer
from towline.agent.errors import DockerError
from towline.agent.policy import LocalPolicy
from towline.agent.streams.hangup import MARK, hang_up
from towline.agent.streams.names import container_name
from towline.agent.streams.refusal import Refused
from towline.aio.clock import REAL_CLOCK, Clock
from towline.aio.streams import StreamError
from towline.aio.tasks import TaskOwner
from towline.aio.transports import TransportStream
from towline.tunnel.opening import IncomingStream, TunnelStream
from towline.wire import streams

BEST_SHELL = ("/bin/sh", "-c", "command -v bash >/dev/null 2>&1 && exec bash || exec sh")
MAX_TERMINAL = 10_000
"""Columns or rows; more is a mistake."""

OUTPUT_BYTES = 64 * 1024
"""Largest frame of output: what one read of the engine gives, a quarter of a window."""

RESIZE_PAUSES = (0.05, 0.1, 0.2, 0.4)
"""Seconds between attempts to give a terminal its first size: the process may not be there yet."""

EXIT_PAUSES = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8)
"""Seconds between questions for the exit code, which may come a moment after the end of the output."""

NOT_STARTED = b"OCI runtime exec failed"
"""What the engine writes instead of output when the command could not be started at all."""

NOT_STARTED_CODES = (126, 127)

_log = structlog.get_logger("towline.agent")


class _Created(msgspec.Struct, frozen=True, rename="pascal"):
    id: str


class _Ended(msgspec.Struct, frozen=True, rename="pascal"):
    exit_code: int | None = None
    running: bool = False


class _Size(msgspec.Struct, frozen=True):
    columns: int
    rows: int


class ExecServer:
    """Serves `Exec` targets."""

    def __init__(self, engine: Engine, policy: Callable[[], LocalPolicy], clock: Clock = REAL_CLOCK) -> None:
        self._engine = engine
        self._policy = policy
        self._clock = clock

    async def serve(self, incoming: IncomingStream, target: streams.Exec) -> None:
        """Run a command until it or the stream ends. Raises: PolicyRefused, Refused, DockerError."""
        inspected = await containers.inspect(self._engine, container_name(target.container))
        project = inspected.labels.get(containers.PROJECT_LABEL, "")
        self._policy().require_exec(project)
        if not inspected.state.running:
            raise Refused("not_found", f"{inspected.name.removeprefix('/')} does not run: {inspected.state.status}")
        mark = secrets.token_hex(8)
        created = await self._engine.post(_Created, f"/containers/{inspected.id}/exec", order(target, mark))
        far, rest = await self._engine.hijack(f"/exec/{created.id}/start", {"Detach": False, "Tty": target.tty})
        try:
            near = incoming.accept_stream(info=_info(inspected, target))
            session = _ExecSession(self._engine, created.id, target, near, far, self._clock)
            hung_up = True
            try:
                hung_up = await session.run(rest)
            finally:
                if hung_up:
                    await hang_up(self._engine, inspected.id, target.user, mark)
        finally:
            far.abort()


def order(target: streams.Exec, mark: str) -> dict[str, object]:
    """Return the body that creates the exec; `mark` is found in the environment of all that it starts."""
    environment = {"TERM": "xterm-256color"} if target.tty else {}
    environment |= target.environment | {MARK: mark}
    return {
        "AttachStdin": True,
        "AttachStdout": True,
        "AttachStderr": True,
        "Tty": target.tty,
        "Cmd": list(target.argv or BEST_SHELL),
        "Env": [f"{name}={value}" for name, value in environment.items()],
        "User": target.user,
        "WorkingDir": target.workdir,
    }


def _info(inspected: Inspected, target: streams.Exec) -> dict[str, str]:
    """Say what was opened, for the control plane's audit log."""
    shown = containers.describe(inspected)
    return {
        "container": shown.id,
        "name": shown.name,
        "project": shown.project,
        "service": shown.service,
        "image": shown.image,
        "command": target.argv[0] if target.argv else "shell",
    }


class _ExecSession:
    """One running command."""

    def __init__(
        self,
        engine: Engine,
        exec_id: str,
        target: streams.Exec,
        near: TunnelStream,
        far: TransportStream,
        clock: Clock,
    ) -> None:
        self._engine = engine
        self._id = exec_id
        self._target = target
        self._near = near
        self._far = far
        self._clock = clock
        self._is_gone = False
        self._held = b""
        """The first output, while it may turn out to be the engine's word that nothing was started."""

    async def run(self, first: bytes) -> bool:
        """Copy until the command or the stream ends; returns whether the opener went away before the command."""
        async with TaskOwner(f"exec {self._id[:12]}") as owner:
            owner.spawn("input", self._copy_input())
            try:
                await self._copy_output(first)
                if not self._is_gone:
                    await self._send_exit()
            except StreamError:
                self._is_gone = True
        if self._is_gone:
            self._near.abort("the opener has gone")
        else:
            await self._near.aclose()
        return self._is_gone

    # input

    async def _copy_input(self) -> None:
        if self._target.tty:
            await self._set_first_size()  # before the first key: whoever types may ask for the size
        reader = streams.FrameReader()
        try:
            while data := await self._near.read():
                for frame in reader.feed(data):
                    await self._take(frame)
        except (StreamError, streams.BadFrame):
            self._opener_left()
            return
        if self._target.tty:
            self._opener_left()  # a terminal that ends its input has been closed
        else:
            await self._close_input()

    def _opener_left(self) -> None:
        self._is_gone = True
        self._far.abort("the opener has gone")

    async def _take(self, frame: streams.Frame) -> None:
        if frame.kind == streams.STDIN:
            with suppress(StreamError):  # a command that does not read its input any more ends by its output
                await self._far.write(frame.body)
        elif frame.kind == streams.CLOSE_STDIN:
            await self._close_input()
        elif frame.kind == streams.RESIZE:
            with suppress(msgspec.DecodeError, DockerError):
                await self._resize(msgspec.json.decode(frame.body, type=_Size))

    async def _close_input(self) -> None:
        with suppress(StreamError):
            await self._far.write_eof()

    async def _set_first_size(self) -> None:
        for pause in (*RESIZE_PAUSES, None):
            try:
                await self._resize(_Size(self._target.columns, self._target.rows))
                return
            except DockerError as error:
                if pause is None:
                    _log.debug("terminal not resized", reason=str(error))
                else:
                    await self._clock.sleep(pause)

    async def _resize(self, size: _Size) -> None:
        if 0 < size.columns <= MAX_TERMINAL and 0 < size.rows <= MAX_TERMINAL:
            await self._engine.call("POST", f"/exec/{self._id}/resize", h=size.rows, w=size.columns)

    # output

    async def _copy_output(self, first: bytes) -> None:
        demultiplexer = Demultiplexer()
        data = first or await self._read()
        if self._target.tty:
            await self._set_first_size()  # once more: an engine that starts it slowly forgets the size that came before
        while data:
            if self._target.tty:
                await self._send(streams.STDOUT, data)
            else:
                for output, part in demultiplexer.feed(data):
                    await self._send(streams.STDERR if output == STDERR else streams.STDOUT, part)
            data = await self._read()

    async def _read(self) -> bytes:
        try:
            return await self._far.read()
        except StreamError:
            return b""

    async def _send(self, kind: int, data: bytes) -> None:
        if self._held:
            held, self._held = self._held, b""
            await self._write(streams.STDOUT, held)
        elif data.startswith(NOT_STARTED):
            self._held = data
            return
        await self._write(kind, data)

    async def _write(self, kind: int, data: bytes) -> None:
        for at in range(0, len(data), OUTPUT_BYTES):
            await self._near.write(streams.encode_frame(kind, data[at : at + OUTPUT_BYTES]))

    async def _send_exit(self) -> None:
        ending = await self._ending()
        if self._held and ending.get("code") in NOT_STARTED_CODES:
            ending["error"] = not_started(self._held, self._target)
        elif self._held:
            await self._write(streams.STDOUT, self._held)
        await self._near.write(streams.encode_frame(streams.EXIT, msgspec.json.encode(ending)))

    async def _ending(self) -> dict[str, object]:
        try:
            for pause in (*EXIT_PAUSES, None):
                ended = await self._engine.get(_Ended, f"/exec/{self._id}/json")
                if not ended.running and ended.exit_code is not None:
                    return {"code": ended.exit_code}
                if pause is not None:
                    await self._clock.sleep(pause)
        except DockerError as error:
            return {"code": 1, "error": f"the end of the command is not known: {error}"}
        return {"code": 1, "error": "the connection to the command broke; it may still run"}


def not_started(engine_text: bytes, target: streams.Exec) -> str:
    """Explain a command that could not be started, to whoever asked for it."""
    if not target.argv:
        return "this container has no shell: its image holds neither bash nor sh; name a command that it holds"
    return engine_text.decode("utf-8", "replace").strip()
