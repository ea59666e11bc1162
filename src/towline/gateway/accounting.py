"""The last word on each request: counters, and a record for the access log. Decides nothing."""

import random
import time
from typing import Protocol

from towline.gateway.context import EdgeContext
from towline.gateway.interfaces import AccessRecord, Peer, RouteKind, ToTarget
from towline.gateway.route_figures import RouteFigure
from towline.wire.http1 import RequestHead

_TARGET = RouteKind.TARGET


class Finished(Protocol):
    """What is known of a request that is over."""

    head: RequestHead
    peer: Peer
    request_id: str
    kind: RouteKind
    route: str
    published: ToTarget | None
    figure: RouteFigure | None
    status: int
    received_bytes: int
    sent_bytes: int
    started_at: float
    detail: str
    identity_dropped: bool

    @property
    def route_id(self) -> str: ...


def account(finished: Finished, context: EdgeContext, outcome: str) -> None:
    """Count a request and log it; called exactly once for each."""
    counters = context.counters
    counters.requests[(finished.kind, finished.status // 100)] += 1
    counters.received_bytes += finished.received_bytes
    counters.sent_bytes += finished.sent_bytes
    if outcome == "client_gone":
        counters.clients_gone += 1
    if finished.identity_dropped:
        counters.dropped_identities += 1
    seconds = time.monotonic() - finished.started_at
    if finished.figure is not None:
        finished.figure.end(finished.status, finished.received_bytes, finished.sent_bytes, seconds)
        context.tail.add(finished, finished.peer.address, seconds, outcome)
    if context.access_log is not None and (not _is_good(finished, outcome) or _is_sampled(finished, context)):
        context.access_log(_record(finished, outcome, seconds))


def _is_sampled(finished: Finished, context: EdgeContext) -> bool:
    """Tell whether a good request is logged: as its route says, or else as the server does."""
    route = finished.published
    if route is None or route.options is None or route.options.sample is None:
        return context.options.log_good_targets
    return random.random() < route.options.sample  # noqa: S311 which lines are logged is no secret


def _is_good(finished: Finished, outcome: str) -> bool:
    """Tell whether a published service answered, and answered well."""
    if outcome != "done" or finished.kind is not _TARGET:
        return False
    return finished.status < 400 and not finished.identity_dropped


def _record(finished: Finished, outcome: str, seconds: float) -> AccessRecord:
    return AccessRecord(
        request_id=finished.request_id,
        peer=finished.peer,
        method=finished.head.method.decode("ascii"),
        host=finished.head.host,
        path=finished.head.path.decode("ascii"),
        kind=finished.kind,
        route=finished.route,
        status=finished.status,
        received_bytes=finished.received_bytes,
        sent_bytes=finished.sent_bytes,
        seconds=seconds,
        outcome=outcome,
        detail=finished.detail,
        dropped_identity=finished.identity_dropped,
    )
