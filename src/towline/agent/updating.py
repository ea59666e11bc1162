"""Installing a signed release beside the present one, as the installer does, and switching to it when it works.

    ROOT/RELEASE-HASH/   a virtual environment each; ROOT/current is a symlink to the one in use

Every file comes from the control plane over the pinned connection, and its hash from the signed manifest, so that
only what the release key signed is installed. Not here: verifying the signature (`update.py`).
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import platform
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from towline.agent.update import Manifest, UpdateRefused
from towline.tunnel import dial
from towline.tunnel.errors import LinkDown

if TYPE_CHECKING:
    import httpx

CURRENT = "current"
REQUIREMENTS = "requirements.txt"
FETCH_TIMEOUT = 300.0
"""Seconds for one file over a thin line; the largest wheel is some 5 MiB."""

INSTALL_TIMEOUT = 300.0
PACKING_TRIES, PACKING_PAUSE = 90, 2.0
"""The server packs at the first request for a kind of host: three minutes are ample."""

MAX_FILE_BYTES = 64 * 1024 * 1024
_LINE = re.compile(r"([0-9a-f]{64}) (/install/files/[^\s]+) ([A-Za-z0-9._+-]+)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Listed:
    """One file that the server offers for this kind of host."""

    sha256: str
    path: str
    name: str


def find_root(prefix: Path = Path(sys.prefix)) -> Path:
    """Return the folder of the installations. Raises: UpdateRefused: this agent was put here in another way."""
    home = prefix.resolve()
    link = home.parent / CURRENT
    if not link.is_symlink() or link.resolve() != home:
        raise UpdateRefused(
            "this agent was not put here by the installer (it runs from an image or from sources): update it there"
        )
    return home.parent


async def install(manifest: Manifest, server: dial.Endpoint, route: dial.Route, root: Path) -> Path:
    """Install a release and switch to it. Returns: its Python, to go on with.

    Raises: UpdateRefused: with what is wrong; the present release stays in use.
    """
    work = root / f".work-{os.getpid()}"
    shutil.rmtree(work, ignore_errors=True)
    try:
        work.mkdir(parents=True)
        await _fetch_all(manifest, server, route, work)
        home = root / f"{manifest.version}-{_sha256(work / REQUIREMENTS)[:12]}"
        await _make_environment(home, work)
        await _try_out(home, manifest.version)
        switch(root, home)
    except OSError as error:
        raise UpdateRefused(f"the release cannot be installed in {root}: {error}") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return home / "bin" / "python"


def switch(root: Path, home: Path) -> None:
    """Put the symlink on another installation, in one step."""
    aside = root / f".{CURRENT}.new"
    aside.unlink(missing_ok=True)
    aside.symlink_to(home)
    aside.replace(root / CURRENT)


def parse_list(text: str, manifest: Manifest) -> list[Listed]:
    """Read the server's list. Raises: UpdateRefused: a file in it is not in the signed manifest."""
    signed = {(file.name, file.sha256) for file in manifest.files}
    found = []
    for line in text.splitlines():
        match = _LINE.fullmatch(line)
        if match is None:
            raise UpdateRefused("the server's list of files cannot be read")
        listed = Listed(*match.groups())
        if (listed.name, listed.sha256) not in signed:
            raise UpdateRefused(f"the server offers {listed.name}, which the signed release does not have")
        found.append(listed)
    if REQUIREMENTS not in {each.name for each in found}:
        raise UpdateRefused("the server offers no list of requirements for this kind of host")
    return found


async def _fetch_all(manifest: Manifest, server: dial.Endpoint, route: dial.Route, work: Path) -> None:
    from towline.agent.join import http_client

    async with await http_client(server, route, timeout=FETCH_TIMEOUT) as client:
        for listed in parse_list(await _list(client), manifest):
            data = await _get(client, listed.path)
            if hashlib.sha256(data).hexdigest() != listed.sha256:
                raise UpdateRefused(f"{listed.name} is not what the signed release says")
            (work / listed.name).write_bytes(data)


async def _list(client: httpx.AsyncClient) -> str:
    libc = "glibc" if platform.libc_ver()[0] == "glibc" else "musl"
    kind = {"python": f"{sys.version_info[0]}.{sys.version_info[1]}", "machine": platform.machine(), "libc": libc}
    for _ in range(PACKING_TRIES):
        answer = await _request(client, "/install/files", kind)
        if answer.status_code == 200:
            return answer.text
        if answer.status_code != 202:
            raise UpdateRefused(f"the server has no files for this kind of host: {answer.text[:300]}")
        await asyncio.sleep(PACKING_PAUSE)
    raise UpdateRefused("the server did not finish packing the release")


async def _get(client: httpx.AsyncClient, path: str) -> bytes:
    answer = await _request(client, path, {})
    if answer.status_code != 200 or len(answer.content) > MAX_FILE_BYTES:
        raise UpdateRefused(f"{path} cannot be downloaded: the server answered {answer.status_code}")
    return answer.content


async def _request(client: httpx.AsyncClient, path: str, query: dict[str, str]) -> httpx.Response:
    from httpx import HTTPError

    try:
        return await client.get(path, params=query)
    except (HTTPError, LinkDown) as error:
        raise UpdateRefused(f"{path} cannot be downloaded: {type(error).__name__} {error}") from error


async def _make_environment(home: Path, work: Path) -> None:
    if (home / "bin" / "towline").exists():
        return
    shutil.rmtree(home, ignore_errors=True)
    pip = _pip_in(work)
    try:
        await _run(_base_python(), "-m", "venv", "--without-pip", str(home))
        await _run(
            str(home / "bin" / "python"), f"{pip}/pip", "install", "--quiet", "--disable-pip-version-check",
            "--no-input", "--no-index", "--find-links", str(work), "--require-hashes", "-r", str(work / REQUIREMENTS),
        )  # fmt: skip
    except BaseException:
        shutil.rmtree(home, ignore_errors=True)
        raise


def _pip_in(work: Path) -> Path:
    pip = next(iter(work.glob("pip-*.whl")), None)
    if pip is None:
        raise UpdateRefused("the release brings no installer of wheels")
    return pip


async def _try_out(home: Path, version: str) -> None:
    """Start the new agent as far as it can go without a link: a release that cannot start here is not used."""
    told = await _run(str(home / "bin" / "python"), "-m", "towline.agent", "--check")
    if told.strip() != version:
        raise UpdateRefused(f"what was installed calls itself {told.strip()[:64]!r}, not {version}")


def _base_python() -> str:
    """Return the Python that virtual environments are made of."""
    return str(getattr(sys, "_base_executable", "") or sys.executable)


async def _run(*arguments: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *arguments, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        async with asyncio.timeout(INSTALL_TIMEOUT):
            output, _ = await process.communicate()
    except BaseException:
        if process.returncode is None:
            process.kill()
            await process.wait()
        raise
    text = output.decode("utf-8", "replace")
    if process.returncode:
        raise UpdateRefused(f"{Path(arguments[0]).name} failed while installing: {text[-1500:]}")
    return text


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
