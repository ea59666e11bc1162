"""Certificates that people bring: what has to be true of a chain and its key before anybody is shown them. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from towline.control.certificates import keys

MOST_CERTIFICATES = 10
"""Of a chain; the longest public ones have four."""
LEAST_RSA_BITS = 2048
"""Source: CA/Browser Forum Baseline Requirements, section 6.1.5."""
CURVES = ("secp256r1", "secp384r1", "secp521r1")


class UploadRefused(ValueError):
    """Why a certificate cannot be used, in words."""


@dataclass(frozen=True, slots=True)
class Upload:
    """A chain that is in order, and its key as we keep it."""

    chain: str
    key: bytes = field(repr=False)
    facts: keys.Facts
    notes: tuple[str, ...] = ()
    """What was put right, or will matter."""


def checked(chain: str, key: str, now: datetime) -> Upload:
    """Return what can be served. Raises: UploadRefused."""
    found = _read(chain)
    private = _key(key)
    first, notes = _first(found, private)
    ordered = _ordered(first, [each for each in found if each is not first])
    if ordered[: len(found)] != found:
        notes += ("the certificates were put in order",)
    _check_dates(first, now)
    if not keys.names_of(first):
        raise UploadRefused("the certificate names no host (it has no DNS names in subjectAltName)")
    pem = "".join(each.public_bytes(Encoding.PEM).decode() for each in ordered)
    text = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return Upload(pem, text, keys.facts_of(pem), notes)


def _read(chain: str) -> list[x509.Certificate]:
    try:
        found = x509.load_pem_x509_certificates(chain.encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise UploadRefused("the certificate is no PEM: it has to hold -----BEGIN CERTIFICATE-----") from error
    if len(found) > MOST_CERTIFICATES:
        raise UploadRefused(f"a chain of {len(found)} certificates; {MOST_CERTIFICATES} are the most")
    return found


def _key(text: str) -> ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey:
    try:
        found = load_pem_private_key(text.encode(), None)
    except TypeError as error:
        raise UploadRefused("the key is encrypted; decrypt it first: openssl pkey -in KEY -out PLAIN") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise UploadRefused("the key is no private key in PEM") from error
    if isinstance(found, rsa.RSAPrivateKey):
        if found.key_size < LEAST_RSA_BITS:
            raise UploadRefused(f"the key has {found.key_size} bits; browsers want {LEAST_RSA_BITS}")
        return found
    if isinstance(found, ec.EllipticCurvePrivateKey) and found.curve.name in CURVES:
        return found
    raise UploadRefused("the key is of a kind that browsers do not take; RSA and P-256, P-384, P-521 work")


def _first(
    found: list[x509.Certificate], key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
) -> tuple[x509.Certificate, tuple[str, ...]]:
    """Return the certificate that the key is for."""
    wanted = _spki(key.public_key())
    for each in found:
        if _spki(each.public_key()) == wanted:
            return each, ()
    raise UploadRefused("the key does not fit the certificate: its public half is another one")


def _ordered(first: x509.Certificate, others: list[x509.Certificate]) -> list[x509.Certificate]:
    """Return the chain, each signed by the next; what belongs to no chain is refused. A root at the end is left out."""
    ordered, left = [first], list(others)
    while left:
        nexts = [each for each in left if _signed(ordered[-1], each)]
        if not nexts:
            names = ", ".join(each.subject.rfc4514_string() or "a nameless one" for each in left)
            raise UploadRefused(f"the chain is broken: nothing in it was signed by {names}")
        ordered.append(nexts[0])
        left.remove(nexts[0])
    is_root = len(ordered) > 1 and ordered[-1].subject == ordered[-1].issuer
    return ordered[:-1] if is_root else ordered


def _signed(certificate: x509.Certificate, by: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(by)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _check_dates(first: x509.Certificate, now: datetime) -> None:
    if first.not_valid_after_utc <= now:
        raise UploadRefused(f"the certificate ended on {first.not_valid_after_utc:%Y-%m-%d}")
    if first.not_valid_before_utc > now:
        raise UploadRefused(f"the certificate begins on {first.not_valid_before_utc:%Y-%m-%d %H:%M} UTC")


def _spki(key: object) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)  # type: ignore[attr-defined,no-any-return]
