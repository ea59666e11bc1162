"""The encrypted file of a backup opens whole or not at all."""

import io

import pytest

from towline.control.backup import container
from towline.control.backup.container import BadBackup, SealedReader, SealedWriter

PASSPHRASE = "a long passphrase"


@pytest.fixture(autouse=True)
def _cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(container, "SCRYPT_N", 2)
    monkeypatch.setattr(container, "CHUNK_BYTES", 16)


def sealed(text: bytes) -> bytes:
    out = io.BytesIO()
    writer = SealedWriter(out, PASSPHRASE)
    writer.write(text[:5])
    writer.write(text[5:])
    writer.close()
    return out.getvalue()


def opened(data: bytes, passphrase: str = PASSPHRASE) -> bytes:
    reader = SealedReader(io.BytesIO(data), passphrase)
    return b"".join(iter(lambda: reader.read(7), b""))


@pytest.mark.parametrize("length", [0, 1, 15, 16, 17, 32, 33, 100])
def test_what_goes_in_comes_out(length: int) -> None:
    text = bytes(range(length))
    assert opened(sealed(text)) == text
    assert text[5:10] not in sealed(text) or not text[5:10]


def test_another_passphrase_does_not_open_it() -> None:
    with pytest.raises(BadBackup, match="passphrase"):
        opened(sealed(b"x"), "another passphrase")


def test_a_short_passphrase_is_refused() -> None:
    with pytest.raises(BadBackup, match="shorter"):
        SealedWriter(io.BytesIO(), "short")


@pytest.mark.parametrize("length", [16, 40])
def test_a_backup_cut_at_any_byte_is_refused(length: int) -> None:
    whole = sealed(b"x" * length)
    for place in range(len(whole)):
        with pytest.raises(BadBackup):
            opened(whole[:place])


def test_a_backup_with_any_byte_changed_is_refused() -> None:
    whole = sealed(b"x" * 40)
    for place in range(len(whole)):
        changed = bytearray(whole)
        changed[place] ^= 1
        with pytest.raises(BadBackup):
            opened(bytes(changed))


def test_chunks_cannot_be_left_out_or_swapped() -> None:
    whole = sealed(bytes(48))
    head = whole.index(b"\n", len(container.MAGIC)) + 1
    step = 4 + 16 + 16
    chunks = [whole[at : at + step] for at in range(head, len(whole), step)]
    for order in ([1, 0, 2], [0, 2], [0, 1], [0, 0, 1, 2]):
        with pytest.raises(BadBackup):
            opened(whole[:head] + b"".join(chunks[place] for place in order))
