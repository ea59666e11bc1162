"""What the agents of clusters claim, as rows: those whose secrets cannot be opened are sealed anew."""

import os
from datetime import UTC, datetime
from typing import cast

from towline.control.audit.service import AuditLog
from towline.control.clusters.models import Cluster
from towline.control.db import Transaction
from towline.control.domains.names import Ownership
from towline.control.routes.claims import claimed, name_of
from towline.control.routes.entries import open_secrets
from towline.control.routes.intake import Pending
from towline.control.routes.models import ClusterGateway, PublishedRoute
from towline.control.routes.writing import ClaimWriter, _Work
from towline.control.sealing.ring import KeyRing
from towline.control.sealing.service import Sealer
from towline.wire import link
from towline.wire.streams import Tcp

HEADERS = {"Authorization": "Bearer planted-4711"}
OWNERSHIP = Ownership("", frozenset())


def new_writer() -> tuple[ClaimWriter, Sealer]:
    sealer = Sealer(KeyRing({"k": os.urandom(32)}))
    return ClaimWriter(cast(AuditLog, None), sealer, lambda: OWNERSHIP, 1.0, 1.0), sealer


async def test_a_claim_whose_row_cannot_be_opened_is_sealed_anew() -> None:
    told = link.RouteClaim(
        ref="compose/shop/web/a", source="compose", host="a.example.net", target=Tcp(host="h", port=1),
        options={"set_request_headers": "Authorization: Bearer planted-4711"},
    )  # fmt: skip
    one = claimed(told, "clu_1", "edge-1", OWNERSHIP)
    cluster = Cluster(id="clu_1", org_id="org_1", name="edge-1")
    work = _Work(cluster, ClusterGateway(baselines=[]), Pending(), {}, datetime(2026, 1, 1, tzinfo=UTC))
    row = new_writer()[0]._new(work, one, "edge-1.a", set())
    writer, sealer = new_writer()
    await writer._change(cast(Transaction, None), work, row, one)
    assert open_secrets(sealer, row) == {"set_request_headers": HEADERS}
    assert isinstance(row, PublishedRoute) and work.counts == {"added": 1, "changed": 1}


def test_sources_that_are_called_alike_get_names_of_their_own() -> None:
    cluster = Cluster(id="clu_1", org_id="org_1", name="edge-1")
    work = _Work(cluster, ClusterGateway(baselines=[]), Pending(), {}, datetime(2026, 1, 1, tzinfo=UTC))
    writer, taken = new_writer()[0], set[str]()
    names = []
    for ref in ("compose/a.b/c/0", "compose/a/b.c/0"):
        target = Tcp(host="h", port=1)
        told = link.RouteClaim(ref=ref, source="compose", host="a.example.net", target=target)
        one = claimed(told, "clu_1", "edge-1", OWNERSHIP)
        names.append(writer._new(work, one, name_of("edge-1", one.ref), taken).name)
    assert names[0] == "edge-1.compose.a.b.c.0" and names[1].startswith(names[0] + "-")
