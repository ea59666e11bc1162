"""What is written while somebody works on a name: each write names the lease, and ends the work when it was lost."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

from towline.aio.clock import Clock
from towline.aio.tasks import TaskOwner
from towline.control.access.actor import system_actor
from towline.control.audit.service import AuditLog, Result
from towline.control.certificates import keys, repository
from towline.control.certificates.accounts import Sealer
from towline.control.certificates.errors import LeaseLost
from towline.control.certificates.models import REASON_CHARACTERS, AcmeChallenge, AcmeOrder, Certificate
from towline.control.certificates.states import State
from towline.control.db import Database, Transaction, now
from towline.control.logging import get_logger

_log = get_logger("certificates")

TOPIC = "certificate"
NAMES_CHANGED = {"names": "changed"}
"""Added to a hint after which other names may need a certificate than before."""
LEASE = 15.0
"""Seconds that a name is somebody's who may have died; it is renewed three times as often."""
KEY_PURPOSE = "certificate-key"
ORDER_PURPOSE = "certificate-order-key"
ACTOR = "certificates"


class Keeper:
    """Writes certificates, orders and challenges. Args: lease: seconds, see `LEASE`."""

    def __init__(
        self, db: Database, sealer: Sealer, audit: AuditLog, clock: Clock, *, owner: str, lease: float = LEASE
    ) -> None:
        self.db = db
        self.owner = owner
        self.lease = lease
        self._sealer = sealer
        self._audit = audit
        self._clock = clock

    def __repr__(self) -> str:
        return f"<Keeper {self.owner}>"

    @asynccontextmanager
    async def holding(self, row: Certificate, tasks: TaskOwner) -> AsyncIterator[None]:
        """Renew the lease while the block runs, and give it back after."""
        task = tasks.spawn(f"hold {row.name}", self._hold(row))
        try:
            yield
        finally:
            task.cancel()
            async with self.db.begin() as tx:
                await repository.write(tx, row, {"owner": "", "lease_until": None})

    async def _hold(self, row: Certificate) -> None:
        while True:
            await self._clock.sleep(self.lease / 3)
            async with self.db.begin() as tx:
                if not await repository.write(tx, row, {"lease_until": now(self.lease)}):
                    _log.warning("somebody else works on a certificate", name=row.name)
                    return

    async def write(self, tx: Transaction, row: Certificate, **values: Any) -> None:
        """Write columns, in the row at hand too. Raises: LeaseLost."""
        if not await repository.write(tx, row, values):
            raise LeaseLost(f"{row.name} is somebody else's by now")
        for name, value in values.items():
            setattr(row, name, value)
        tx.publish(TOPIC, id=row.id)

    async def save(self, row: Certificate, **values: Any) -> None:
        """Write columns in a transaction of their own. Raises: LeaseLost."""
        async with self.db.begin() as tx:
            await self.write(tx, row, **values)

    async def begin_order(self, row: Certificate, order: AcmeOrder) -> bytes:
        """Write down that the authority is asked now, and the key for what it will give. Returns: the key."""
        key = keys.new_private_key()
        serial = row.order_serial + 1
        async with self.db.begin() as tx:
            await self.write(
                tx, row, state=State.ORDERING, reason="", order_url="", order_serial=serial,
                sealed_order_key=self._sealer.seal(row.org_id, row.id, serial, ORDER_PURPOSE, key),
            )  # fmt: skip
            order.created_at = await tx.now()
            tx.add(order)
        return key

    def order_key(self, row: Certificate) -> bytes:
        """Open the key of the order at hand. Raises: sealing.service.CannotOpen."""
        return self._sealer.open(row.org_id, row.id, row.order_serial, ORDER_PURPOSE, row.sealed_order_key)

    def key(self, row: Certificate) -> bytes:
        """Open the key of what is served. Raises: sealing.service.CannotOpen."""
        return self._sealer.open(row.org_id, row.id, row.serial, KEY_PURPOSE, row.sealed_key)

    def material(self, row: Certificate, chain: str, key: bytes) -> dict[str, Any]:
        """Return the columns of a new certificate. Raises: ValueError: the chain is none."""
        facts, serial = keys.facts_of(chain), row.serial + 1
        return {
            "serial": serial, "names": list(facts.names), "chain": chain, "issuer": facts.issuer,
            "sealed_key": self._sealer.seal(row.org_id, row.id, serial, KEY_PURPOSE, key),
            "fingerprint": facts.fingerprint, "begins_at": facts.begins_at, "ends_at": facts.ends_at,
            "warned_at": None, "revoked_at": None, "asked_ari_at": None,
        }  # fmt: skip

    async def add_challenge(
        self, certificate_id: str, kind: str, name: str, token: str, answer: str, life: float
    ) -> AcmeChallenge:
        """Let every replica answer a challenge; for some seconds at the most."""
        values: dict[str, Any] = {"certificate_id": certificate_id, "kind": kind, "name": name, "answer": answer}
        async with self.db.begin() as tx:
            values["expires_at"] = await tx.now() + timedelta(seconds=life)
            await repository.add_challenge(tx, {"token": token, **values})
            tx.publish(TOPIC, id=certificate_id)
        return AcmeChallenge(token=token, **values)

    async def audit(
        self,
        tx: Transaction,
        row: Certificate,
        action: str,
        *,
        result: Result = "done",
        reason: str = "",
        **detail: Any,
    ) -> None:
        """Record what we did by ourselves."""
        await self._audit.record(
            tx, system_actor(ACTOR, row.org_id), action=action, target_kind="certificate", target_id=row.id,
            target_name=row.name, result=result, reason=reason, detail=detail,
        )  # fmt: skip


def cut(reason: str) -> str:
    """Return a reason that fits its column, in one line."""
    return " ".join(reason.split())[:REASON_CHARACTERS]
