"""Who this host is: its keys, its place in the control plane, and whom it trusts. One file, `identity.json`.

The file is 0600, written aside, flushed and renamed. Keys appear in no repr. What is sent over the link is made in
`link.py`; the enrolment itself is in `join.py`.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from towline.agent import files
from towline.agent.errors import IdentityError
from towline.wire import link

FILE_NAME = "identity.json"


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """An Ed25519 key of this agent and the name that the control plane knows it by."""

    key_id: str
    private: str

    def __repr__(self) -> str:
        return f"Key({self.key_id!r})"

    @property
    def public(self) -> str:
        return encoded(self._key().public_key().public_bytes_raw())

    def sign(self, text: bytes) -> str:
        return encoded(self._key().sign(text))

    def _key(self) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(decoded(self.private))


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a connect needs. Immutable: `Store.change` writes the next one."""

    agent_id: str
    cluster_id: str
    cluster_name: str
    instance_id: str
    key: Key
    sealing_key: str
    """X25519, private."""
    server_urls: tuple[str, ...]
    link_path: str
    generation: int
    trust: link.Trust
    last_trust: link.Trust | None = None
    """The last one that a connect succeeded with, until the present one has."""
    next_key: Key | None = None
    """Sent to the control plane, not yet confirmed."""
    last_key: Key | None = None
    """Replaced by `key`, until a connect with that one succeeds."""
    joined_at: float = 0.0

    def __repr__(self) -> str:
        return f"<Identity {self.agent_id} of {self.cluster_name!r} {self.key!r} generation={self.generation}>"

    def unseal_key(self) -> X25519PrivateKey:
        return X25519PrivateKey.from_private_bytes(decoded(self.sealing_key))

    def with_trust(self, trust: link.Trust) -> Identity:
        """Return the identity with newer anchors and addresses; itself when there is nothing new in it.

        A host that joined without a pin trusts an authority of its system, or the one it was given then; it takes
        addresses, and pins nothing.
        """
        if trust.version <= self.trust.version:
            return self
        if not self.trust.fingerprints:
            if not trust.server_urls:
                return self
            trust = msgspec.structs.replace(trust, fingerprints=(), ca_pem=self.trust.ca_pem)
        elif not trust.fingerprints:
            return self
        return msgspec.structs.replace(
            self, trust=trust, last_trust=self.trust, server_urls=trust.server_urls or self.server_urls
        )

    def settled(self) -> Identity:
        """Return the identity after a connect that succeeded with its present trust and key."""
        return msgspec.structs.replace(self, last_trust=None, last_key=None)


class Store:
    """The identity on disk."""

    def __init__(self, state_folder: Path) -> None:
        self.path = state_folder / FILE_NAME
        self._current: Identity | None = None

    def __repr__(self) -> str:
        return f"<Store {self.path} {self._current!r}>"

    def exists(self) -> bool:
        return self.path.exists()

    @property
    def current(self) -> Identity:
        """The identity. Raises: IdentityError: the host has not joined, or the file is damaged."""
        if self._current is None:
            self._current = self._load()
        return self._current

    def reload(self) -> Identity:
        """Read what another process may have written. Raises: IdentityError."""
        self._current = None
        return self.current

    def save(self, identity: Identity) -> None:
        """Put the identity on disk before it is used. Raises: StorageError."""
        files.private_folder(self.path.parent)
        files.write_durably(self.path, msgspec.json.encode(identity))
        self._current = identity

    def change(self, **changes: object) -> Identity:
        """Replace some fields, on disk first. Returns the new identity. Raises: StorageError, IdentityError."""
        identity = msgspec.structs.replace(self.current, **changes)
        if identity != self.current:
            self.save(identity)
        return identity

    def forget(self) -> None:
        """Remove the identity: the host has left."""
        self.path.unlink(missing_ok=True)
        self._current = None

    def _load(self) -> Identity:
        try:
            data = self.path.read_bytes()
            mode = self.path.stat().st_mode
        except FileNotFoundError as error:
            raise IdentityError(
                f"this host has not joined: there is no {self.path}; run `towline agent join` first"
            ) from error
        except OSError as error:
            raise IdentityError(f"{self.path}: {error.strerror or error}") from error
        if mode & 0o077:
            raise IdentityError(f"{self.path} may be read by other users; run `chmod 600 {self.path}`")
        try:
            return msgspec.json.decode(data, type=Identity)
        except (msgspec.DecodeError, RecursionError) as error:
            raise IdentityError(f"{self.path} is damaged ({error}); run `towline agent join` again") from error


def new_key() -> Key:
    """Make an identity key. Its id is a name for its public half."""
    private = Ed25519PrivateKey.generate()
    digest = hashlib.sha256(private.public_key().public_bytes_raw()).hexdigest()
    return Key(key_id=f"key_{digest[:26]}", private=encoded(private.private_bytes_raw()))


def new_sealing_key() -> tuple[str, str]:
    """Make an X25519 key. Returns: private and public half."""
    private = X25519PrivateKey.generate()
    return encoded(private.private_bytes_raw()), encoded(private.public_key().public_bytes_raw())


def new_instance_id() -> str:
    """Name this installation: a copy of the identity has the same one until it is told otherwise."""
    return f"ins_{secrets.token_hex(13)}"


def encoded(data: bytes) -> str:
    """Write bytes as base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decoded(text: str) -> bytes:
    """Read what `encoded` wrote."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
