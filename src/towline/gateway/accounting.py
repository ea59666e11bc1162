"""The last word on each request: counters, and a record for the access log. Decides nothing."""

import time
from typing import Protocol

from towline.gateway.counters import EdgeCounters
from towline.gateway.interfaces import AccessLog, AccessRecord, Peer, RouteKind
from towline.wire.http1 import RequestHead


class Finished(Protocol):
    """What is known of a request that is over."""

    head: RequestHead
    peer: Peer
    request_id: str
    kind: RouteKind
    route: str
    status: int
    received_bytes: int
    sent_bytes: int
    started_at: float
    detail: str
    identity_dropped: bool


def account(finished: Finished, counters: EdgeCounters, access_log: AccessLog | None, outcome: str) -> None:
    """Count a request and log it; called exactly once for each."""
    counters.requests[(finished.kind, finished.status // 100)] += 1
    counters.received_bytes += finished.received_bytes
    counters.sent_bytes += finished.sent_bytes
    if outcome == "client_gone":
        counters.clients_gone += 1
    if finished.identity_dropped:
        counters.dropped_identities += 1
    if access_log is not None:
        access_log(_record(finished, outcome))


def _record(finished: Finished, outcome: str) -> AccessRecord:
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
        seconds=time.monotonic() - finished.started_at,
        outcome=outcome,
        detail=finished.detail,
        dropped_identity=finished.identity_dropped,
    )
