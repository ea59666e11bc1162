"""Telling a PipeOps control plane which names this cluster's ingresses claim, by its REST calls.

Each change is followed by a whole list, an empty one included: so that what is gone is gone there too. Names that
nobody claims any more are taken back one by one besides, which is what older control planes wait for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec
import structlog

from towline.agent.protocols.pipeops.calls import Calls, Unanswered
from towline.aio.streams import Broken
from towline.wire import link, streams
from towline.wire import pipeops_routes as wire
from towline.wire.link import RouteClaim

ATTEMPTS = 3
"""Of one list; the next change, or the next connection, tells it again."""

_TAKEN = frozenset({200})
_log = structlog.get_logger("towline.agent.pipeops")


class RouteCaller:
    """Where a `RouteTeller` tells its routes: `send` is all that it asks of a session."""

    def __init__(self, calls: Calls, cluster: str, is_private: Callable[[], bool | None]) -> None:
        self._calls = calls
        self._cluster = cluster
        self._is_private = is_private
        self._claims: dict[str, RouteClaim] = {}
        self._gathering: dict[str, RouteClaim] = {}

    def __repr__(self) -> str:
        return f"<RouteCaller {len(self._claims)} claims>"

    async def send(self, message: link.Message) -> None:
        """Tell what a message says. Raises: StreamError: it was not taken."""
        if not isinstance(message, link.Routes):
            return
        before = hosts(self._claims.values())
        if not self._apply(message):
            return
        try:
            for host in sorted(before - hosts(self._claims.values())):
                body = wire.UnregisterRoute(hostname=host, cluster_uuid=self._cluster)
                await self._post(wire.UNREGISTER_PATH, msgspec.json.encode(body))
            await self._post(wire.SYNC_PATH, msgspec.json.encode(self._list()))
        except Unanswered as error:
            _log.warning("routes not taken", reason=str(error))
            raise Broken(f"routes not taken: {error}") from error

    def _apply(self, message: link.Routes) -> bool:
        """Take a message's claims. Returns: whether the list is whole."""
        if message.full:
            self._gathering |= {claim.ref: claim for claim in message.claims}
            if message.more:
                return False
            self._claims, self._gathering = self._gathering, {}
            return True
        for ref in message.removed:
            self._claims.pop(ref, None)
        self._claims |= {claim.ref: claim for claim in message.claims}
        return True

    async def _post(self, path: str, body: bytes) -> None:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                await self._calls.post(path, body, _TAKEN)
                return
            except Unanswered:
                if attempt == ATTEMPTS:
                    raise

    def _list(self) -> wire.SyncIngresses:
        by_ingress: dict[tuple[str, str], list[RouteClaim]] = {}
        for claim in self._claims.values():
            if isinstance(claim.target, streams.KubeService) and claim.host and not claim.problem:
                by_ingress.setdefault((claim.target.namespace, _ingress(claim)), []).append(claim)
        return wire.SyncIngresses(
            cluster_uuid=self._cluster,
            ingresses=tuple(_synced(namespace, name, claims) for (namespace, name), claims in by_ingress.items()),
            routing_mode="direct" if self._is_private() is False else "tunnel",
        )


def hosts(claims: Iterable[RouteClaim]) -> set[str]:
    """Return the host names that are claimed."""
    return {claim.host for claim in claims if claim.host}


def _ingress(claim: RouteClaim) -> str:
    """Return the name of what claims: `ingress/NAMESPACE/NAME/RULE/PATH` says it."""
    parts = claim.ref.split("/")
    return parts[2] if len(parts) > 2 else claim.ref


def _synced(namespace: str, name: str, claims: Iterable[RouteClaim]) -> wire.SyncedIngress:
    by_host: dict[str, list[RouteClaim]] = {}
    for claim in claims:
        by_host.setdefault(claim.host, []).append(claim)
    rules = tuple(
        wire.Rule(host=host, tls=any(each.tls for each in found), paths=tuple(map(_path, found)))
        for host, found in by_host.items()
    )
    return wire.SyncedIngress(namespace=namespace, ingress_name=name, rules=rules)


def _path(claim: RouteClaim) -> wire.RulePath:
    assert isinstance(claim.target, streams.KubeService)
    port = int(claim.target.port) if claim.target.port.isdigit() else 0
    kind = "Exact" if claim.path_type == "exact" else "Prefix"
    return wire.RulePath(path=claim.path, path_type=kind, service_name=claim.target.name, service_port=port)
