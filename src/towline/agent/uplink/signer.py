"""Proving who this agent is, and storing what a welcome says before anything else happens.

Source: docs/wire-protocol.md, "Handshake".
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable

import msgspec
import structlog

import towline
from towline.agent.identity import Identity, Store
from towline.aio.clock import REAL_CLOCK, Clock
from towline.wire import link

CLOCK_WARNING_SECONDS = 60.0
"""A clock that is off by more makes certificates and logs misleading; the operator is told."""

_log = structlog.get_logger("towline.agent")


class AgentSigner:
    """The `tunnel.handshake.Signer` of this process. Each process is an instance of its own: copies are found out."""

    def __init__(
        self,
        store: Store,
        capabilities: Callable[[], tuple[link.Capability, ...]],
        *,
        before_hello: Callable[[], Awaitable[None]] | None = None,
        clock: Clock = REAL_CLOCK,
    ) -> None:
        """`before_hello` brings the identity up to date where several processes share it; it may raise LinkDown."""
        self._before_hello = before_hello
        self._store = store
        self._capabilities = capabilities
        self._clock = clock
        self._instance = ""
        self._instance_of = ""
        self._use_last_key = False
        self._unanswered = False
        self.time_offset = 0.0
        """Seconds that this machine's clock is ahead of the server's."""

    def __repr__(self) -> str:
        return f"<AgentSigner {self._instance or 'unused'}>"

    async def hello(self, challenge: link.Challenge) -> link.Hello:
        """Sign the challenge. Raises: LinkDown."""
        if self._before_hello is not None:
            await self._before_hello()
        identity = self._store.current
        if identity.agent_id != self._instance_of:  # the first connect, or the first after joining anew
            self._instance_of, self._instance = identity.agent_id, f"{identity.instance_id}-{secrets.token_hex(4)}"
        self._note_time(challenge.server_time)
        # A hello that no welcome followed: the new key may not have reached the server's disk, so try the old one.
        self._use_last_key = self._unanswered and not self._use_last_key
        self._unanswered = True
        key = identity.last_key if self._use_last_key and identity.last_key else identity.key
        text = link.connect_text(
            origin=challenge.origin,
            nonce=challenge.nonce,
            agent_id=identity.agent_id,
            key_id=key.key_id,
            instance_id=self._instance,
            generation=identity.generation,
        )
        return link.Hello(
            agent_id=identity.agent_id,
            key_id=key.key_id,
            instance_id=self._instance,
            generation=identity.generation,
            signature=key.sign(text),
            version=towline.__version__,
            capabilities=self._capabilities(),
        )

    async def welcomed(self, welcome: link.Welcome) -> None:
        """Put the generation, and newer anchors, on disk."""
        identity = self._proven(self._store.current)
        changes = {
            "generation": welcome.generation,
            "cluster_id": welcome.cluster_id,
            "cluster_name": welcome.cluster_name,
        }
        identity = _changed(identity, changes)
        if welcome.trust is not None:
            identity = identity.with_trust(welcome.trust)
        self._store.save(identity)

    def _proven(self, identity: Identity) -> Identity:
        if self._use_last_key and identity.last_key is not None:
            identity = _changed(identity, {"key": identity.last_key})
        self._use_last_key = self._unanswered = False
        return identity.settled()

    def _note_time(self, server_time: float) -> None:
        self.time_offset = round(self._clock.now().timestamp() - server_time, 3)
        if abs(self.time_offset) > CLOCK_WARNING_SECONDS:
            _log.warning("this machine's clock is off", seconds=self.time_offset)


def _changed(identity: Identity, changes: dict[str, object]) -> Identity:

    return msgspec.structs.replace(identity, **changes)
