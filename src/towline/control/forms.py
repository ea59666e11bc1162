"""What page handlers share: reading form posts, saying what failed, and places of roles in words."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar
from urllib.parse import urlsplit

from fastapi import Request, Response
from fastapi.datastructures import UploadFile
from pydantic import BaseModel, ValidationError

from towline.control.access.schemas import ScopeIn
from towline.control.errors import ApiError, ErrorCode
from towline.control.web import Notice, redirect

T = TypeVar("T", bound=BaseModel)
PLACES = "write everything, cluster=NAME, project=CLUSTER/NAME or labels=env=prod"


class Form:
    """The fields of one form post, as text."""

    def __init__(self, fields: dict[str, list[str]], files: dict[str, bytes]) -> None:
        self._fields, self.files = fields, files

    def text(self, name: str) -> str:
        """Return a field with newlines as files have them; empty when it is missing."""
        return self._fields.get(name, [""])[0].replace("\r\n", "\n")

    def line(self, name: str) -> str:
        return self.text(name).strip()

    def all(self, name: str) -> list[str]:
        return self._fields.get(name, [])

    def names(self) -> list[str]:
        return list(self._fields)

    def checked(self, name: str) -> bool:
        return bool(self._fields.get(name))

    def number(self, name: str, default: float) -> float:
        """Return a number. Raises: ApiError."""
        try:
            return float(self.line(name) or default)
        except ValueError as error:
            raise ApiError(ErrorCode.INVALID, f"{name} is not a number") from error


async def read(request: Request) -> Form:
    """Read a form post. Its token was checked when the request was authenticated."""
    fields: dict[str, list[str]] = {}
    files: dict[str, bytes] = {}
    async with request.form() as form:
        for name, value in form.multi_items():
            if isinstance(value, UploadFile):
                files[name] = await value.read()
            elif isinstance(value, str):
                fields.setdefault(name, []).append(value)
    return Form(fields, files)


def body(model: type[T], **fields: Any) -> T:
    """Build a body of the API from form fields. Raises: ApiError: the first thing that is wrong, in words."""
    try:
        return model(**fields)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        message = str(first["msg"]).removeprefix("Value error, ")
        raise ApiError(ErrorCode.INVALID, f"{where}: {message}") from error


async def act(request: Request, url: str, done: str, action: Callable[[], Awaitable[object]]) -> Response:
    """Run an action of the API and go to a page with a notice that it is done, or why not."""
    try:
        await action()
    except ApiError as error:
        return redirect(request, url, Notice("error", error.message, error.hint))
    return redirect(request, url, Notice("done", done))


@asynccontextmanager
async def noticed(notices: list[Notice]) -> AsyncIterator[None]:
    """Turn an ApiError of the block into a notice of the page that is shown again, so that what was typed is kept."""
    try:
        yield
    except ApiError as error:
        notices.append(Notice("error", error.message, error.hint))


def scope(text: str) -> ScopeIn:
    """Read where a role holds, as people write it. Raises: ApiError."""
    kind, _, value = text.strip().partition("=")
    if kind in {"everything", "org"} and not value:
        return ScopeIn()
    if kind == "cluster" and value:
        return body(ScopeIn, kind="cluster", cluster=value)
    if kind == "project" and value:
        cluster, _, project = value.rpartition("/")
        return body(ScopeIn, kind="project", cluster=cluster, project=project)
    if kind == "labels" and value:
        return body(ScopeIn, kind="selector", selector=labels(value))
    raise ApiError(ErrorCode.INVALID, f"{text!r} is no place", hint=PLACES)


def labels(text: str) -> dict[str, str]:
    """Read `env=prod,site=berlin`. Raises: ApiError."""
    found: dict[str, str] = {}
    for entry in filter(None, (part.strip() for part in text.split(","))):
        name, equals, value = entry.partition("=")
        if not equals:
            raise ApiError(ErrorCode.INVALID, f"{entry!r} is not a label", hint="write NAME=VALUE, separated by commas")
        found[name.strip()] = value.strip()
    return found


def local_path(text: str) -> str:
    """Return where to go after signing in; only an address on this server, else the fleet."""
    parts = urlsplit(text)
    safe = text.startswith("/") and not text.startswith(("//", "/\\")) and not parts.netloc and "\\" not in text
    return text if safe and text.isprintable() else "/fleet"
