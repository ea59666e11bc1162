"""A stream that the agent does not serve, with the code and the words that the opener gets."""

from __future__ import annotations


class Refused(Exception):
    """`code` is one of those in `towline.wire.streams.Answer`."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
