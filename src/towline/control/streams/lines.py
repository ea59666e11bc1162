"""Frames of a log stream as JSON lines, for programs that do not know frames. Pure."""

import json
from collections.abc import Iterator
from typing import Any

import msgspec

from towline.wire.streams import EVENT, SOURCE, STDERR, STDOUT, Frame, FrameReader, LogSource


class LineWriter:
    """Turns the bytes of a log stream into NDJSON: `{at, project, service, container, stream, text}`."""

    def __init__(self) -> None:
        self._reader = FrameReader()
        self._sources: dict[int, LogSource] = {}

    def feed(self, data: bytes) -> bytes:
        """Return the lines of every frame that is whole. Raises: BadFrame."""
        return b"".join(line for frame in self._reader.feed(data) for line in self._lines(frame))

    def _lines(self, frame: Frame) -> Iterator[bytes]:
        if frame.kind == SOURCE:
            self._sources[frame.source] = msgspec.json.decode(frame.body, type=LogSource)
        elif frame.kind in (STDOUT, STDERR):
            for line in frame.body.split(b"\n"):
                if line:
                    yield self._line(frame, line)
        elif frame.kind == EVENT:
            event = msgspec.json.decode(frame.body, type=dict[str, Any])
            yield _encoded(self._about(frame.source) | {"at": event.get("at", ""), "event": str(event.get("text", ""))})

    def _line(self, frame: Frame, line: bytes) -> bytes:
        at, _, text = line.partition(b" ")
        return _encoded(
            self._about(frame.source)
            | {
                "at": at.decode("ascii", "replace"),
                "stream": "stdout" if frame.kind == STDOUT else "stderr",
                "text": text.decode("utf-8", "replace"),
            }
        )

    def _about(self, number: int) -> dict[str, Any]:
        source = self._sources.get(number)
        if source is None:
            return {"project": "", "service": "", "container": ""}
        return {"project": source.project, "service": source.service, "container": source.name}


def _encoded(line: dict[str, Any]) -> bytes:
    return json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
