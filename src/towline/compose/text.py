"""Making foreign text safe to show: control characters escaped, length cut.

Not here: anything that decides. These functions never fail and never raise.
"""

import difflib
import re
from collections.abc import Iterable

# What one error or log excerpt may take in a row and on a page.
MAX_TEXT_BYTES = 64 * 1024
# A name in an error message; longer ones only hide the message.
MAX_SHOWN = 80

# C0 without tab and newline, DEL, C1, and the characters that reorder or hide text on a screen.
_UNSAFE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")
_CUT = "… (cut)"


def clean(text: str, limit: int = MAX_TEXT_BYTES) -> str:
    """Escape control and direction characters and cut to `limit` UTF-8 bytes. Newline and tab stay."""
    # No character grows when encoded below one byte, so what lies beyond the limit is never looked at.
    escaped = _UNSAFE.sub(_escape, text[: limit + 1].replace("\r\n", "\n"))
    raw = escaped.encode()
    if len(raw) <= limit and len(text) <= limit:
        return escaped
    return raw[: max(limit - len(_CUT.encode()), 0)].decode(errors="ignore") + _CUT


def shown(text: str) -> str:
    """Quote a name for an error message on one line."""
    return "'" + clean(text, MAX_SHOWN).replace("\n", "\\n").replace("\t", "\\t") + "'"


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that somebody who typed `word` most likely meant."""
    found = difflib.get_close_matches(word[:MAX_SHOWN], list(known), n=1, cutoff=0.6)
    return found[0] if found else None


def _escape(match: re.Match[str]) -> str:
    code = ord(match.group())
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
