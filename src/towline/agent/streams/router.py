"""Takes every stream that the control plane opens to what serves its target. Each ends with a word in the log."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import structlog

from towline.agent.errors import DockerAway, DockerError, DockerNotFound, PolicyRefused, StorageError
from towline.agent.streams.refusal import Refused
from towline.aio.streams import StreamError
from towline.aio.tasks import TaskOwner
from towline.tunnel.opening import IncomingStream

Server = Callable[[IncomingStream, Any], Awaitable[None]]
_log = structlog.get_logger("towline.agent")


class StreamRouter:
    """Serves streams.

    Args: servers: kind of target to what serves it: it accepts the stream, or raises before it did. limit: streams
        at once; dialling counts, and so does whatever a server awaits.
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
        """Streams being dialled or served by a task."""
        return self._open

    def take(self, incoming: IncomingStream) -> None:
        """Serve a stream, from now on."""
        server = self._servers.get(type(incoming.target))
        if server is None:
            incoming.refuse("unsupported", "this agent does not serve such targets")
        elif self._open >= self._limit or self._owner.closed:
            incoming.refuse("busy", f"{self._open} streams are open on this host")
        else:
            task = self._owner.spawn(f"stream {incoming.stream_id}", self._serve(server, incoming))
            incoming.on_gone = lambda: _cancel(task)

    async def _serve(self, server: Server, incoming: IncomingStream) -> None:
        self._open += 1
        target = incoming.target
        log = _log.bind(stream=incoming.stream_id, kind=type(target).__name__, user=target.actor.user)
        try:
            await server(incoming, target)
        except Refused as error:
            log.info("stream refused", code=error.code, reason=error.reason)
            incoming.refuse(error.code, error.reason)
        except PolicyRefused as error:
            log.info("stream refused", code="forbidden", reason=str(error))
            incoming.refuse("forbidden", str(error))
        except DockerNotFound as error:
            incoming.refuse("not_found", str(error))
        except (DockerAway, DockerError, StorageError) as error:
            incoming.refuse("unreachable", str(error))
        except StreamError as error:
            log.debug("stream ended", reason=error.reason)
        finally:
            self._open -= 1


def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
