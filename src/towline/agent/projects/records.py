"""What the agent remembers of each project: its folder, and every revision it put there, on its own disk.

So the last good revision can be put back without the link, and drift is seen against what was deployed. Secrets in a
revision stay sealed. Not here: the project's folder itself (`staging.py`).
"""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from towline.agent import files
from towline.agent.errors import StorageError
from towline.compose import layout, names
from towline.wire import orders

T = TypeVar("T")

KEPT_FAILED = 3
"""Revisions kept that never became good, newest first: enough to look at what was tried."""


class RanImage(msgspec.Struct, frozen=True, kw_only=True):
    """An image as a revision ran it."""

    reference: str
    """As the file names it."""
    image_id: str
    pin: str
    """`repository@sha256:…`, or the image's id when no registry knows it."""


class ServiceRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What a good revision showed of one service, for drift."""

    config_hash: str
    image_id: str
    replicas: int
    is_one_shot: bool = False


class Revision(msgspec.Struct, frozen=True, kw_only=True):
    """One revision that was deployed here."""

    order: orders.Deploy
    """Registry credentials left out."""
    is_good: bool
    deployed_at: float
    images: dict[str, RanImage] = {}
    services: dict[str, ServiceRecord] = {}

    @property
    def revision_id(self) -> str:
        return self.order.revision_id

    @property
    def pins(self) -> dict[str, str]:
        return {service: image.pin for service, image in self.images.items()}


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """One project."""

    project: str
    folder: str
    compose_file: str = layout.COMPOSE_FILE
    org_id: str = ""
    deployment_id: str = ""
    running: str = ""
    """Id of the revision whose files are in the folder."""
    running_number: int = 0
    last_good: str = ""
    adopted: bool = False
    """Its folder, and the files it was started from, are not ours to remove."""
    config_files: tuple[str, ...] = ()
    """Of an adopted project until its first deploy: the files it was started from, when there are several."""
    bundle_files: tuple[str, ...] = ()
    """Paths in the folder that came from the present revision's bundle."""
    scales: dict[str, int] = {}
    revisions: tuple[str, ...] = ()
    """Ids, newest first."""
    seen_images: dict[str, str] = {}
    """Id of every image that a good revision ran, to the name it had; pruning looks at these alone."""
    stopped: tuple[str, ...] = ()
    """Services that somebody stopped on purpose: not drift."""


class Records:
    """The records of all projects, below one folder."""

    def __init__(self, folder: Path, projects_folder: Path) -> None:
        self._folder = folder
        self._projects = projects_folder
        self._cache: dict[Path, tuple[tuple[int, int, int], Any]] = {}

    def __repr__(self) -> str:
        return f"<Records {self._folder}>"

    def project(self, name: str) -> Record | None:
        """Return a project's record; None when the agent did not deploy it. Raises: StorageError."""
        return self._read(self._path(name) / "project.json", Record)

    def known(self) -> list[Record]:
        """Return every project. A damaged record is left out: it must not hide the others."""
        found = []
        for path in sorted(self._folder.glob("*/project.json")):
            with contextlib.suppress(StorageError):
                if record := self._read(path, Record):
                    found.append(record)
        return found

    def new(self, name: str) -> Record:
        """Return the record of a project that is not there yet; nothing is written."""
        return Record(project=name, folder=str(self._projects.resolve() / names.project_name(name)))

    def save(self, record: Record) -> None:
        """Put a record on disk. Raises: StorageError."""
        files.private_folder(self._path(record.project))
        files.write_durably(self._path(record.project) / "project.json", msgspec.json.encode(record))

    def revision(self, name: str, revision_id: str) -> Revision | None:
        """Return a revision. Raises: StorageError."""
        return self._read(self._revision_path(name, revision_id), Revision) if revision_id else None

    def save_revision(self, revision: Revision) -> None:
        """Put a revision on disk. Raises: StorageError."""
        path = self._revision_path(revision.order.project, revision.revision_id)
        files.private_folder(path.parent)
        files.write_durably(path, msgspec.json.encode(revision))

    def keep(self, record: Record, revision: Revision, keep_good: int) -> Record:
        """Remember a revision that was deployed and forget the oldest ones. Raises: StorageError."""
        self.save_revision(revision)
        order = tuple(dict.fromkeys((revision.revision_id, *record.revisions)))
        kept = self._kept(record.project, order, keep_good, {revision.revision_id, record.last_good, record.running})
        record = msgspec.structs.replace(record, revisions=kept)
        self.save(record)
        for revision_id in set(order) - set(kept):
            self._revision_path(record.project, revision_id).unlink(missing_ok=True)
        return record

    def good(self, record: Record, count: int) -> list[Revision]:
        """Return the newest good revisions."""
        found = (self.revision(record.project, revision_id) for revision_id in record.revisions)
        return [each for each in found if each is not None and each.is_good][:count]

    def bundles_in_use(self) -> set[str]:
        """Return the digests of the bundles that some kept revision needs."""
        return {
            revision.order.bundle
            for record in self.known()
            for revision_id in record.revisions
            if (revision := self.revision(record.project, revision_id)) and revision.order.bundle
        }

    def forget(self, name: str) -> None:
        """Remove everything remembered of a project."""
        shutil.rmtree(self._path(name), ignore_errors=True)

    def _kept(self, name: str, order: tuple[str, ...], keep_good: int, spared: set[str]) -> tuple[str, ...]:
        kept, good, failed = [], 0, 0
        for revision_id in order:
            revision = self.revision(name, revision_id)
            is_good = revision is not None and revision.is_good
            good, failed = good + is_good, failed + (not is_good)
            if revision_id in spared or (good <= max(1, keep_good) if is_good else failed <= KEPT_FAILED):
                kept.append(revision_id)
        return tuple(kept)

    def _path(self, name: str) -> Path:
        return self._folder / names.project_name(name)

    def _revision_path(self, name: str, revision_id: str) -> Path:
        return self._path(name) / "revisions" / f"{names.project_name(revision_id)}.json"

    def _read(self, path: Path, kind: type[T]) -> T | None:
        """Read a file, or remember it as long as it is the same: the inventory asks at each change."""
        try:
            status = path.stat()
            stamp = (status.st_ino, status.st_mtime_ns, status.st_size)
            known = self._cache.get(path)
            if known is None or known[0] != stamp:
                known = self._cache[path] = (stamp, msgspec.json.decode(path.read_bytes(), type=kind))
        except FileNotFoundError:
            self._cache.pop(path, None)
            return None
        except (OSError, msgspec.DecodeError, RecursionError) as error:
            raise StorageError(f"{path}: {error}") from error
        value: T = known[1]
        return value
