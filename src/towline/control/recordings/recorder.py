"""One session's recording while it runs: a bounded tap that never makes the session wait.

Whoever carries the session's bytes says what was shown; that is kept in a queue, and written by a thread. A queue that
is full, a limit or a disk that fails is a loss: marked in the recording, or the end of the session, as the policy says.

    running ──▶ whole      it was recorded to its end
            ──▶ partial    something is missing: bytes, or all that came after a limit
            ──▶ broken     the file could not be written or finished
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from towline.aio.clock import Clock, Timer
from towline.control.logging import get_logger
from towline.control.recordings.asciicast import Encoder, Piece
from towline.control.recordings.files import Writer
from towline.control.recordings.policy import Policy, Session

_log = get_logger("recordings")

T = TypeVar("T")

QUEUE_BYTES = 4 * 1024 * 1024
"""What a session shows while the disk takes nothing: a second of a fast flood, an hour of a person."""
PIECE_BYTES = 64
"""What a piece costs in memory beside its bytes, so that a million tiny ones count as well."""
CHUNK_BYTES = 64 * 1024
"""What is written at once when there is much; less is written after a moment."""
LINGER = 2.0
"""Seconds of a session that a process which is killed may lose."""
LIMIT_WORDS = ("the time limit of recordings", "the size limit of recordings")
FIRST_SIZE = 1.0
"""Seconds in which the first size counts as the one that the session began with."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one session may show and how long it may take, in bytes and seconds."""

    shown_bytes: int
    seconds: float
    queue_bytes: int = QUEUE_BYTES


