"""Ports of the gateway are refused to whoever comes second, as the database knows it."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest

from towline.control.audit.service import AuditLog
from towline.control.db import Base, Database
from towline.control.domains.names import Ownership
from towline.control.errors import ApiError
from towline.control.routes.given import Sealer
from towline.control.routes.models import PublishedRoute
from towline.control.routes.service import RouteService

MOMENT = datetime(2026, 1, 1, tzinfo=UTC)


def row(name: str, port: int, **changes: Any) -> PublishedRoute:
    values: dict[str, Any] = {
        "id": f"rte_{name}", "org_id": "org_1", "name": name, "host": f"{name}.example.net", "path": "/",
        "path_type": "prefix", "source": "declared", "targets": [], "options": {"tcp_port": port}, "notes": [],
        "caution": "", "problem": "", "tls": False, "state": "active", "reason": "", "claim": name, "enabled": True,
        "port_claim": (port or None) if changes.get("enabled", True) else None,
        "existed": False, "decision": "", "decided_by": "", "missing": False, "created_at": MOMENT, "created_by": "",
        "changed_at": MOMENT,
    }  # fmt: skip
    return PublishedRoute(**values | changes)


async def test_second_route_for_a_port_is_refused_and_both_are_named(tmp_path: Path) -> None:
    db = Database(f"sqlite:///{tmp_path / 'towline.sqlite'}")
    async with db.engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    routes = RouteService(db, cast(AuditLog, None), cast(Sealer, None), lambda: Ownership("", frozenset()))
    async with db.begin() as tx:
        tx.add(row("first", 5432))
        tx.add(row("off", 6379, enabled=False))
        tx.add(row("web", 0, options={}))
        await tx.flush()
        with pytest.raises(ApiError, match="second cannot have port 5432: the route first has it already"):
            await routes._refuse_port(tx, row("second", 5432))
        with pytest.raises(ApiError, match="a route of another organisation has it"):
            await routes._refuse_port(tx, row("second", 5432, org_id="org_2"))
        await routes._refuse_port(tx, row("first", 5432, port_claim=None))
        await routes._refuse_port(tx, row("second", 6379))
        await routes._refuse_port(tx, row("third", 0, options={}))
    await db.close()
