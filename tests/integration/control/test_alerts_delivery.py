"""Alerts as they arrive: a real agent's link, a real mail server, a real webhook receiver, and a restart between."""

import asyncio
import hashlib
import hmac
import ssl
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme
from sqlalchemy import update
from tests.support.alert_receivers import Hook, Mails, Posted, mailbox, webhook
from tests.support.control_app import ControlApp, running_control
from tests.support.scripted_agent import ScriptedAgent, enrolled, link_listener, until

from towline.control import logging
from towline.control.access.permissions import Role
from towline.control.alerts import delivery, outbox
from towline.control.alerts.models import AlertChannel, AlertMessage
from towline.control.alerts.outgoing import Outgoing
from towline.control.alerts.senders import Sender, SendFailed
from towline.control.alerts.targets import EmailTarget
from towline.control.ids import new_id

LOOPBACK = {"outgoing_networks": ["127.0.0.0/8"], "alert_group_seconds": 0}
SECRET = "a-secret-of-sixteen"


def mail_target(mails: Mails, **changes: Any) -> dict[str, Any]:
    return {
        "kind": "email", "host": "127.0.0.1", "port": mails.port, "security": "none", "sender": "towline@example.com",
        "recipients": ["ops@example.com"],
    } | changes  # fmt: skip


async def channels(app: ControlApp, hook: Hook, mails: Mails) -> Any:
    """An administrator, with a webhook and a mail channel."""
    ada = await app.user("ada", Role.ADMIN)
    targets = {"hook": {"kind": "webhook", "url": hook.url, "secret": SECRET}, "mail": mail_target(mails)}
    for name, target in targets.items():
        made = await ada.post("/api/v1/alert-channels", json={"name": name, "target": target})
        assert made.status_code == 201, made.text
    return ada


def check_signature(posted: Posted) -> None:
    moment, _, digest = posted.headers["towline-signature"].removeprefix("t=").partition(",v1=")
    signed = hmac.new(SECRET.encode(), moment.encode() + b"." + posted.body, hashlib.sha256).hexdigest()
    assert digest == signed


async def test_an_alert_arrives_once_by_mail_and_webhook_and_its_end_too_with_a_restart_between(
    database_url: str, tmp_path: Path
) -> None:
    async with webhook() as hook, mailbox() as mails:
        async with running_control(database_url, tmp_path, start=False, **LOOPBACK) as app:
            app.control.alerts.evaluator.after_start = 0
            await app.control.start()
            ada = await channels(app, hook, mails)
            await ada.patch("/api/v1/alert-rules", json={"rule": "agent_away", "after_seconds": 0})
            agent = await enrolled(app, cluster_name="edge-1")
            async with link_listener(app.control) as url:
                await agent.connect(url)
                await agent.synced()
                agent.cut()
                posted, mail = await hook.next(), await mails.next()
            await agent.owner.close()
            await settled(app)
        check_signature(posted)
        assert posted.json["type"] == "alert.firing" and posted.json["alerts"][0]["name"] == "edge-1"
        assert mail["Subject"] == "[Towline] Agent away: edge-1" and mail["To"] == "ops@example.com"

        async with running_control(database_url, tmp_path, start=False, **LOOPBACK) as app:
            app.control.alerts.evaluator.after_start = 0
            await app.control.start()
            await app.control.alerts.look()
            await settled(app)
            assert hook.got.empty() and mails.got.empty()
            again = ScriptedAgent(agent.identity)
            async with link_listener(app.control) as url, again:
                await again.connect(url)
                ended, mail = await hook.next(), await mails.next()
                await settled(app)
        assert ended.json["type"] == "alert.resolved"
        assert ended.json["alerts"][0]["dedup_key"] == posted.json["alerts"][0]["dedup_key"]
        assert mail["Subject"] == "[Towline] Resolved: Agent away: edge-1"
        assert hook.got.empty() and mails.got.empty()


async def settled(app: ControlApp) -> None:
    """Wait until every message was sent and written down."""

    async def waiting() -> int:
        async with app.control.db.read() as tx:
            return await outbox.waiting(tx)

    async with asyncio.timeout(20):
        while await waiting():
            await asyncio.sleep(0.02)