class Recorder:
    """See the module. Everything but `run` is called on the event loop and returns at once."""

    def __init__(
        self, recording_id: str, session: Session, policy: Policy, limits: Limits, *, clock: Clock, executor: Executor
    ) -> None:
        self.id = recording_id
        self.session = session
        self.policy = policy
        self.columns, self.rows = session.columns, session.rows
        self.state, self.reason, self.exit = "running", "", ""
        self.shown_bytes = self.dropped_bytes = 0
        self.seconds = 0.0
        self.writer: Writer | None = None
        self.discarded = False
        """True: the session never began, and nothing is kept."""
        self.has_begun = False
        self.is_claimed = False
        """True when somebody is there who will say how it ended."""
        self._limits = limits
        self._clock = clock
        self._executor = executor
        self._encoder = Encoder()
        self._queue: deque[Piece] = deque()
        self._queued = 0
        self._gap = 0
        self._some, self._much = asyncio.Event(), asyncio.Event()
        self._cut: Callable[[str], None] | None = None
        self._is_over = self._is_stopped = False
        self._began = clock.monotonic()
        self._timer: Timer | None = None

    def __repr__(self) -> str:
        return f"<Recorder {self.id} {self.state} {self.shown_bytes} bytes>"

    @property
    def note(self) -> bytes:
        """What the user is told at the start."""
        what = "shown and typed" if self.policy.keys else "shown"
        return f"Everything {what} here is recorded and kept for {self.policy.keep_days} days.\r\n".encode()

    @property
    def is_recording(self) -> bool:
        return not self._is_stopped and not self._is_over

    def begin(self, cut: Callable[[str], None]) -> None:
        """The session begins now. Args: cut: ends it, for a policy that allows nothing unrecorded."""
        self._cut = cut
        self.has_begun = True
        self._began = self._clock.monotonic()
        self._timer = self._clock.call_later(self._limits.seconds, self.lose, f"{LIMIT_WORDS[0]} was reached")

    # what the session does

    def output(self, data: bytes) -> None:
        """Something was shown."""
        self._add("o", data)

    def input(self, data: bytes) -> None:
        """Something was typed; kept only when the policy says so."""
        if self.policy.keys:
            self._add("i", data)

    def resized(self, columns: int, rows: int) -> None:
        """The terminal has another size."""
        if not self.shown_bytes and self._now() < FIRST_SIZE:
            self.columns, self.rows = columns, rows
        else:
            self._add("r", b"%dx%d" % (columns, rows))

    def lose(self, why: str, *, state: str = "partial") -> None:
        """Record no more; the policy says whether the session goes on."""
        if not self.is_recording:
            return
        self._is_stopped = True
        self.state, self.reason = state, why
        if state != "broken":
            self._queue.append((self._now(), "m", f"recording stopped: {why}".encode()))
        self._wake()
        _log.warning("recording stopped", recording=self.id, why=why, strict=self.policy.is_strict)
        if self.policy.is_strict and self._cut is not None:
            self._cut(f"{why}, and this cluster allows nothing unrecorded")

    def end(self, reason: str = "") -> None:
        """The session is over."""
        if self._is_over:
            return
        self._is_over = True
        self.seconds = self._now()
        self.reason = self.reason or reason
        if self._timer is not None:
            self._timer.cancel()
        self._wake()

    def _add(self, kind: str, data: bytes) -> None:
        if not data or not self.is_recording:
            return
        if self.shown_bytes + len(data) > self._limits.shown_bytes:
            self.lose(f"{LIMIT_WORDS[1]} was reached")
            return
        if self._queued + len(data) > self._limits.queue_bytes:
            self._drop(len(data))
            return
        if self._gap:
            self._mark_gap()
        self.shown_bytes += len(data)
        self._queue.append((self._now(), kind, data))
        self._queued += len(data) + PIECE_BYTES
        self._some.set()
        if self._queued >= CHUNK_BYTES:
            self._much.set()

    def _drop(self, count: int) -> None:
        if self.policy.is_strict:
            self.lose("the disk takes recordings too slowly")
            return
        self._gap += count
        self.dropped_bytes += count
        self._wake()

    def _mark_gap(self) -> None:
        mark = f"{self._gap} bytes are missing: the disk was too slow"
        self._queue.append((self._now(), "m", mark.encode()))
        self._gap = 0

    def _now(self) -> float:
        return self._clock.monotonic() - self._began

    def _wake(self) -> None:
        self._some.set()
        self._much.set()

    # what the writer does

    async def open(self, make: Callable[[], Writer]) -> None:
        """Make the file. Raises: OSError."""
        self.writer = await self._in_thread(make)

    async def run(self, ended: Callable[[Recorder], Awaitable[None]]) -> None:
        """Write until the session is over, then tell what became of it."""
        try:
            await self._write_all()
        except OSError as error:
            self._fail(error.strerror or type(error).__name__)
        except Exception:
            _log.exception("recording failed", recording=self.id)
            self._fail("an internal error")
        finally:
            if self.writer is not None:
                self.writer.close()
        await self._until_over()
        if self.dropped_bytes and self.state == "running":
            self.state, self.reason = "partial", f"{self.dropped_bytes} bytes are missing: the disk was too slow"
        if self.state == "running":
            self.state = "whole"
        await ended(self)

    def _fail(self, cause: str) -> None:
        why = f"the recording cannot be written: {cause}"
        if self.is_recording:
            self.lose(why, state="broken")
        else:
            self.state, self.reason = "broken", why

    async def _write_all(self) -> None:
        writer = self.writer
        assert writer is not None
        while not (self._is_over or self._is_stopped):
            await self._some.wait()
            with suppress(TimeoutError):
                async with asyncio.timeout(LINGER):
                    await self._much.wait()
            await self._write(writer)
        if self._gap:
            self._mark_gap()
        await self._write(writer)
        rest = self._encoder.rest(self.seconds or self._now())
        if rest:
            await self._in_thread(lambda: writer.append(rest))
        await self._in_thread(writer.finish)

    async def _write(self, writer: Writer) -> None:
        pieces = list(self._queue)
        self._queue.clear()
        self._some.clear()
        self._much.clear()
        if pieces:
            size = self._queued  # they count until they are written: a slow disk is felt
            await self._in_thread(lambda: self._put(writer, pieces))
            self._queued -= size

    def _put(self, writer: Writer, pieces: list[Piece]) -> None:
        lines = self._encoder.lines(pieces)
        if lines:
            writer.append(lines)

    async def _in_thread(self, step: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, step)

    async def _until_over(self) -> None:
        """Wait for the end of a session that goes on unrecorded, for its length and its reason."""
        while not self._is_over:
            self._some.clear()
            await self._some.wait()
