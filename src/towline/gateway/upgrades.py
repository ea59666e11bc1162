"""Which protocol upgrades pass the edge at all. Whether somebody may use one is decided behind it. Pure functions."""

import re

from towline.wire.http1 import Framing, HeadError, RequestHead

_PROTOCOL = re.compile(rb"[A-Za-z0-9.\-]{1,32}(?:/[0-9.]{1,8})?")
_WEBSOCKET_KEY = re.compile(rb"[A-Za-z0-9+/]{21}[AQgw]==")


def is_websocket(head: RequestHead) -> bool:
    """True for a request that asks for a WebSocket."""
    return head.upgrade is not None and head.upgrade.lower() == b"websocket"


def check_upgrade(head: RequestHead) -> None:
    """Refuse upgrades that could end in two readers disagreeing about the bytes behind the head.

    Raises: HeadError: HTTP/2 by upgrade, a choice of protocols, one with a body, or a malformed WebSocket handshake
    (RFC 6455 section 4.2.1).
    """
    upgrade = head.upgrade
    if upgrade is None:
        return
    if _PROTOCOL.fullmatch(upgrade) is None or upgrade.lower().startswith((b"h2", b"http/", b"tls/")):
        raise HeadError(400, "bad_upgrade", "this upgrade is not served here")
    if head.framing is not Framing.NONE:
        raise HeadError(400, "bad_upgrade", "a request that asks for an upgrade must not have a body")
    if is_websocket(head):
        _check_websocket(head)


def _check_websocket(head: RequestHead) -> None:
    values: dict[bytes, list[bytes]] = {b"sec-websocket-version": [], b"sec-websocket-key": []}
    for lower, _, value in head.fields:
        if lower in values:
            values[lower].append(value)
    if values[b"sec-websocket-version"] != [b"13"]:
        raise HeadError(426, "bad_websocket", "only WebSocket version 13 is spoken here")
    keys = values[b"sec-websocket-key"]
    if head.method != b"GET" or len(keys) != 1 or _WEBSOCKET_KEY.fullmatch(keys[0]) is None:
        raise HeadError(400, "bad_websocket", "malformed WebSocket handshake")
