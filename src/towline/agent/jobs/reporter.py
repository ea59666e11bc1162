"""Progress of one job: gathered for a moment, numbered in the journal, then sent when there is a link.

What the journal did not take was not said; what was not sent now is sent after the next connect, from the journal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import structlog

from towline.agent.errors import StorageError
from towline.agent.journal import Journal
from towline.aio.clock import REAL_CLOCK, Clock, Timer
from towline.compose import progress
from towline.compose.progress import Kind
from towline.wire import link

GATHER_INTERVAL = 0.1
"""Seconds that events wait for others: one flush of the disk for all of them."""

RETRY_INTERVAL = 5.0
"""Seconds until events are written again that the disk did not take."""

TRANSFER_INTERVAL = 1.0
"""Seconds between two events about one image's transfer: layers report many times a second."""

MAX_EVENTS = 5_000
"""Events of a job; of a build that prints more only warnings and errors are kept from there on."""

MAX_EVENT_TEXT = 4_096
"""Characters of one event's text; whole outputs stay in the step's folder."""

SHORTEST_HIDDEN = 4
"""Characters; shorter values would blot out ordinary words, and are no secrets."""

_log = structlog.get_logger("towline.agent")
Level = Literal["info", "warning", "error"]
_QUIET_WORDS = frozenset({"Waiting", "Preparing"})


class Reporter:
    """Takes what happens in one job. Call `close` at its end: it writes what is left."""

    def __init__(
        self, job_id: str, journal: Journal, publish: Callable[[str], None], *, clock: Clock = REAL_CLOCK
    ) -> None:
        self._job_id = job_id
        self._journal = journal
        self._publish = publish
        self._clock = clock
        self._drafts: list[link.JobEvent] = []
        self._timer: Timer | None = None
        self._splitter = progress.LineSplitter()
        self._transfers: dict[str, _Transfer] = {}
        self._count = 0
        self.errors: list[str] = []
        """Texts of the errors seen in the present command's output."""
        self.hidden: dict[str, str] = {}
        """Secret values of this job, to what is shown instead."""

    def __repr__(self) -> str:
        return f"<Reporter {self._job_id} {len(self._drafts)} waiting>"

    def say(
        self, stage: str, text: str, *, service: str = "", level: Level = "info", current: int = 0, total: int = 0
    ) -> None:
        """Report one thing."""
        if self._count >= MAX_EVENTS and level == "info":
            return
        self._count += 1
        at = self._clock.now().timestamp()
        text = self.redacted(text)[:MAX_EVENT_TEXT]
        draft = link.JobEvent(
            seq=0, at=at, stage=stage, text=text, service=service, level=level, current=current, total=total
        )
        self._draft(draft)

    def _draft(self, draft: link.JobEvent) -> None:
        self._drafts.append(draft)
        if self._timer is None:
            self._timer = self._clock.call_later(GATHER_INTERVAL, self._flush_soon)

    def output(self, stage: str, text: str) -> None:
        """Report what a command printed, whole: who prints keeps the bounds (`commands.output`)."""
        self._draft(link.JobEvent(seq=0, at=self._clock.now().timestamp(), stage=stage, text=text))

    def hide(self, secrets: Mapping[str, str]) -> None:
        """Never show these values: name to value."""
        self.hidden |= {value: f"‹{name}›" for name, value in secrets.items() if len(value) >= SHORTEST_HIDDEN}

    def redacted(self, text: str) -> str:
        """Return the text without the values that are to be hidden."""
        for value, shown in self.hidden.items():
            if value in text:
                text = text.replace(value, shown)
        return text

    def begin_command(self) -> None:
        """Forget the output of the command before."""
        self._splitter = progress.LineSplitter()
        self._transfers = {}
        self.errors = []

    def take_output(self, stage: str, project: str, data: bytes) -> None:
        """Read what Compose printed and report it."""
        for line in self._splitter.feed(data):
            for event in progress.parse_line(line):
                self._take(stage, project, event)

    def flush(self) -> None:
        """Write what is waiting and have it sent. Raises: StorageError: the disk does not take it."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._drafts:
            self._journal.add_events(self._job_id, self._drafts)
            self._drafts = []
            self._publish(self._job_id)

    def close(self) -> None:
        """Write what is left. Raises: StorageError: the disk does not take it."""
        self.flush()

    def _flush_soon(self) -> None:
        try:
            self.flush()
        except StorageError as error:
            # Kept for the next try: progress matters less than the work, which goes on.
            _log.warning("progress cannot be written", job=self._job_id, reason=str(error))
            self._timer = self._clock.call_later(RETRY_INTERVAL, self._flush_soon)

    def _take(self, stage: str, project: str, event: progress.Progress) -> None:
        service = service_of(event, project)
        if event.is_error:
            self.errors.append(self.redacted(event.text or event.status))
            self.say(stage, event.text or f"{event.subject}: {event.status}", service=service, level="error")
        elif event.kind is Kind.LAYER:
            self._take_layer(stage, event)
        elif event.kind is Kind.WARNING:
            self.say(stage, event.text, level="warning")
        elif event.status not in _QUIET_WORDS:
            words = " ".join(part for part in (event.subject, event.status, event.text) if part)
            self.say(stage, words, service=service)

    def _take_layer(self, stage: str, event: progress.Progress) -> None:
        transfer = self._transfers.setdefault(event.parent, _Transfer())
        if transfer.note(event, self._clock.monotonic()):
            self.say(stage, event.status, service=event.parent, current=transfer.current, total=transfer.total)


class _Transfer:
    """The layers of one image."""

    def __init__(self) -> None:
        self._layers: dict[str, tuple[int, int]] = {}
        self._told_at = 0.0

    @property
    def current(self) -> int:
        return sum(current for current, _ in self._layers.values())

    @property
    def total(self) -> int:
        return sum(total for _, total in self._layers.values())

    def note(self, event: progress.Progress, now: float) -> bool:
        """Take one layer's state; returns whether it is time to tell somebody."""
        if event.total:
            self._layers[event.subject] = (event.current, event.total)
        if not self._layers or now - self._told_at < TRANSFER_INTERVAL:
            return False
        self._told_at = now
        return True


def service_of(event: progress.Progress, project: str) -> str:
    """Return the service that an event is about, as far as its name tells."""
    if event.kind in (Kind.LAYER, Kind.IMAGE):
        return event.parent or event.subject
    if event.kind is Kind.CONTAINER and event.subject.startswith(f"{project}-"):
        return event.subject[len(project) + 1 :].rpartition("-")[0]
    return ""
