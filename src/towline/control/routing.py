"""Where the edge sends each request: agent links, published host names, clusters, our own API, or a word about a
wrong address.

On the hot path: dictionaries only, no database, no waiting.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from typing import Protocol

from towline.control.kubernetes.addresses import PATHS
from towline.gateway.errors import status_body
from towline.gateway.interfaces import Answer, Later, Peer, Route, ToApi, ToLink
from towline.gateway.paths import LINK_PATH, MISSING_PREFIX, is_stray_kubernetes
from towline.wire.http1 import RequestHead

_API = ToApi()
_LINK = ToLink()
_STRAY = Answer(404, "missing_cluster_prefix", MISSING_PREFIX, status_body(404, MISSING_PREFIX))

Published = Callable[[str, bytes], Route | None]
"""Finds what answers for a host and a raw path; None for a host where nothing is published."""


class ServerRouter:
    """Implements `gateway.interfaces.Router`."""

    def __init__(
        self, published: Published, clusters: Later, *, cluster_hosts: str = "", links: Collection[bytes] = ()
    ) -> None:
        """`links` are the paths at which agents of older systems begin theirs."""
        self._published = published
        self._clusters = clusters
        self._links = frozenset((LINK_PATH, *links))
        self._cluster_hosts = f".{cluster_hosts}" if cluster_hosts else None

    def route(self, head: RequestHead, peer: Peer) -> Route:
        """Return the route of one request. A published name belongs to its service alone, whatever the path."""
        found = self._published(head.host, head.path)
        if found is not None:
            return found
        if head.target.startswith(PATHS) or (self._cluster_hosts and head.host.endswith(self._cluster_hosts)):
            return self._clusters
        if head.path in self._links:
            return _LINK
        return _STRAY if is_stray_kubernetes(head.path) else _API


class TunnelDoor(Protocol):
    """What takes a connection over once its request head was read: `tunnel.accept.LinkAcceptor`."""

    def accept(self, transport: asyncio.Transport, head: bytes, remote_address: str) -> None: ...


class LinkHandover:
    """Implements `gateway.interfaces.LinkAcceptor`: the tunnel's door, and those of older protocols by their paths."""

    def __init__(self, door: TunnelDoor, others: Mapping[bytes, TunnelDoor]) -> None:
        self._door = door
        self._others = others

    def accept(self, transport: asyncio.Transport, head_bytes: bytes, peer: Peer) -> None:
        path = head_bytes.split(b" ", 2)[1].partition(b"?")[0]
        self._others.get(path, self._door).accept(transport, head_bytes, peer.address)
