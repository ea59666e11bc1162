"""`docker logs` and `compose logs`: the agent's own log streams, written to the output of a command."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from towline.agent.commands.docker import reach
from towline.agent.commands.ending import CommandEnds
from towline.agent.commands.invocation import Invocation
from towline.agent.streams.log_times import PREFIX_BYTES
from towline.agent.streams.logs import LogServer
from towline.agent.streams.refusal import Refused
from towline.aio.streams import CHUNK_BYTES
from towline.commandline.flags import duration
from towline.wire import orders, streams

_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_source = msgspec.json.Decoder(streams.LogSource)


async def logs(invocation: Invocation) -> None:
    """Print what containers wrote, and go on when asked to. Raises: CommandEnds."""
    plan, parsed = invocation.plan, invocation.plan.parsed
    found = await reach.targets(invocation)
    tail = parsed.text("tail", "all")
    is_project = bool(plan.project)
    target = streams.Logs(
        project=plan.project,
        services=parsed.words if is_project else (),
        containers=() if is_project else tuple(one.id for one in found),
        follow=plan.follows,
        tail=-1 if tail == "all" else int(tail),
        since=_moment(invocation, "since"),
        until=_moment(invocation, "until"),
    )
    with_names = is_project and not parsed.has("no-log-prefix")
    sink = _Sink(invocation, with_names=with_names, with_times=parsed.has("timestamps"))
    try:
        await LogServer(invocation.engine, invocation.policy, invocation.clock).serve(sink, target)
    except Refused as error:
        raise CommandEnds(f"Error: {error.reason}") from error
    if sink.failure is not None:
        raise CommandEnds(f"Error: {sink.failure}")


def _moment(invocation: Invocation, name: str) -> str:
    """Return a moment that somebody named as RFC 3339: one of that kind, or so long ago. Raises: CommandEnds."""
    text = invocation.plan.parsed.text(name)
    if not text or _DATE.match(text):
        return f"{text}T00:00:00Z" if _DATE.fullmatch(text) else text
    try:
        if text.isdigit() and len(text) >= 9:  # seconds since the epoch, as docker takes them
            return datetime.fromtimestamp(int(text[:11]), UTC).isoformat()
        return (invocation.clock.now() - timedelta(seconds=duration(text))).isoformat()
    except (ValueError, OverflowError) as error:
        raise CommandEnds(f"--{name}: {error}") from error


class _Sink:
    """The command's output as the log server sees an opener: it accepts, and takes frames as a byte stream does."""

    def __init__(self, invocation: Invocation, *, with_names: bool, with_times: bool) -> None:
        self.failure: str | None = None
        """Why the log broke off."""
        self._output = invocation.output
        self._with_names = with_names
        self._cut = 0 if with_times else PREFIX_BYTES
        self._frames = streams.FrameReader()
        self._names: dict[int, bytes] = {0: b""}
        self._over = asyncio.Event()

    def accept_stream(self) -> Any:
        return self

    async def read(self, max_bytes: int = CHUNK_BYTES) -> bytes:
        """The reader says nothing, and is there until the command ends."""
        await self._over.wait()
        return b""

    async def write(self, data: bytes) -> None:
        for frame in self._frames.feed(data):
            self._take(frame)
        await asyncio.sleep(0)  # a full output takes all at once; others must have their turn

    async def write_eof(self) -> None:
        self._over.set()

    async def aclose(self) -> None:
        self._over.set()

    def abort(self, reason: str = "") -> None:
        self.failure = reason or "the log broke off"
        self._over.set()

    def _take(self, frame: streams.Frame) -> None:
        if frame.kind == streams.SOURCE:
            name = _source.decode(frame.body).name
            self._names[frame.source] = f"{name} | ".encode() if self._with_names else b""
        elif frame.kind in (streams.STDOUT, streams.STDERR):
            stage = orders.STDOUT if frame.kind == streams.STDOUT else orders.STDERR
            prefix = self._names.get(frame.source, b"")
            lines = frame.body.splitlines(keepends=True)
            self._output.write(stage, b"".join(prefix + line[self._cut :] for line in lines))
