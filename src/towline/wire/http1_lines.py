"""The field lines of one head: split for those who read them, kept whole for those who pass them on.

Most fields mean nothing to a proxy and travel as they were sent. The few that do are *marked*: they frame or route the
message, speak to one hop only, or claim something that only a proxy may say. A proxy deals with each marked field by
itself and sends the rest on as one block of bytes. Finding the marked ones by one search costs a quarter of splitting
all of them.
"""

import re

from towline.wire.http1_fields import FRAMING, HOP_BY_HOP, Fields

IDENTITY_PREFIXES = (b"impersonate-", b"x-remote-")
"""Names that carry an identity to Kubernetes API servers and to applications behind authenticating proxies."""

_MARKED_NAMES = (
    HOP_BY_HOP
    | FRAMING
    | {b"expect", b"forwarded", b"http2-settings", b"x-original-url", b"x-real-ip", b"x-request-id", b"x-rewrite-url"}
)
_MARKED_PREFIXES = (b"x-forwarded-", b"x-towline-", b"proxy-", *IDENTITY_PREFIXES)
_FIRST_LETTERS = b"".join({name[:1] for name in (*_MARKED_NAMES, *_MARKED_PREFIXES)})
_ALTERNATIVES = b"|".join([*sorted(_MARKED_NAMES), *[prefix + rb"[^:\r]*" for prefix in _MARKED_PREFIXES]])
_MARKED_LINE = re.compile(rb"\r\n(?=[%s])((%s):([^\r]*))" % (_FIRST_LETTERS, _ALTERNATIVES), re.IGNORECASE)
_UNDERSCORED_LINE = re.compile(rb"\r\n(([^:\r_]*_[^:\r]*):([^\r]*))")
_PLAIN_CONNECTION = frozenset({b"keep-alive", b"close", b"upgrade"})
_LINE_END = b"\r\n"
_SHORTEST_LINE_BYTES = 4  # one letter, a colon, CRLF

Marked = tuple[bytes, bytes, bytes]
"""(lower-case name, value, whole line as sent, without its CRLF)"""


class Lines:
    """The field lines of one accepted head.

    `marked` holds every line that a proxy has to deal with, among them all names with an underscore: many servers
    cannot tell `x_forwarded_for` from `x-forwarded-for`.
    """

    __slots__ = ("_block", "marked")

    def __init__(self, data: bytes, start: int) -> None:
        """Take the lines of a head that llhttp has accepted; `start` is where its second line begins."""
        self._block = block = data[start - 2 : -2]
        found = _MARKED_LINE.findall(block)
        if b"_" in block:
            found += [line for line in _UNDERSCORED_LINE.findall(block) if line not in found]
        self.marked: list[Marked] = [(name.lower(), rest.strip(b" \t"), line) for line, name, rest in found]

    def are(self, data: bytes, start: int) -> bool:
        """Tell whether these are, byte for byte, the lines of another head."""
        return len(data) - start == len(self._block) and data.endswith(self._block[2:] + _LINE_END)

    def exceed(self, limit: int) -> bool:
        """True when there are more lines than a limit."""
        return len(self._block) > limit * _SHORTEST_LINE_BYTES and self._block.count(_LINE_END) - 1 > limit

    @property
    def fields(self) -> Fields:
        """All fields in the order of arrival, split anew at each call."""
        parts = [line.partition(b":") for line in self._split()]
        return [(name.lower(), name, rest.strip(b" \t")) for name, _, rest in parts]

    def plain_block(self, connection: frozenset[bytes]) -> bytes:
        """Return the lines that are not marked and that Connection does not name, byte for byte as they were sent."""
        if not connection <= _PLAIN_CONNECTION:
            return self._unnamed_block(connection)
        block, marked = self._block, self.marked
        if len(marked) == 1 and block.startswith(marked[0][2], 2):  # a Host in its usual place, and nothing else
            return block[len(marked[0][2]) + 4 :]
        for _, _, line in marked:
            block = block.replace(b"\r\n%s\r\n" % line, _LINE_END, 1)  # with both line ends: only whole lines match
        return block[2:]

    def _unnamed_block(self, connection: frozenset[bytes]) -> bytes:
        marked = {line for _, _, line in self.marked}
        kept = [line for line in self._split() if line not in marked]
        kept = [line for line in kept if line.partition(b":")[0].lower() not in connection]
        return _LINE_END.join(kept) + _LINE_END if kept else b""

    def _split(self) -> list[bytes]:
        return self._block[2:-2].split(_LINE_END) if len(self._block) > 2 else []
