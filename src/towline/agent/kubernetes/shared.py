"""One key for every pod of the agent, kept in a Secret: made by the first pod, read by the others, followed by all.

Each pod has a state folder and an instance of its own, and its own generation in it; what they share is the key, whom
they trust and where the server is. A pod that dies leaves nothing behind that its successor needs.
"""

from __future__ import annotations

from typing import Protocol

import msgspec
import structlog

from towline.agent import files, identity
from towline.agent.errors import AgentError, IdentityError, KubernetesError
from towline.agent.identity import Identity, Store
from towline.agent.kubernetes.secret import Conflict, Content
from towline.aio.clock import REAL_CLOCK, Clock
from towline.tunnel.errors import LinkDown

JOINING, IDENTITY = "joining.json", "identity.json"
"""Keys of the Secret: the key before it is known to the server, and the identity that came of it."""
FOLLOW_INTERVAL = 300.0
"""Seconds between two looks: a changed key reaches the other pods well before the old one ends after a day."""

_log = structlog.get_logger("towline.agent")


class Vault(Protocol):
    """Where the shared part lies; `secret.KeySecret` in a cluster."""

    async def read(self) -> Content | None: ...
    async def create(self, data: dict[str, bytes]) -> Content: ...
    async def replace(self, data: dict[str, bytes], version: str) -> Content: ...


class SharedIdentity:
    """Keeps this pod's identity and the Secret in step."""

    def __init__(self, store: Store, vault: Vault, *, clock: Clock = REAL_CLOCK) -> None:
        self.store = store
        self._vault = vault
        self._clock = clock

    def __repr__(self) -> str:
        return f"<SharedIdentity {self._vault!r} {self.store!r}>"

    async def adopt(self) -> bool:
        """Take the identity from the Secret when it has one. Returns: whether this pod may connect now.

        Without one, the keys to join with are put into the state folder: the Secret's, or new ones that are in the
        Secret before they are used. Raises: KubernetesError, IdentityError, StorageError.
        """
        content = await self._vault.read()
        if content is None:
            content = await self._begin()
        if IDENTITY in content.data:
            self._take(content)
            return True
        from towline.agent import join  # an HTTP client that a pod needs once in its agent's life

        path = self.store.path.parent / join.PENDING_FILE
        files.private_folder(path.parent)
        files.write_durably(path, content.data.get(JOINING, b""))
        return False

    async def joined(self, made: Identity) -> None:
        """Put what came of joining into the Secret. A faster pod has the same. Raises: KubernetesError."""
        self.store.save(msgspec.structs.replace(made, instance_id=identity.new_instance_id(), generation=0))
        content = await self._vault.read()
        if content is None:
            raise KubernetesError("the Secret of the agent's key was deleted while it joined")
        if IDENTITY not in content.data:
            await self._write(content, self.store.current)

    async def follow(self) -> None:
        """Take a key or anchors that another pod wrote, or write what this pod has that is newer.

        Raises: KubernetesError, IdentityError, StorageError.
        """
        content = await self._vault.read()
        if content is None or IDENTITY not in content.data:
            data = {IDENTITY: _encoded(self.store.current)}
            await (self._vault.create(data) if content is None else self._vault.replace(data, content.version))
            return
        shared, own = _decoded(content), self.store.current
        if shared.agent_id != own.agent_id:
            _log.warning("the agent joined anew in another pod", agent=shared.agent_id)
            self._take(content)
        elif own.last_key is not None and own.last_key.key_id == shared.key.key_id:
            await self._write(content, own)
        elif shared.key.key_id != own.key.key_id:
            self.store.change(key=shared.key, last_key=None, next_key=None)
            _log.info("another pod changed the agent's key", key=shared.key.key_id)
        elif own.trust.version > shared.trust.version:
            await self._write(content, own)
        elif shared.trust.version > own.trust.version:
            self.store.save(own.with_trust(shared.trust))

    async def before_hello(self) -> None:
        """Follow before a connect. An API server that is away stops nothing, unless a new key is known here alone.

        Raises: LinkDown: a connect with a key that the other pods cannot learn would end theirs in a day.
        """
        try:
            await self.follow()
        except Conflict:
            return  # another pod wrote at the same moment; the next look tells what
        except AgentError as error:
            if self.store.current.last_key is not None:
                raise LinkDown(f"the new key is not in its Secret yet: {error}") from error
            _log.warning("the Secret with the agent's key was not looked at", reason=str(error))

    async def follow_for_ever(self) -> None:
        while True:
            await self._clock.sleep(FOLLOW_INTERVAL)
            try:
                await self.follow()
            except AgentError as error:
                _log.warning("the Secret with the agent's key was not looked at", reason=str(error))

    async def _begin(self) -> Content:
        from towline.agent import join

        try:
            return await self._vault.create({JOINING: join.fresh_keys()})
        except Conflict:
            content = await self._vault.read()
        if content is None:
            raise KubernetesError("the Secret of the agent's key comes and goes")
        return content

    def _take(self, content: Content) -> None:
        """Become a new instance of the identity in the Secret, unless this pod is one already."""
        shared = _decoded(content)
        if self.store.exists() and self.store.current.agent_id == shared.agent_id:
            return
        self.store.save(msgspec.structs.replace(shared, instance_id=identity.new_instance_id(), generation=0))

    async def _write(self, content: Content, own: Identity) -> None:
        await self._vault.replace({**content.data, IDENTITY: _encoded(own)}, content.version)


def _encoded(own: Identity) -> bytes:
    """Write the part that all pods share."""
    cleared = {"instance_id": "", "generation": 0, "last_trust": None, "last_key": None, "next_key": None}
    return msgspec.json.encode(msgspec.structs.replace(own, **cleared))


def _decoded(content: Content) -> Identity:
    try:
        return msgspec.json.decode(content.data[IDENTITY], type=Identity)
    except (msgspec.DecodeError, RecursionError) as error:
        raise IdentityError(
            "the Secret with the agent's key is damaged; delete it and apply a new manifest to join again"
        ) from error
