"""Server-sent events as the HTML standard writes them (section 9.2.6), from lines without their ends."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ServerEvent:
    kind: str
    data: str
    id: str = ""


def parse_events(lines: Iterable[str]) -> Iterator[ServerEvent]:
    """Yield an event at each blank line; comments and unknown fields are passed over."""
    kind, last_id, data = "message", "", list[str]()
    for line in lines:
        if not line:
            if data:
                yield ServerEvent(kind, "\n".join(data), last_id)
            kind, data = "message", []
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            data.append(value)
        elif field == "event":
            kind = value
        elif field == "id":
            last_id = value
