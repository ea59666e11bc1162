"""Writing a revision's files: first into a stage beside, then into the project's folder, which never moves.

The folder stays plain. `.env` names the Compose files, so that `docker compose ps` in it works without us; what
is ours lies in `.towline`. In the stage, whatever else is in the folder appears as symlinks, so that relative paths
of an adopted project mean the same in both. Not here: deciding what to write (`deploy.py`).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from towline.agent import files
from towline.agent.errors import StorageError
from towline.compose import bundle, environment, layout

ENV_NOTE = "# Below: written by Towline at each deploy, so that `docker compose` works in this folder."


@dataclass(frozen=True, slots=True)
class Content:
    """Everything that a revision puts into a project's folder. `secrets` and `values` are secret: no repr."""

    compose_file: str
    compose: str
    env: str
    values: Mapping[str, str]
    secrets: Mapping[str, str]
    override: str
    bundle: bundle.Bundle | None

    def __repr__(self) -> str:
        return f"Content({self.compose_file!r}, {len(self.compose)} characters)"

    @property
    def files(self) -> tuple[str, ...]:
        """The Compose files, in order."""
        return (self.compose_file, layout.OVERRIDE_FILE) if self.override else (self.compose_file,)

    @property
    def bundle_files(self) -> tuple[str, ...]:
        """Paths that the bundle brings, folders left out."""
        entries = self.bundle.files if self.bundle else ()
        return tuple(each.path for each in entries if each.kind is not bundle.EntryKind.FOLDER)

    def env_text(self, project: str) -> str:
        """The text of `.env`: the author's own, then what wins over it."""
        own = {"COMPOSE_PROJECT_NAME": project, "COMPOSE_FILE": ":".join(self.files)}
        author = f"{self.env.rstrip()}\n\n" if self.env.strip() else ""
        return f"{author}{ENV_NOTE}\n{environment.render({**self.values, **own})}"


def write_stage(stage: Path, folder: Path, project: str, content: Content, stale: Iterable[str]) -> None:
    """Write a revision into a fresh stage.

    Args: folder: the project's. stale: paths in it that came from the present bundle and are not linked.
    Raises: StorageError.
    """
    shutil.rmtree(stage, ignore_errors=True)
    files.private_folder(stage)
    _write(stage, project, content)
    _link_rest(stage, folder, {PurePosixPath(path).parts[0] for path in stale})


def apply(folder: Path, project: str, content: Content, stale: Iterable[str]) -> None:
    """Write a revision into the project's folder. Can be done again after an interruption.

    Args: stale: paths that the revision before brought; those that this one does not bring are removed.
    Raises: StorageError.
    """
    if not folder.exists():
        files.private_folder(folder)
    remove_brought(folder, set(stale) - set(content.bundle_files))
    _write(folder, project, content)
    if not content.override:
        (folder / layout.OVERRIDE_FILE).unlink(missing_ok=True)
    _remove_other_secrets(folder / layout.SECRETS_FOLDER, content.secrets)


def remove_brought(folder: Path, paths: Iterable[str]) -> None:
    """Remove files that a bundle brought, and the folders that are empty then."""
    for path in paths:
        if not layout.is_reserved(path):
            _remove(folder, path)


def discard(stage: Path) -> None:
    """Remove a stage."""
    shutil.rmtree(stage, ignore_errors=True)


def _write(root: Path, project: str, content: Content) -> None:
    try:
        for entry in content.bundle.files if content.bundle else ():
            _write_entry(root, entry)
    except OSError as error:
        raise StorageError(f"{root}: {error.strerror or error}") from error
    own = files.private_folder(root / layout.OWN_FOLDER)
    if content.secrets:
        files.private_folder(root / layout.SECRETS_FOLDER)
    for name, value in content.secrets.items():
        files.write_durably(root / layout.secret_path(name), value.encode(), layout.SECRET_MODE)
    if content.override:
        files.write_durably(own / "override.yaml", content.override.encode(), layout.PLAIN_MODE)
    files.write_durably(root / layout.ENV_FILE, content.env_text(project).encode(), layout.ENV_MODE)
    files.write_durably(root / content.compose_file, content.compose.encode(), layout.PLAIN_MODE)


def _write_entry(root: Path, entry: bundle.File) -> None:
    path = root / entry.path
    if entry.kind is bundle.EntryKind.FOLDER:
        _make_parents(root, path / "any")
        return
    _make_parents(root, path)
    aside = path.with_name(f".{path.name}.towline-new")
    aside.unlink(missing_ok=True)
    if entry.kind is bundle.EntryKind.SYMLINK:
        aside.symlink_to(entry.target)
    else:
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, entry.mode)
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, entry.mode)
            file.write(entry.content)
    if path.is_dir() and not path.is_symlink():
        raise IsADirectoryError(0, f"{entry.path} is a folder on this host, and a file in the bundle")
    aside.replace(path)


def _make_parents(root: Path, path: Path) -> None:
    """Make the folders above a file; nothing is written through a symlink."""
    current = root
    for part in path.relative_to(root).parts[:-1]:
        current = current / part
        if current.is_symlink():
            raise NotADirectoryError(0, f"{current} is a symlink on this host, and a folder in the bundle")
        current.mkdir(exist_ok=True)


def _link_rest(stage: Path, folder: Path, stale: set[str]) -> None:
    if not folder.is_dir():
        return
    for path in folder.iterdir():
        target = stage / path.name
        if path.name in stale or path.name == layout.OWN_FOLDER or target.exists() or target.is_symlink():
            continue
        target.symlink_to(path)


def _remove(folder: Path, path: str) -> None:
    target = folder / path
    if target.is_symlink() or target.is_file():
        target.unlink(missing_ok=True)
    for parent in PurePosixPath(path).parents:
        try:
            (folder / parent).rmdir() if parent.parts else None
        except OSError:
            return  # not empty, or not ours


def _remove_other_secrets(folder: Path, wanted: Mapping[str, str]) -> None:
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.name not in wanted:
            path.unlink(missing_ok=True)
