"""Where lines of logs go: an event stream, or plain text. Each takes lines as they come and makes its source wait."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Protocol

import msgspec
from aiohttp import web

from towline.agent.streams.log_times import PREFIX_BYTES, STAMP_BYTES
from towline.agent.surface.answers import HEADERS
from towline.agent.surface.events import EventStream
from towline.agent.surface.lasting import cut

SLOW_SECONDS = 60.0
"""That a client has to take a piece of a log; whoever writes it waits as long, so nothing gathers here."""

_encoder = msgspec.json.Encoder()


class LogSink(Protocol):
    """Takes lines of many sources. `source` names the pod and container, or the container, for people and programs."""

    async def lines(self, source: str, lines: Iterable[bytes]) -> None:
        """Take whole lines, each `STAMP text NEWLINE`; returns when there is room. Raises: ConnectionError."""

    async def tell(self, source: str, text: str) -> None:
        """Take word of what happened to a source. Raises: ConnectionError."""


def told(line: bytes) -> dict[str, str]:
    """Return one line and its time."""
    text = line[PREFIX_BYTES:].rstrip(b"\r\n").decode("utf-8", "replace")
    return {"at": line[:STAMP_BYTES].decode("ascii", "replace"), "line": text}


class EventSink:
    """Lines as server-sent events `log`; word of sources as `source`."""

    def __init__(self, stream: EventStream) -> None:
        self._stream = stream

    async def lines(self, source: str, lines: Iterable[bytes]) -> None:
        await self._stream.write(
            b"".join(b"event: log\ndata: %s\n\n" % _encoder.encode({"source": source, **told(line)}) for line in lines)
        )

    async def tell(self, source: str, text: str) -> None:
        await self._stream.tell("source", {"source": source, "text": text})


class TextSink:
    """Lines as text; word of sources is left out, so that a log stays what the container wrote."""

    def __init__(self, request: web.Request, *, with_times: bool) -> None:
        self._request = request
        self._with_times = with_times
        self._response = web.StreamResponse(headers={**HEADERS, "Content-Type": "text/plain; charset=utf-8"})

    async def begin(self) -> web.StreamResponse:
        """Send the head."""
        await self._response.prepare(self._request)
        return self._response

    async def lines(self, source: str, lines: Iterable[bytes]) -> None:
        data = b"".join(lines if self._with_times else (line[PREFIX_BYTES:] for line in lines))
        try:
            async with asyncio.timeout(SLOW_SECONDS):
                await self._response.write(data)
        except TimeoutError as error:
            cut(self._request, "logs")
            raise ConnectionResetError("the client does not take its log") from error

    async def tell(self, source: str, text: str) -> None:
        return
