"""Logs of containers for callers of the surface: the agent's own log streams, with a sink at the other end."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from towline.agent.streams.logs import LogServer, Wanted
from towline.agent.streams.refusal import Refused
from towline.agent.surface.errors import SurfaceError, unavailable
from towline.agent.surface.lasting import while_allowed
from towline.agent.surface.log_sinks import LogSink
from towline.agent.surface.parts import Docker, Parts
from towline.aio.streams import CHUNK_BYTES, EndedThere
from towline.wire import streams

_CODES = {"bad_request": "bad_request", "not_found": "not_found", "forbidden": "forbidden"}
_source = msgspec.json.Decoder(streams.LogSource)
_word = msgspec.json.Decoder(dict[str, Any])


async def check(parts: Parts, docker: Docker, target: streams.Logs) -> None:
    """See that there is something to read, before an answer begins.

    Raises: SurfaceError, PolicyRefused, DockerError.
    """
    parts.policy().require("logs")
    try:
        found = await Wanted(target).find(docker.engine)
    except Refused as error:
        raise _refused(error) from error
    if not found and not target.follow:
        raise SurfaceError("not_found", f"no container of {target.project} is on this host")


async def send(parts: Parts, docker: Docker, target: streams.Logs, sink: LogSink) -> None:
    """Send logs until they end. Raises: as `check`. ConnectionError: the client is gone."""
    caller = _Caller(sink)
    await while_allowed(lambda: parts.policy().require("logs"), _serve(parts, docker, target, caller))
    if caller.failure is not None:
        raise ConnectionResetError(caller.failure)


async def _serve(parts: Parts, docker: Docker, target: streams.Logs, caller: _Caller) -> None:
    try:
        await LogServer(docker.engine, parts.policy, parts.clock).serve(caller, target)
    except Refused as error:
        raise _refused(error) from error


def _refused(error: Refused) -> SurfaceError:
    code = _CODES.get(error.code)
    return unavailable("Docker", error.reason) if code is None else SurfaceError(code, error.reason)


class _Caller:
    """A caller as the log server sees one: it accepts, and takes frames as a byte stream does."""

    def __init__(self, sink: LogSink) -> None:
        self.failure: str | None = None
        """Why the log broke off."""
        self._sink = sink
        self._frames = streams.FrameReader()
        self._names: dict[int, str] = {0: ""}
        self._over = asyncio.Event()

    def __repr__(self) -> str:
        return f"<_Caller {len(self._names) - 1} sources>"

    def accept_stream(self) -> _Caller:
        return self

    async def read(self, max_bytes: int = CHUNK_BYTES) -> bytes:
        """The caller says nothing, and is there until it is gone."""
        await self._over.wait()
        return b""

    async def write(self, data: bytes) -> None:
        try:
            for frame in self._frames.feed(data):
                await self._take(frame)
        except ConnectionError as error:
            self._over.set()
            raise EndedThere("the client is gone") from error

    async def write_eof(self) -> None:
        self._over.set()

    async def aclose(self) -> None:
        self._over.set()

    def abort(self, reason: str = "") -> None:
        self.failure = reason or "the log broke off"
        self._over.set()

    async def _take(self, frame: streams.Frame) -> None:
        if frame.kind == streams.SOURCE:
            self._names[frame.source] = _source.decode(frame.body).name
        elif frame.kind == streams.EVENT:
            await self._sink.tell(self._names.get(frame.source, ""), str(_word.decode(frame.body).get("text", "")))
        else:
            await self._sink.lines(self._names.get(frame.source, ""), frame.body.splitlines(keepends=True))
