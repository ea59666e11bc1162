"""Cutting a watch answer into events. Bytes in, events out; no I/O, no retry, no state beyond one unfinished line.

The answer is JSON objects, one to a line; chunks of HTTP mean nothing to it. Source: kubernetes.md 1.3.
"""

from collections.abc import Iterator
from typing import Generic, Literal, TypeVar

import msgspec

from towline.kube.errors import BadWatch as BadWatch
from towline.kube.objects import Part, Status

MAX_EVENT_BYTES = 8 * 1024 * 1024
"""etcd keeps objects up to 1.5 MiB; as JSON one may be several times as long as in protobuf."""

_GONE = 410
_INITIAL_EVENTS_END = "k8s.io/initial-events-end"

T = TypeVar("T")


class Change(msgspec.Struct, Generic[T], frozen=True):
    """An object was added, changed or removed; in a streaming list the first ones are all there are, as ADDED."""

    type: Literal["ADDED", "MODIFIED", "DELETED"]
    object: T


class Bookmark(msgspec.Struct, frozen=True):
    """Everything up to this version has been sent."""

    resource_version: str
    ends_initial_events: bool = False


class Failure(msgspec.Struct, frozen=True):
    """The API server ended this watch by an ERROR event, under HTTP status 200."""

    code: int
    reason: str
    message: str

    @property
    def is_expired(self) -> bool:
        """True when the version is too old to go on from: list anew."""
        return self.code == _GONE or self.reason in ("Expired", "Gone")


class _Line(msgspec.Struct, gc=False):
    type: str
    object: msgspec.Raw


class _MarkMetadata(Part, frozen=True, gc=False):
    resource_version: str = ""
    annotations: dict[str, str] | None = None


class _Mark(Part, frozen=True, gc=False):
    metadata: _MarkMetadata = _MarkMetadata()


_line = msgspec.json.Decoder(_Line)
_mark = msgspec.json.Decoder(_Mark)
_status = msgspec.json.Decoder(Status)


class WatchReader(Generic[T]):
    """Reads the events of one watch answer; `kind` is the partial struct of its objects."""

    def __init__(self, kind: type[T]) -> None:
        self._object = msgspec.json.Decoder(kind)
        self._rest = bytearray()

    def __repr__(self) -> str:
        return f"<WatchReader {len(self._rest)} bytes of an unfinished event>"

    @property
    def is_between_events(self) -> bool:
        """True when an end here loses nothing."""
        return not self._rest

    def feed(self, data: bytes) -> Iterator[Change[T] | Bookmark | Failure]:
        """Yield what is whole by now, in order. Unknown event types are skipped.

        Raises: BadWatch: malformed JSON, or one event over MAX_EVENT_BYTES.
        """
        head, newline, tail = data.rpartition(b"\n")
        if newline:
            lines = (bytes(self._rest) + head).split(b"\n")
            self._rest = bytearray(tail)
            for line in lines:
                if line and not line.isspace() and (event := self._decode(line)) is not None:
                    yield event
        else:
            self._rest += data
        if len(self._rest) > MAX_EVENT_BYTES:
            raise BadWatch(f"an event of more than {MAX_EVENT_BYTES} bytes")

    def _decode(self, line: bytes) -> Change[T] | Bookmark | Failure | None:
        try:
            event = _line.decode(line)
            if event.type in ("ADDED", "MODIFIED", "DELETED"):
                return Change(event.type, self._object.decode(event.object))  # type: ignore[arg-type]
            if event.type == "BOOKMARK":
                metadata = _mark.decode(event.object).metadata
                ends = (metadata.annotations or {}).get(_INITIAL_EVENTS_END) == "true"
                return Bookmark(metadata.resource_version, ends)
            if event.type == "ERROR":
                status = _status.decode(event.object)
                return Failure(status.code, status.reason, status.message)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise BadWatch("malformed event in a watch") from error
        return None
