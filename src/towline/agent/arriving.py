"""An agent that nobody logs in to joins by itself: server, pins and token come from its settings, until it is in.

In a cluster its pods share one identity (`kubernetes/shared.py`). Without these settings nothing happens here.
"""

from __future__ import annotations

import os

import structlog

from towline.agent.errors import AgentError, JoinError, SettingsError
from towline.agent.identity import Store
from towline.agent.kubernetes.credentials import Credentials, find_source
from towline.agent.kubernetes.secret import KeySecret
from towline.agent.kubernetes.shared import SharedIdentity
from towline.agent.settings import AgentSettings
from towline.aio.backoff import Backoff
from towline.aio.clock import REAL_CLOCK, Clock

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


async def arrive(settings: AgentSettings, shared: SharedIdentity | None, *, clock: Clock = REAL_CLOCK) -> None:
    """Return once there is an identity. What goes wrong is logged and tried again: nobody is there to start it anew.

    A new token is seen at the next attempt, and so is an identity that another pod has made meanwhile.
    """
    if shared is None and (not settings.server or Store(settings.state_folder).exists()):
        return
    waiting = Backoff(clock=clock)
    while True:
        try:
            await _attempt(settings, shared)
            return
        except AgentError as error:
            hint = error.hint if isinstance(error, JoinError) else ""
            _log.warning("not joined yet", reason=str(error), hint=hint)
        await waiting.wait()


async def _attempt(settings: AgentSettings, shared: SharedIdentity | None) -> None:
    if shared is not None and await shared.adopt():
        return
    if not settings.server:
        raise JoinError("there is no identity in the Secret, and no server to join", hint="set TOWLINE_AGENT_SERVER")
    from towline.agent import join  # an HTTP client that is needed this once

    token = join.read_token(None, os.environ, None)
    pins = tuple(filter(None, (pin.strip() for pin in settings.fingerprints.split(","))))
    made = await join.join(settings, join.Server(settings.server, pins, settings.ca_file), token, replace=True)
    if shared is not None:
        await shared.joined(made.identity)
    _log.info("joined", cluster=made.identity.cluster_name, agent=made.identity.agent_id, pending=made.pending)
