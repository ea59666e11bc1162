"""The audit log: what is in it, and that nobody can change it unseen."""

import asyncio
from collections.abc import Sequence

import pytest
from sqlalchemy import delete, text, update
from sqlalchemy.exc import DBAPIError
from tests.support.control_app import PASSWORD, ControlApp

from towline.control.access.actor import Actor, system_actor
from towline.control.access.permissions import Role
from towline.control.audit.models import AuditEvent
from towline.control.audit.service import AuditLog, Draft, draft, verify
from towline.control.db import Database
from towline.control.kubernetes.audit import Records

ACTOR = Actor("user", "org_default", "usr_1", "ada", "192.0.2.1", request_id="req_1")


async def test_only_administrators_read_it(control_app: ControlApp) -> None:
    assert (await control_app.client().get("/api/v1/audit")).status_code == 401
    assert (await (await control_app.user("dan", Role.DEPLOYER)).get("/api/v1/audit")).status_code == 403
    assert (await (await control_app.user("ada", Role.ADMIN)).get("/api/v1/audit")).status_code == 200


async def test_an_event_says_who_what_on_what_from_where_and_with_what_result(control_app: ControlApp) -> None:
    admin = await control_app.user("ada", Role.OWNER)
    await admin.post("/api/v1/users", json={"username": "bob", "password": PASSWORD})
    event = (await admin.get("/api/v1/audit?action=user.create&target=bob")).json()["items"][0]
    assert event["actor"]["name"] == "ada" and event["actor"]["address"] == "192.0.2.7"
    assert event["target"]["name"] == "bob" and event["result"] == "done"
    assert event["request_id"].startswith("req_")


async def test_events_are_filtered(control_app: ControlApp) -> None:
    admin = await control_app.user("ada", Role.OWNER)
    audit, db = control_app.control.audit, control_app.control.db
    await audit.record(db, ACTOR, action="cluster.rename", target_name="shop", cluster_id="clu_1", result="failed")
    for query in ("action=cluster.*", "cluster=clu_1", "target=shop", "result=failed", "actor=usr_1", "search=SHO"):
        found = (await admin.get(f"/api/v1/audit?{query}")).json()
        assert [event["action"] for event in found["items"]] == ["cluster.rename"], query
    assert (await admin.get("/api/v1/audit?since=2100-01-01T00:00:00Z")).json()["total"] == 0
    assert (await admin.get("/api/v1/audit?until=2000-01-01T00:00:00")).json()["total"] == 0
    assert (await admin.get("/api/v1/audit?result=maybe")).status_code == 422


async def test_a_rolled_back_change_leaves_no_event(control_app: ControlApp) -> None:
    before = len(await control_app.rows(AuditEvent))
    with pytest.raises(RuntimeError):
        async with control_app.control.db.begin() as tx:
            await control_app.control.audit.record(tx, ACTOR, action="x.y")
            raise RuntimeError
    assert len(await control_app.rows(AuditEvent)) == before


async def test_concurrent_changes_make_one_chain(control_app: ControlApp) -> None:
    control = control_app.control

    async def change(number: int) -> None:
        async with control.db.begin() as tx:
            await control.audit.record(tx, system_actor("test"), action="x.y", detail={"n": number, "f": 1.5})

    await asyncio.gather(*(change(number) for number in range(30)))
    verdict = await verify(control.db)
    assert verdict.ok and verdict.events == 30 and verdict.last_seq == 30


