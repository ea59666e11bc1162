"""Readers of request bodies that stop at a route's limit."""

from typing import ClassVar

from towline.wire.http1 import HeadError
from towline.wire.http1_body import BodyReader, ChunkedReader


class _LimitedChunkedReader(ChunkedReader):
    """Counts what the chunks hold, not their framing."""

    __slots__ = ("_left",)
    CODE: ClassVar[str] = "body_too_large"

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._left = limit

    def feed(self, data: bytes) -> list[bytes]:
        pieces = super().feed(data)
        self._left -= sum(map(len, pieces))
        if self._left < 0:
            raise HeadError(413, self.CODE, "the request body is larger than this route takes")
        return pieces


def limited_reader(reader: BodyReader, limit: int) -> BodyReader:
    """Return a reader that raises 413 behind the limit; a body of known length was judged by its head."""
    return _LimitedChunkedReader(limit) if isinstance(reader, ChunkedReader) else reader
