"""What a bundle of files may hold, and reading and writing it as tar, in memory.

Here: rules on a listing, a canonical tar whose digest names the bundle. Not here: disks; whoever writes a bundle out
writes exactly the entries that this module returned, and nothing it refused.
"""

import hashlib
import io
import posixpath
import tarfile
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from towline.compose import layout
from towline.compose.errors import BundleRefused
from towline.compose.text import MAX_SHOWN, clean

# The limit on the content of a bundle.
MAX_BYTES = 32 * 1024 * 1024
# Web projects with their sources stay far below; a million empty files are a way to fill a disk's inodes.
MAX_ENTRIES = 5_000
# Headers, padding and the two closing blocks come on top of the content.
MAX_ARCHIVE_BYTES = MAX_BYTES + MAX_ENTRIES * 3 * tarfile.BLOCKSIZE + tarfile.RECORDSIZE
MAX_PATH_BYTES = 1_024
MAX_NAME_BYTES = 255
MAX_DEPTH = 32

FILE_MODE = 0o644
EXECUTABLE_MODE = 0o755
FOLDER_MODE = 0o755
_SPECIAL_BITS = 0o7000


class EntryKind(StrEnum):
    """What an entry is."""

    FILE = "file"
    FOLDER = "folder"
    SYMLINK = "symlink"
    OTHER = "other"  # devices, FIFOs, sockets, hard links: never accepted


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a listing. `target` is what a symlink points to."""

    path: str
    kind: EntryKind = EntryKind.FILE
    size: int = 0
    mode: int = FILE_MODE
    target: str = ""


@dataclass(frozen=True, slots=True)
class File:
    """An accepted entry with its content."""

    path: str
    kind: EntryKind
    content: bytes = b""
    mode: int = FILE_MODE
    target: str = ""


@dataclass(frozen=True, slots=True)
class Bundle:
    """Accepted files, sorted by path, and the digest of their canonical tar."""

    files: tuple[File, ...]
    digest: str

    @property
    def size(self) -> int:
        return sum(len(file.content) for file in self.files)

    def digests(self) -> dict[str, str]:
        """The SHA-256 of each file's content; of the target, for a symlink."""
        return {
            file.path: hashlib.sha256(file.content or file.target.encode()).hexdigest()
            for file in self.files
            if file.kind is not EntryKind.FOLDER
        }


