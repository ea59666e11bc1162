"""Secrets at rest open only where they belong, and keys only when nobody else can read them."""

import base64
import os
from pathlib import Path

import pytest

from towline.control.errors import StartupError
from towline.control.sealing import ring as rings
from towline.control.sealing.ring import KeyRing
from towline.control.sealing.service import CannotOpen, Sealer, key_name

PLACE = ("org_1", "sec_1", 1, "deployment secret")


def test_a_secret_opens_where_it_was_sealed() -> None:
    sealer = Sealer(KeyRing({"a": os.urandom(32)}))
    assert sealer.open(*PLACE, sealer.seal(*PLACE, b"hunter2")) == b"hunter2"
    assert sealer.open(*PLACE, sealer.seal(*PLACE, b"")) == b""


@pytest.mark.parametrize(
    "place",
    [
        ("org_2", "sec_1", 1, "deployment secret"),
        ("org_1", "sec_2", 1, "deployment secret"),
        ("org_1", "sec_1", 2, "deployment secret"),
        ("org_1", "sec_1", 1, "registry password"),
        ("org_1s", "ec_1", 1, "deployment secret"),
    ],
)
def test_a_secret_moved_elsewhere_does_not_open(place: tuple[str, str, int, str]) -> None:
    sealer = Sealer(KeyRing({"a": os.urandom(32)}))
    with pytest.raises(CannotOpen):
        sealer.open(*place, sealer.seal(*PLACE, b"hunter2"))


def test_no_byte_of_an_envelope_can_be_changed_or_cut() -> None:
    sealer = Sealer(KeyRing({"a": os.urandom(32)}))
    sealed = sealer.seal(*PLACE, b"x")
    for place in range(len(sealed)):
        changed = bytearray(sealed)
        changed[place] ^= 1
        with pytest.raises(CannotOpen):
            sealer.open(*PLACE, bytes(changed))
        with pytest.raises(CannotOpen):
            sealer.open(*PLACE, sealed[:place])


def test_the_newest_key_seals_and_old_ones_still_open() -> None:
    old, new = os.urandom(32), os.urandom(32)
    before = Sealer(KeyRing({"old": old})).seal(*PLACE, b"x")
    sealer = Sealer(KeyRing({"old": old, "new": new}))
    assert key_name(before) == "old"
    assert key_name(sealer.seal(*PLACE, b"x")) == "new"
    assert sealer.open(*PLACE, before) == b"x"
    with pytest.raises(CannotOpen):
        Sealer(KeyRing({"new": new})).open(*PLACE, before)


def test_the_plaintext_is_in_no_envelope_and_no_repr() -> None:
    key = os.urandom(32)
    sealer = Sealer(KeyRing({"a": key}))
    assert b"hunter2" not in sealer.seal(*PLACE, b"hunter2")
    assert key.hex() not in repr(sealer) and "KeyRing" in repr(sealer)


def test_a_made_key_is_readable_by_its_user_alone(tmp_path: Path) -> None:
    made = rings.create(tmp_path / "keys")
    (path,) = (tmp_path / "keys").iterdir()
    assert path.stat().st_mode & 0o777 == 0o400
    loaded = rings.load(tmp_path / "keys")
    assert loaded is not None and loaded.names == made.names


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    rings.create(tmp_path)
    (path,) = tmp_path.iterdir()
    path.chmod(0o440)
    with pytest.raises(StartupError, match="open to other users"):
        rings.load(tmp_path)


@pytest.mark.parametrize("content", [b"", b"x" * 31, b"x" * 33, b"not base64!!", base64.b64encode(b"x" * 16)])
def test_a_file_that_holds_no_key_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "k"
    path.write_bytes(content)
    path.chmod(0o400)
    with pytest.raises(StartupError, match="32 bytes"):
        rings.load(tmp_path, [str(path)])


def test_a_key_may_be_base64_and_has_the_same_name(tmp_path: Path) -> None:
    key = os.urandom(32)
    raw, text = tmp_path / "raw", tmp_path / "text"
    raw.write_bytes(key)
    text.write_bytes(base64.b64encode(key) + b"\n")
    for path in (raw, text):
        path.chmod(0o400)
    one, two = rings.load(tmp_path, [str(raw)]), rings.load(tmp_path, [str(text)])
    assert one is not None and two is not None and one.names == two.names


def test_a_missing_key_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="none"):
        rings.load(tmp_path, [str(tmp_path / "none.key")])
    assert rings.load(tmp_path) is None
