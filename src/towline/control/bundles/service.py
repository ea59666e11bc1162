"""Bundles: taking one in, checked and in canonical form; handing one to an agent; dropping what nobody names."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Protocol

from sqlalchemy.exc import IntegrityError

from towline.aio.streams import ByteStream, EndedThere, StreamError
from towline.compose import bundle as rules
from towline.compose.errors import BundleRefused
from towline.control.access.actor import Access
from towline.control.audit.service import AuditLog
from towline.control.bundles import repository
from towline.control.bundles.models import Bundle
from towline.control.db import Database, Transaction
from towline.control.errors import ApiError, ErrorCode, not_found
from towline.control.ids import new_id
from towline.wire import streams

MAX_UPLOAD_BYTES = rules.MAX_ARCHIVE_BYTES
"""Of a raw tar: the files' limit of 32 MiB, and the headers between them."""
UPLOADS_AT_ONCE = 2
"""Being checked in memory, some four copies of each: bounds it to a few hundred MiB at the very worst."""
ORG_BYTES = 2 * 1024**3
"""All bundles of an organisation together: sixty-four of the largest."""
HAND_OVER_TIMEOUT = 120.0
"""Seconds for 32 MiB to an agent on a slow line (some 300 KiB/s)."""


class OpensStreams(Protocol):
    """What of a session is needed here."""

    async def open_stream(self, target: streams.Target, *, timeout: float = 10.0) -> "AnsweredStream": ...


class AnsweredStream(ByteStream, Protocol):
    """A stream with what the agent said to its header."""

    @property
    def answer(self) -> streams.Answer: ...


BundlesInUse = Callable[[Transaction, str], Awaitable[set[str]]]
"""Returns the digests that an organisation's revisions name."""


class BundleService:
    """The bundles of every organisation."""

    def __init__(self, db: Database, audit: AuditLog) -> None:
        self._db = db
        self._audit = audit
        self._checking = asyncio.Semaphore(UPLOADS_AT_ONCE)

    async def store(self, access: Access, archive: Callable[[], Awaitable[bytes]]) -> Bundle:
        """Take a bundle in. The same files make the same digest, whatever tool packed them.

        Args: archive: reads the raw tar; called once there is room for it in memory.
        Raises: ApiError: invalid (what is wrong with which entry), too_large, conflict (organisation full).
        """
        async with self._checking:
            raw = await archive()
            checked, content = await asyncio.to_thread(_canonical, raw)
        files = checked.digests()
        try:
            async with self._db.begin() as tx:
                return await self._keep(tx, access, checked.digest, files, content)
        except IntegrityError:  # the same bundle came twice at this very moment
            async with self._db.begin() as tx:
                return await self._keep(tx, access, checked.digest, files, content)

    async def files(self, tx: Transaction, org_id: str, digest: str) -> dict[str, str]:
        """Return the files of a bundle, path to digest. Raises: ApiError: bundle_not_found."""
        return (await _found(tx, org_id, digest)).files

    async def use(self, tx: Transaction, org_id: str, digest: str) -> None:
        """Note that a revision names a bundle. Raises: ApiError: bundle_not_found."""
        bundle = await _found(tx, org_id, digest)
        bundle.used_at = await tx.now()

    async def hand_over(self, org_id: str, digest: str, session: OpensStreams) -> None:
        """See to it that an agent has a bundle: nothing is sent when it says so.

        Raises: ApiError: bundle_not_found, agent_refused, agent_away, agent_timeout.
        """
        try:
            async with asyncio.timeout(HAND_OVER_TIMEOUT):
                await self._send(org_id, digest, session)
        except TimeoutError as error:
            raise ApiError(ErrorCode.AGENT_TIMEOUT, "the agent did not take the bundle in time") from error
        except EndedThere as error:
            raise ApiError(ErrorCode.AGENT_REFUSED, f"the agent did not take the bundle: {error}") from error
        except StreamError as error:
            raise ApiError(ErrorCode.AGENT_AWAY, f"the link was lost while the bundle travelled: {error}") from error

    async def drop_unused(self, in_use: BundlesInUse, keep_days: float) -> int:
        """Delete what no revision names and nobody touched for some days. Returns: how many."""
        dropped = 0
        async with self._db.begin() as tx:
            before = await tx.now() - timedelta(days=keep_days)
            for org_id in await repository.organisations(tx):
                dropped += await repository.drop_unused(tx, org_id, await in_use(tx, org_id), before)
        return dropped

    async def _keep(
        self, tx: Transaction, access: Access, digest: str, files: dict[str, str], content: bytes
    ) -> Bundle:
        now = await tx.now()
        known = await repository.find(tx, access.org_id, digest)
        if known is not None:
            known.used_at = now
            return known
        if await repository.total_bytes(tx, access.org_id) + len(content) > ORG_BYTES:
            raise ApiError(
                ErrorCode.CONFLICT,
                f"the bundles of this organisation take more than {ORG_BYTES // 1024**3} GiB",
                hint="bundles that no revision names go by themselves after some days",
            )
        bundle = Bundle(
            id=new_id("bun"),
            org_id=access.org_id,
            digest=digest,
            size=len(content),
            files=files,
            created_by=access.actor.user_id,
            created_at=now,
            used_at=now,
        )
        await repository.add(tx, bundle, content)
        await self._audit.record(
            tx,
            access.actor,
            action="bundle.create",
            target_kind="bundle",
            target_id=bundle.id,
            target_name=digest,
            detail={"bytes": len(content), "files": len(files)},
        )
        return bundle

    async def _send(self, org_id: str, digest: str, session: OpensStreams) -> None:
        async with self._db.read() as tx:
            bundle = await _found(tx, org_id, digest)
        stream = await session.open_stream(streams.Bundle(digest=digest, size=bundle.size))
        try:
            if stream.answer.have:
                return
            number = 0
            while (chunk := await self._chunk(bundle.id, number)) is not None:
                await stream.write(chunk)
                number += 1
            await stream.write_eof()
            while await stream.read():  # the agent ends its direction once the bundle is on its disk
                continue
        finally:
            await stream.aclose()

    async def _chunk(self, bundle_id: str, number: int) -> bytes | None:
        """Read one chunk in a transaction of its own: a slow line must not keep one open."""
        async with self._db.read() as tx:
            return await repository.chunk(tx, bundle_id, number)


def _canonical(raw: bytes) -> tuple[rules.Bundle, bytes]:
    try:
        checked = rules.read_tar(raw)
    except BundleRefused as error:
        raise ApiError(ErrorCode.INVALID, str(error), detail={"path": error.path}) from error
    return checked, rules.write_tar(checked)


async def _found(tx: Transaction, org_id: str, digest: str) -> Bundle:
    bundle = await repository.find(tx, org_id, digest)
    if bundle is None:
        raise not_found("bundle", digest)
    return bundle
