"""One job on an InstaDeploy agent: its numbered events, its time, its cancelling, and the commands that it sends."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from towline.aio.clock import REAL_CLOCK, Clock
from towline.control.protocols.instadeploy.conversation import Conversation
from towline.control.protocols.instadeploy.shelf import Shelf
from towline.wire import instadeploy, link, orders
from towline.wire.instadeploy import Command, Response

LONGEST_LINE = 2_000
"""Characters of one line of an agent's output that become an event."""

MOST_LINES = 400
"""Lines of one answer that become events: a large pull; the newest tell how it ended."""

SHORTEST_HIDDEN = 4
"""Characters of a value that is worth hiding: shorter ones are numbers and words that stand everywhere."""


class Ends(Exception):
    """The job ends here, and why."""

    def __init__(self, code: str, error: str, outcome: link.JobOutcome = "failed") -> None:
        super().__init__(error)
        self.code = code
        self.outcome: link.JobOutcome = outcome


@dataclass(slots=True)
class Ended:
    """How a job ended. `code` and `error` are empty when it succeeded."""

    outcome: link.JobOutcome = "succeeded"
    code: str = ""
    error: str = ""
    detail: orders.Detail | None = None


@dataclass
class Task:
    """What a job may use.

    Args: seq: number of its newest event that is stored. tell: takes messages in the agent's name.
    """

    job_id: str
    kind: str
    fence: int
    timeout: float
    cluster_id: str
    conversation: Conversation = field(repr=False)
    shelf: Shelf = field(repr=False)
    tell: Callable[[link.Message], None] = field(repr=False)
    seq: int = 0
    hidden: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Values that stay out of every word, by variable."""
    cancelled: bool = False
    deadline: float = 0.0
    clock: Clock = REAL_CLOCK

    def begin(self) -> None:
        """The time of the work runs from now."""
        self.deadline = self.clock.monotonic() + self.timeout

    # -- words -------------------------------------------------------------------------------------

    def say(self, stage: str, text: str, *, level: str = "info") -> None:
        """Add a line to the job's progress."""
        self._say(stage, [(text, level)])

    def say_output(self, stage: str, text: str) -> None:
        """Add what the agent printed, line by line."""
        lines = [line.strip("\r") for line in text.split("\n") if line.strip()]
        self._say(stage, [(line, "info") for line in lines[-MOST_LINES:]])

    def _say(self, stage: str, lines: list[tuple[str, str]]) -> None:
        now = self.clock.now().timestamp()
        events = []
        for text, level in lines:
            self.seq += 1
            shown = self.redacted(text)[:LONGEST_LINE]
            events.append(link.JobEvent(seq=self.seq, at=now, stage=stage, text=shown, level=level))  # type: ignore[arg-type]
        if events:
            self.tell(link.JobProgress(job_id=self.job_id, fence=self.fence, events=tuple(events)))

    def redacted(self, text: str) -> str:
        """Return a text without the values that were put into the file."""
        for name, value in sorted(self.hidden.items(), key=lambda each: -len(each[1])):
            if len(value) >= SHORTEST_HIDDEN:
                text = text.replace(value, f"‹value of {name}›")
        return text

    # -- commands ----------------------------------------------------------------------------------

    @property
    def time_left(self) -> float:
        return max(0.1, self.deadline - self.clock.monotonic())

    def wire_id(self, step: str) -> str:
        """Return the id of a command: the same when it is sent again after the line was lost."""
        return f"{self.job_id}.{step}"

    async def ask(self, command: Command, stage: str, *, timeout: float | None = None) -> Response:
        """Send a command. Raises: Ends: no answer in time. TunnelClosed."""
        try:
            return await self.conversation.ask(
                command,
                timeout=min(self.time_left, timeout or self.time_left),
                on_news=lambda news: self.say_output(stage, news.logs),
            )
        except TimeoutError:
            seconds = timeout or self.timeout
            raise Ends(
                "timed_out", f"the agent did not answer {command.type} within {seconds:g} s; it may still work on it"
            ) from None

    def require_going(self) -> None:
        """Raises: Ends: somebody cancelled the job."""
        if self.cancelled:
            raise Ends("cancelled", "cancelled; what was sent before had its effect", "cancelled")


def words(response: Response) -> str:
    """Return why a command failed, in the agent's words: what it says itself, and what Compose printed last."""
    said = response.error.partition("\nOutput:")[0].strip()
    printed = [line.strip() for line in response.logs.split("\n") if line.strip()]
    last = printed[-1] if printed and printed[-1] not in said else ""
    return ": ".join(part for part in (said, last) if part)


def tail(response: Response) -> tuple[str, ...]:
    """Return the last lines that a command printed."""
    text = response.logs or response.error
    lines = [line[: orders.LOG_TAIL_LINE_BYTES] for line in text.split("\n") if line.strip()]
    return tuple(lines[-orders.LOG_TAIL_LINES :])


def status_command(task: Task, project: str, number: int) -> Command:
    """Return one question of a series: each has an id of its own, over every connection."""
    return instadeploy.status(task.wire_id(f"status.{task.fence}.{number}"), project)
