"""Takes every stream that the control plane opens to what serves its target. Each refusal is a line in the log."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import Any

import structlog

from towline.agent.errors import AgentError
from towline.agent.streams.refusal import Refused, as_refusal
from towline.aio.streams import StreamError
from towline.aio.tasks import TaskOwner
from towline.tunnel.opening import IncomingStream

Server = Callable[[IncomingStream, Any], Awaitable[None]]
_log = structlog.get_logger("towline.agent")


class StreamRouter:
    """Serves streams; `take` is the handler of a session's `on_stream`.

    Args: servers: kind of target to what serves it: it accepts the stream and returns when that is over, or raises
        before it accepted. limit: streams at once, those that are being dialled included.
    """

    def __init__(self, servers: dict[type, Server], owner: TaskOwner, limit: int) -> None:
        self._servers = servers
        self._owner = owner
        self._limit = limit
        self._open = 0

    def __repr__(self) -> str:
        return f"<StreamRouter {self._open} of {self._limit}>"

    @property
    def open(self) -> int:
        """Streams being dialled or served."""
        return self._open

    def take(self, incoming: IncomingStream) -> None:
        """Serve a stream, from now on."""
        server = self._servers.get(type(incoming.target))
        if server is None:
            incoming.refuse("unsupported", "this agent does not serve such targets")
        elif self._open >= self._limit or self._owner.closed:
            incoming.refuse("busy", f"{self._open} streams are open on this host")
        else:
            self._open += 1
            task = self._owner.spawn(f"stream {incoming.stream_id}", self._serve(server, incoming))
            task.add_done_callback(self._ended)
            incoming.on_gone = functools.partial(_cancel, task)

    async def _serve(self, server: Server, incoming: IncomingStream) -> None:
        target = incoming.target
        log = _log.bind(
            stream=incoming.stream_id,
            target=type(target).__name__.lower(),
            user=target.actor.user,
            request=target.actor.request_id,
        )
        try:
            await server(incoming, target)
        except (Refused, AgentError) as error:
            refusal = as_refusal(error)
            log.info("stream refused", code=refusal.code, reason=refusal.reason)
            incoming.refuse(refusal.code, refusal.reason)
        except StreamError as error:
            log.debug("stream broke", reason=error.reason)
        except Exception as error:
            log.exception("stream failed")
            refusal = as_refusal(error)
            incoming.refuse(refusal.code, refusal.reason)
        else:
            log.debug("stream ended")

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._open -= 1


def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
