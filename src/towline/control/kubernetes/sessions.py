"""Requests to clusters that open a shell, as recordings know sessions: what they are, and whether they can be read.

Pure. A policy is asked, and bytes are read, elsewhere.
"""

from __future__ import annotations

import json
from urllib.parse import parse_qsl, unquote

from towline.control.kubernetes.places import Place
from towline.control.kubernetes.requests import Asked
from towline.control.recordings.policy import Session
from towline.kube.access import first_value
from towline.kube.channels import STDERR, STDOUT, Decoder, Undecodable, WebSocketChannels, is_known
from towline.kube.spdy import SpdyStreams
from towline.wire.http1 import ResponseHead

SHELLS = frozenset({"exec", "attach"})
KUBELET_SHELLS = ("exec", "attach", "run", "cri")
"""What a kubelet runs commands by, when it is reached through `nodes/proxy`: nothing of that can be read along."""
_FALSE = (b"false", b"0")
_PROTOCOL = b"sec-websocket-protocol"
WEBSOCKET, SPDY = b"websocket", b"spdy/3.1"


def opens_shell(asked: Asked) -> bool:
    """Tell whether a request is one that a recording policy is about."""
    access = asked.access
    if access.kind == "nodes/proxy":
        return is_kubelet_shell(asked)
    return access.resource == "pods" and access.subresource in SHELLS and asked.is_upgrade


def is_kubelet_shell(asked: Asked) -> bool:
    """Tell whether a request runs a command past the API server. In doubt it does."""
    if asked.access.kind != "nodes/proxy":
        return False
    tail = unquote(asked.access.path.partition("/proxy")[2]).lower()
    return any(word in KUBELET_SHELLS for word in tail.replace("\\", "/").split("/"))


def session_of(asked: Asked, place: Place) -> Session:
    """Return what somebody opens."""
    access, query = asked.access, asked.address.query
    pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True) if query else []
    return Session(
        "kubernetes", place.id, place.name, action=access.subresource, namespace=access.namespace, target=access.name,
        container=(first_value(query, b"container") or b"").decode("utf-8", "replace"),
        argv=[value.encode("latin-1").decode("utf-8", "replace") for key, value in pairs if key == "command"],
        tty=_flag(query, b"tty"), takes_input=_flag(query, b"stdin"),
    )  # fmt: skip


def unreadable(asked: Asked) -> str:
    """Say why a shell cannot be read along, as far as its request tells; empty when it can."""
    if is_kubelet_shell(asked):
        return "a command that a kubelet runs, past the API server, cannot be recorded"
    upgrade = (asked.head.upgrade or b"").lower()
    if upgrade == SPDY:
        return ""
    if upgrade != WEBSOCKET:
        return "its protocol is unknown"
    offered = [value for name, _, value in asked.fields if name == _PROTOCOL]
    words = [word.strip().decode("latin-1") for value in offered for word in value.split(b",")]
    return "" if not words or any(is_known(word) for word in words) else "its channels are of a kind that is unknown"


def decoder_of(answer: ResponseHead, *, keys: bool) -> tuple[Decoder, str]:
    """Return what reads a shell along, and the protocol of its WebSocket. Raises: Undecodable."""
    if (answer.upgrade or b"").lower() == SPDY:
        return SpdyStreams(keys=keys), ""
    if answer.get(b"sec-websocket-extensions") is not None:
        raise Undecodable("the WebSocket uses an extension")
    protocol = (answer.get(_PROTOCOL) or b"").decode("latin-1").strip()
    return WebSocketChannels(protocol, keys=keys), protocol


def note_channel(asked: Asked) -> int | None:
    """Return where a sentence disturbs no program: errors, or a terminal's screen; None when there is no such place."""
    query = asked.address.query
    if _flag(query, b"tty"):
        return STDOUT
    return STDERR if _flag(query, b"stderr", default=True) else None


def exit_of(status: bytes) -> str:
    """Return how a command ended in a few characters, from the Status that an API server sends last."""
    try:
        found = json.loads(status)
        if found.get("status") == "Success":
            return "0"
        causes = (found.get("details") or {}).get("causes") or [{}]
        return str(causes[0].get("message") if causes[0].get("reason") == "ExitCode" else found.get("message") or "")
    except (ValueError, AttributeError, TypeError, IndexError):
        return ""


def _flag(query: bytes, name: bytes, *, default: bool = False) -> bool:
    value = first_value(query, name)
    return default if value is None else value.lower() not in _FALSE
