"""What a request to the API server is as a message to a PipeOps agent, and what its answer is as HTTP/1.1. Pure.

The agent hands on what it is given: it adds nothing, and whoever could make it send a request elsewhere than to the
API server could read the cluster's token there. So what is not surely understood is refused. Source: pipeops.md 2.4,
docs/design/pipeops.md, "Without yamux".
"""

from __future__ import annotations

import re
from base64 import b64encode
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote_to_bytes

from towline.kube import status
from towline.kube.access import derive, first_value
from towline.kube.errors import RequestRefused
from towline.wire import pipeops_messages as messages
from towline.wire.http1 import HeadError, RequestHead, parse_response_head
from towline.wire.http1_build import REASONS, Line, build_answer, build_response_head

WATCH_SECONDS: Final = 25
"""Longest watch that is asked for: the agent cuts everything after 30 s, wherever an event stands; so the API server
ends each watch by itself before, as it does after some minutes otherwise."""

API_PATHS: Final = ("/healthz", "/readyz", "/livez", "/version", "/openapi")
"""Beginnings of paths that the agent takes to the API server, beside `/api` and `/apis`. It takes all others to the
ingress controller, with the cluster's token."""

NO_OTHER_PATHS: Final = "an agent without yamux reaches the paths of the API, its health and its version, and no others"
UNUSUAL_PATH: Final = "an agent without yamux cannot carry a path with these characters"
UNREADABLE: Final = "a field of the request is not UTF-8, which an agent without yamux needs"

_UNUSUAL = re.compile(r"[\x00-\x1f\x7f?#%\\]|://")
_ENCODED_SLASH = re.compile(rb"%2f", re.IGNORECASE)
_FALSE = (b"false", b"0")
_HOP = frozenset(
    {
        b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"trailers", b"transfer-encoding",
        b"upgrade", b"content-length", b"host", b"expect", b"proxy-authenticate", b"proxy-authorization",
    }
)  # fmt: skip
_ELSEWHERE = (b"x-forwarded-", b"sec-websocket-")
"""Fields by which the agent chooses another target than the API server."""
_BODILESS = (204, 304)


