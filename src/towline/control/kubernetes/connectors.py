"""One connector for each identity in each cluster, so that idle streams are never shared between two of them."""

from __future__ import annotations

from collections import OrderedDict

from towline.control.links.registry import Links
from towline.gateway.tunnelled import TunnelConnector
from towline.tunnel.session import Session
from towline.wire import streams

MOST = 4096
"""Identities kept; one that is forgotten gets a new pool with its next request."""

_Key = tuple[str, str, tuple[str, ...], tuple[tuple[str, tuple[str, ...]], ...]]


class Connectors:
    """Hands out connectors; the same object for the same identity."""

    def __init__(self, links: Links) -> None:
        self._links = links
        self._known: OrderedDict[_Key, TunnelConnector] = OrderedDict()

    def __repr__(self) -> str:
        return f"<Connectors {len(self._known)} known>"

    def get(self, cluster_id: str, target: streams.Kube) -> TunnelConnector:
        """Return the way to a cluster's API as somebody."""
        key = (cluster_id, target.user, target.groups, tuple(sorted(target.extra.items())))
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = TunnelConnector(lambda: self._session(cluster_id), target)
            if len(self._known) > MOST:
                self._known.popitem(last=False)
        else:
            self._known.move_to_end(key)
        return found

    def _session(self, cluster_id: str) -> Session | None:
        found = self._links.for_stream(cluster_id)
        return found.session if found is not None else None