async def message(app: ControlApp, channel: str, body: str = '{"type":"alert.test"}') -> str:
    """A message that waits for a channel."""
    (row,) = [one for one in await app.rows(AlertChannel) if one.name == channel]
    async with app.control.db.begin() as tx:
        moment = await tx.now()
        made = AlertMessage(
            id=new_id("msg"), org_id=row.org_id, channel_id=row.id, body=body, state=outbox.WAITING,
            created_at=moment, next_at=moment,
        )  # fmt: skip
        tx.add(made)
    return made.id


async def test_a_receiver_that_fails_gets_the_same_message_again_and_the_channel_says_so(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "STEPS", (0.0,))
    async with webhook() as hook, mailbox() as mails, running_control(
        database_url, tmp_path, start=False, **LOOPBACK
    ) as app:  # fmt: skip
        ada = await channels(app, hook, mails)
        hook.statuses += [503, 302]
        first, second = await message(app, "hook", '{"n":1}'), await message(app, "hook", '{"n":2}')
        assert await app.control.alerts.delivery.deliver() == 1
        shown = (await ada.get("/api/v1/alert-channels/hook")).json()
        assert (shown["error"], shown["waiting"], shown["sent_at"]) == ("it answered 503", 2, None)
        assert "it answered 503" in (await ada.get("/alerts/channels")).text
        for _ in range(3):
            assert await app.control.alerts.delivery.deliver() == 1
        got = [await hook.next() for _ in range(4)]
        assert [one.headers["towline-delivery"] for one in got] == [first, first, first, second]
        assert len({one.body for one in got[:3]}) == 1
        shown = (await ada.get("/api/v1/alert-channels/hook")).json()
        assert (shown["error"], shown["failing_at"], shown["waiting"]) == ("", None, 0) and shown["sent_at"]
        assert await app.control.alerts.delivery.deliver() == 0


async def test_a_message_of_a_sender_that_died_is_sent_by_another(database_url: str, tmp_path: Path) -> None:
    async with webhook() as hook, mailbox() as mails, running_control(
        database_url, tmp_path, start=False, **LOOPBACK
    ) as app:  # fmt: skip
        await channels(app, hook, mails)
        sent = await message(app, "hook")
        async with app.control.db.begin() as tx:
            assert len(await outbox.claim(tx, owner="evt_dead", lease=90, most=10)) == 1
        assert await app.control.alerts.delivery.deliver() == 0
        async with app.control.db.begin() as tx:
            await tx.execute(update(AlertMessage).values(next_at=await tx.now() - timedelta(seconds=1)))
        assert await app.control.alerts.delivery.deliver() == 1
        assert (await hook.next()).headers["towline-delivery"] == sent
        async with app.control.db.begin() as tx:
            assert not await outbox.write(tx, sent, "evt_dead", {"state": outbox.SENT})


async def test_a_message_that_fails_for_a_day_is_dropped(database_url: str, tmp_path: Path) -> None:
    async with webhook() as hook, mailbox() as mails, running_control(
        database_url, tmp_path, start=False, **LOOPBACK
    ) as app:  # fmt: skip
        await channels(app, hook, mails)
        hook.statuses += [500]
        await message(app, "hook")
        async with app.control.db.begin() as tx:
            await tx.execute(update(AlertMessage).values(created_at=await tx.now() - timedelta(days=2)))
        await app.control.alerts.delivery.deliver()
        (row,) = await app.rows(AlertMessage)
        assert (row.state, row.error) == (outbox.DROPPED, "it answered 500")


