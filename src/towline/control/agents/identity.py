"""Who this server is to its agents: its origin, its addresses, and what they may trust. A value and its source."""

from collections.abc import Callable
from dataclasses import dataclass

from towline.wire import link


@dataclass(frozen=True, slots=True)
class ServerIdentity:
    """What agents are told about the server."""

    origin: str
    """`https://host:port`; part of what agents sign, so that a signature for one server fits no other."""
    urls: tuple[str, ...]
    """Every address to dial, in order of preference."""
    fingerprints: tuple[str, ...]
    """`sha256:…` over the DER of accepted authorities: the present one and the next."""
    spki_pins: tuple[str, ...] = ()
    """`sha256//…` (base64) over the public key of the server's certificate, for curl's `--pinnedpubkey`."""
    ca_pem: str = ""
    signing_keys: tuple[str, ...] = ()
    """Ed25519 keys (base64url) whose signatures on updates agents believe."""

    def trust(self, version: int) -> link.Trust:
        """Return the message that agents pin; they ignore one whose version is not newer than what they have."""
        return link.Trust(
            fingerprints=self.fingerprints,
            ca_pem=self.ca_pem,
            server_urls=self.urls,
            signing_keys=self.signing_keys,
            version=version,
        )


IdentitySource = Callable[[], ServerIdentity]
"""Asked at each use: certificates and addresses change while the server runs."""
