"""Cookies of answers: none of a published service reaches those who live beside it below the gateway's own domain.

A target that sets a cookie with `Domain=` of the gateway's domain, or of one above it, would set it for everybody's
services there. Browsers refuse that only for names on the public suffix list. Pure functions on bytes.
"""

import re

_COOKIE_LINE = re.compile(rb"-[Cc][Oo][Oo][Kk][Ii][Ee]:")
"""In all answers that set cookies and in few others; letters are spelt out because ignoring case is slower."""
_PLAIN_DOMAIN = re.compile(rb"[a-z0-9_.-]+")
"""Browsers decode what else may stand in a domain (`%67` is a `g`): such a value is not compared, but dropped."""


def host_only(block: bytes, zone: bytes) -> bytes:
    """Return field lines where no cookie is for `zone`, lower-case, or for a domain above it: such are for their host.

    Source: RFC 6265 sections 5.2.3 and 5.3: a cookie without Domain goes back to its own host alone.
    """
    if not _COOKIE_LINE.search(block):
        return block
    return b"".join(_line(line, zone) + b"\r\n" for line in block.split(b"\r\n") if line)


def _line(line: bytes, zone: bytes) -> bytes:
    name, _, value = line.partition(b":")
    if name.lower() != b"set-cookie":
        return line
    first, *attributes = value.split(b";")
    return name + b":" + b";".join([first, *(one for one in attributes if not _reaches(one, zone))])


def _reaches(attribute: bytes, zone: bytes) -> bool:
    """Tell whether an attribute has a cookie sent to every name below a zone."""
    name, _, value = attribute.partition(b"=")
    if name.strip().lower() != b"domain":
        return False
    domain = value.strip().strip(b".").lower()
    return zone == domain or zone.endswith(b"." + domain) or (domain != b"" and not _PLAIN_DOMAIN.fullmatch(domain))
