"""What Compose prints while it works, as typed events.

Here: the JSON lines of `--progress=json`, its warnings and errors, BuildKit's raw lines, and plain text of older
versions. Every line gives an event or nothing; none raises. Text of programs is escaped and cut before anybody sees it.
Not here: reading the pipe.
"""

import base64
import binascii
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import msgspec

from towline.compose.text import MAX_TEXT_BYTES, clean

# A line longer than this is cut; Compose's own are below 1 KiB, build output may be anything.
MAX_LINE_BYTES = MAX_TEXT_BYTES
# A name or status on a page.
MAX_NAME_BYTES = 256


class Kind(StrEnum):
    """What an event is about."""

    CONTAINER = "container"
    NETWORK = "network"
    VOLUME = "volume"
    IMAGE = "image"
    LAYER = "layer"
    BUILD = "build"
    WARNING = "warning"
    ERROR = "error"
    TEXT = "text"


@dataclass(frozen=True, slots=True)
class Progress:
    """One event.

    Attributes: subject: the container, network, volume, service or layer. status: Compose's word for what happens
        ("Creating", "Pulling", "Started"). parent: the service whose image a layer belongs to. current, total: bytes.
    """

    kind: Kind
    subject: str = ""
    status: str = ""
    text: str = ""
    parent: str = ""
    current: int = 0
    total: int = 0

    @property
    def percent(self) -> int | None:
        return min(100, self.current * 100 // self.total) if self.total > 0 else None

    @property
    def is_error(self) -> bool:
        return self.kind is Kind.ERROR


_SUBJECTS = {"Container": Kind.CONTAINER, "Network": Kind.NETWORK, "Volume": Kind.VOLUME, "Image": Kind.IMAGE}
_ENGINE_ERROR = "Error response from daemon"
_LEVELS = {"warning": Kind.WARNING, "error": Kind.ERROR, "fatal": Kind.ERROR}


def parse_line(line: bytes) -> tuple[Progress, ...]:
    """Read one line of output. Returns: nothing for an empty line or one that tells nobody anything."""
    stripped = line.strip()
    if not stripped:
        return ()
    if stripped.startswith(b"{"):
        try:
            data = msgspec.json.decode(stripped)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            return (_text(stripped),)
        if isinstance(data, dict):
            return tuple(_from_json(data))
    return (_text(stripped),)


def left_starting(output: bytes) -> frozenset[str]:
    """Return the containers that a command was about to start when it broke off: perhaps they ran, perhaps not."""
    starting: set[str] = set()
    for line in output.splitlines():
        for event in parse_line(line):
            if event.kind is Kind.CONTAINER and event.status == "Starting":
                starting.add(event.subject)
            elif event.kind is Kind.CONTAINER:
                starting.discard(event.subject)
    return frozenset(starting)


class LineSplitter:
    """Cuts a stream of bytes into lines, none longer than `MAX_LINE_BYTES`: the rest of a longer one is dropped."""

    def __init__(self) -> None:
        self._rest = b""
        self._skipping = False

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Give the lines that end in this chunk."""
        *lines, rest = chunk.split(b"\n")
        for line in lines:
            yield from self._take(line)
            if not self._skipping:
                yield self._rest
            self._rest, self._skipping = b"", False
        yield from self._take(rest)

    def finish(self) -> Iterator[bytes]:
        """Give what came after the last line end."""
        if self._rest and not self._skipping:
            yield self._rest
        self._rest, self._skipping = b"", False

    def _take(self, piece: bytes) -> Iterator[bytes]:
        if self._skipping:
            return
        self._rest += piece[: MAX_LINE_BYTES + 1]
        if len(self._rest) > MAX_LINE_BYTES:
            yield self._rest[:MAX_LINE_BYTES]
            self._rest, self._skipping = b"", True


def _from_json(data: dict[str, Any]) -> Iterator[Progress]:
    if data.get("error") is True:
        yield Progress(Kind.ERROR, text=_cleaned(data.get("message"), MAX_TEXT_BYTES))
    elif (level := data.get("level")) is not None:
        yield Progress(_LEVELS.get(str(level), Kind.TEXT), text=_cleaned(data.get("msg"), MAX_TEXT_BYTES))
    elif data.keys() & {"vertexes", "logs", "statuses"}:
        yield from _from_buildkit(data)
    else:
        yield from _from_compose(data)


def _from_compose(data: dict[str, Any]) -> Iterator[Progress]:
    subject, text, parent = (_cleaned(data.get(key)) for key in ("id", "text", "parent_id"))
    status = _cleaned(data.get("status"), MAX_TEXT_BYTES)
    if not subject:
        if text:
            yield Progress(Kind.TEXT, text=text)
        return
    kind, name = _subject(subject, parent)
    if status.startswith(_ENGINE_ERROR) or text == "Error":
        yield Progress(Kind.ERROR, name, "Error", status, parent)
        return
    # Resources put their word into "status"; images put it into "text", and the details into "status".
    word, details = (text, status) if text else (status, "")
    if kind is Kind.LAYER:
        details = ""  # a bar drawn with characters; the numbers tell the same
    yield Progress(kind, name, word, details, parent, _count(data.get("current")), _count(data.get("total")))


def _subject(subject: str, parent: str) -> tuple[Kind, str]:
    word, _, name = subject.partition(" ")
    if name and word in _SUBJECTS:
        return _SUBJECTS[word], name
    return (Kind.LAYER if parent else Kind.IMAGE), subject


def _from_buildkit(data: dict[str, Any]) -> Iterator[Progress]:
    """Read one line of BuildKit's raw JSON: steps that began, ended or failed, and the output of commands."""
    for vertex in _objects(data.get("vertexes")):
        name = _cleaned(vertex.get("name"))
        if error := _cleaned(vertex.get("error"), MAX_TEXT_BYTES):
            yield Progress(Kind.ERROR, name, "Error", error)
        elif vertex.get("completed"):
            yield Progress(Kind.BUILD, name, "Done")
        elif vertex.get("started"):
            yield Progress(Kind.BUILD, name, "Building")
    for log in _objects(data.get("logs")):
        try:
            output = base64.b64decode(str(log.get("data", "")), validate=True)
        except (binascii.Error, ValueError):
            continue
        yield Progress(Kind.BUILD, text=clean(output.decode(errors="replace").rstrip("\n")))


def _objects(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _text(line: bytes) -> Progress:
    return Progress(Kind.TEXT, text=clean(line[: MAX_LINE_BYTES + 1].decode(errors="replace"), MAX_TEXT_BYTES))


def _cleaned(value: Any, limit: int = MAX_NAME_BYTES) -> str:
    return clean(value, limit) if isinstance(value, str) else ""


def _count(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0
