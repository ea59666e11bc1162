"""Playing a recording in this terminal: its pace, and what of it may reach the terminal. No sockets here.

What is played was written by a command on some host. Sequences that make a terminal answer would put that answer into
the reader's own shell, and others change clipboard or title: they are left out; what draws stays.
Source: xterm's "Control Sequences".
"""

import codecs
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from towline.cli.errors import CliError

ESC = "\x1b"
MOST_HELD = 64 * 1024
"""Characters of a sequence without an end before it counts as text that is thrown away."""
_STRINGS = "]P^_X"
"""Begin a string up to BEL or ST: operating system, device and other commands."""
_WHOLE = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]P^_X][^\x07\x1b]*(?:\x07|\x1b\\|\x1b(?=[^\\]))|[ -/]+[0-~]|[0-OQ-WY-Z\\`-~=>])"
)
_ASKS = re.compile(r"\x1b\[[0-?]*[ -/]*[cnqxRyt]|\x1b\[[0-?]*\$[pw]|\x1bZ")
"""Device attributes, status and window reports, modes: all of them are answered as if typed. `q` also sets the cursor's
shape, and `t` the window's size: neither is missed."""
_UNSAFE = re.compile(r"[\x00-\x06\x0e-\x1a\x1c-\x1f\x7f\x80-\x9f]")


@dataclass(frozen=True)
class Head:
    """What the first line says."""

    width: int
    height: int
    title: str
    seconds: float


@dataclass(frozen=True)
class Event:
    at: float
    kind: str
    text: str


def parse(chunks: Iterable[bytes]) -> tuple[Head, Iterator[Event]]:
    """Return the head of a cast and its events as they come. Raises: CliError: it is none."""
    lines = _lines(chunks)
    try:
        head = json.loads(next(lines, ""))
        found = Head(
            int(head["width"]), int(head["height"]), str(head.get("title", "")), float(head.get("duration", 0))
        )
        if head["version"] != 2:
            raise ValueError
    except (ValueError, KeyError, TypeError) as error:
        raise CliError("this is no asciicast of version 2") from error
    return found, (_event(line) for line in lines if line.strip())


def _lines(chunks: Iterable[bytes]) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    held = ""
    for chunk in chunks:
        *whole, held = (held + decoder.decode(chunk)).split("\n")
        yield from whole
    if held:
        yield held


def _event(line: str) -> Event:
    try:
        at, kind, text = json.loads(line)
        return Event(float(at), str(kind), str(text))
    except (ValueError, TypeError) as error:
        raise CliError("the recording holds a line that is none of its kind") from error


class Screen:
    """Lets through what draws. Sequences may be cut anywhere between two events."""

    def __init__(self) -> None:
        self._held = ""

    def safe(self, text: str) -> str:
        """Return what may be written to a terminal."""
        text = self._held + text
        self._held = ""
        out, at = [], 0
        while (begin := text.find(ESC, at)) >= 0:
            out.append(_UNSAFE.sub("", text[at:begin]))
            match = _WHOLE.match(text, begin)
            if match is None:
                if _may_go_on(text[begin:]):
                    self._held = text[begin:]
                    return "".join(out)
                at = begin + 1
                continue
            sequence = match[0]
            if sequence[1] not in _STRINGS and _ASKS.fullmatch(sequence) is None:
                out.append(sequence)
            at = match.end()
        out.append(_UNSAFE.sub("", text[at:]))
        return "".join(out)


def _may_go_on(rest: str) -> bool:
    """Tell whether these are the first characters of a sequence."""
    if len(rest) > MOST_HELD:
        return False
    if len(rest) == 1 or rest[1] in _STRINGS:
        return True
    return re.fullmatch(r"\x1b(?:\[[0-?]*[ -/]*|[ -/]+)", rest) is not None


@dataclass(frozen=True)
class Pace:
    """How fast. Args: idle_limit: the longest pause, in seconds of the recording; 0: as it was."""

    speed: float = 1.0
    idle_limit: float = 0.0

    def pause(self, passed: float) -> float:
        """Return how long to wait for what took so long."""
        limited = min(passed, self.idle_limit) if self.idle_limit else passed
        return max(0.0, limited) / self.speed


def play(events: Iterable[Event], pace: Pace, write: Callable[[str], Any], sleep: Callable[[float], Any]) -> float:
    """Play events. Returns: seconds of the recording that were played."""
    screen, last = Screen(), 0.0
    for event in events:
        sleep(pace.pause(event.at - last))
        last = max(last, event.at)
        if event.kind == "o":
            write(screen.safe(event.text))
        elif event.kind == "m":
            write(f"\r\n\x1b[7m {_UNSAFE.sub('', event.text.replace(ESC, ''))} \x1b[0m\r\n")
    return last
