"""An agent that nobody logs in to joins by itself: server, pins and token come from its settings, until it is in.

In a cluster its pods share one identity (`kubernetes/shared.py`). Without these settings nothing happens here.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import structlog

from towline.agent.errors import AgentError, JoinError, SettingsError
from towline.agent.identity import Store
from towline.agent.kubernetes.credentials import Credentials, find_source
from towline.agent.kubernetes.secret import KeySecret
from towline.agent.kubernetes.shared import SharedIdentity
from towline.agent.settings import AgentSettings
from towline.agent.surface.linkstate import LinkState, Standing
from towline.aio.backoff import Backoff
from towline.aio.clock import REAL_CLOCK, Clock

LOOK_INTERVAL = 1.0
"""Seconds between two looks of a standalone agent at whether somebody has joined this host: it costs one `stat`."""
SETTINGS_INTERVAL = 5.0
"""Seconds between two looks of a standalone agent at whether its settings name a control plane by now."""
SECRET_INTERVAL = 30.0
"""Seconds between two looks at whether another pod has joined; each is a request."""

Reread = Callable[[], AgentSettings]
"""Reads the settings anew, from where they came from. Raises: SettingsError."""

_log = structlog.get_logger("towline.agent")


def shared_identity(settings: AgentSettings, *, clock: Clock = REAL_CLOCK) -> SharedIdentity | None:
    """Return what keeps this agent's identity in a Secret; None for an agent on a host. Raises: SettingsError."""
    if not settings.identity_secret:
        return None
    namespace, slash, name = settings.identity_secret.partition("/")
    if not slash or not namespace or not name or "/" in name:
        raise SettingsError(f"identity_secret must be NAMESPACE/NAME, not {settings.identity_secret!r}")
    vault = KeySecret(Credentials(find_source(settings), clock=clock), namespace, name)
    return SharedIdentity(Store(settings.state_folder), vault, clock=clock)


async def arrive(
    settings: AgentSettings,
    shared: SharedIdentity | None,
    link: LinkState,
    *,
    reread: Reread | None = None,
    clock: Clock = REAL_CLOCK,
) -> AgentSettings:
    """Return once there is an identity. What goes wrong is logged and tried again: nobody is there to start it anew.

    A new token is seen at the next attempt, and so is an identity that another pod has made meanwhile, or another
    server in the settings. A standalone agent without a server waits for as long as it takes.

    Args: link: is told how it goes. Returns: the settings that it came with.
    """
    store = shared.store if shared is not None else Store(settings.state_folder)
    if shared is None and store.exists():
        return settings
    fresh = _Settings(settings, reread)
    if settings.standalone and not settings.server and await _appears(store, shared, fresh, clock):
        return fresh.now
    if shared is not None or fresh.now.server:
        await _try_for_ever(fresh, shared, link, clock)
    return fresh.now


class _Settings:
    """Settings that somebody may change while we wait. What cannot be read changes nothing."""

    def __init__(self, settings: AgentSettings, reread: Reread | None) -> None:
        self.now = settings
        self._reread = reread

    def look(self) -> AgentSettings:
        """Read them anew."""
        if self._reread is not None:
            try:
                self.now = self._reread()
            except SettingsError as error:
                _log.warning("settings not read anew", reason=str(error))
        return self.now


async def joined_anew(store: Store, shared: SharedIdentity | None, gone: str, *, clock: Clock = REAL_CLOCK) -> None:
    """Return once this host has another identity than `gone`, which the control plane ended."""
    while not store.exists() or store.reload().agent_id == gone:
        if shared is not None:
            await _look(shared)
        await clock.sleep(SECRET_INTERVAL if shared is not None else LOOK_INTERVAL)


async def _appears(store: Store, shared: SharedIdentity | None, fresh: _Settings, clock: Clock) -> bool:
    """Wait for the identity that `towline agent join` or another pod makes, or for a server in the settings.

    Returns: whether there is an identity.
    """
    looked_at = clock.monotonic()
    while not store.exists() and not (shared is not None and await _look(shared)):
        if clock.monotonic() - looked_at >= SETTINGS_INTERVAL:
            looked_at = clock.monotonic()
            if fresh.look().server:
                return False
        await clock.sleep(SECRET_INTERVAL if shared is not None else LOOK_INTERVAL)
    return True


async def _look(shared: SharedIdentity) -> bool:
    try:
        return await shared.adopt()
    except AgentError as error:
        _log.debug("the Secret with the agent's key was not looked at", reason=str(error))
        return False


async def _try_for_ever(fresh: _Settings, shared: SharedIdentity | None, link: LinkState, clock: Clock) -> None:
    waiting = Backoff(clock=clock)
    while True:
        link.turned(Standing.JOINING, server=fresh.now.server, last_error=link.view.last_error)
        try:
            await _attempt(fresh.now, shared)
            return
        except AgentError as error:
            hint, code = (error.hint, error.reason or error.code) if isinstance(error, JoinError) else ("", "")
            delay = waiting.next_delay()
            _log.warning("not joined yet", reason=str(error), code=code, hint=hint, retry_in=round(delay, 1))
            link.failed(
                str(error), code=code, hint=hint, attempts=waiting.attempts,
                next_attempt_at=clock.now().timestamp() + delay,
            )  # fmt: skip
        await clock.sleep(delay)
        if shared is None and Store(fresh.look().state_folder).exists():
            return  # somebody has joined by hand meanwhile


async def _attempt(settings: AgentSettings, shared: SharedIdentity | None) -> None:
    if shared is not None and await shared.adopt():
        return
    if not settings.server:
        raise JoinError("there is no identity in the Secret, and no server to join", hint="set TOWLINE_AGENT_SERVER")
    from towline.agent import join  # an HTTP client that is needed this once

    token = join.read_token(settings.join_token_file, os.environ, None)
    pins = tuple(filter(None, (pin.strip() for pin in settings.fingerprints.split(","))))
    made = await join.join(settings, join.Server(settings.server, pins, settings.ca_file), token, replace=True)
    if shared is not None:
        await shared.joined(made.identity)
    _log.info("joined", cluster=made.identity.cluster_name, agent=made.identity.agent_id, pending=made.pending)
