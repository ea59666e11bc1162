"""Keys, requests and challenge certificates, and what a chain of certificates says about itself. Pure but for keys."""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import NameOID, ObjectIdentifier

from towline.control.authority.certificates import chain_pem, fingerprint, key_pem, new_key

ACME_IDENTIFIER = ObjectIdentifier("1.3.6.1.5.5.7.1.31")
"""Marks the certificate of a TLS-ALPN-01 challenge. Source: RFC 8737 section 3."""
CHALLENGE_LIFE = timedelta(days=7)
_OCTETS = b"\x04\x20"
"""DER: an octet string of 32 bytes."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a chain says."""

    names: tuple[str, ...]
    issuer: str
    fingerprint: str
    begins_at: datetime
    ends_at: datetime


def new_private_key() -> bytes:
    """Return a fresh P-256 key in PEM: each certificate gets its own."""
    return key_pem(new_key())


def request_for(names: Sequence[str], key: bytes) -> x509.CertificateSigningRequest:
    """Return the signed request for a certificate of these names."""
    alternatives = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.add_extension(alternatives, critical=False).sign(elliptic(key), hashes.SHA256())


def challenge_certificate(name: str, key_authorization: str, now: datetime) -> tuple[bytes, bytes]:
    """Return certificate and key, both PEM, that answer a TLS-ALPN-01 challenge. Source: RFC 8737 section 3."""
    key = new_key()
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "acme challenge")])
    digest = _OCTETS + hashlib.sha256(key_authorization.encode()).digest()
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CHALLENGE_LIFE)
        .not_valid_after(now + CHALLENGE_LIFE)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.UnrecognizedExtension(ACME_IDENTIFIER, digest), critical=True)
        .sign(key, hashes.SHA256())
    )
    return chain_pem(made), key_pem(key)


def dns_value(key_authorization: str) -> str:
    """Return what the TXT record of a DNS-01 challenge holds. Source: RFC 8555 section 8.4."""
    return urlsafe_b64encode(hashlib.sha256(key_authorization.encode()).digest()).rstrip(b"=").decode()


def elliptic(pem: bytes) -> ec.EllipticCurvePrivateKey:
    """Read a key that `new_private_key` made."""
    key = load_pem_private_key(pem, None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("not a key of ours")
    return key


def facts_of(chain: str) -> Facts:
    """Read the first certificate of a chain. Raises: ValueError: there is none."""
    first = x509.load_pem_x509_certificates(chain.encode())[0]
    return Facts(
        names_of(first), issuer_of(first), fingerprint(first), first.not_valid_before_utc, first.not_valid_after_utc
    )


def first_of(chain: str) -> x509.Certificate:
    """Return the certificate that is for the name itself."""
    return x509.load_pem_x509_certificates(chain.encode())[0]


def names_of(certificate: x509.Certificate) -> tuple[str, ...]:
    """Return the host names of a certificate, lower case; browsers look at no other field (RFC 9525 section 2)."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(dict.fromkeys(name.lower() for name in found.get_values_for_type(x509.DNSName)))


def issuer_of(certificate: x509.Certificate) -> str:
    """Return the name of who signed, for people."""
    for field in (NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME):
        found = certificate.issuer.get_attributes_for_oid(field)
        if found:
            return str(found[0].value)
    return certificate.issuer.rfc4514_string()
