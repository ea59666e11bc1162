"""Which servers an agent or the CLI believes: pinned authorities, a file of its own, or the system's. No sockets.

A pin is the fingerprint of a certificate that must be in the server's chain; the chain is then verified up to it, and
the host name always is. Source: reference of the join line, docs/wire-protocol.md, "Trust".
"""

from __future__ import annotations

import hashlib
import ssl
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

PIN_PREFIX = "sha256:"


@dataclass(frozen=True, slots=True)
class TrustAnchors:
    """What to believe. With nothing set, the system's authorities.

    `fingerprints`: `sha256:` and 64 hex digits over the DER of an authority or of the server's own certificate.
    `ca_pem`: certificates that may hold the pinned ones, so that they need not be fetched first. `ca_file`: a PEM file
    of authorities that replaces the system's; pins are checked beside it when there are any.
    """

    fingerprints: tuple[str, ...] = ()
    ca_pem: str = ""
    ca_file: str = ""

    @property
    def pinned_certificates(self) -> list[bytes]:
        """DER of the certificates in `ca_pem` that are pinned."""
        if not self.ca_pem:
            return []
        chain = [cert.public_bytes(Encoding.DER) for cert in x509.load_pem_x509_certificates(self.ca_pem.encode())]
        return pinned(chain, self.fingerprints)

    @property
    def needs_chain(self) -> bool:
        """Whether the server's chain must be looked at before it can be verified."""
        return bool(self.fingerprints) and not self.pinned_certificates

    def context(self, chain: list[bytes] | None = None) -> ssl.SSLContext:
        """Make a context that verifies chain and host name.

        Args: chain: what the server offered, for pins without `ca_pem`.
        Raises: PinMismatch: none of its certificates is pinned. OSError, ssl.SSLError: the file cannot be read.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self.fingerprints:
            anchors = self.pinned_certificates or pinned(chain or [], self.fingerprints)
            if not anchors:
                raise PinMismatch(chain or [])
            context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
            context.load_verify_locations(cadata=b"".join(anchors))
        elif self.ca_file:
            context.load_verify_locations(cadata=Path(self.ca_file).read_text())
        elif self.ca_pem:
            context.load_verify_locations(cadata=self.ca_pem)
        else:
            context.load_default_certs()
        return context


class PinMismatch(Exception):
    """No certificate of a chain has a pinned fingerprint."""

    def __init__(self, chain: list[bytes]) -> None:
        super().__init__("no certificate that the server offered has a pinned fingerprint")
        self.chain = chain


def fingerprint(der: bytes) -> str:
    """Return the pin of a certificate."""
    return PIN_PREFIX + hashlib.sha256(der).hexdigest()


def pinned(chain: list[bytes], fingerprints: tuple[str, ...]) -> list[bytes]:
    """Return the certificates of a chain that are pinned; colons and upper case in a pin do not matter."""
    wanted = {_normal(pin) for pin in fingerprints}
    return [der for der in chain if fingerprint(der) in wanted]


def looking_context() -> ssl.SSLContext:
    """Make a context that believes anybody: only to look at a chain, never to send anything."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def offered_chain(ssl_object: ssl.SSLObject) -> list[bytes]:
    """Return the DER of the certificates that the peer sent, its own first."""
    # Public from Python 3.13 on; before, the same call one layer below, where it gives objects.
    if hasattr(ssl_object, "get_unverified_chain"):
        return [bytes(der) for der in ssl_object.get_unverified_chain() or []]
    inner = ssl_object._sslobj  # type: ignore[attr-defined]
    return [certificate.public_bytes(_DER) for certificate in inner.get_unverified_chain() or []]


_DER = 2
"""OpenSSL's X509_FILETYPE_ASN1, as Python's `_ssl.ENCODING_DER`."""


def describe(der: bytes) -> str:
    """Return one line about a certificate, for people who look for a wrong one."""
    try:
        certificate = x509.load_der_x509_certificate(der)
    except ValueError:
        return f"unreadable certificate {fingerprint(der)}"
    subject, issuer = certificate.subject.rfc4514_string(), certificate.issuer.rfc4514_string()
    since, until = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    names = f"{subject or 'no subject'}, issued by {issuer or 'nobody'}"
    return f"{names}, {since:%Y-%m-%d} to {until:%Y-%m-%d}, {fingerprint(der)}"


def _normal(pin: str) -> str:
    digits = pin.strip().lower().removeprefix(PIN_PREFIX).replace(":", "")
    return PIN_PREFIX + digits
