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
from towline.gateway.route_options import OptionError, check_place, options_as_json, parse_options

hasher = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
"""For the visitors of published services: what OWASP asks for at least, because the edge verifies them."""


class Sealer(Protocol):
    """What seals at rest."""

    def seal(self, org_id: str, record_id: str, version: int, purpose: str, plaintext: bytes) -> bytes: ...

    def open(self, org_id: str, record_id: str, version: int, purpose: str, sealed: bytes) -> bytes: ...


def set_options(sealer: Sealer, row: PublishedRoute, changes: Mapping[str, Any], users: list[str] | None) -> None:
    """Change options; `None` takes one back. Call it too when the path changed: not every option goes with every path.

    Args: users: `NAME:HASH` of every visitor with a password; None: unchanged.
    Raises: ApiError: invalid, naming the option and never its value.
    """
    merged: dict[str, Any] = {**row.options, **open_secrets(sealer, row), **changes}
    if users is not None:
        merged["basic_auth"] = users
    try:
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


def users_of(sealer: Sealer, row: PublishedRoute) -> tuple[str, ...]:
    """Return the names of the visitors with a password."""
    held = open_secrets(sealer, row).get("basic_auth", ())
    return tuple(str(one).partition(":")[0] for one in held) if isinstance(held, list) else ()


async def hashed(passwords: Mapping[str, SecretStr] | None) -> list[str] | None:
    """Return `NAME:HASH` of each; None for none given. In threads: each takes some 20 ms."""
    if passwords is None:
        return None
    hashes = [await asyncio.to_thread(hasher.hash, one.get_secret_value()) for one in passwords.values()]
    return [f"{name}:{secret}" for name, secret in zip(passwords, hashes, strict=True)]
