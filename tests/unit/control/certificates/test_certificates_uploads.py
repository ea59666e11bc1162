"""What has to be true of a certificate that somebody brings."""

from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from towline.control.authority import certificates
from towline.control.certificates.keys import facts_of
from towline.control.certificates.uploads import MOST_CERTIFICATES, UploadRefused, checked

NOW = datetime(2026, 11, 1, tzinfo=UTC)
NAMES = ["shop.example.com", "*.shop.example.com"]

root_key = certificates.new_key()
root = certificates.new_authority(root_key, NOW)
leaf_key = certificates.new_key()
leaf = certificates.new_server(leaf_key, NAMES, root, root_key, NOW)
CHAIN = certificates.chain_pem(leaf, root).decode()
KEY = certificates.key_pem(leaf_key).decode()


def pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def test_a_chain_in_order_is_taken_without_its_root() -> None:
    found = checked(CHAIN, KEY, NOW)
    assert found.facts.names == tuple(NAMES)
    assert found.chain == certificates.chain_pem(leaf).decode()
    assert found.key.decode() == KEY


def test_a_chain_in_the_wrong_order_is_put_right_and_that_is_said() -> None:
    found = checked(certificates.chain_pem(root, leaf).decode(), KEY, NOW)
    assert facts_of(found.chain).names == tuple(NAMES)
    assert "put in order" in found.notes[0]


def test_a_key_that_does_not_fit_is_refused() -> None:
    with pytest.raises(UploadRefused, match="does not fit"):
        checked(CHAIN, certificates.key_pem(certificates.new_key()).decode(), NOW)


def test_a_certificate_of_another_chain_is_refused() -> None:
    stranger = certificates.new_authority(certificates.new_key(), NOW)
    with pytest.raises(UploadRefused, match="chain is broken"):
        checked(certificates.chain_pem(leaf, stranger).decode(), KEY, NOW)


@pytest.mark.parametrize(("days", "words"), [(100, "ended on"), (-30, "begins on")])
def test_dates_that_do_not_hold_now_are_refused(days: int, words: str) -> None:
    with pytest.raises(UploadRefused, match=words):
        checked(CHAIN, KEY, NOW + timedelta(days=days))


def test_a_certificate_without_host_names_is_refused() -> None:
    with pytest.raises(UploadRefused, match="names no host"):
        checked(certificates.chain_pem(root).decode(), certificates.key_pem(root_key).decode(), NOW)


@pytest.mark.parametrize(
    ("chain", "key", "words"),
    [
        ("", KEY, "no PEM"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", KEY, "no PEM"),
        (CHAIN, "nothing", "no private key"),
        (CHAIN * MOST_CERTIFICATES, KEY, "are the most"),
        (CHAIN, pem(rsa.generate_private_key(65537, 1024)), "1024 bits"),
        (CHAIN, pem(ec.generate_private_key(ec.SECP256K1())), "do not take"),
    ],
)
def test_what_is_no_certificate_or_key_is_refused(chain: str, key: str, words: str) -> None:
    with pytest.raises(UploadRefused, match=words):
        checked(chain, key, NOW)


def test_an_encrypted_key_is_refused_with_the_command_that_helps() -> None:
    sealed = leaf_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    with pytest.raises(UploadRefused, match="openssl pkey"):
        checked(CHAIN, sealed.decode(), NOW)


def test_the_key_is_in_no_repr() -> None:
    assert "PRIVATE" not in repr(checked(CHAIN, KEY, NOW))
