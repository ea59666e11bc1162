"""What hosts fetch: the installer script, the list of files for their kind, and the files. Public and without secrets.

Nothing is packed for a kind of host other than this machine's unless a join token is usable at that moment, so that
strangers cannot make the server download anything.
"""

from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import FileResponse, PlainTextResponse, Response

from towline.control.access.dependencies import public
from towline.control.fleet import Fleet
from towline.control.install.images import find_image
from towline.control.install.script import render
from towline.control.install.targets import HostKind, UnknownKind, kind_of, own_kind

router = APIRouter(tags=["install"], dependencies=[public("the installer and its files hold no secret")])

Word = Annotated[str, Query(max_length=32)]
NO_CACHE = {"cache-control": "no-store"}


def _fleet(request: Request) -> Fleet:
    fleet: Fleet = request.app.state.control.fleet
    return fleet


@router.get("/install", response_class=PlainTextResponse)
async def install_script(request: Request) -> Response:
    """Return the installer: a POSIX shell script that takes a join token on standard input."""
    return PlainTextResponse(render(_fleet(request).identity()), media_type="text/x-shellscript", headers=NO_CACHE)


@router.get("/install/files", response_class=PlainTextResponse)
async def install_files(request: Request, python: Word, machine: Word, libc: Word) -> Response:
    """Return `sha256 path name` of each file for a kind of host; 202 and a sentence while they are made."""
    try:
        kind = kind_of(python, machine.lower(), libc)
    except UnknownKind as error:
        return _words(404, str(error))
    if not await _allowed(request, kind):
        return _words(403, "no join token is usable now; make a new one and run its line")
    pack = _fleet(request).packer.pack(kind)
    if pack.state == "working":
        return _words(202, pack.reason)
    if pack.state == "failed":
        return _words(503, pack.reason)
    lines = [f"{file.sha256} /install/files/{kind}/{file.name} {file.name}\n" for file in pack.files]
    return PlainTextResponse("".join(lines), headers=NO_CACHE)


@router.get("/install/files/{kind}/{name}", response_class=FileResponse)
async def install_file(request: Request, kind: str, name: str) -> Response:
    """Return one file."""
    path = _fleet(request).packer.path(kind, name)
    return _words(404, "no such file") if path is None else _file(path)


@router.get("/install/image", response_class=PlainTextResponse)
async def install_image(request: Request, machine: Word) -> Response:
    """Return `sha256 path name` of the agent's image for a machine, when the server was given one."""
    image = await find_image(request.app.state.control.settings.data_folder, machine.lower())
    if image is None:
        return _words(404, "this server holds no agent image for that machine")
    return PlainTextResponse(f"{image.sha256} /install/image/{image.path.name} {image.name}\n", headers=NO_CACHE)


@router.get("/install/image/{name}", response_class=FileResponse)
async def install_image_file(request: Request, name: str) -> Response:
    """Return the agent's image as `docker load` takes it."""
    folder = request.app.state.control.settings.data_folder
    for machine in ("x86_64", "aarch64"):
        image = await find_image(folder, machine)
        if image is not None and image.path.name == name:
            return _file(image.path)
    return _words(404, "no such file")


async def _allowed(request: Request, kind: HostKind) -> bool:
    return kind == own_kind() or await _fleet(request).join_tokens.any_usable()


def _words(status: int, text: str) -> Response:
    return PlainTextResponse(text + "\n", status_code=status, headers=NO_CACHE)


def _file(path: Path) -> Response:
    return FileResponse(path, media_type="application/octet-stream", headers={"x-content-type-options": "nosniff"})
