"""What the ingresses of a PipeOps agent's cluster claim, from its REST calls and messages to claims of our own. Pure.

A registered route replaces what the same ingress had for that host name, an unregistered host name takes all of its
routes with it, a full list replaces everything. An ingress with several paths for a host registers each by itself, one
right after the other: so what is not named again is given up only when such a burst is over.
Source: docs/design/pipeops.md, "Routes".
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, Literal

from towline.wire import link, streams
from towline.wire.pipeops_messages import IngressRoute, IngressRoutes
from towline.wire.pipeops_routes import RegisterRoute, SyncedIngress, SyncIngresses

MOST_KEPT: Final = 5000
"""Claims of one agent, as many as are kept of any cluster."""

BURST_TIMEOUT: Final = 2.0
"""Seconds without a further registration after which those of one ingress are complete: they follow at once."""

MESSAGE_CLAIMS: Final = 200
"""Claims of one message upward."""

MESSAGE_BYTES: Final = 128 * 1024
"""What such a message counts as in the queue: 200 claims of some 600 bytes."""

MOST_PATH_CHARACTERS: Final = 200
_SPECIAL = re.compile(r"[()\[\]{}*+?|^$\\]")
"""What makes a path a regular expression, which controllers read each in their own way."""

PathType = Literal["exact", "prefix"]
Key = tuple[str, str]
"""Host, and the name of the ingress."""


@dataclass(frozen=True, slots=True)
class Changed:
    """What has to be told. `full`: the claims replace all that were."""

    claims: tuple[link.RouteClaim, ...] = ()
    removed: tuple[str, ...] = ()
    full: bool = False


@dataclass(slots=True)
class _Group:
    """What one ingress claims for one host; of each claim when it was named last."""

    claims: dict[str, link.RouteClaim] = field(default_factory=dict)
    named_at: dict[str, float] = field(default_factory=dict)
    burst_at: float | None = None
    """When the registrations began that are not complete yet."""
    last_at: float = 0.0


class Book:
    """The claims of one agent. Kept over its connections: it tells them again only now and then."""

    def __init__(self) -> None:
        self.is_whole = False
        """A full list was told, so that what is not in here is not there."""
        self.left_out = 0
        """Claims beyond MOST_KEPT."""
        self._groups: dict[Key, _Group] = {}

    def __repr__(self) -> str:
        return f"<Book of {len(self)} claims>"

    def __len__(self) -> int:
        return sum(len(group.claims) for group in self._groups.values())

    def hosts(self) -> set[str]:
        """Return the host names that are claimed."""
        return {host for host, _ in self._groups}

    def listing(self) -> Changed:
        """Return everything that is claimed."""
        claims = tuple(claim for group in self._groups.values() for claim in group.claims.values())
        return Changed(claims, full=self.is_whole)

    def registered(self, route: RegisterRoute, now: float) -> Changed:
        """One path of an ingress is there, or has changed. Call `settle` BURST_TIMEOUT later."""
        claim = claim_of(
            route.hostname, route.path, route.path_type, route.tls, namespace=route.namespace,
            ingress=route.ingress_name, service=(route.namespace, route.service_name, route.service_port),
        )  # fmt: skip
        group = self._group(claim.host, route.ingress_name)
        if group.burst_at is None or now - group.last_at >= BURST_TIMEOUT:
            group.burst_at = now
        group.last_at = now
        return Changed(claims=self._put(group, [claim], now))

    def settle(self, now: float) -> Changed | None:
        """Give up what was not named again in registrations that are complete; None: there is nothing."""
        removed: list[str] = []
        for group in self._groups.values():
            if group.burst_at is None or now - group.last_at < BURST_TIMEOUT:
                continue
            removed += [ref for ref, at in group.named_at.items() if at < group.burst_at]
            group.burst_at = None
        self._drop(removed)
        return Changed(removed=tuple(removed)) if removed else None

    def unregistered(self, host: str) -> Changed:
        """An ingress is gone: every claim for its host is."""
        host = clean_host(host)
        gone = [key for key in self._groups if key[0] == host]
        return Changed(removed=tuple(ref for key in gone for ref in self._groups.pop(key).claims))

    def synced(self, listing: SyncIngresses, now: float) -> Changed:
        """Every managed ingress of the cluster."""
        self._groups.clear()
        self.is_whole = True
        for ingress in listing.ingresses:
            for claim in claims_of(ingress, listing):
                self._put(self._group(claim.host, ingress.ingress_name), [claim], now)
        return self.listing()

    def told(self, message: IngressRoutes, now: float = 0.0) -> Changed:
        """Routes as older agents tell them: single paths that come or go, or all of them."""
        action = message.action.lower()
        if action in ("add", "update"):
            return Changed(claims=tuple(claim for route in message.routes for claim in self._add(route, now)))
        if action == "delete":
            return Changed(removed=tuple(ref for route in message.routes for ref in self._delete(route)))
        self._groups.clear()
        self.is_whole = True
        for route in message.routes:
            self._add(route, now)
        return self.listing()

    def _add(self, route: IngressRoute, now: float) -> tuple[link.RouteClaim, ...]:
        name = f"path:{route.path or '/'}"
        claim = claim_of(
            route.host, route.path, "", route.tls, namespace=route.namespace, ingress=route.service,
            service=(route.namespace, route.service, route.port),
        )  # fmt: skip
        self._groups.pop((claim.host, name), None)
        return self._put(self._group(claim.host, name), [claim], now)

    def _delete(self, route: IngressRoute) -> Iterator[str]:
        host, name = clean_host(route.host), f"path:{route.path or '/'}"
        for key in [key for key in self._groups if key[0] == host and (not route.path or key[1] == name)]:
            yield from self._groups.pop(key).claims

    def _group(self, host: str, ingress: str) -> _Group:
        return self._groups.setdefault((host, ingress), _Group())

    def _put(self, group: _Group, claims: Iterable[link.RouteClaim], now: float) -> tuple[link.RouteClaim, ...]:
        kept = []
        for claim in claims:
            if claim.ref not in group.claims and len(self) >= MOST_KEPT:
                self.left_out += 1
                continue
            group.claims[claim.ref] = claim
            group.named_at[claim.ref] = now
            kept.append(claim)
        return tuple(kept)

    def _drop(self, refs: Iterable[str]) -> None:
        gone = set(refs)
        for key, group in list(self._groups.items()):
            for ref in gone & group.claims.keys():
                del group.claims[ref], group.named_at[ref]
            if not group.claims:
                del self._groups[key]


def claims_of(ingress: SyncedIngress, listing: SyncIngresses) -> Iterator[link.RouteClaim]:
    """Return what one ingress of a full list claims."""
    controller = listing.ingress_controller
    for rule in ingress.rules:
        for path in rule.paths:
            is_controller = controller is not None and controller.name == path.service_name
            namespace = controller.namespace if controller is not None and is_controller else ingress.namespace
            yield claim_of(
                rule.host, path.path, path.path_type, rule.tls, namespace=ingress.namespace,
                ingress=ingress.ingress_name, service=(namespace, path.service_name, path.service_port),
            )  # fmt: skip


def claim_of(
    host: str, path: str, path_type: str, tls: bool, *, namespace: str, ingress: str, service: tuple[str, str, int]
) -> link.RouteClaim:
    """Return one claim. service: namespace, name and port of what answers."""
    host = clean_host(host)
    kind: PathType = "exact" if path_type.lower() == "exact" else "prefix"
    text, notes = literal(path or "/")
    where, name, port = service
    return link.RouteClaim(
        ref=ref_of(namespace, ingress, host, kind, text),
        source="ingress",
        host=host,
        path=text,
        path_type=kind,
        target=streams.KubeService(namespace=where, name=name, port=str(port)),
        tls=tls,
        notes=notes,
        problem="" if 0 < port < 2**16 and name else "the agent names no service or port for it",
    )


def literal(path: str) -> tuple[str, tuple[str, ...]]:
    """Return the prefix of a path that holds nothing special, and what has to be said of the rest."""
    special = _SPECIAL.search(path)
    if special is None:
        return path if path.startswith("/") else f"/{path}", ()
    prefix = path[: special.start()].rpartition("/")[0] or "/"
    prefix = prefix if prefix.startswith("/") else f"/{prefix}"
    return prefix, (f"the path {path[:100]} is a regular expression: everything below {prefix} goes to the controller",)


def clean_host(host: str) -> str:
    """Return a host in lower case without a root dot; empty for `*`, which names none."""
    host = host.strip().lower().removesuffix(".")
    return "" if host == "*" else host


def ref_of(namespace: str, ingress: str, host: str, kind: PathType, path: str) -> str:
    """Return the ref of one host and path of an ingress, in the form that our own agent gives them."""
    if len(path) > MOST_PATH_CHARACTERS:
        path = f"{path[:MOST_PATH_CHARACTERS]}~{hashlib.sha256(path.encode()).hexdigest()[:16]}"
    return f"ingress/{namespace or '-'}/{ingress or '-'}/{host or '*'}/{kind}{path}"


def messages_of(changed: Changed, sequence: int) -> Iterator[link.Routes]:
    """Cut what has changed into messages, numbered behind a sequence."""
    cuts = range(0, max(1, len(changed.claims)), MESSAGE_CLAIMS)
    for number, at in enumerate(cuts):
        yield link.Routes(
            full=changed.full,
            sequence=sequence + number + 1,
            more=changed.full and number < len(cuts) - 1,
            sources=("ingress",) if changed.full else None,
            claims=changed.claims[at : at + MESSAGE_CLAIMS],
            removed=changed.removed if number == 0 else (),
        )
