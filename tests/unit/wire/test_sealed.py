"""Secrets to an agent open with its key, in their context, and nowhere else."""

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from towline.wire.sealed import OVERHEAD_BYTES, CannotOpen, context, open_sealed, seal

HERE = context("org_1", "dep_1", "agt_1")


def key_pair() -> tuple[bytes, bytes]:
    key = X25519PrivateKey.generate()
    return key.private_bytes_raw(), key.public_key().public_bytes_raw()


@pytest.mark.parametrize("text", [b"", b"hunter2", b"x" * 1_000_000])
def test_what_is_sealed_for_an_agent_opens_there(text: bytes) -> None:
    private, public = key_pair()
    sealed = seal(public, HERE, text)
    assert len(sealed) == len(text) + OVERHEAD_BYTES
    assert open_sealed(private, HERE, sealed) == text


def test_another_agent_or_context_does_not_open_it() -> None:
    private, public = key_pair()
    sealed = seal(public, HERE, b"x")
    with pytest.raises(CannotOpen):
        open_sealed(key_pair()[0], HERE, sealed)
    for other in (
        context("org_2", "dep_1", "agt_1"),
        context("org_1", "dep_2", "agt_1"),
        context("org_1", "dep_1", "agt_2"),
    ):
        with pytest.raises(CannotOpen):
            open_sealed(private, other, sealed)


def test_no_byte_of_it_can_be_changed_or_cut() -> None:
    private, public = key_pair()
    sealed = seal(public, HERE, b"x")
    for place in range(len(sealed)):
        changed = bytearray(sealed)
        changed[place] ^= 1
        for wrong in (bytes(changed), sealed[:place]):
            with pytest.raises(CannotOpen):
                open_sealed(private, HERE, wrong)


@pytest.mark.parametrize("key", [b"", b"x" * 31, bytes(32), b"\x01" + bytes(31)])
def test_nothing_is_sealed_for_a_key_that_is_none(key: bytes) -> None:
    with pytest.raises(ValueError):
        seal(key, HERE, b"x")
