"""What happens on a link that is up: each message of the control plane to the part that it concerns."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import structlog

from towline.agent.errors import AgentError, StorageError
from towline.agent.identity import Store
from towline.agent.jobs.runner import Runner
from towline.agent.journal import Journal
from towline.agent.uplink import rotation
from towline.agent.uplink.delivery import Delivery
from towline.agent.uplink.reports import Reports
from towline.aio.clock import REAL_CLOCK, Clock
from towline.tunnel.errors import NORMAL_CLOSE, Closed
from towline.tunnel.opening import IncomingStream
from towline.tunnel.session import LinkSession
from towline.wire import link

_log = structlog.get_logger("towline.agent")


class LinkHandler:
    """Takes over each link that has passed the handshake.

    Args: apply_update: verifies and applies an order to update; raises AgentError. on_settings: the server changed
        how often it wants to hear from us.
    """

    def __init__(
        self,
        *,
        store: Store,
        runner: Runner,
        journal: Journal,
        delivery: Delivery,
        reports: Reports,
        on_stream: Callable[[IncomingStream], None],
        on_settings: Callable[[link.LinkSettings], None],
        apply_update: Callable[[link.Update], Awaitable[None]],
        clock: Clock = REAL_CLOCK,
    ) -> None:
        self._store = store
        self._runner = runner
        self._journal = journal
        self._delivery = delivery
        self._reports = reports
        self._on_stream = on_stream
        self._on_settings = on_settings
        self._apply_update = apply_update
        self._clock = clock
        self._handlers: dict[type[link.Message], Callable[[LinkSession, Any], Awaitable[None]]] = {
            link.Job: self._job,
            link.JobCancel: self._job_cancel,
            link.JobStored: self._job_stored,
            link.RotateKey: self._rotate_key,
            link.KeyRotated: self._key_rotated,
            link.Trust: self._trust,
            link.SettingsChanged: self._settings,
            link.Lead: self._lead,
            link.Update: self._update,
            link.Error: self._error,
        }

    async def connected(self, session: LinkSession, welcome: link.Welcome) -> None:
        """Begin on a link: tell what there is, then listen. Raises: TunnelClosed."""
        self._on_settings(welcome.settings)
        session.on_stream = self._on_stream
        session.on_close(self._closed)
        await self._reports.connected(session)
        await self._delivery.connected(session)
        session.start(lambda message: self._handle(session, message))

    def _closed(self, _: Closed) -> None:
        self._reports.disconnected()
        self._delivery.disconnected()

    async def _handle(self, session: LinkSession, message: link.Message) -> None:
        handler = self._handlers.get(type(message))
        if handler is not None:
            await handler(session, message)

    async def _job(self, session: LinkSession, job: link.Job) -> None:
        if job.fence != session.epoch:
            _log.warning("order of another epoch dropped", job=job.job_id, fence=job.fence, epoch=session.epoch)
            return
        try:
            self._runner.take(job)
        except StorageError as error:
            # Not promised, so not accepted: the control plane will order it again.
            await session.send(link.Error(code="storage", message=f"job {job.job_id} was not accepted: {error}"))
            return
        await self._delivery.accepted(job.job_id)

    async def _job_cancel(self, session: LinkSession, message: link.JobCancel) -> None:
        self._runner.cancel(message.job_id)

    async def _job_stored(self, session: LinkSession, message: link.JobStored) -> None:
        self._journal.mark_stored(message.job_id, self._clock.now().timestamp())
        self._delivery.stored(message.job_id)

    async def _rotate_key(self, session: LinkSession, message: link.RotateKey) -> None:
        await session.send(rotation.propose(self._store, session.epoch))

    async def _key_rotated(self, session: LinkSession, message: link.KeyRotated) -> None:
        if rotation.confirm(self._store, message):
            session.close(NORMAL_CLOSE, "the identity key changed")

    async def _trust(self, session: LinkSession, message: link.Trust) -> None:
        rotation.trust(self._store, message)

    async def _settings(self, session: LinkSession, message: link.SettingsChanged) -> None:
        self._on_settings(message.settings)

    async def _lead(self, session: LinkSession, message: link.Lead) -> None:
        """This instance speaks for its cluster from now on: what it told before did not count."""
        await self._reports.tell_again(session)
        await self._delivery.connected(session)

    async def _update(self, session: LinkSession, message: link.Update) -> None:
        try:
            await self._apply_update(message)
        except AgentError as error:
            _log.error("update refused", reason=str(error))
            await session.send(link.Error(code="update_refused", message=str(error)))

    async def _error(self, session: LinkSession, message: link.Error) -> None:
        _log.warning("the control plane reports an error", code=message.code, reason=message.message)
