"""The answer to a request for logs: the tunnel's bytes as they come, held back by a reader that is slow.

It opens the stream itself, so that a refusal is still an ordinary answer, and everything ends in one place when the
client leaves, the right is withdrawn or the link is lost. A log that was cut off ends without its last chunk, so that
no client takes it for a whole one.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from towline.aio.streams import StreamError, first_stream_error
from towline.control.access.actor import AccessLost
from towline.control.streams.lines import LineWriter
from towline.control.streams.opening import Opened, Request, opened
from towline.wire.streams import EVENT, encode_frame

if TYPE_CHECKING:
    from towline.control.fleet import Fleet


class ClientGone(Exception):
    """The client closed the connection; there is nobody to answer."""


class LogResponse(Response):
    """Streams an opened log. With a line writer as NDJSON, else frame by frame unchanged."""

    def __init__(self, fleet: Fleet, wanted: Request, media_type: str, lines: LineWriter | None) -> None:
        super().__init__(media_type=media_type, headers={"cache-control": "no-store", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._fleet = fleet
        self._wanted = wanted
        self._lines = lines

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. Raises: ApiError: before anything was sent."""
        started = False

        async def sending(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            async with opened(self._fleet, self._wanted) as stream:
                await self._run(stream, receive, sending)
        except AccessLost as error:
            if not started:
                raise
            await self._say(send, error.message)
        except StreamError as error:
            await self._say(send, error.reason or "the link was lost")
        except ClientGone:
            return

    async def _run(self, stream: Opened, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        try:
            await while_wanted(receive, self._copy(stream, send))
        except BaseExceptionGroup as error:
            cause = first_stream_error(error)
            if cause is None:
                raise
            raise cause from error

    async def _copy(self, stream: Opened, send: Send) -> None:
        while data := await stream.stream.read():
            stream.down_bytes += len(data)
            text = data if self._lines is None else self._lines.feed(data)
            if text:
                await send({"type": "http.response.body", "body": text, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _say(self, send: Send, text: str) -> None:
        """Tell JSON readers why it ends. Frames may be cut anywhere: their readers ask again, and are told then."""
        if self._lines is not None:
            body = self._lines.feed(encode_frame(EVENT, json.dumps({"text": text}).encode()))
            await send({"type": "http.response.body", "body": body, "more_body": True})


async def while_wanted(receive: Receive, sending: Coroutine[Any, Any, None]) -> None:
    """Send a long answer to its end, or until the client closes the connection.

    Raises: ClientGone: it has closed it. BaseExceptionGroup: what went wrong in the sending.
    """
    try:
        async with asyncio.TaskGroup() as group:
            leaving = group.create_task(_until_gone(receive), name="answer/client")
            group.create_task(_then_cancel(sending, leaving), name="answer/copy")
    except BaseExceptionGroup as error:
        if error.subgroup(ClientGone) is not None:
            raise ClientGone from error
        raise


async def _then_cancel(sending: Coroutine[Any, Any, None], leaving: asyncio.Task[None]) -> None:
    await sending
    leaving.cancel()


async def _until_gone(receive: Receive) -> None:
    """Wait until the client closes the connection. Raises: ClientGone, always."""
    while (await receive())["type"] != "http.disconnect":
        continue
    raise ClientGone