async def test_the_test_button_says_what_the_mail_server_said(database_url: str, tmp_path: Path) -> None:
    async with webhook() as hook, mailbox() as mails, running_control(
        database_url, tmp_path, start=False, **LOOPBACK
    ) as app:  # fmt: skip
        ada = await channels(app, hook, mails)
        mails.refuses = "554 no thanks"
        refused = (await ada.post("/api/v1/alert-channels/mail/test")).json()
        assert not refused["sent"] and "554: no thanks" in refused["error"]
        assert (await ada.post("/api/v1/alert-channels/mail/test")).json() == {"sent": True, "error": ""}
        assert (await mails.next())["Subject"] == "[Towline] Test message"
        assert (await ada.post("/api/v1/alert-channels/hook/test")).json()["sent"]
        tested = await hook.next()
        check_signature(tested)
        assert tested.json["type"] == "alert.test"


async def test_nothing_secret_of_a_channel_is_logged(
    database_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logging.configure("debug", "json")
    async with webhook() as hook, mailbox() as mails, running_control(
        database_url, tmp_path, start=False, **LOOPBACK
    ) as app:  # fmt: skip
        ada = await channels(app, hook, mails)
        hook.statuses += [200, 500]
        target = {"kind": "webhook", "url": "http://127.0.0.1:1/very-secret-path", "secret": SECRET}
        made = await ada.post("/api/v1/alert-channels", json={"name": "gone", "target": target})
        assert made.status_code == 201
        for name in ("hook", "hook", "gone", "mail"):
            await ada.post(f"/api/v1/alert-channels/{name}/test")
    said = capsys.readouterr()
    assert "alert not sent" in said.err
    for secret in ("very-secret-path", SECRET):
        assert secret not in said.err + said.out


async def test_a_channel_that_is_switched_off_gets_nothing(database_url: str, tmp_path: Path) -> None:
    async with webhook() as hook, mailbox() as mails, running_control(
        database_url, tmp_path, start=False, **LOOPBACK
    ) as app:  # fmt: skip
        ada = await channels(app, hook, mails)
        await message(app, "hook")
        assert (await ada.patch("/api/v1/alert-channels/hook", json={"enabled": False})).status_code == 200
        assert await app.control.alerts.delivery.deliver() == 0 and await app.rows(AlertMessage) == []


@pytest.fixture
def trust() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """TLS of a mail server named localhost, and of who trusts it."""
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return server, client


async def test_a_mail_goes_by_starttls_and_signs_in(trust: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    from towline.aio.clock import REAL_CLOCK

    body = '{"id":"msg_1","type":"alert.test","alerts":[],"more":0,"title":"Test","url":"https://t.test/alerts"}'
    async with mailbox(trust[0]) as mails:
        sender = Sender(Outgoing(["127.0.0.0/8"]), REAL_CLOCK, trust=trust[1])
        right = EmailTarget("localhost", mails.port, "starttls", "t@x.test", ("a@x.test",), "towline", "right")
        await sender.send(right, "msg_1", body)
        assert (await mails.next())["Message-ID"] == "<msg_1@x.test>" and mails.signed_in == ["towline"]
        wrong = EmailTarget("localhost", mails.port, "starttls", "t@x.test", ("a@x.test",), "towline", "wrong")
        with pytest.raises(SendFailed, match="refused user name or password"):
            await sender.send(wrong, "msg_2", body)
        stranger = Sender(Outgoing(["127.0.0.0/8"]), REAL_CLOCK)
        with pytest.raises(SendFailed, match="certificate"):
            await stranger.send(right, "msg_3", body)


async def test_the_loop_notices_by_a_hint_that_an_agent_went_away(database_url: str, tmp_path: Path) -> None:
    async with running_control(database_url, tmp_path, start=False, **LOOPBACK) as app:
        app.control.alerts.evaluator.after_start = 0
        await app.control.start()
        ada = await app.user("ada", Role.ADMIN)
        await ada.patch("/api/v1/alert-rules", json={"rule": "agent_away", "after_seconds": 0})
        agent = await enrolled(app, cluster_name="edge-1")
        async with link_listener(app.control) as url, agent:
            await agent.connect(url)
            await agent.synced()
            agent.cut()
            viewer = await app.access("vera", *())
            board = app.control.alerts.board
            await until(lambda: bool(board._lit))
        assert board.count(viewer) == 0
        text = app.control.metrics.render()[0].decode()
        assert 'towline_alerts_firing{rule="agent_away"} 1.0' in text
