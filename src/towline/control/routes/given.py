"""Options of declared routes as people give them: merged, checked, and the secret ones hashed and sealed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any, Protocol

from argon2 import PasswordHasher
from pydantic import SecretStr

from towline.control.errors import ApiError, ErrorCode
from towline.control.routes.claims import SECRET_OPTIONS
from towline.control.routes.entries import SEALED_PURPOSE, open_secrets
from towline.control.routes.models import PublishedRoute
from towline.control.sealing.service import CannotOpen
from towline.gateway.route_options import OptionError, check_place, options_as_json, parse_options

hasher = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
"""For the visitors of published services: what OWASP asks for at least, because the edge verifies them."""

HEADERS = "set_request_headers"
MASK = "********"
"""Shown in place of a header's value, and taken for "as it is" when it comes back."""


class Sealer(Protocol):
    """What seals at rest."""

    def seal(self, org_id: str, record_id: str, version: int, purpose: str, plaintext: bytes) -> bytes: ...

    def open(self, org_id: str, record_id: str, version: int, purpose: str, sealed: bytes) -> bytes: ...


def set_options(sealer: Sealer, row: PublishedRoute, changes: Mapping[str, Any], users: list[str] | None) -> None:
    """Change options; `None` takes one back. Call it too when the path changed: not every option goes with every path.

    Args: users: `NAME:HASH` of every visitor with a password; None: unchanged.
    Raises: ApiError: invalid, naming the option and never its value; conflict: the secrets that it has cannot be
        opened, and not all of them are given anew.
    """
    given = dict(changes) if users is None else {**changes, "basic_auth": users}
    held = {**row.options, **_held(sealer, row, given)}
    merged: dict[str, Any] = {**held, **given}
    try:
        if given.get(HEADERS) is not None:
            merged[HEADERS] = _unmasked(given[HEADERS], held.get(HEADERS))
        options = parse_options({key: value for key, value in merged.items() if value is not None})
        check_place(options, row.path, row.path_type)
    except OptionError as error:
        problem = {"path": f"options.{error.key}", "message": str(error)}
        raise ApiError(ErrorCode.INVALID, str(error), detail={"problems": [problem]}) from error
    shown = options_as_json(options)
    secret = {key: shown.pop(key) for key in SECRET_OPTIONS & shown.keys()}
    row.options = shown
    body = json.dumps(secret).encode()
    row.sealed = sealer.seal(row.org_id, row.id, 1, SEALED_PURPOSE, body) if secret else None


def _held(sealer: Sealer, row: PublishedRoute, given: Mapping[str, Any]) -> dict[str, object]:
    try:
        return open_secrets(sealer, row)
    except CannotOpen as error:
        if given.keys() >= SECRET_OPTIONS:
            return {}
        raise ApiError(  # without its passwords it could let in too many
            ErrorCode.CONFLICT,
            f"the secrets of {row.name} cannot be opened",
            hint=f"give passwords and {HEADERS} anew, together",
        ) from error


def _unmasked(given: object, held: object) -> dict[str, str]:
    """Put stored values where headers come back masked. Raises: OptionError."""
    headers = dict(parse_options({HEADERS: given}).set_request_headers)
    known = {name.lower(): value for name, value in held.items()} if isinstance(held, dict) else {}
    for name in [name for name, value in headers.items() if value == MASK]:
        if name.lower() not in known:
            raise OptionError(HEADERS, f"{name} has no value that could stay")
        headers[name] = known[name.lower()]
    return headers


def options_of(sealer: Sealer, row: PublishedRoute) -> dict[str, Any]:
    """Return the options as everybody may see them: headers for the target by name alone."""
    held = {**row.options, **_opened(sealer, row)}
    shown = {key: value for key, value in held.items() if key not in SECRET_OPTIONS}
    headers = held.get(HEADERS)
    return {**shown, HEADERS: dict.fromkeys(headers, MASK)} if isinstance(headers, dict) and headers else shown


def _opened(sealer: Sealer, row: PublishedRoute) -> dict[str, object]:
    """Return secrets for showing; none of a row whose secrets cannot be opened: lists show it all the same."""
    try:
        return open_secrets(sealer, row)
    except CannotOpen:
        return {}


def users_of(sealer: Sealer, row: PublishedRoute) -> tuple[str, ...]:
    """Return the names of the visitors with a password."""
    held = _opened(sealer, row).get("basic_auth", ())
    return tuple(str(one).partition(":")[0] for one in held) if isinstance(held, list) else ()


async def hashed(passwords: Mapping[str, SecretStr] | None) -> list[str] | None:
    """Return `NAME:HASH` of each; None for none given. In threads: each takes some 20 ms."""
    if passwords is None:
        return None
    hashes = [await asyncio.to_thread(hasher.hash, one.get_secret_value()) for one in passwords.values()]
    return [f"{name}:{secret}" for name, secret in zip(passwords, hashes, strict=True)]
