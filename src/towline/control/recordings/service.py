"""Recordings of one control plane: which sessions are recorded, their rows and files, and who may see them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from towline.aio.tasks import TaskOwner
from towline.control.access.actor import Access, Actor, system_actor
from towline.control.access.permissions import Permission, Resource
from towline.control.clusters import repository as clusters
from towline.control.db import Transaction
from towline.control.errors import ApiError, ErrorCode, not_found
from towline.control.ids import new_id
from towline.control.listing import Listed, ListQuery, fetch
from towline.control.logging import get_logger
from towline.control.recordings import asciicast, repository
from towline.control.recordings.figures import Figures
from towline.control.recordings.files import Reader, Writer
from towline.control.recordings.models import Recording
from towline.control.recordings.policy import Mode, OnLoss, OnUnreadable, Policy, Session
from towline.control.recordings.recorder import Limits, Recorder
from towline.control.sealing.service import CannotOpen

if TYPE_CHECKING:
    from towline.control.app import ControlPlane

_log = get_logger("recordings")

FOLDER = "recordings"
THREADS = 2
"""That write: a disk that hangs holds up other recordings, and nothing else of the server."""
STOP_TIMEOUT = 8.0
"""Seconds that recordings get to be finished when the server stops."""
CLAIM_TIMEOUT = 60.0
"""Seconds from a recording's file to its session: longer than any decision takes."""
SORTS = {"began_at": Recording.began_at, "seconds": Recording.seconds, "user": Recording.user_name}
BITE = 100
"""Recordings that one step of retention removes."""
LOST = "the rest of this recording cannot be opened: it was changed or damaged"
STRAY_SECONDS = 86400.0
"""Age of a file without a row before it is removed: its row may still be on its way."""