class CannotCarry(Exception):
    """A request that is answered here. `code`: the HTTP status."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Carried:
    """A request as the agent takes it."""

    method: str
    path: str
    """Decoded: the agent escapes it again."""
    query: str
    headers: dict[str, str | tuple[str, ...]] = field(repr=False)
    is_watch: bool = False
    is_followed_log: bool = False
    is_exec_family: bool = False
    """Exec, attach or port-forward."""

    @property
    def is_head(self) -> bool:
        return self.method == "HEAD"

    def wants(self, name: bytes) -> bool:
        """Whether a parameter is there and not false, as the API server reads it."""
        return _is_true(self.query.encode(), name)

    def request(self, body: bytes = b"") -> messages.ProxyRequest:
        """Return the message; the body is whole, and the answer shall be streamed."""
        return messages.ProxyRequest(
            method=self.method,
            path=self.path,
            query=self.query,
            headers=self.headers,
            body=b64encode(body).decode() if body else None,
            body_encoding="base64" if body else "",
            supports_response_streaming=True,
        )

    def websocket(self, stream_id: str, protocol: str) -> messages.ProxyWebsocketStart:
        """Return the message that opens a WebSocket with the same path."""
        return messages.ProxyWebsocketStart(
            stream_id=stream_id, method="GET", path=self.path, query=self.query, protocol=protocol,
            headers=self.headers,
        )  # fmt: skip


def carried(head: RequestHead) -> Carried:
    """Translate the head of a request. Raises: CannotCarry."""
    raw_path, _, query = head.target.partition(b"?")
    path = _path(raw_path)
    try:
        access = derive(head.method, path.encode(), query)
    except RequestRefused as error:
        raise CannotCarry(400, str(error)) from error
    is_log = access.subresource == "log" and _is_true(query, b"follow")
    return Carried(
        method=head.method.decode("ascii"),
        path=path,
        query=_query(query, is_watch=access.verb == "watch"),
        headers=_headers(head),
        is_watch=access.verb == "watch",
        is_followed_log=is_log,
        is_exec_family=access.is_exec_family,
    )


def _path(raw: bytes) -> str:
    if _ENCODED_SLASH.search(raw) is not None:
        raise CannotCarry(400, UNUSUAL_PATH)
    try:
        path = unquote_to_bytes(raw).decode()
    except UnicodeDecodeError as error:
        raise CannotCarry(400, UNREADABLE) from error
    if _UNUSUAL.search(path) is not None or ".." in path.split("/") or "//" in path:
        raise CannotCarry(400, UNUSUAL_PATH)
    if path not in ("/api", "/apis") and not path.startswith(("/api/", "/apis/", *API_PATHS)):
        raise CannotCarry(404, NO_OTHER_PATHS)
    return path


def _query(query: bytes, *, is_watch: bool) -> str:
    """Return the query as it is, but for a bare `;`, which would end it there, and the time of a watch."""
    if is_watch:
        query = _shortened(query)
    return query.replace(b";", b"%3B").decode("ascii")


def _shortened(query: bytes) -> bytes:
    asked = first_value(query, b"timeoutSeconds")
    if asked is not None and asked.isdigit() and 0 < int(asked[:9]) <= WATCH_SECONDS:
        return query
    rest = [pair for pair in query.split(b"&") if pair and pair.partition(b"=")[0] != b"timeoutSeconds"]
    return b"&".join([*rest, b"timeoutSeconds=%d" % WATCH_SECONDS])


def _is_true(query: bytes, name: bytes) -> bool:
    value = first_value(query, name)
    return value is not None and value.lower() not in _FALSE


def _headers(head: RequestHead) -> dict[str, str | tuple[str, ...]]:
    """Return the fields, each name once and as Go spells it; its length goes by itself."""
    found: dict[str, tuple[str, ...]] = {}
    for lower, sent, value in head.fields:
        if lower in _HOP or lower.startswith(_ELSEWHERE):
            continue
        name = "-".join(part.capitalize() for part in sent.decode("ascii").split("-"))
        try:
            found[name] = (*found.get(name, ()), value.decode())
        except UnicodeDecodeError as error:
            raise CannotCarry(400, UNREADABLE) from error
    return {name: values[0] if len(values) == 1 else values for name, values in found.items()}


# -- answers -----------------------------------------------------------------------------------


def has_body(asked: Carried, code: int) -> bool:
    """Whether an answer with this status has one."""
    return not asked.is_head and code not in _BODILESS


def answer_head(asked: Carried, code: int, headers: messages.Headers) -> bytes:
    """Return the head of an answer whose body follows in chunks. Raises: CannotCarry: it is none that may pass on."""
    if not 200 <= code <= 599:
        raise CannotCarry(502, f"the agent answers with status {code}")
    lines: list[Line] = []
    try:
        for name, values in headers.items():
            lower = name.lower().encode()
            if lower not in _HOP or (lower == b"content-length" and asked.is_head):
                lines += [(name.encode(), value.encode()) for value in values]
        if has_body(asked, code):
            lines.append((b"Transfer-Encoding", b"chunked"))
        whole = build_response_head(code, REASONS.get(code, b""), lines)
        parse_response_head(whole)  # what the next reader would refuse is refused here, in words
    except (HeadError, ValueError) as error:
        raise CannotCarry(502, f"the agent's answer has a head that cannot be read: {error}") from error
    return whole


def own_answer(code: int, reason: str, *, path: str = "/api/v1", is_head: bool = False, close: bool = False) -> bytes:
    """Return an answer of our own, in the form that Kubernetes clients show to people."""
    if status.prefers_text(path.encode()):
        body, kind = reason.encode(), b"text/plain"
    else:
        body, kind = status.status(code, "", reason), b"application/json"
    lines: list[Line] = [(b"warning", status.warning(reason))]
    if code == 429:
        lines.append((b"retry-after", b"1"))
    whole = build_answer(code, body, kind, lines, close=close)
    return whole[: -len(body)] if is_head else whole
