"""The field lines of one head: split for those who read them, kept whole for those who pass them on.

Most fields mean nothing to a proxy and travel as they were sent. The few that do are *marked*: they frame or route the
message, speak to one hop only, or claim something that only a proxy may say. A proxy deals with each marked field by
itself and sends the rest on as one block of bytes.
"""

from towline.wire.http1_fields import FRAMING, HOP_BY_HOP, Fields

PLAIN_CACHE_SIZE = 2048  # spellings of unmarked names seen lately; bounded so that random names cost no memory

IDENTITY_PREFIXES = (b"impersonate-", b"x-remote-")
"""Names that carry an identity to Kubernetes API servers and to applications behind authenticating proxies."""

_MARKED = (
    HOP_BY_HOP
    | FRAMING
    | {b"expect", b"forwarded", b"http2-settings", b"x-original-url", b"x-real-ip", b"x-request-id", b"x-rewrite-url"}
)
_MARKED_PREFIXES = (b"x-forwarded-", b"x-towline-", b"proxy-", *IDENTITY_PREFIXES)
_LINE_END = b"\r\n"
_COLON = b":"
_PLAIN_CONNECTION = frozenset({b"keep-alive", b"close", b"upgrade"})

_plain_names: set[bytes] = set()

Marked = tuple[bytes, bytes, bytes]
"""(lower-case name, value, whole line as sent, without its CRLF)"""


def is_marked(name: bytes) -> bool:
    """True for a lower-case name that a proxy has to deal with.

    Names with an underscore count: many servers cannot tell `x_forwarded_for` from `x-forwarded-for`.
    """
    return name in _MARKED or b"_" in name or name.startswith(_MARKED_PREFIXES)


class Lines:
    """The field lines of one accepted head. `marked` are in the order of arrival."""

    __slots__ = ("_block", "_lines", "marked")

    def __init__(self, data: bytes, start: int) -> None:
        """Split a head that llhttp has accepted; `start` is where its second line begins."""
        self._block = data[start - 2 : -2]
        self._lines = lines = data[start:-4].split(_LINE_END) if len(data) - start > 2 else []
        self.marked: list[Marked] = []
        plain = _plain_names
        for line in lines:
            name = line[: line.find(_COLON)]
            if name not in plain:
                self._look_at(name, line)

    def __len__(self) -> int:
        return len(self._lines)

    def _look_at(self, name: bytes, line: bytes) -> None:
        lower = name.lower()
        if is_marked(lower):
            self.marked.append((lower, line[len(name) + 1 :].strip(b" \t"), line))
        elif len(_plain_names) < PLAIN_CACHE_SIZE:
            _plain_names.add(name)

    @property
    def fields(self) -> Fields:
        """All fields in the order of arrival, split anew at each call."""
        parts = [line.partition(_COLON) for line in self._lines]
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
        kept = [line for line in self._lines if line not in marked]
        kept = [line for line in kept if line.partition(_COLON)[0].lower() not in connection]
        return _LINE_END.join(kept) + _LINE_END if kept else b""
