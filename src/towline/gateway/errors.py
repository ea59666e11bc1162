"""Errors of the data plane, and the short answers that the edge gives by itself.

    UpstreamError
     ├ UpstreamUnreachable   nothing answers at the target, or it hung up
     ├ UpstreamRefused       the agent may not, or cannot, dial the target
     ├ UpstreamAway          the agent of that cluster is not connected, or this server is out of room
     └ UpstreamTimeout       no answer in time

Bodies are for programs (the shape of every API error) or for people (one line of text). Secrets never get here: no
header, no query and no target address is quoted.
"""

import json

from towline.tunnel.errors import TargetRefused, TunnelClosed
from towline.wire.http1_build import Line, build_answer


class UpstreamError(Exception):
    """A target cannot be reached; `status` and `code` are what the client is told."""

    status = 502
    code = "upstream_unreachable"
    refusal = ""
    """Why no connection came about: the code of an agent's refusal (`wire.streams.Answer`), or `away` or `full` when
    there was nobody to ask. Empty: there was a connection, and it was lost."""


class UpstreamUnreachable(UpstreamError):
    """Nothing answers at the target, or it hung up."""


class UpstreamRefused(UpstreamError):
    """The agent does not dial this target."""

    code = "upstream_refused"


class UpstreamAway(UpstreamError):
    """The agent is not connected, or this server has no room for one more connection."""

    status = 503
    code = "upstream_away"


class UpstreamTimeout(UpstreamError):
    """The target did not answer in time."""

    status = 504
    code = "upstream_timeout"


_REFUSALS: dict[str, type[UpstreamError]] = {
    "unreachable": UpstreamUnreachable,
    "timeout": UpstreamTimeout,
    "busy": UpstreamAway,
}
_FOR_CLIENTS: dict[type[UpstreamError], str] = {
    UpstreamRefused: "the agent does not reach this target",
    UpstreamAway: "the target is away at the moment",
    UpstreamTimeout: "the target did not answer in time",
}


def as_upstream_error(error: Exception | None) -> UpstreamError:
    """Translate what ended a connection: an error of a socket or of a tunnel, or None for a plain end."""
    if isinstance(error, UpstreamError):
        return error
    if isinstance(error, TargetRefused):
        refused = _REFUSALS.get(error.code, UpstreamRefused)(str(error))
        refused.refusal = error.code
        return refused
    if isinstance(error, TunnelClosed):
        return UpstreamAway(str(error))
    return UpstreamUnreachable(str(error) if error is not None else "the target hung up")


def words_for_clients(error: UpstreamError) -> str:
    """Return what a client may read. The error's own words name addresses, and are for the access log."""
    return _FOR_CLIENTS.get(type(error), "the target does not answer")


SPEAK_HTTPS = "This port speaks HTTPS. Use https:// in the address."

_STATUS_REASONS = {404: "NotFound", 400: "BadRequest", 403: "Forbidden", 503: "ServiceUnavailable"}


def error_body(code: str, message: str, request_id: str = "", hint: str = "") -> bytes:
    """Return the JSON of one error, in the shape that the whole API uses."""
    error = {"code": code, "message": message, "hint": hint, "detail": {}, "request_id": request_id}
    return json.dumps({"error": error}).encode() + b"\n"


def status_body(status: int, message: str) -> bytes:
    """Return a Kubernetes Status, which kubectl prints as its error (apimachinery `metav1.Status`)."""
    body = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": _STATUS_REASONS.get(status, "InternalError"),
        "code": status,
    }
    return json.dumps(body).encode() + b"\n"


def error_answer(status: int, code: str, message: str, *, request_id: str = "", lines: tuple[Line, ...] = ()) -> bytes:
    """Return a whole error answer that ends its connection."""
    return build_answer(status, error_body(code, message, request_id), b"application/json", lines, close=True)
