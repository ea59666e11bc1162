"""Answers of our own on the Kubernetes path: Status objects, warnings, and where plain text is understood better.

Pure functions. Which answer is given is decided elsewhere. Source: kubernetes.md 1.4.
"""

import re

import msgspec

MAX_WARNING_CHARACTERS = 2048
"""Half of the 4 KiB that the API server itself allows for all its warnings of one answer."""

_REASONS = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    405: "MethodNotAllowed",
    406: "NotAcceptable",
    409: "Conflict",
    410: "Expired",
    413: "RequestEntityTooLarge",
    415: "UnsupportedMediaType",
    422: "Invalid",
    429: "TooManyRequests",
    503: "ServiceUnavailable",
    504: "Timeout",
}
_TEXT_PATH = re.compile(rb"/(?:api|apis|version)/?|/openapi(?:/.*)?", re.DOTALL)
_UNSPEAKABLE = re.compile(r"[^ -~]+")
_QUOTED = re.compile(r'["\\]')


class _Status(msgspec.Struct, gc=False):
    kind: str
    apiVersion: str  # noqa: N815
    metadata: dict[str, str]
    status: str
    message: str
    reason: str
    code: int


_encode = msgspec.json.Encoder().encode


def reason_of(code: int) -> str:
    """Return the machine-readable reason that Kubernetes clients expect with an HTTP status."""
    return _REASONS.get(code) or ("InternalError" if code >= 500 else "BadRequest")


def status(code: int, reason: str, message: str) -> bytes:
    """Return the JSON body of a failure; an empty reason becomes the usual one of the code."""
    return _encode(_Status("Status", "v1", {}, "Failure", message, reason or reason_of(code), code))


def warning(message: str) -> bytes:
    """Return the value of a Warning field that makes kubectl print a sentence even where it drops the Status.

    What a quoted string cannot carry becomes a blank (RFC 9110 section 5.6.4).
    """
    text = _UNSPEAKABLE.sub(" ", message).strip()[:MAX_WARNING_CHARACTERS]
    return b'299 - "%s"' % _QUOTED.sub(r"\\\g<0>", text).encode("ascii")


def prefers_text(path: bytes) -> bool:
    """True where kubectl shows the words of a plain text answer but drops those of a Status: at discovery's roots."""
    return _TEXT_PATH.fullmatch(path) is not None
