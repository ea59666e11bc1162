"""Changing what the agent holds: its identity key, and whom it trusts. On disk first, then on the wire."""

from __future__ import annotations

import structlog

from towline.agent import identity
from towline.agent.identity import Store
from towline.wire import link

_log = structlog.get_logger("towline.agent")


def propose(store: Store, epoch: int) -> link.KeyRotation:
    """Make a new key, or take the one that was proposed before, and let both keys sign for it. Raises: StorageError."""
    current = store.current
    new = current.next_key or identity.new_key()
    store.change(next_key=new)
    text = link.rotate_text(
        agent_id=current.agent_id,
        old_key_id=current.key.key_id,
        new_key_id=new.key_id,
        new_public_key=new.public,
        epoch=epoch,
    )
    return link.KeyRotation(
        new_key_id=new.key_id,
        new_public_key=new.public,
        signature=current.key.sign(text),
        new_signature=new.sign(text),
    )


def confirm(store: Store, message: link.KeyRotated) -> bool:
    """Use the proposed key from now on; the old one stays until a connect with the new one succeeded.

    Returns: whether the key changed. Raises: StorageError.
    """
    current = store.current
    if current.next_key is None:
        return False
    new = identity.Key(key_id=message.key_id, private=current.next_key.private)
    store.change(key=new, last_key=current.key, next_key=None)
    _log.info("identity key changed", key=new.key_id)
    return True


def trust(store: Store, message: link.Trust) -> bool:
    """Take newer anchors and addresses. Returns: whether anything changed. Raises: StorageError."""
    changed = store.current.with_trust(message)
    if changed is store.current:
        return False
    store.save(changed)
    _log.info("trust changed", version=message.version, servers=list(changed.server_urls))
    return True