class Recordings:
    """A feature of the control plane."""

    def __init__(self, control: ControlPlane) -> None:
        settings = control.settings
        self._control = control
        self._db, self._audit, self._clock, self._sealer = control.db, control.audit, control.clock, control.sealer
        self._folder = settings.data_folder / FOLDER
        self._limit_bytes = settings.recording_bytes
        self._usual = Policy(
            Mode(settings.recording), tuple(settings.recording_namespaces), OnLoss(settings.recording_on_loss),
            OnUnreadable(settings.recording_on_unreadable), settings.recording_keys, settings.recording_minutes,
            settings.keep_recording_days,
        )  # fmt: skip
        self._executor = ThreadPoolExecutor(THREADS, "recordings")
        self._tasks = TaskOwner("recordings")
        self._running: dict[str, Recorder] = {}
        self.figures = Figures(control.metrics.registry)
        control.retention.custom.append(("recordings", self._forget_old))

    def __repr__(self) -> str:
        return f"<Recordings {len(self._running)} running>"

    async def start(self) -> None:
        """Say of what a process that was killed left behind that it is cut off."""
        async with self._db.begin() as tx:
            for row in await repository.unfinished(tx):
                if self._path(row.id).exists():  # of this server, and not of another one on the same database
                    row.state, row.reason = "partial", "the server was killed while it ran"
                    row.ended_at = await tx.now()
                    row.stored_bytes = self._path(row.id).stat().st_size

    async def stop(self) -> None:
        """Finish what runs."""
        for recorder in list(self._running.values()):
            recorder.end("the server stopped")
        try:
            async with asyncio.timeout(STOP_TIMEOUT):
                await self._tasks.join()
        except TimeoutError:
            _log.warning("recordings not finished", recordings=len(self._running))
        await self._tasks.close()
        self._executor.shutdown(wait=False)

    # -- policy ------------------------------------------------------------------------------------

    async def policy(self, cluster_id: str) -> Policy:
        """Return the rules of a cluster. Raises: ApiError: unavailable."""
        async with self._db.read() as tx:
            return self._usual.with_rules(await repository.rules_of(tx, cluster_id))

    async def policy_of(self, access: Access, cluster: str) -> tuple[str, dict[str, Any], Policy]:
        """Return a cluster's name, its own rules, and what they come to. Raises: ApiError."""
        async with self._db.read() as tx:
            row, _ = await self._control.fleet.clusters.require(tx, access, cluster, Permission.CLUSTER_READ)
            rules = await repository.rules_of(tx, row.id)
        return row.name, rules, self._usual.with_rules(rules)

    async def set_policy(self, access: Access, cluster: str, rules: dict[str, Any]) -> Policy:
        """Change a cluster's own rules; those that are missing follow the settings. Raises: ApiError."""
        async with self._db.begin() as tx:
            row, _ = await self._control.fleet.clusters.require(tx, access, cluster, Permission.CLUSTER_MANAGE)
            before = await repository.rules_of(tx, row.id)
            await repository.set_rules(tx, row.org_id, row.id, rules)
            await self._audit.record(
                tx, access.actor, action="recording.policy", target_kind="cluster", target_id=row.id,
                target_name=row.name, cluster_id=row.id, detail={"before": before, "after": rules},
            )  # fmt: skip
            tx.publish("cluster", id=row.id)
        return self._usual.with_rules(rules)

    # -- a session ---------------------------------------------------------------------------------

    async def begin(self, session: Session, actor: Actor, policy: Policy) -> Recorder | None:
        """Begin to record a session that the policy wants; None when it goes on without.

        Raises: ApiError: it cannot be recorded, and the policy allows nothing unrecorded.
        """
        recorder = Recorder(
            new_id("rec"), session, policy, Limits(self._limit_bytes, policy.minutes * 60.0),
            clock=self._clock, executor=self._executor,
        )  # fmt: skip
        try:
            await recorder.open(self._writer(recorder.id, actor.org_id))
        except OSError as error:
            await self._unrecorded(actor, session, policy, f"no file can be made: {error.strerror}")
            return None
        async with AsyncExitStack() as undo:
            undo.push_async_callback(self._throw_away, recorder)
            async with self._db.begin() as tx:
                moment = await tx.now()
                tx.add(_row(recorder, actor, moment, moment + timedelta(days=policy.keep_days)))
                tx.publish("recording", id=recorder.id, cluster_id=session.cluster_id)
            undo.pop_all()
        self._running[recorder.id] = recorder
        self.figures.running.inc()
        self._tasks.spawn(recorder.id, recorder.run(self._ended))
        self._clock.call_later(CLAIM_TIMEOUT, self._discard_unclaimed, recorder)
        return recorder

    async def _throw_away(self, recorder: Recorder) -> None:
        """Leave nothing of a file whose row could not be written."""
        if recorder.writer is not None:
            recorder.writer.close()
        await self._unlink(recorder.id)

    async def unreadable(self, session: Session, actor: Actor, policy: Policy, why: str) -> None:
        """Note that a session cannot be read along. Raises: ApiError: then it may not be."""
        self.figures.recordings.labels("unreadable").inc()
        refuses = policy.on_unreadable is OnUnreadable.REFUSE
        await self._note(actor, session, "refused" if refuses else "done", why)
        if refuses:
            raise _refused(why)

    def note_unreadable(self, recorder: Recorder, actor: Actor, why: str) -> None:
        """Put on record that a session turned out to be unreadable while it ran."""
        result = "refused" if recorder.policy.on_unreadable is OnUnreadable.REFUSE else "done"
        self.figures.recordings.labels("unreadable").inc()
        if not self._tasks.closed:
            self._tasks.spawn("note", self._note(actor, recorder.session, result, why, recording=recorder.id))

    def discard(self, recorder: Recorder) -> None:
        """Forget a recording whose session never began."""
        recorder.discarded = True
        recorder.end("it never began")

    def _discard_unclaimed(self, recorder: Recorder) -> None:
        """Whoever asked left before the session began, so nobody will ever say that it ended."""
        if not recorder.is_claimed:
            self.discard(recorder)

    async def _unrecorded(self, actor: Actor, session: Session, policy: Policy, why: str) -> None:
        _log.error("session cannot be recorded", why=why, cluster=session.cluster_id)
        self.figures.recordings.labels("broken").inc()
        await self._note(actor, session, "refused" if policy.is_strict else "failed", why)
        if policy.is_strict:
            raise _refused(why)

    async def _note(self, actor: Actor, session: Session, result: Any, why: str, **more: Any) -> None:
        detail = {"namespace": session.namespace, "target": session.target, "container": session.container, **more}
        await self._audit.record(
            self._db, actor, action="recording.missing", target_kind="cluster", target_id=session.cluster_id,
            target_name=session.cluster_name, cluster_id=session.cluster_id, result=result, reason=why,
            detail={key: value for key, value in detail.items() if value},
        )  # fmt: skip

    async def _ended(self, recorder: Recorder) -> None:
        self._running.pop(recorder.id, None)
        if recorder.discarded:
            self.figures.running.dec()
            async with self._db.begin() as tx:
                row = await tx.get(Recording, recorder.id)
                if row is not None:
                    await tx.delete(row)
            await self._unlink(recorder.id)
            return
        self.figures.ended(recorder)
        async with self._db.begin() as tx:
            row = await tx.get(Recording, recorder.id)
            if row is None:
                return
            row.ended_at, row.state, row.reason = await tx.now(), recorder.state, recorder.reason[:500]
            row.seconds, row.columns, row.rows = recorder.seconds, recorder.columns, recorder.rows
            row.shown_bytes, row.dropped_bytes = recorder.shown_bytes, recorder.dropped_bytes
            row.stored_bytes = recorder.writer.stored_bytes if recorder.writer is not None else 0
            row.exit = recorder.exit[:200]
            tx.publish("recording", id=row.id, cluster_id=row.cluster_id)

    # -- what was recorded -------------------------------------------------------------------------

    async def page(self, access: Access, asked: ListQuery, **equal: str) -> Listed[Recording]:
        """Return a page of what the actor may play. Raises: ApiError: invalid."""
        async with self._db.read() as tx:
            query = repository.matching(access, search=asked.search, **equal)
            return await fetch(tx, query, asked, sorts=SORTS, default="-began_at", key=Recording.id)

    async def get(self, access: Access, recording_id: str) -> Recording:
        """Raises: ApiError: not_found, for those of others as well."""
        async with self._db.read() as tx:
            row = await repository.find(tx, access, recording_id)
        if row is None:
            raise not_found("recording", recording_id[:64])
        return row

    async def play(self, access: Access, recording_id: str, how: str) -> tuple[Recording, AsyncIterator[bytes]]:
        """Return a recording and its cast; that it was asked for goes on record first. Raises: ApiError."""
        row = await self.get(access, recording_id)
        if not self._path(row.id).exists():
            raise ApiError(ErrorCode.NOT_FOUND, "the file of this recording is not on this server")
        await self._audit.record(
            self._db, access.actor, action="recording.play", target_kind="recording", target_id=row.id,
            target_name=f"{row.user_name} on {row.cluster_name}", cluster_id=row.cluster_id,
            detail={"how": how, "user": row.user_name, "namespace": row.namespace, "target": row.target},
        )  # fmt: skip
        return row, self._cast(row)

    async def remove(self, access: Access, recording_id: str) -> None:
        """Remove a recording before its time. Raises: ApiError."""
        async with self._db.begin() as tx:
            row = await repository.find(tx, access, recording_id)
            if row is None:
                raise not_found("recording", recording_id[:64])
            labels = (await clusters.labels_of(tx, [row.cluster_id])).get(row.cluster_id, {})
            place = Resource(row.org_id, row.cluster_id, labels, row.project, row.namespace)
            access.require(Permission.RECORDING_REMOVE, place)
            if row.id in self._running:
                raise ApiError(ErrorCode.CONFLICT, "this session is still being recorded")
            await self._audit.record(
                tx, access.actor, action="recording.remove", target_kind="recording", target_id=row.id,
                target_name=f"{row.user_name} on {row.cluster_name}", cluster_id=row.cluster_id,
                detail={"user": row.user_name, "command": row.command, "began_at": row.began_at.isoformat()},
            )  # fmt: skip
            await tx.delete(row)
            tx.publish("recording", id=row.id, cluster_id=row.cluster_id)
        self.figures.removed.labels("asked").inc()
        await self._unlink(recording_id)

    async def _cast(self, row: Recording) -> AsyncIterator[bytes]:
        about = {"id": row.id, "user": row.user_name, "cluster": row.cluster_name, "state": row.state}
        about |= {"reason": row.reason} if row.reason else {}
        yield asciicast.head(
            columns=row.columns, rows=row.rows, began=row.began_at.timestamp(), seconds=row.seconds,
            title=title(row), command=row.command, more=about,
        )  # fmt: skip
        chunks = Reader(self._path(row.id), self._sealer, row.org_id, row.id).chunks()
        loop = asyncio.get_running_loop()
        try:
            while chunk := await loop.run_in_executor(self._executor, next, chunks, b""):
                yield chunk
        except (CannotOpen, OSError) as error:
            _log.error("recording cannot be read", recording=row.id, why=str(error))
            yield asciicast.line(row.seconds, "m", LOST)

    # -- retention ---------------------------------------------------------------------------------

    async def _forget_old(self, tx: Transaction) -> int:
        """Remove what its policy keeps no longer, and files that belong to nothing."""
        rows = await repository.expired(tx, BITE)
        for row in rows:
            await tx.delete(row)
            await self._audit.record(
                tx, system_actor("retention", row.org_id), action="recording.expire", target_kind="recording",
                target_id=row.id, target_name=f"{row.user_name} on {row.cluster_name}", cluster_id=row.cluster_id,
            )  # fmt: skip
            tx.after_commit.append(self._unlink_later(row.id))
        self.figures.removed.labels("old").inc(len(rows))
        if not rows:
            await self._forget_strays(tx)
        return len(rows)

    async def _forget_strays(self, tx: Transaction) -> None:
        """A server that shares its database leaves rows of others alone; their files are not here."""
        oldest = self._clock.now().timestamp() - STRAY_SECONDS
        found = {path.name: path for path in self._folder.glob("rec_*") if path.stat().st_mtime < oldest}
        names = sorted(found)
        for at in range(0, len(names), BITE):
            some = names[at : at + BITE]
            for name in set(some) - await repository.known(tx, some):
                _log.info("file of a recording without a row removed", recording=name)
                found[name].unlink(missing_ok=True)

    def _unlink_later(self, recording_id: str) -> Callable[[], object]:
        return lambda: self._path(recording_id).unlink(missing_ok=True)

    async def _unlink(self, recording_id: str) -> None:
        path = self._path(recording_id)
        await asyncio.get_running_loop().run_in_executor(self._executor, lambda: path.unlink(missing_ok=True))

    def _path(self, recording_id: str) -> Path:
        return self._folder / recording_id

    def _writer(self, recording_id: str, org_id: str) -> Callable[[], Writer]:
        return lambda: Writer(self._path(recording_id), self._sealer, org_id, recording_id)


def title(row: Recording) -> str:
    """Say what a recording shows."""
    place = "/".join(word for word in (row.cluster_name, row.namespace or row.project, row.target) if word)
    return f"{row.user_name} on {place}"


def _refused(why: str) -> ApiError:
    message = f"this session must be recorded, and cannot be: {why}"
    return ApiError(ErrorCode.FORBIDDEN, message, hint="the recording policy of the cluster decides this")


def _row(recorder: Recorder, actor: Actor, began: Any, expires: Any) -> Recording:
    session = recorder.session
    return Recording(
        id=recorder.id, org_id=actor.org_id, cluster_id=session.cluster_id, cluster_name=session.cluster_name,
        kind=session.kind, action=session.action, namespace=session.namespace[:255], project=session.project[:255],
        target=session.target[:255], container=session.container[:255], command=session.command, tty=session.tty,
        keys=recorder.policy.keys, user_id=actor.user_id, user_name=actor.username[:255], token_id=actor.token_id,
        address=actor.address, request_id=actor.request_id[:80], began_at=began, expires_at=expires, state="running",
        columns=session.columns, rows=session.rows,
    )  # fmt: skip
