"""What a bundle may hold, as a listing and as tar."""

import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from towline.compose import bundle
from towline.compose.bundle import Entry, EntryKind, File
from towline.compose.errors import BundleRefused


def _file(path: str, content: bytes = b"x", mode: int = 0o644) -> File:
    return File(path, EntryKind.FILE, content, mode)


BAD_LISTINGS: dict[str, list[Entry]] = {
    "parent": [Entry("../x")],
    "inner parent": [Entry("a/../../x")],
    "absolute": [Entry("/etc/passwd")],
    "empty name": [Entry("")],
    "backslash": [Entry("a\\b")],
    "control character": [Entry("a\nb")],
    "NUL": [Entry("a\0b")],
    "surrogate": [Entry("a\udcff")],
    "device, FIFO or hard link": [Entry("x", EntryKind.OTHER)],
    "setuid": [Entry("x", mode=0o4755)],
    "sticky folder": [Entry("x", EntryKind.FOLDER, mode=0o1777)],
    "duplicate": [Entry("a"), Entry("./a")],
    "case twins": [Entry("a/Readme"), Entry("a/readme")],
    "case twins in folders": [Entry("Conf/x"), Entry("conf/y")],
    "unicode twins": [Entry("caf\u00e9"), Entry("cafe\u0301")],
    "symlink out": [Entry("a", EntryKind.SYMLINK, target="../etc")],
    "absolute symlink": [Entry("a", EntryKind.SYMLINK, target="/etc")],
    "symlink to nothing": [Entry("a", EntryKind.SYMLINK)],
    "deep symlink out": [Entry("d/e/a", EntryKind.SYMLINK, target="../../../x")],
    "symlink through a symlink": [
        Entry("d", EntryKind.FOLDER),
        Entry("d/l", EntryKind.SYMLINK, target=".."),
        Entry("m", EntryKind.SYMLINK, target="d/l/../x"),
    ],
    "symlink to a reserved name": [Entry("a", EntryKind.SYMLINK, target=".towline/secrets/key")],
    "file below a symlink": [Entry("a", EntryKind.SYMLINK, target="b"), Entry("a/x")],
    "file below a file": [Entry("a"), Entry("a/x")],
    "own folder": [Entry(".towline/override.yaml")],
    "own folder in capitals": [Entry(".Towline/x")],
    "compose file": [Entry("compose.yaml")],
    "env file": [Entry(".env")],
    "sparse terabyte": [Entry("x", size=1 << 40)],
    "too much": [Entry(f"f{n}", size=bundle.MAX_BYTES // 2) for n in range(3)],
    "negative": [Entry("x", size=-1)],
    "too deep": [Entry("/".join("d" * 40))],
    "long name": [Entry("n" * 300)],
    "long path": [Entry("/".join(["n" * 200] * 8))],
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_LISTINGS)
def test_a_bad_listing_is_refused(name: str) -> None:
    with pytest.raises(BundleRefused):
        bundle.check(BAD_LISTINGS[name])


def test_a_million_entries_are_refused_without_reading_them_all() -> None:
    taken = 0

    def endless() -> object:
        nonlocal taken
        while True:
            taken += 1
            yield Entry(f"f{taken}")

    with pytest.raises(BundleRefused, match="more than"):
        bundle.check(endless())
    assert taken == bundle.MAX_ENTRIES + 1


def test_paths_are_normal_modes_plain_and_the_order_fixed() -> None:
    found = bundle.check(
        [Entry("./b//c", mode=0o600), Entry("a", mode=0o777), Entry("b", EntryKind.FOLDER, mode=0o700)]
    )
    assert [(entry.path, oct(entry.mode)) for entry in found] == [("a", "0o755"), ("b", "0o755"), ("b/c", "0o644")]


def test_a_symlink_inside_is_accepted() -> None:
    links = [Entry("conf/now", EntryKind.SYMLINK, target="v1/app.conf"), Entry("conf/v1/app.conf")]
    assert len(bundle.check(links)) == 2


def test_the_digest_depends_on_content_only() -> None:
    one = bundle.of([_file("a"), _file("b", b"y")])
    other = bundle.of([_file("b", b"y", 0o600), _file("./a")])
    assert one.digest == other.digest
    assert bundle.of([_file("a"), _file("b", b"z")]).digest != one.digest


def test_a_bundle_survives_tar_and_names_it() -> None:
    whole = bundle.of([
        _file("run.sh", b"#!/bin/sh\n", 0o755), _file("d/" + "é" * 60, b""), File("d", EntryKind.FOLDER),
        File("link", EntryKind.SYMLINK, target="run.sh"),
    ])  # fmt: skip
    archive = bundle.write_tar(whole)
    assert bundle.read_tar(archive) == whole
    assert bundle.digest(archive) == whole.digest
    assert set(whole.digests()) == {"run.sh", "d/" + "é" * 60, "link"}
    assert whole.size == 10


def _tar(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for member, content in members:
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def _member(
    name: str, kind: bytes = tarfile.REGTYPE, content: bytes = b"", **more: object
) -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.type, member.size = kind, len(content)
    for key, value in more.items():
        setattr(member, key, value)
    return member, content


BAD_TARS = {
    "parent": _tar(_member("../x", content=b"x")),
    "absolute": _tar(_member("/etc/cron.d/x", content=b"x")),
    "hard link": _tar(_member("a", content=b"x"), _member("b", tarfile.LNKTYPE, linkname="a")),
    "hard link out": _tar(_member("b", tarfile.LNKTYPE, linkname="/etc/shadow")),
    "character device": _tar(_member("x", tarfile.CHRTYPE)),
    "block device": _tar(_member("x", tarfile.BLKTYPE)),
    "FIFO": _tar(_member("x", tarfile.FIFOTYPE)),
    "setuid": _tar(_member("x", content=b"x", mode=0o4755)),
    "file through a symlink": _tar(_member("a", tarfile.SYMTYPE, linkname="/etc"), _member("a/x", content=b"x")),
    "duplicate": _tar(_member("x", content=b"1"), _member("x", content=b"2")),
    "sparse": _tar(_member("x", tarfile.GNUTYPE_SPARSE)),
    "garbage": b"not a tar at all" * 100,
    "compressed": b"\x1f\x8b\x08" + b"\0" * 600,
    "cut": _tar(_member("x", content=b"x" * 2000))[:1024],
    "wrong checksum": b"y" + _tar(_member("x", content=b"x"))[1:],
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_TARS)
def test_a_hostile_archive_is_refused(name: str) -> None:
    with pytest.raises(BundleRefused):
        bundle.read_tar(BAD_TARS[name])


def test_a_file_with_a_declared_terabyte_and_a_right_checksum_is_refused() -> None:
    member = tarfile.TarInfo("x")
    member.size = 1 << 40
    with pytest.raises(BundleRefused):
        bundle.read_tar(member.tobuf(tarfile.GNU_FORMAT) + b"\0" * 1024)


def test_an_empty_archive_is_an_empty_bundle() -> None:
    assert bundle.read_tar(_tar()).files == ()


@given(st.binary(max_size=2000))
def test_any_bytes_are_read_or_refused(archive: bytes) -> None:
    try:
        bundle.read_tar(archive)
    except BundleRefused:
        return


@given(st.data())
def test_a_damaged_archive_is_read_or_refused(data: st.DataObject) -> None:
    archive = bytearray(bundle.write_tar(bundle.of([_file("a", b"hello"), _file("d/b", b"there")])))
    for _ in range(data.draw(st.integers(1, 5))):
        archive[data.draw(st.integers(0, len(archive) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = bundle.read_tar(bytes(archive))
    except BundleRefused:
        return
    assert all(not file.path.startswith(("/", "..")) for file in found.files)
