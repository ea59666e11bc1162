"""Channels of organisations: adding, changing and trying them. Audited; no FastAPI."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence

from sqlalchemy.exc import IntegrityError

from towline.control.access.actor import Access
from towline.control.access.permissions import Permission
from towline.control.alerts import messages, outbox
from towline.control.alerts.delivery import Delivery
from towline.control.alerts.models import AlertChannel
from towline.control.alerts.schemas import ChannelIn, ChannelPatch, EmailIn, WebhookIn
from towline.control.alerts.targets import PURPOSE, EmailTarget, Target, WebhookTarget, packed
from towline.control.audit.service import AuditLog, Result
from towline.control.db import Database, Transaction
from towline.control.errors import ApiError, ErrorCode, not_found
from towline.control.ids import new_id
from towline.control.sealing.service import Sealer

MOST_CHANNELS = 50
"""In an organisation: each gets a message of its own for every group."""
SECRET_BYTES = 32
SECRET_PREFIX = "tww_"  # noqa: S105 - says what follows, and is none


class Channels:
    """Where the alerts of each organisation go. Args: origin: the dashboard's address, for the test's link."""

    def __init__(
        self, db: Database, sealer: Sealer, audit: AuditLog, delivery: Delivery, origin: Callable[[], str]
    ) -> None:
        self._db = db
        self._sealer = sealer
        self._audit = audit
        self._delivery = delivery
        self._origin = origin

    async def all(self, access: Access) -> list[tuple[AlertChannel, int]]:
        """Return every channel with how many messages wait for it."""
        access.require_org(Permission.ALERT_MANAGE)
        async with self._db.read() as tx:
            waiting = await outbox.waiting_counts(tx, access.org_id)
            return [(row, waiting.get(row.id, 0)) for row in await outbox.channels(tx, access.org_id)]

    async def get(self, access: Access, name: str) -> tuple[AlertChannel, int]:
        """Raises: ApiError: not_found."""
        access.require_org(Permission.ALERT_MANAGE)
        async with self._db.read() as tx:
            row = await self._require(tx, access, name)
            return row, (await outbox.waiting_counts(tx, access.org_id)).get(row.id, 0)

    async def add(self, access: Access, asked: ChannelIn) -> tuple[AlertChannel, str]:
        """Add a channel. Returns: it, and the secret that was made for it. Raises: ApiError: name_taken, conflict."""
        access.require_org(Permission.ALERT_MANAGE)
        target, made = target_from(asked.target)
        try:
            async with self._db.begin() as tx:
                if len(await outbox.channels(tx, access.org_id)) >= MOST_CHANNELS:
                    raise ApiError(ErrorCode.CONFLICT, f"an organisation may have {MOST_CHANNELS} channels")
                moment = await tx.now()
                row = AlertChannel(
                    id=new_id("chn"), org_id=access.org_id, name=asked.name, kind=asked.target.kind, version=0,
                    created_by=access.actor.username, created_at=moment, updated_at=moment,
                )  # fmt: skip
                self._seal(row, target)
                tx.add(row)
                await tx.flush()
                await self._record(tx, access, "alert_channel.add", row)
                return row, made
        except IntegrityError as error:
            raise _taken(asked.name) from error

    async def change(self, access: Access, name: str, asked: ChannelPatch) -> tuple[AlertChannel, str]:
        """Change a channel. Returns: it, and the secret that was made. Raises: ApiError: not_found, name_taken."""
        access.require_org(Permission.ALERT_MANAGE)
        made = ""
        try:
            async with self._db.begin() as tx:
                row = await self._require(tx, access, name)
                row.name, row.updated_at = asked.name or row.name, await tx.now()
                row.enabled = row.enabled if asked.enabled is None else asked.enabled
                if not row.enabled:
                    await outbox.forget_waiting(tx, row.id)
                if asked.target is not None:
                    target, made = target_from(asked.target)
                    row.kind, row.error, row.failing_at = asked.target.kind, "", None
                    self._seal(row, target)
                await tx.flush()
                await self._record(tx, access, "alert_channel.change", row, changed=sorted(asked.model_fields_set))
                return row, made
        except IntegrityError as error:
            raise _taken(asked.name or name) from error

    async def remove(self, access: Access, name: str) -> None:
        """Remove a channel and what waits for it. Raises: ApiError: not_found."""
        access.require_org(Permission.ALERT_MANAGE)
        async with self._db.begin() as tx:
            row = await self._require(tx, access, name)
            await outbox.forget_waiting(tx, row.id)
            await tx.delete(row)
            await self._record(tx, access, "alert_channel.remove", row)

    async def test(self, access: Access, name: str) -> str:
        """Send a test message now. Returns: why it failed; empty when it arrived. Raises: ApiError: not_found."""
        access.require_org(Permission.ALERT_MANAGE)
        async with self._db.read() as tx:
            row, moment = await self._require(tx, access, name), await tx.now()
        message_id = new_id("msg")
        body = messages.body(message_id, messages.TEST, row.org_id, "", (), origin=self._origin(), moment=moment)
        why = await self._delivery.try_out(row, message_id, body)
        async with self._db.begin() as tx:
            result: Result = "failed" if why else "done"
            await self._record(tx, access, "alert_channel.test", row, result=result, reason=why)
        return why

    async def _require(self, tx: Transaction, access: Access, name: str) -> AlertChannel:
        row = await outbox.channel(tx, access.org_id, name)
        if row is None:
            raise not_found("alert channel", name[:64])
        return row

    def _seal(self, row: AlertChannel, target: Target) -> None:
        row.version += 1
        row.shown = target.shown()
        row.sealed = self._sealer.seal(row.org_id, row.id, row.version, PURPOSE, packed(target))

    async def _record(
        self, tx: Transaction, access: Access, action: str, row: AlertChannel, *, changed: Sequence[str] = (),
        result: Result = "done", reason: str = "",
    ) -> None:  # fmt: skip
        detail = {"kind": row.kind, "target": row.shown["target"], "enabled": row.enabled}
        await self._audit.record(
            tx, access.actor, action=action, target_kind="alert_channel", target_id=row.id, target_name=row.name,
            result=result, reason=reason, detail=detail | ({"changed": list(changed)} if changed else {}),
        )  # fmt: skip
        tx.publish("alert")


def target_from(asked: WebhookIn | EmailIn) -> tuple[Target, str]:
    """Return what was asked for as a target, and the secret that was made for it."""
    if isinstance(asked, WebhookIn):
        made = "" if asked.secret else SECRET_PREFIX + secrets.token_urlsafe(SECRET_BYTES)
        secret = asked.secret.get_secret_value() if asked.secret else made
        return WebhookTarget(asked.url.get_secret_value(), secret), made
    return EmailTarget(
        asked.host, asked.port, asked.security, asked.sender, tuple(asked.recipients), asked.username,
        asked.password.get_secret_value(),
    ), ""  # fmt: skip


def _taken(name: str) -> ApiError:
    return ApiError(ErrorCode.NAME_TAKEN, f"a channel named {name} exists already")
