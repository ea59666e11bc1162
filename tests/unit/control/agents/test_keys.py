"""Strict parsing of public keys and signatures."""

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from towline.control.agents import keys

_P = 2**255 - 19
_L = 2**252 + 27742317777372353535851937790883648493


def _encoded(number: int) -> str:
    return keys.pack(number.to_bytes(32, "little"))


def test_a_usual_key_is_accepted() -> None:
    raw = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
    assert keys.parse_identity_key(keys.pack(raw)) == raw
    assert keys.parse_identity_key(keys.pack(raw) + "=") == raw


@pytest.mark.parametrize("y", [0, 1, _P - 1, _P, _P + 1, 2**255 - 1])
@pytest.mark.parametrize("sign", [0, 1])
def test_low_order_and_non_canonical_identity_keys_are_refused(y: int, sign: int) -> None:
    with pytest.raises(keys.BadKey):
        keys.parse_identity_key(_encoded(y | sign << 255))


@pytest.mark.parametrize("u", [0, 1, _P - 1, _P, _P + 1, 2**256 - 1])
def test_low_order_and_non_canonical_sealing_keys_are_refused(u: int) -> None:
    with pytest.raises(keys.BadKey):
        keys.parse_sealing_key(_encoded(u))


@pytest.mark.parametrize("text", ["", "a", "!" * 43, "A" * 42, "A" * 44, "A" * 1_000_000, "AAAA\n" * 9])
def test_other_text_is_no_key(text: str) -> None:
    with pytest.raises(keys.BadKey):
        keys.parse_identity_key(text)


def test_a_signature_fits_its_text_alone() -> None:
    private = Ed25519PrivateKey.generate()
    public = private.public_key().public_bytes_raw()
    signature = keys.pack(private.sign(b"text"))
    assert keys.verify(public, signature, b"text")
    assert not keys.verify(public, signature, b"texT")


def test_a_signature_with_a_large_s_is_refused() -> None:
    private = Ed25519PrivateKey.generate()
    raw = private.sign(b"text")
    twin = raw[:32] + (int.from_bytes(raw[32:], "little") + _L).to_bytes(32, "little")
    assert not keys.verify(private.public_key().public_bytes_raw(), keys.pack(twin), b"text")


@given(st.text(max_size=200))
def test_any_text_as_signature_is_refused_quietly(text: str) -> None:
    public = Ed25519PrivateKey.from_private_bytes(b"1" * 32).public_key().public_bytes_raw()
    assert not keys.verify(public, text, b"text")
