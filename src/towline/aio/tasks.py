"""Background tasks with a name, an owner and a logged ending. Nothing else in Towline may call `create_task`.

An owner is closed with the thing that it works for: everything it started is cancelled and waited for. A task that
fails is logged with its traceback, and told to the owner's `on_failure`, never silently dropped.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar

import structlog

_log = structlog.get_logger("towline.tasks")

T = TypeVar("T")

CLOSE_TIMEOUT = 10.0
"""Seconds that a cancelled task has for its clean-up before the owner says so and goes on."""

FailureCallback = Callable[[str, BaseException], None]


class OwnerClosed(RuntimeError):
    """Somebody tried to start a task for an owner that is closed."""


class TaskOwner:
    """Holds the tasks of one part of a process.

    Use it as an async context manager, or call `close()`; both cancel what still runs and wait for it.
    """

    def __init__(self, name: str, *, on_failure: FailureCallback | None = None) -> None:
        self.name = name
        self._on_failure = on_failure
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open"
        return f"<TaskOwner {self.name} {state} {len(self._tasks)} tasks>"

    def __len__(self) -> int:
        return len(self._tasks)

    @property
    def closed(self) -> bool:
        return self._closed

    def spawn(self, name: str, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Start a task. Await the returned task to get its result or its exception as well.

        Raises: OwnerClosed: the owner was closed; the coroutine is closed, not left behind.
        """
        if self._closed:
            coroutine.close()
            raise OwnerClosed(f"{self.name} is closed, {name} was not started")
        task = asyncio.get_running_loop().create_task(coroutine, name=f"{self.name}/{name}")
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    async def join(self) -> None:
        """Wait until every task has ended by itself, those started meanwhile included."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def close(self, timeout: float = CLOSE_TIMEOUT) -> None:
        """Cancel every task and wait for it. Safe to call twice, and from one of the owned tasks."""
        self._closed = True
        current = asyncio.current_task()
        running = {task for task in self._tasks if task is not current}
        for task in running:
            task.cancel()
        if running:
            _, late = await asyncio.wait(running, timeout=timeout)
            for task in late:
                _log.error("task does not stop", task=task.get_name(), seconds=timeout)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            _log.debug("task cancelled", task=task.get_name())
            return
        error = task.exception()
        if error is None:
            _log.debug("task complete", task=task.get_name())
            return
        _log.error("task failed", task=task.get_name(), exc_info=error)
        if self._on_failure is not None:
            self._on_failure(task.get_name(), error)
