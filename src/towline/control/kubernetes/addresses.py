"""Which cluster a request is for: by the prefix of its path, or by a host name of the cluster's own. Pure.

What is taken off is the prefix and nothing else; the rest of the target stays byte for byte as the client sent it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from towline.kube.paths import PREFIX, split_prefix
from towline.wire.http1 import RequestHead

PATHS = b"/k8s/"
"""Everything below belongs to clusters, also what names none."""
_LABEL = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class Address:
    """A cluster by name, and what is asked of its API server."""

    cluster: str
    path: bytes
    """Raw, without the query; at least `/`."""
    query: bytes
    target: bytes
    """What the API server gets as its request target."""
    prefix: bytes
    """To put before locations in answers; empty on a host of the cluster's own."""


def find(head: RequestHead, base_host: str) -> Address | None:
    """Return what a request is for; None when it names no cluster.

    Args: base_host: `k8s.example.com` when clusters are reached as `NAME.k8s.example.com` too; else empty.
    """
    path, mark, query = head.target.partition(b"?")
    if base_host and head.host.endswith(f".{base_host}"):
        name = head.host[: -len(base_host) - 1]
        return Address(name, path, query, head.target, b"") if is_reachable(name) else None
    found = split_prefix(path)
    if found is None:
        return None
    name, rest = found
    return Address(name, rest, query, rest + mark + query, PREFIX + name.encode("ascii"))


def is_reachable(name: str) -> bool:
    """Tell whether a cluster of this name can be reached at all: it has to be one DNS label."""
    return _LABEL.fullmatch(name) is not None
