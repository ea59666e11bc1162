"""The table of published routes: which one answers for a host and a path. Pure: filled by others, asked per request.

Precedence among the routes that match: exact host before wildcard, Exact before Prefix, the longest path.
Source: Kubernetes "Ingress", path types and hostname wildcards; Gateway API, HTTPRoute `matches`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import unquote_to_bytes

from towline.gateway.interfaces import Route

PathType = Literal["exact", "prefix"]
ROOT = b"/"
LONGEST_ODD_BYTES = 2048
"""A path that readers may read differently is read in several ways; a longer one would be work for an attacker."""
_PERCENT, _SEMICOLON, _BACKSLASH = b"%;\\"  # numbers: looking for one is three times as fast as for a text
_DOTS = re.compile(rb"/\.{1,2}(?:[;/]|\Z)")
_PARAMETERS = re.compile(rb";[^/]*")
_SLASHES = re.compile(rb"/{2,}")


class PathRefused(Exception):
    """Two readers of this path could disagree about which route it belongs to."""


@dataclass(frozen=True, slots=True)
class RouteEntry:
    """One route as the table holds it. `host` is lower case, or `*.` and a name; `path` begins with a slash."""

    id: str
    host: str
    route: Route
    """What the edge does with a request: the same object for as long as the route is unchanged."""
    path: str = "/"
    path_type: PathType = "prefix"

    @property
    def claim(self) -> tuple[str, PathType, bytes]:
        """What no other entry may claim as well."""
        return self.host, self.path_type, self.key

    @property
    def key(self) -> bytes:
        """The path as the table compares it: a Prefix matches whole segments, so its last slash says nothing."""
        raw = self.path.encode()
        return raw if self.path_type == "exact" else raw.rstrip(b"/") or ROOT


@dataclass(slots=True)
class _Paths:
    """The routes of one host."""

    exact: dict[bytes, RouteEntry] = field(default_factory=dict)
    prefix: dict[bytes, RouteEntry] = field(default_factory=dict)
    root: RouteEntry | None = None
    only_root: bool = False
    """Every path belongs to `root`, so that paths need not be looked at."""
    longest: int = 0

    def settle(self) -> None:
        self.root = self.prefix.get(ROOT)
        self.only_root = self.root is not None and len(self.prefix) == 1 and not self.exact
        self.longest = max(map(len, self.prefix), default=0)

    def of(self, kind: PathType) -> dict[bytes, RouteEntry]:
        return self.exact if kind == "exact" else self.prefix

    def match(self, path: bytes) -> RouteEntry | None:
        if self.exact and path in self.exact:
            return self.exact[path]
        prefix = self.prefix
        if path in prefix:
            return prefix[path]
        end = path.rfind(b"/", 1, self.longest + 1)
        while end > 0:
            found = prefix.get(path[:end])
            if found is not None:
                return found
            end = path.rfind(b"/", 1, end)
        return self.root


class RouteTable:
    """Every published route. `find` takes no longer with fifty thousand of them than with ten."""

    def __init__(self, entries: Iterable[RouteEntry] = ()) -> None:
        self._by_id: dict[str, RouteEntry] = {}
        self._hosts: dict[str, _Paths] = {}
        self._wild: dict[str, _Paths] = {}
        """By what stands behind the `*`, with its dot: no host without one finds anything here."""
        self.replace(entries)

    def __repr__(self) -> str:
        return f"<RouteTable {len(self)} routes>"

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[RouteEntry]:
        return iter(list(self._by_id.values()))

    def __contains__(self, route_id: object) -> bool:
        return route_id in self._by_id

    def get(self, route_id: str) -> RouteEntry | None:
        return self._by_id.get(route_id)

    def replace(self, entries: Iterable[RouteEntry]) -> None:
        """Hold these routes and no others. Of two with one claim the first stays."""
        self._by_id, self._hosts, self._wild = {}, {}, {}
        for entry in entries:
            self.put(entry)

    def put(self, entry: RouteEntry) -> RouteEntry | None:
        """Add a route, or change the one of that id.

        Returns: the route that holds this claim already, when it is another one; the table is then without `entry`.
        """
        self.remove(entry.id)
        places, name = self._place(entry.host)
        paths = places.setdefault(name, _Paths())
        held = paths.of(entry.path_type).setdefault(entry.key, entry)
        paths.settle()
        if held is not entry:
            return held
        self._by_id[entry.id] = entry
        return None

    def remove(self, route_id: str) -> None:
        """Take a route out; nothing happens when it is not there."""
        entry = self._by_id.pop(route_id, None)
        if entry is None:
            return
        places, name = self._place(entry.host)
        paths = places[name]
        del paths.of(entry.path_type)[entry.key]
        if paths.exact or paths.prefix:
            paths.settle()
        else:
            del places[name]

    def find(self, host: str, path: bytes) -> RouteEntry | None:
        """Return the route of a request, or None.

        Args: host: lower case, without port. path: as it was sent, without the query.
        Raises: PathRefused: the path decides, and it could be read in two ways.
        """
        exact = self._hosts.get(host)
        if exact is not None:
            if exact.only_root:
                return exact.root
            if (
                _PERCENT in path
                or _SEMICOLON in path
                or _BACKSLASH in path
                or path.find(b"//") >= 0
                or path.find(b"/.") >= 0
            ):
                return _read(exact, self._wildcard(host), path)
            found = exact.match(path)
            if found is not None:
                return found
        wild = self._wildcard(host) if self._wild else None
        if wild is None or wild.only_root:
            return wild.root if wild is not None else None
        if (
            _PERCENT in path
            or _SEMICOLON in path
            or _BACKSLASH in path
            or path.find(b"//") >= 0
            or path.find(b"/.") >= 0
        ):
            return _read(exact, wild, path)
        return wild.match(path)

    def _wildcard(self, host: str) -> _Paths | None:
        return self._wild.get(host[host.find(".") :])

    def claims(self, host: str) -> tuple[RouteEntry, ...]:
        """Return every route that can answer for a host name, exact ones first."""
        found = (self._hosts.get(host), self._wildcard(host))
        return tuple(
            entry for paths in found if paths for kind in (paths.exact, paths.prefix) for entry in kind.values()
        )

    def hosts(self) -> frozenset[str]:
        """Return every host that has a route; wildcards as `*.NAME`."""
        return frozenset(self._hosts) | frozenset(f"*{name}" for name in self._wild)

    def _place(self, host: str) -> tuple[dict[str, _Paths], str]:
        return (self._wild, host[1:]) if host.startswith("*.") else (self._hosts, host)


def _match(exact: _Paths | None, wild: _Paths | None, path: bytes) -> RouteEntry | None:
    found = exact.match(path) if exact is not None else None
    if found is None and wild is not None:
        found = wild.match(path)
    return found


def _read(exact: _Paths | None, wild: _Paths | None, path: bytes) -> RouteEntry | None:
    """Match an odd path by every reading of it; they must agree."""
    readings = _readings(path)
    found = _match(exact, wild, readings[0])
    if any(_match(exact, wild, other) is not found for other in readings[1:]):
        raise PathRefused("this path can be read in two ways, and they belong to different routes")
    return found


def _readings(path: bytes) -> list[bytes]:
    """Return how the usual readers see a path: with its encoded slashes, parameters and doubled slashes, or without.

    Raises: PathRefused: relative segments, which clients resolve before they ask (RFC 3986, 5.2.4), or too long.
    """
    if len(path) > LONGEST_ODD_BYTES:
        raise PathRefused("a path this long must be plain")
    once = unquote_to_bytes(path)
    twice = unquote_to_bytes(once)
    bare = _PARAMETERS.sub(b"", path)
    readings = [_kept(path), once, twice, unquote_to_bytes(bare)]
    readings += [_SLASHES.sub(b"/", _PARAMETERS.sub(b"", one.replace(b"\\", b"/"))) for one in (*readings,)]
    if any(_DOTS.search(one) for one in readings):
        raise PathRefused("the path holds relative segments")
    return readings


def _kept(path: bytes) -> bytes:
    """Decode once, but keep an encoded slash as part of its segment, as most routers do."""
    return b"%2F".join(unquote_to_bytes(part) for part in re.split(rb"%2[fF]", path))
