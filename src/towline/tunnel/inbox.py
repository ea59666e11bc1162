"""Control messages that arrived and wait to be handled, one after the other; for every kind of session."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable

import structlog

from towline.aio.tasks import TaskOwner
from towline.wire import link

MAX_WAITING_MESSAGES = 1024
"""Control messages that arrived and were not handled yet: a burst of progress while the database stalls."""

MAX_WAITING_MESSAGE_BYTES = 8 * 1024 * 1024
"""Their size in sum: eight of the largest."""

MessageHandler = Callable[[link.Message], Awaitable[None]]

_log = structlog.get_logger("towline.tunnel")


class Inbox:
    """Messages in the order of their arrival. A task exists only while there is something to handle.

    Args: owner: holds that task. name: whose messages they are, for the log.
    """

    def __init__(self, owner: TaskOwner, name: Callable[[], str]) -> None:
        self._owner = owner
        self._name = name
        self._waiting: deque[tuple[link.Message, int]] = deque()
        self._waiting_bytes = 0
        self._handler: MessageHandler | None = None
        self._handling = False

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, message: link.Message, size: int) -> bool:
        """Add a message of so many bytes; False when more wait than may."""
        self._waiting_bytes += size
        self._waiting.append((message, size))
        if len(self._waiting) > MAX_WAITING_MESSAGES or self._waiting_bytes > MAX_WAITING_MESSAGE_BYTES:
            return False
        self._handle_soon()
        return True

    def take(self) -> link.Message:
        """Return the oldest message; only before `start`."""
        message, size = self._waiting.popleft()
        self._waiting_bytes -= size
        return message

    def start(self, handler: MessageHandler) -> None:
        """Hand every message to a handler from now on. It may raise: that is logged, and the next one follows."""
        self._handler = handler
        self._handle_soon()

    def _handle_soon(self) -> None:
        if self._handler is not None and self._waiting and not self._handling and not self._owner.closed:
            self._handling = True
            self._owner.spawn(f"messages of {self._name()}", self._handle_waiting(self._handler))

    async def _handle_waiting(self, handler: MessageHandler) -> None:
        try:
            while self._waiting:
                await self._handle_one(handler, self.take())
        finally:
            self._handling = False

    async def _handle_one(self, handler: MessageHandler, message: link.Message) -> None:
        try:
            await handler(message)
        except Exception:
            # A message ends here: one that cannot be handled must not cost the link, which would only bring it back.
            _log.exception("message failed", agent=self._name(), message=type(message).__name__)
