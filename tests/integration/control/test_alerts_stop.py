"""Sending that is stopped or fails in the middle: nothing of it goes on unseen, and nothing holds the stop up."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.support.control_app import ControlApp, running_control

from towline.aio.clock import REAL_CLOCK
from towline.aio.tasks import TaskOwner
from towline.control.access.permissions import Role
from towline.control.alerts import outbox
from towline.control.alerts.models import AlertChannel, AlertMessage
from towline.control.alerts.outgoing import Outgoing
from towline.control.alerts.senders import Sender
from towline.control.alerts.targets import EmailTarget
from towline.control.errors import ApiError
from towline.control.ids import new_id

LOOPBACK: dict[str, Any] = {"outgoing_networks": ["127.0.0.0/8"], "alert_group_seconds": 0}
BODY = '{"id":"msg_1","type":"alert.test","alerts":[],"more":0,"title":"Test","url":"https://t.test/alerts"}'
AT_ONCE = 5.0
"""Seconds that nothing here takes unless it waits for a receiver that hangs."""


@dataclass
class Slow:
    """A receiver of webhooks that answers when it is told to."""

    port: int = 0
    came: asyncio.Event = field(default_factory=asyncio.Event)
    answer: asyncio.Event = field(default_factory=asyncio.Event)
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once the other end closed, which it does when it has the answer."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        self.came.set()
        await self.answer.wait()
        writer.write(b"HTTP/1.1 200 x\r\ncontent-length: 0\r\n\r\n")
        await reader.read()
        self.gone.set()
        writer.close()


@asynccontextmanager
async def slow() -> AsyncIterator[Slow]:
    made = Slow()
    async with await asyncio.start_server(made.serve, "127.0.0.1", 0) as server:
        made.port = server.sockets[0].getsockname()[1]
        yield made


async def waiting_messages(app: ControlApp, *receivers: Slow) -> None:
    """Make a channel for each receiver, and a message that waits for it."""
    ada = await app.user("ada", Role.ADMIN)
    for one in receivers:
        target = {"kind": "webhook", "url": f"http://127.0.0.1:{one.port}/", "secret": "a-secret-of-sixteen"}
        made = await ada.post("/api/v1/alert-channels", json={"name": f"to-{one.port}", "target": target})
        assert made.status_code == 201, made.text
    async with app.control.db.begin() as tx:
        moment = await tx.now()
        for channel in await outbox.channels(tx, app.control.default_org):
            assert isinstance(channel, AlertChannel)
            tx.add(
                AlertMessage(
                    id=new_id("msg"), org_id=channel.org_id, channel_id=channel.id, body=BODY, state=outbox.WAITING,
                    created_at=moment, next_at=moment,
                )
            )  # fmt: skip


async def test_a_message_that_cannot_be_written_down_leaves_none_beside_it_behind(
    database_url: str, tmp_path: Path
) -> None:
    async with AsyncExitStack() as stack:
        first, second = [await stack.enter_async_context(slow()) for _ in range(2)]
        app = await stack.enter_async_context(running_control(database_url, tmp_path, start=False, **LOOPBACK))
        tasks = await stack.enter_async_context(TaskOwner("test"))
        await waiting_messages(app, first, second)
        delivery = tasks.spawn("deliver", app.control.alerts.delivery.deliver())
        async with asyncio.timeout(AT_ONCE):
            await asyncio.gather(first.came.wait(), second.came.wait())
            await app.control.db.close()
            first.answer.set()
            await first.gone.wait()
            second.answer.set()
            with pytest.raises(ApiError, match="the database is closed"):
                await delivery
        sent = 'towline_alert_messages_total{kind="webhook",result="sent"} 2.0'
        assert sent in app.control.metrics.render()[0].decode()


async def test_a_stop_ends_every_message_that_is_being_sent(database_url: str, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        first, second = [await stack.enter_async_context(slow()) for _ in range(2)]
        app = await stack.enter_async_context(running_control(database_url, tmp_path, start=False, **LOOPBACK))
        await waiting_messages(app, first, second)
        before = asyncio.all_tasks()
        await app.control.alerts.start()
        async with asyncio.timeout(AT_ONCE):
            await asyncio.gather(first.came.wait(), second.came.wait())
            serving = {task for task in asyncio.all_tasks() if "serve" in repr(task.get_coro())}
            await app.control.alerts.stop()
        assert asyncio.all_tasks() - before - serving == set()
        first.answer.set()
        second.answer.set()
        async with asyncio.timeout(AT_ONCE):
            await asyncio.gather(first.gone.wait(), second.gone.wait())


async def test_a_mail_server_that_hangs_does_not_hold_up_a_stop() -> None:
    asked = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.test\r\n")
        await reader.readline()
        writer.write(b"250 mail.test\r\n")
        await reader.readline()
        asked.set()
        await reader.read()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server, TaskOwner("test") as tasks:
        port = server.sockets[0].getsockname()[1]
        target = EmailTarget("127.0.0.1", port, "none", "towline@example.com", ("ops@example.com",), "", "")
        sending = tasks.spawn("send", Sender(Outgoing(["127.0.0.0/8"]), REAL_CLOCK).send(target, "msg_1", BODY))
        async with asyncio.timeout(AT_ONCE):
            await asked.wait()
            await tasks.close()
        assert sending.cancelled()
