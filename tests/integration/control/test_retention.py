"""Old rows go, young ones stay, and the audit chain still verifies."""

from datetime import timedelta

from sqlalchemy import insert, select, update
from tests.support.control_app import ControlApp

from towline.control.access.actor import system_actor
from towline.control.access.models import ApiToken, SetupToken, Ticket
from towline.control.access.permissions import Role
from towline.control.audit.models import AuditEvent, AuditHead
from towline.control.audit.service import GENESIS, chain_hash, verify


async def test_expired_tokens_and_tickets_go_and_live_ones_stay(control_app: ControlApp) -> None:
    ada = await control_app.user("ada", Role.OWNER)
    await ada.post("/api/v1/tickets")
    for name in ("old", "revoked"):
        await ada.post("/api/v1/tokens", json={"name": name})
    async with control_app.control.db.begin() as tx:
        long_ago = await tx.now() - timedelta(days=40)
        await tx.execute(update(ApiToken).where(ApiToken.name == "old").values(expires_at=long_ago))
        await tx.execute(update(ApiToken).where(ApiToken.name == "revoked").values(revoked_at=long_ago))
        await tx.execute(update(Ticket).values(expires_at=long_ago))
        await tx.execute(update(SetupToken).values(expires_at=long_ago))
    removed = await control_app.control.retention.sweep()
    assert (removed["tokens"], removed["tickets"], removed["setup_tokens"]) == (2, 1, 1)
    assert [token.name for token in await control_app.rows(ApiToken)] == ["ada"]
    assert sum((await control_app.control.retention.sweep()).values()) == 0


async def test_old_audit_events_go_and_the_chain_still_verifies(control_app: ControlApp) -> None:
    control = control_app.control
    async with control.db.begin() as tx:
        moment, before = await tx.now(), GENESIS
        for seq, days in ((1, 500), (2, 400), (3, 300)):
            event = AuditEvent(
                seq=seq, id=f"aud_{seq}", org_id="org_default", at=moment - timedelta(days=days), actor_kind="system",
                actor_id="", actor_name="", token_id="", address="", request_id="", action="x.y", target_kind="",
                target_id="", target_name="", cluster_id="", result="done", reason="", detail={}, prev_hash=before,
            )  # fmt: skip
            event.hash = before = chain_hash(event)
            tx.add(event)
        await tx.execute(insert(AuditHead).values(id=1, seq=3, hash=before))
    await control.audit.record(control.db, system_actor("test"), action="x.y")
    assert (await control.retention.sweep())["audit_events"] == 2
    verdict = await verify(control.db)
    assert verdict.ok and (verdict.first_seq, verdict.last_seq) == (3, 4)
    async with control.db.read() as tx:
        assert (await tx.scalars(select(AuditEvent.seq).order_by(AuditEvent.seq))).all() == [3, 4]
