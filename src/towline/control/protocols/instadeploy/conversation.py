"""Commands and answers with one InstaDeploy agent: one command at a time, each answer to whoever waits for it.

The agent handles commands side by side and writes without a lock, so a second command waits for the answer to the
first. Not here: what is asked and why (`work`), the connection (`session`).
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Callable

from towline.tunnel.errors import TunnelClosed
from towline.wire import instadeploy
from towline.wire.instadeploy import Command, Response

OWED_TIMEOUT = 120.0
"""Seconds that the next command waits for an answer that came too late for its own: Compose still works on it."""

REMEMBERED = 64
"""Commands whose answers are known, so that a repeated one is told from one that was never asked for."""

Heard = Callable[[Response], None]


class Conversation:
    """What was asked and not yet answered.

    Args: send: puts a text onto the line. Raises: TunnelClosed.
    """

    def __init__(self, send: Callable[[bytes], None]) -> None:
        self.ignored: Counter[str] = Counter()
        """Answers that nobody waits for, by why."""
        self._send = send
        self._turn = asyncio.Lock()
        self._asked = ""
        self._answer: asyncio.Future[Response] | None = None
        self._on_news: Heard | None = None
        self._owed = ""
        self._settled = asyncio.Event()
        self._done: OrderedDict[str, None] = OrderedDict()
        self._ended: TunnelClosed | None = None

    def __repr__(self) -> str:
        return f"<Conversation asked={self._asked or None} owed={self._owed or None} ignored={self.ignored.total()}>"

    async def ask(self, command: Command, *, timeout: float, on_news: Heard | None = None) -> Response:
        """Send a command and wait for its final answer.

        Args: timeout: seconds from sending. on_news: called with answers that are not final.
        Raises: TimeoutError. TunnelClosed: the agent went away; whether it got the command nobody knows.
        """
        async with self._turn:
            await self._wait_for_owed()
            if self._ended is not None:
                raise self._ended
            self._asked, self._on_news = command.id, on_news
            self._answer = asyncio.get_running_loop().create_future()
            try:
                self._send(instadeploy.encode_command(command).encode())
                async with asyncio.timeout(timeout):
                    return await self._answer
            except (TimeoutError, asyncio.CancelledError):
                self._owed = command.id
                raise
            finally:
                self._asked, self._on_news, self._answer = "", None, None

    async def _wait_for_owed(self) -> None:
        if not self._owed or self._ended is not None:
            return
        self._settled.clear()
        try:
            async with asyncio.timeout(OWED_TIMEOUT):
                await self._settled.wait()
        except TimeoutError:
            self._owed = ""

    def heard(self, response: Response) -> None:
        """Take an answer; late, repeated and unasked ones are counted and change nothing."""
        final = response.status.is_final
        if response.job_id == self._asked and self._answer is not None and not self._answer.done():
            if final:
                self._remember(response.job_id)
                self._answer.set_result(response)
            elif self._on_news is not None:
                self._on_news(response)
            return
        if final and response.job_id == self._owed:
            self._owed = ""
            self._settled.set()
        self.ignored["repeated" if response.job_id in self._done else "unasked"] += 1

    def end(self, why: str) -> None:
        """The line is gone: nobody gets an answer any more."""
        self._ended = TunnelClosed(why)
        self._settled.set()
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(TunnelClosed(why))
            self._answer.exception()  # whoever waits may be cancelled before it looks

    def _remember(self, job_id: str) -> None:
        self._done[job_id] = None
        while len(self._done) > REMEMBERED:
            self._done.popitem(last=False)