async def test_the_database_refuses_to_change_or_delete_events(control_app: ControlApp) -> None:
    control = control_app.control
    await control.audit.record(control.db, ACTOR, action="x.y")
    for statement in (update(AuditEvent).values(action="z"), delete(AuditEvent)):
        with pytest.raises(DBAPIError, match="audit events"):
            async with control.db.begin() as tx:
                await tx.execute(statement)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE audit_event SET actor_name = 'eve' WHERE seq = 2",
        "DELETE FROM audit_event WHERE seq = 2",
        "DELETE FROM audit_event WHERE seq = 3",
    ],
)
async def test_what_somebody_changed_behind_our_back_is_found(control_app: ControlApp, change: str) -> None:
    control = control_app.control
    for _ in range(3):
        await control.audit.record(control.db, ACTOR, action="x.y")
    async with control.db.begin() as tx:
        if control.db.is_sqlite:
            await tx.execute(text("DROP TRIGGER audit_event_is_final"))
            await tx.execute(text("DROP TRIGGER audit_event_is_kept"))
        else:
            await tx.execute(text("DROP TRIGGER audit_event_is_final ON audit_event"))
        await tx.execute(text(change))
    admin = await control_app.user("ada", Role.OWNER)
    verdict = (await admin.get("/api/v1/audit/verify")).json()
    assert verdict["ok"] is False and verdict["reason"]


async def test_the_chain_holds_when_old_events_were_removed(control_app: ControlApp) -> None:
    control = control_app.control
    for _ in range(3):
        await control.audit.record(control.db, ACTOR, action="x.y")
    async with control.db.begin() as tx:
        names = ["audit_event_is_final", "audit_event_is_kept"]
        on = "" if control.db.is_sqlite else " ON audit_event"
        for name in names[: 2 if control.db.is_sqlite else 1]:
            await tx.execute(text(f"DROP TRIGGER {name}{on}"))
        await tx.execute(text("DELETE FROM audit_event WHERE seq = 1"))
    verdict = await verify(control.db)
    assert verdict.ok and verdict.first_seq == 2


async def test_secrets_in_detail_are_blotted_out(control_app: ControlApp) -> None:
    control = control_app.control
    token = await control_app.token("ada")
    detail = {"password": "hunter2", "line": f"curl -H {token}", "nested": [{"secret": "x1y2"}]}
    await control.audit.record(control.db, ACTOR, action="x.y", detail=detail, reason=f"bad {token}")
    stored = str([(event.detail, event.reason) for event in await control_app.rows(AuditEvent)])
    assert not any(secret in stored for secret in ("hunter2", token, "x1y2"))


class Lingering(AuditLog):
    """Says only a moment later that events are on the disk, as a busy process does."""

    def __init__(self) -> None:
        super().__init__()
        self.is_on_disk, self.may_say_so = asyncio.Event(), asyncio.Event()

    async def append(self, db: Database, events: Sequence[Draft]) -> None:
        await super().append(db, events)
        self.is_on_disk.set()
        await self.may_say_so.wait()


async def test_what_no_database_takes_is_written_so_that_it_shows(control_app: ControlApp) -> None:
    audit, db = control_app.control.audit, control_app.control.db
    odd = draft(
        ACTOR, action="kubernetes.list", target_name="a\0b", reason="c\0d",
        detail={"e\0f": "g\ud800h", "query": {"labelSelector": "app=\0"}},
    )  # fmt: skip
    await audit.append(db, [draft(ACTOR, action="kubernetes.get"), odd])
    event = (await control_app.rows(AuditEvent))[-1]
    assert (event.target_name, event.reason) == ("a\u2400b", "c\u2400d")
    assert event.detail == {"e\u2400f": "g?h", "query": {"labelSelector": "app=\u2400"}}
    assert (await verify(db)).ok


async def test_a_stop_in_the_middle_of_a_batch_writes_it_once(control_app: ControlApp) -> None:
    control, audit = control_app.control, Lingering()
    records = Records(control.db, audit, control.clock, reads=True)
    records.start()
    records.note(draft(ACTOR, action="kubernetes.list"))
    async with asyncio.timeout(10):
        await audit.is_on_disk.wait()
        stopping = asyncio.ensure_future(records.stop())
        await asyncio.sleep(0)
        audit.may_say_so.set()
        await stopping
    assert [event.action for event in await control_app.rows(AuditEvent)].count("kubernetes.list") == 1
