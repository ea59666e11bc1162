"""Turns rows into what the edge works with: the same object for as long as a row says the same."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Protocol

from towline.control.links.registry import Links
from towline.control.logging import get_logger
from towline.control.routes.targets import RouteTarget, TargetInvalid, restored, shown
from towline.control.sealing.service import CannotOpen
from towline.gateway.balancing import Balanced, Member
from towline.gateway.interfaces import Connector, ToTarget
from towline.gateway.route_options import OptionError, RouteOptions, parse_options
from towline.gateway.routing import PathType, RouteEntry
from towline.gateway.tunnelled import FindSession, TunnelConnector
from towline.tunnel.session import Session

_log = get_logger("routes")

SEALED_PURPOSE = "route-options"


class Sealer(Protocol):
    """What opens secrets at rest."""

    def open(self, org_id: str, record_id: str, version: int, purpose: str, sealed: bytes) -> bytes: ...


class RouteRow(Protocol):
    """What an entry is made of: a whole row, or the columns that `repository.served` reads."""

    @property
    def id(self) -> str: ...
    @property
    def org_id(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def host(self) -> str: ...
    @property
    def path(self) -> str: ...
    @property
    def path_type(self) -> str: ...
    @property
    def targets(self) -> list[Any]: ...
    @property
    def options(self) -> dict[str, Any]: ...
    @property
    def sealed(self) -> bytes | None: ...


class EntryMaker:
    """Makes entries, and remembers them by id. Args: knows_own_name: the settings say what the server is called."""

    def __init__(self, links: Links, sealer: Sealer, *, knows_own_name: bool) -> None:
        self._links = links
        self._sealer = sealer
        self.knows_own_name = knows_own_name
        self._made: dict[str, tuple[str, RouteEntry]] = {}

    def entry(self, row: RouteRow) -> RouteEntry | None:
        """Return the entry of a row; None for one that this release cannot serve."""
        shape = _shape(row)
        made = self._made.get(row.id)
        if made is not None and made[0] == shape:
            return made[1]
        try:
            entry = RouteEntry(row.id, row.host, self._route(row), row.path, _kind(row))
        except (TargetInvalid, OptionError, CannotOpen) as error:  # one bad row is no reason to serve none
            _log.warning("route not served", route=row.name, why=str(error))
            return None
        self._made[row.id] = (shape, entry)
        return entry

    def forget(self, route_id: str) -> None:
        self._made.pop(route_id, None)

    def forget_but(self, route_ids: Iterable[str]) -> None:
        kept = set(route_ids)
        self._made = {route_id: made for route_id, made in self._made.items() if route_id in kept}

    def session_of(self, cluster_id: str) -> FindSession:
        """Return what finds the session for a new stream of a cluster."""
        links = self._links

        def find() -> Session | None:
            found = links.for_stream(cluster_id)
            return found.session if found is not None else None

        return find

    def options(self, row: RouteRow) -> RouteOptions:
        """Return all options of a row, secret ones included. Raises: OptionError: another release's."""
        return parse_options({**row.options, **open_secrets(self._sealer, row)})

    def _route(self, row: RouteRow) -> ToTarget:
        targets = [(one["cluster_id"], restored(one["target"])) for one in row.targets]
        if not targets:
            raise TargetInvalid("it leads nowhere")
        options = self.options(row)
        host = options.host.encode() if options.host else None
        return ToTarget(row.name, self._connector(targets, options), host, options, row.id, targets[0][0])

    def _connector(self, targets: list[tuple[str, RouteTarget]], options: RouteOptions) -> Connector:
        made = [TunnelConnector(self.session_of(cluster_id), target) for cluster_id, target in targets]
        if len(made) == 1:
            return made[0]
        names = [f"{shown(target)} on {cluster_id}" for cluster_id, target in targets]
        members = [Member(name, one, place[0]) for name, one, place in zip(names, made, targets, strict=True)]
        return Balanced(members, options.balance)


def open_secrets(sealer: Sealer, row: RouteRow) -> dict[str, object]:
    """Return the options of a row that are kept sealed."""
    if row.sealed is None:
        return {}
    found: dict[str, object] = json.loads(sealer.open(row.org_id, row.id, 1, SEALED_PURPOSE, row.sealed))
    return found


def _shape(row: RouteRow) -> str:
    """Return all of a row that an entry is made of."""
    parts = [row.name, row.host, row.path, row.path_type, row.targets, row.options, (row.sealed or b"").hex()]
    return json.dumps(parts, sort_keys=True)


def _kind(row: RouteRow) -> PathType:
    return "exact" if row.path_type == "exact" else "prefix"
