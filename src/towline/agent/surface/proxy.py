"""`POST /api/k8s/proxy`: one request to the API server, its answer as JSON. Small ones, for looking and mending.

Whose request it is and what may pass is `passage.py`'s.
"""

from __future__ import annotations

import base64
import contextlib
import re
from typing import Any

import msgspec
from aiohttp import web

from towline.agent.kubernetes.api import Answer, TooLarge
from towline.agent.surface.answers import answer as answered
from towline.agent.surface.endpoints import Endpoint, Right
from towline.agent.surface.errors import SurfaceError, unavailable
from towline.agent.surface.live import live_of
from towline.agent.surface.passage import Ask
from towline.agent.surface.requests import caller_of, read_json
from towline.kube import heads
from towline.kube.access import AccessTuple, first_value
from towline.kube.errors import BadAnswer

ANSWER_BYTES = 4 * 1024 * 1024
"""Of an answer that is handed on in one JSON document: a page of 500 usual pods."""
TARGET_CHARACTERS = 8 * 1024
"""Of path and query together, as the surface's own request line."""
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
PATCH_TYPE = "application/strategic-merge-patch+json"
"""What a patch is when nothing is said, as for kubectl."""

_CONTENT_TYPE = re.compile(r"[!-~](?:[ -~]{0,100}[!-~])?")
_POINTER = "use the control plane's address of this cluster, /k8s/clusters/NAME, which streams"


class Wanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a request. `path` may hold a query; `body` is JSON, or text with a content type of its own."""

    method: str
    path: str
    body: msgspec.Raw = msgspec.Raw()
    content_type: str = ""
    accept: str = "application/json"


async def proxy(request: web.Request) -> web.StreamResponse:
    """Make one request as the caller, and hand on what the API server answers."""
    wanted = await read_json(request, Wanted)
    ask = _ask(wanted, caller_of(request).right)
    passage = live_of(request).passage()
    found = passage.judge(ask)
    async with passage.ask(ask) as answer:
        try:
            body = await answer.read(ANSWER_BYTES)
        except TooLarge as error:
            reason = f"the answer is larger than {ANSWER_BYTES} bytes"
            raise SurfaceError("too_large", reason, hint=f"ask for less (limit, selectors), or {_POINTER}") from error
        return answered(_told(passage.origins(), found, answer, body))


def _ask(wanted: Wanted, right: Right) -> Ask:
    """Check what a caller wants. Raises: SurfaceError."""
    if wanted.method not in METHODS:
        raise SurfaceError("bad_request", f"method must be one of {', '.join(METHODS)}")
    if not wanted.path.startswith("/") or len(wanted.path) > TARGET_CHARACTERS:
        raise SurfaceError("bad_request", f"path must begin with / and have {TARGET_CHARACTERS} characters at most")
    for name, value in (("content_type", wanted.content_type), ("accept", wanted.accept)):
        if value and _CONTENT_TYPE.fullmatch(value) is None:
            raise SurfaceError("bad_request", f"{name} is not a media type")
    _refuse_endless(wanted.path.partition("?")[2])
    body = _body(wanted.body)
    if body and wanted.method in ("GET", "HEAD"):
        raise SurfaceError("bad_request", f"{wanted.method} takes no body")
    usual = PATCH_TYPE if wanted.method == "PATCH" else "application/json"
    return Ask(wanted.method, wanted.path, right, body, wanted.content_type or usual, wanted.accept or "*/*")


def _refuse_endless(query: str) -> None:
    """Raises: SurfaceError: the query asks for something that does not end."""
    for name in (b"watch", b"follow"):
        value = first_value(query.encode("utf-8"), name)
        if value is not None and value.lower() not in (b"0", b"false"):
            hint = "use /api/realtime/events or /api/k8s/logs"
            raise SurfaceError("bad_request", f"{name.decode()} does not end, and so does not pass here", hint=hint)


def _body(raw: msgspec.Raw) -> bytes:
    """Return the bytes to send: JSON as it came; of a JSON text what it says."""
    data = bytes(raw)
    if data[:1] != b'"':
        return b"" if data == b"null" else data
    return msgspec.json.decode(data, type=str).encode()


def _told(origins: tuple[bytes, ...], found: AccessTuple, answer: Answer, body: bytes) -> dict[str, Any]:
    fields = [
        (name, sent, heads.without_origin(value, origins) if name == b"location" else value)
        for name, sent, value in answer.head.fields
    ]
    try:
        lines = heads.answer(fields, prefix=b"", access=found)
    except BadAnswer as error:
        raise unavailable("the API server's answer", str(error)) from error
    headers: dict[str, str] = {}
    for name, value in lines:
        key = name.decode("latin-1").lower()
        headers[key] = f"{headers[key]}, {value.decode('latin-1')}" if key in headers else value.decode("latin-1")
    return {"status": answer.head.status, "headers": headers, **_shown(headers.get("content-type", ""), body)}


def _shown(content_type: str, body: bytes) -> dict[str, Any]:
    """Return the body: a JSON value as one, text as text, everything else as base64 under another key."""
    if content_type.partition(";")[0].strip().endswith(("/json", "+json")):
        with contextlib.suppress(msgspec.DecodeError):  # what is not what it says is shown as text
            return {"body": msgspec.json.decode(body, type=msgspec.Raw) if body else None}
    try:
        return {"body": body.decode("utf-8")}
    except UnicodeDecodeError:
        return {"body": None, "body_base64": base64.b64encode(body).decode("ascii")}


_BODY = {
    "type": "object",
    "required": ["method", "path"],
    "additionalProperties": False,
    "properties": {
        "method": {"type": "string", "enum": list(METHODS)},
        "path": {"type": "string", "description": "Path and query of the API server, as kubectl would send them."},
        "body": {"description": "JSON, or a text that is sent as it is."},
        "content_type": {"type": "string", "description": f"Of the body; of a PATCH {PATCH_TYPE} when left out."},
        "accept": {"type": "string", "default": "application/json"},
    },
}

ENDPOINTS = (
    Endpoint(
        "POST",
        "/api/k8s/proxy",
        proxy,
        Right.READ,
        "One request to the Kubernetes API, made as the user towline:local in the group of the token's right.",
        '-X POST -H "Authorization: Bearer $TOKEN" -H "Content-Type: application/json" '
        """-d '{"method": "GET", "path": "/version"}' $URL/api/k8s/proxy""",
        body=_BODY,
        fields=("status", "headers", "body"),
    ),
)
