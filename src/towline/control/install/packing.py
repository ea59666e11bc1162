"""Prepares the files that hosts fetch, one folder for each kind of host, in the background and once.

For hosts like this machine the wheels are made from what is installed here. For others they are downloaded by pip,
in the versions that run here; a server without access to a package index can be given them in `wheels/KIND/` of its
data folder.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib.util
import shutil
import sys
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Literal

from towline.aio.tasks import TaskOwner
from towline.control.install import wheels
from towline.control.install.targets import HostKind, own_kind
from towline.control.logging import get_logger

_log = get_logger("install")

DOWNLOAD_TIMEOUT = 300.0
"""Seconds that pip gets for some twenty wheels."""
RETRY_AFTER = 60.0
"""Seconds after a failure before the next host's question tries again."""
REQUIREMENTS = "requirements.txt"

State = Literal["ready", "working", "failed"]


@dataclass(frozen=True, slots=True)
class File:
    name: str
    sha256: str
    size: int


@dataclass(slots=True)
class Pack:
    """The files for one kind of host."""

    kind: HostKind
    state: State = "working"
    reason: str = ""
    files: tuple[File, ...] = ()
    failed_at: float = field(default=0.0, repr=False)


class Packer:
    """Makes packs on demand.

    Args: folder: where they are kept; emptied at each start, since the code may have changed. offline: folder with
        `KIND/` folders of wheels that an operator has put there.
    """

    def __init__(self, folder: Path, offline: Path) -> None:
        self._folder = folder
        self._offline = offline
        self._packs: dict[HostKind, Pack] = {}
        self._tasks = TaskOwner("install")

    def __repr__(self) -> str:
        return f"<Packer {[f'{kind} {pack.state}' for kind, pack in self._packs.items()]}>"

    async def start(self) -> None:
        """Forget what an earlier release packed."""
        await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)

    async def stop(self) -> None:
        await self._tasks.close()

    def pack(self, kind: HostKind) -> Pack:
        """Return the pack of a kind; begins to make it when nobody has."""
        found = self._packs.get(kind)
        now = asyncio.get_running_loop().time()
        if found is None or (found.state == "failed" and now - found.failed_at > RETRY_AFTER):
            found = self._packs[kind] = Pack(kind, reason=f"the server is packing the agent for {kind}")
            self._tasks.spawn(f"pack {kind}", self._make(found))
        return found

    async def packed(self, kind: HostKind) -> Pack:
        """Wait for a pack; for tests and for the command line."""
        found = self.pack(kind)
        while found.state == "working":
            await self._tasks.join()
        return found

    def path(self, kind: str, name: str) -> Path | None:
        """Return a file of a ready pack; nothing that is not in its list."""
        for found, pack in self._packs.items():
            if str(found) == kind and pack.state == "ready" and any(file.name == name for file in pack.files):
                return self._folder / kind / name
        return None

    async def _make(self, pack: Pack) -> None:
        target = self._folder / str(pack.kind)
        try:
            found = await self._wheels(pack.kind, target)
            pack.files = await asyncio.to_thread(_store, target, found)
            pack.state, pack.reason = "ready", ""
            _log.info("agent packed", kind=str(pack.kind), files=len(pack.files))
        except (wheels.CannotPack, OSError) as error:
            pack.state, pack.reason = "failed", str(error)
            pack.failed_at = asyncio.get_running_loop().time()
            _log.error("agent not packed", kind=str(pack.kind), why=str(error))

    async def _wheels(self, kind: HostKind, target: Path) -> list[wheels.Wheel]:
        given = self._offline / str(kind)
        if given.is_dir():
            return await asyncio.to_thread(_read, given)
        if kind == own_kind():
            return await asyncio.to_thread(_own)
        return await _download(kind, target)


def _own() -> list[wheels.Wheel]:
    return [wheels.own_wheel(), *(wheels.repack(one) for one in wheels.needed()), *_pip()]


def _pip() -> list[wheels.Wheel]:
    """Return pip, which the host runs from its wheel: Debian's Python has none in its virtual environments."""
    try:
        return [wheels.repack(metadata.distribution("pip"))]
    except metadata.PackageNotFoundError:
        bundled = importlib.util.find_spec("ensurepip")
        folder = Path(bundled.origin).parent / "_bundled" if bundled and bundled.origin else Path()
        return [_wheel(path) for path in sorted(folder.glob("pip-*.whl"))[-1:]]


def _read(folder: Path) -> list[wheels.Wheel]:
    found = [_wheel(path) for path in sorted(folder.glob("*.whl")) if not path.name.startswith("towline-")]
    return [wheels.own_wheel(), *found]


def _wheel(path: Path) -> wheels.Wheel:
    name, version = path.name.split("-")[:2]
    return wheels.Wheel(wheels.normal(name), version, path.name, path.read_bytes())


async def _download(kind: HostKind, target: Path) -> list[wheels.Wheel]:
    """Fetch the versions that run here for another kind of host. Raises: CannotPack."""
    if importlib.util.find_spec("pip") is None:
        raise wheels.CannotPack(_no_wheels(kind, "pip is not installed here"))
    folder = target.with_suffix(".download")
    await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
    process = await asyncio.create_subprocess_exec(
        *download_command(kind, folder, [f"{one.metadata['Name']}=={one.version}" for one in wheels.needed()]),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(DOWNLOAD_TIMEOUT):
            _, errors = await process.communicate()
    except TimeoutError as error:
        raise wheels.CannotPack(_no_wheels(kind, "the package index is too slow")) from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        lines = errors.decode(errors="replace").strip().splitlines()
        raise wheels.CannotPack(_no_wheels(kind, lines[-1][:300] if lines else "pip failed"))
    found = await asyncio.to_thread(_read, folder)
    await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
    return found


def download_command(kind: HostKind, folder: Path, pins: list[str]) -> list[str]:
    """Return pip's argument list for the wheels of another kind of host."""
    platforms = [word for name in kind.platforms for word in ("--platform", name)]
    return [
        sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input",
        "--only-binary", ":all:", "--no-deps", "--implementation", "cp", "--abi", kind.tag, "--abi", "abi3",
        "--abi", "none", "--python-version", f"{kind.python[0]}.{kind.python[1]}", *platforms,
        "--dest", str(folder), "--", *pins, "pip",
    ]  # fmt: skip


def _no_wheels(kind: HostKind, why: str) -> str:
    return f"no wheels for {kind}: {why}. Put them into wheels/{kind}/ of the server's data folder, or use the image"


def _store(target: Path, found: list[wheels.Wheel]) -> tuple[File, ...]:
    """Write the files of a pack; the folder appears whole or not at all."""
    partial = target.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True, mode=0o755)
    pinned = [wheel for wheel in found if wheel.name != "pip"]
    contents = {wheel.filename: wheel.content for wheel in found}
    contents[REQUIREMENTS] = wheels.requirements(pinned).encode()
    for name, content in contents.items():
        (partial / name).write_bytes(content)
    shutil.rmtree(target, ignore_errors=True)
    partial.rename(target)
    return tuple(
        File(name, hashlib.sha256(content).hexdigest(), len(content)) for name, content in sorted(contents.items())
    )
