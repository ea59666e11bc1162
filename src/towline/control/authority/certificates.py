"""Making certificates: an authority of our own, and certificates for this server that it signs. Pure but for keys.

Names constraints are left out on purpose: the authority's fingerprint is pinned by every agent, and it must outlive
each change of the server's names.
Source: RFC 5280, sections 4.2.1.1 to 4.2.1.12.
"""

from __future__ import annotations

import hashlib
import ipaddress
import secrets
from base64 import b64encode
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY_LIFE = timedelta(days=3650)
SERVER_LIFE = timedelta(days=90)
BACKDATED = timedelta(days=2)
"""Certificates begin in the past, so that a machine whose clock is behind by hours can connect."""
RENEW_AFTER = 2 / 3
"""Part of its life after which a certificate is renewed: a month is left to notice that it fails."""
LONGEST_COMMON_NAME = 64


def new_key() -> ec.EllipticCurvePrivateKey:
    """Return a P-256 key: the curve that everything speaks."""
    return ec.generate_private_key(ec.SECP256R1())


def new_authority(key: ec.EllipticCurvePrivateKey, now: datetime) -> x509.Certificate:
    """Return the certificate of a new authority; it may sign servers, no further authorities."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Towline authority {secrets.token_hex(4)}")])
    usage = _usage(key_cert_sign=True, crl_sign=True)
    return (
        _builder(name, name, key.public_key(), now, AUTHORITY_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


def new_server(
    key: ec.EllipticCurvePrivateKey,
    names: Sequence[str],
    authority: x509.Certificate,
    authority_key: ec.EllipticCurvePrivateKey,
    now: datetime,
) -> x509.Certificate:
    """Return a certificate for these names and addresses."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:LONGEST_COMMON_NAME])])
    issuer_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key())
    return (
        _builder(subject, authority.subject, key.public_key(), now, SERVER_LIFE)
        .add_extension(x509.SubjectAlternativeName([general_name(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(issuer_key, critical=False)
        .sign(authority_key, hashes.SHA256())
    )


def needs_renewal(
    certificate: x509.Certificate, names: Iterable[str], authority: x509.Certificate, now: datetime
) -> bool:
    """Tell whether a server's certificate is old, lacks a name, or is another authority's."""
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    old = now >= begins + (ends - begins) * RENEW_AFTER or now < begins
    try:
        certificate.verify_directly_issued_by(authority)
        held = set(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
        return True
    return old or not {general_name(name) for name in names} <= held


def general_name(name: str) -> x509.GeneralName:
    """Return an address as an address and a name as a name."""
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def fingerprint(certificate: x509.Certificate) -> str:
    """Return what agents and the CLI pin: `sha256:` and hex over the DER."""
    return f"sha256:{hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest()}"


def spki_pin(certificate: x509.Certificate) -> str:
    """Return what curl pins: `sha256//` and base64 over the public key. Source: curl(1), `--pinnedpubkey`."""
    key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return f"sha256//{b64encode(hashlib.sha256(key).digest()).decode()}"


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def chain_pem(*certificates: x509.Certificate) -> bytes:
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates)


def utc_now() -> datetime:
    return datetime.now(UTC)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, life: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + life)
    )


def _usage(**given: bool) -> x509.KeyUsage:
    names = (
        "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
        "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
    )  # fmt: skip
    return x509.KeyUsage(**{name: given.get(name, False) for name in names})
