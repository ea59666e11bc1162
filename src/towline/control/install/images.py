"""The agent's container image, when an operator has put it into the data folder: `images/towline-agent-MACHINE.tar`."""

import asyncio
import hashlib
import json
import tarfile
from dataclasses import dataclass
from pathlib import Path

from towline.control.install.targets import MACHINES

FOLDER = "images"
MANIFEST_BYTES = 1024 * 1024
"""Of the list of images in an archive; ours has one."""


@dataclass(frozen=True, slots=True)
class Image:
    path: Path
    name: str
    """As `docker run` takes it."""
    sha256: str


_known: dict[tuple[Path, int, int], Image] = {}


async def find_image(data_folder: Path, machine: str) -> Image | None:
    """Return the image for a machine; None when there is none, or when it is no image."""
    if machine not in MACHINES:
        return None
    path = data_folder / FOLDER / f"towline-agent-{MACHINES[machine]}.tar"
    try:
        status = path.stat()
    except OSError:
        return None
    key = (path, status.st_mtime_ns, status.st_size)
    if key not in _known:
        image = await asyncio.to_thread(_read, path)
        if image is None:
            return None
        _known[key] = image
    return _known[key]


def _read(path: Path) -> Image | None:
    """Source: Docker Engine API, "Export several images", manifest.json."""
    try:
        with tarfile.open(path) as archive:
            member = archive.extractfile("manifest.json")
            manifest = json.loads(member.read(MANIFEST_BYTES)) if member else []
        name = str(manifest[0]["RepoTags"][0])
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, tarfile.TarError, KeyError, IndexError, TypeError, ValueError):
        return None
    return Image(path, name, digest)
