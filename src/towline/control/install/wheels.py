"""Wheels made from what is installed here: Towline itself, and the distributions that its agent needs.

The server serves what it runs, so that a host needs nobody but the server. Code is checked against the hashes that
its installer recorded. No network, no subprocess.
Source: packaging.python.org, "Binary distribution format" and "Recording installed projects".
"""

from __future__ import annotations

import base64
import hashlib
import io
import re
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from email.parser import HeaderParser
from importlib import metadata
from pathlib import Path

import towline
from towline.control.logging import get_logger

_log = get_logger("install")

NAME = "towline"
SERVER_ONLY = ("control", "gateway", "web")
"""Packages of ours that no agent imports; import contracts see to that."""
CODE = frozenset({".py", ".so", ".pyd", ".dylib"})
"""Files that must be as they were installed. Data may have been changed on purpose: companies add their own authority
to a list of certificates."""
_EPOCH = (1980, 1, 1, 0, 0, 0)
"""Time of every file in a wheel, so that the same content is the same wheel. The oldest that a ZIP can hold."""
_LEFT_OUT = frozenset({"RECORD", "INSTALLER", "REQUESTED", "direct_url.json", "uv_build.json", "uv_cache.json"})
_REQUIREMENT = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[([^\]]*)\])?([^;]*)(?:;(.*))?")
_EXTRA = re.compile(r"""extra\s*==\s*['"]([^'"]+)['"]""")


class CannotPack(Exception):
    """A distribution that is installed here cannot be served; the message says which and why."""


@dataclass(frozen=True, slots=True)
class Wheel:
    """One wheel file."""

    name: str
    version: str
    filename: str
    content: bytes

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()


def normal(name: str) -> str:
    """Return the normal form of a distribution's name. Source: PEP 503."""
    return re.sub(r"[-_.]+", "-", name).lower()


def needed(extra: str = "agent") -> list[metadata.Distribution]:
    """Return the installed distributions that Towline needs with an extra, itself left out, by name."""
    found: dict[str, metadata.Distribution] = {}
    todo = [(NAME, frozenset({extra}))]
    seen: set[tuple[str, frozenset[str]]] = set()
    while todo:
        name, extras = todo.pop()
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        distribution = _installed(name)
        if distribution is None:
            continue  # its marker says that it is for another platform
        if name != NAME:
            found[name] = distribution
        todo += _requirements(distribution, extras)
    return [found[name] for name in sorted(found)]


def repack(distribution: metadata.Distribution) -> Wheel:
    """Make the wheel of an installed distribution again. Raises: CannotPack."""
    name, version = distribution.metadata["Name"], distribution.version
    stem = f"{normal(name).replace('-', '_')}-{version}"
    files = list(_recorded(distribution))
    info = next((path.split("/")[0] for path, _ in files if path.split("/")[0].endswith(".dist-info")), "")
    if not info:
        raise CannotPack(f"{name} was installed without a record of its files")
    tags = _tags(distribution.read_text("WHEEL") or "")
    return Wheel(normal(name), version, f"{stem}-{tags}.whl", _zip(files, info))


def own_wheel() -> Wheel:
    """Make the wheel of the Towline that runs here, without what only a server needs."""
    root = Path(towline.__file__).parent
    info = f"{NAME}-{towline.__version__}.dist-info"
    files = [(f"{NAME}/{path}", content) for path, content in _sources(root)]
    distribution = metadata.distribution(NAME)
    for part in ("METADATA", "entry_points.txt"):
        files.append((f"{info}/{part}", (distribution.read_text(part) or "").encode()))
    files.append(
        (f"{info}/WHEEL", b"Wheel-Version: 1.0\nGenerator: towline\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    )
    return Wheel(NAME, towline.__version__, f"{NAME}-{towline.__version__}-py3-none-any.whl", _zip(files, info))


def requirements(wheels: Iterable[Wheel]) -> str:
    """Return the requirement file that pins wheels by hash."""
    return "".join(f"{wheel.name}=={wheel.version} --hash=sha256:{wheel.sha256}\n" for wheel in wheels)


def _installed(name: str) -> metadata.Distribution | None:
    try:
        return metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return None


def _requirements(distribution: metadata.Distribution, extras: frozenset[str]) -> Iterator[tuple[str, frozenset[str]]]:
    for text in distribution.requires or ():
        match = _REQUIREMENT.fullmatch(text)
        if match is None:
            continue
        wanted = _EXTRA.findall(match[4] or "")
        if wanted and not extras & {normal(one) for one in wanted}:
            continue
        asked = frozenset(normal(one) for one in (match[2] or "").split(",") if one.strip())
        yield normal(match[1]), asked


def _recorded(distribution: metadata.Distribution) -> Iterator[tuple[str, bytes]]:
    """Yield the files of a distribution, checked against their recorded hashes."""
    for entry in distribution.files or ():
        path = entry.as_posix()
        if path.startswith("../") or "__pycache__" in entry.parts or entry.name in _LEFT_OUT:
            continue
        try:
            content = Path(str(entry.locate())).read_bytes()
        except OSError as error:
            raise CannotPack(f"{path} of {distribution.metadata['Name']} cannot be read: {error.strerror}") from error
        if entry.hash is not None and entry.hash.mode == "sha256" and entry.hash.value != _digest(content):
            changed = f"{path} of {distribution.metadata['Name']} was changed after it was installed"
            if entry.suffix in CODE:
                raise CannotPack(changed)
            _log.warning("changed file is served as it is", why=changed)
        yield path, content


def _tags(text: str) -> str:
    """Return the compressed tag set of a WHEEL file."""
    tags = [tag.split("-") for tag in HeaderParser().parsestr(text).get_all("Tag") or ["py3-none-any"]]
    return "-".join(".".join(sorted({tag[place] for tag in tags})) for place in range(3))


def _sources(root: Path) -> Iterator[tuple[str, bytes]]:
    for path in sorted(root.rglob("*")):
        relative = path.relative_to(root)
        if path.is_file() and relative.parts[0] not in SERVER_ONLY and "__pycache__" not in relative.parts:
            yield relative.as_posix(), path.read_bytes()


def _zip(files: Iterable[tuple[str, bytes]], info: str) -> bytes:
    """Return the archive, with a record of its own."""
    buffer = io.BytesIO()
    record = []
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for path, content in sorted(files):
            archive.writestr(_entry(path), content)
            record.append(f"{_quoted(path)},sha256={_digest(content)},{len(content)}\n")
        archive.writestr(_entry(f"{info}/RECORD"), "".join(record) + f"{info}/RECORD,,\n")
    return buffer.getvalue()


def _entry(path: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(path, _EPOCH)
    entry.external_attr = 0o644 << 16
    entry.compress_type = zipfile.ZIP_DEFLATED
    return entry


def _quoted(path: str) -> str:
    return f'"{path}"' if "," in path else path


def _digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