def check(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """Check a listing.

    Returns: the entries with normal paths and plain modes, sorted. Raises: BundleRefused at the first bad entry.
    """
    seen: dict[str, Entry] = {}
    folded: dict[str, str] = {}
    total = 0
    for entry in entries:
        if len(seen) >= MAX_ENTRIES:
            raise BundleRefused(f"more than {MAX_ENTRIES} files")
        checked = _checked(entry)
        if checked.path == ".":
            continue
        total += checked.size
        if total > MAX_BYTES:
            raise BundleRefused(f"the files have more than {MAX_BYTES // (1024 * 1024)} MiB")
        _claim(checked, seen, folded)
    for entry in seen.values():
        _check_parents(entry, seen)
        if entry.kind is EntryKind.SYMLINK:
            _check_link(entry, seen)
    return tuple(sorted(seen.values(), key=lambda entry: entry.path))


def _checked(entry: Entry) -> Entry:
    path = _normal(entry.path)
    if entry.kind is EntryKind.OTHER:
        raise BundleRefused("only files, folders and symlinks are allowed", _shown(entry.path))
    if entry.mode & _SPECIAL_BITS:
        raise BundleRefused("setuid, setgid and sticky bits are not allowed", _shown(entry.path))
    if entry.size < 0 or entry.size > MAX_BYTES:
        raise BundleRefused(f"larger than {MAX_BYTES // (1024 * 1024)} MiB", _shown(entry.path))
    if layout.is_reserved(path):
        raise BundleRefused("this name is reserved: it has a place of its own in a revision", _shown(entry.path))
    match entry.kind:
        case EntryKind.FOLDER:
            return Entry(path, entry.kind, 0, FOLDER_MODE)
        case EntryKind.SYMLINK:
            return Entry(path, entry.kind, 0, 0o777, entry.target)
    return Entry(path, entry.kind, entry.size, EXECUTABLE_MODE if entry.mode & 0o111 else FILE_MODE)


def _normal(path: str) -> str:
    """Give a path its one spelling. Raises: BundleRefused for what is not a plain relative path."""
    name = _shown(path)
    if not path or any(character < " " or character == "\x7f" for character in path) or "\\" in path:
        raise BundleRefused("control characters and backslashes are not allowed in a path", name)
    try:
        size = len(path.encode())
    except UnicodeEncodeError:
        raise BundleRefused("the path is not valid UTF-8", name) from None
    if path.startswith("/"):
        raise BundleRefused("absolute paths are not allowed", name)
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise BundleRefused("'..' is not allowed", name)
    if size > MAX_PATH_BYTES or len(parts) > MAX_DEPTH or any(len(part.encode()) > MAX_NAME_BYTES for part in parts):
        raise BundleRefused("the path is too long", name)
    return "/".join(parts) or "."


def _claim(entry: Entry, seen: dict[str, Entry], folded: dict[str, str]) -> None:
    earlier = seen.get(entry.path)
    if earlier is not None and not (earlier.kind is entry.kind is EntryKind.FOLDER):
        raise BundleRefused("given twice", _shown(entry.path))
    place = entry.path
    while place:  # a file's folders count too, named or not
        twin = folded.setdefault(unicodedata.normalize("NFC", place).casefold(), place)
        if twin != place:
            raise BundleRefused(f"differs from {_shown(twin)} only in how it is written", _shown(entry.path))
        place = posixpath.dirname(place)
    seen[entry.path] = entry


def _check_parents(entry: Entry, seen: dict[str, Entry]) -> None:
    parent = posixpath.dirname(entry.path)
    while parent:
        above = seen.get(parent)
        if above is not None and above.kind is not EntryKind.FOLDER:
            raise BundleRefused(f"lies below {_shown(parent)}, which is not a folder", _shown(entry.path))
        parent = posixpath.dirname(parent)


def _check_link(entry: Entry, seen: dict[str, Entry]) -> None:
    """A symlink must stay inside, and may not lead through another one, so that reading it needs no file system."""
    target = entry.target
    is_plain = target and not target.startswith("/") and "\\" not in target and "\0" not in target
    joined = posixpath.normpath(posixpath.join(posixpath.dirname(entry.path), target)) if is_plain else ".."
    if joined == ".." or joined.startswith("../"):
        raise BundleRefused("the symlink leads out of the bundle", _shown(entry.path))
    if layout.is_reserved(joined):
        raise BundleRefused("the symlink leads to a reserved name", _shown(entry.path))
    prefix = ""
    for part in posixpath.join(posixpath.dirname(entry.path), target).split("/"):
        prefix = posixpath.normpath(posixpath.join(prefix, part))
        through = seen.get(prefix)
        if through is not None and through.kind is EntryKind.SYMLINK and prefix != entry.path:
            raise BundleRefused("the symlink leads through another symlink", _shown(entry.path))


def read_tar(archive: bytes) -> Bundle:
    """Read an uncompressed tar. Raises: BundleRefused. Nothing is unpacked anywhere."""
    if len(archive) > MAX_ARCHIVE_BYTES:
        raise BundleRefused(f"the archive has more than {MAX_ARCHIVE_BYTES} bytes")
    contents: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r:") as tar:
            accepted = check(_entries(tar, contents))
    except (tarfile.TarError, EOFError, ValueError, OverflowError, UnicodeError) as error:
        raise BundleRefused(f"not a tar archive that can be read: {clean(str(error), 200)}") from None
    return of(File(each.path, each.kind, contents.get(each.path, b""), each.mode, each.target) for each in accepted)


def _entries(tar: tarfile.TarFile, contents: dict[str, bytes]) -> Iterator[Entry]:
    for member in tar:
        entry = Entry(member.name, _kind(member), member.size, member.mode, member.linkname)
        if entry.kind is EntryKind.FILE:
            contents[_normal(member.name)] = _content(tar, member)
        yield entry


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    reader = tar.extractfile(member) if member.size <= MAX_BYTES else None
    content = reader.read() if reader is not None else b""
    if reader is not None and len(content) != member.size:
        raise BundleRefused("the archive ends before the file does", _shown(member.name))
    return content


def _kind(member: tarfile.TarInfo) -> EntryKind:
    if member.issparse():
        return EntryKind.OTHER
    checks: tuple[tuple[Callable[[], bool], EntryKind], ...] = (
        (member.isreg, EntryKind.FILE),
        (member.isdir, EntryKind.FOLDER),
        (member.issym, EntryKind.SYMLINK),
    )
    return next((kind for is_kind, kind in checks if is_kind()), EntryKind.OTHER)


def of(files: Iterable[File]) -> Bundle:
    """Make a bundle of files. Raises: BundleRefused."""
    given = list(files)
    accepted = check(Entry(each.path, each.kind, len(each.content), each.mode, each.target) for each in given)
    contents = {_normal(each.path): each.content if each.kind is EntryKind.FILE else b"" for each in given}
    kept = tuple(
        File(
            each.path,
            each.kind,
            contents.get(each.path, b"") if each.kind is EntryKind.FILE else b"",
            each.mode,
            each.target,
        )
        for each in accepted
    )
    return Bundle(kept, digest(_write(kept)))


def write_tar(bundle: Bundle) -> bytes:
    """The canonical tar: sorted, no owner, no times, plain modes. Its digest is the bundle's."""
    return _write(bundle.files)


def digest(archive: bytes) -> str:
    """Name a canonical tar: `sha256:` and its hash."""
    return "sha256:" + hashlib.sha256(archive).hexdigest()


def _write(files: Iterable[File]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for file in files:
            member = tarfile.TarInfo(file.path)
            member.mode, member.size = file.mode, len(file.content)
            if file.kind is EntryKind.FOLDER:
                member.type = tarfile.DIRTYPE
            elif file.kind is EntryKind.SYMLINK:
                member.type, member.linkname = tarfile.SYMTYPE, file.target
            tar.addfile(member, io.BytesIO(file.content))
    return buffer.getvalue()


def _shown(path: str) -> str:
    return clean(path, MAX_SHOWN).replace("\n", "\\n").replace("\t", "\\t")
