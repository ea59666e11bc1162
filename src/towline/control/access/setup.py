"""The first user: a one-time token on an empty database, or a password from a file. Nobody is admin by being first.

The token is in a file that only the server's user can read, and on the terminal of `towline up`; never in a log.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import delete

from towline.control.access import repository, secrets
from towline.control.access.actor import Actor, system_actor
from towline.control.access.models import SetupToken
from towline.control.access.permissions import Role
from towline.control.access.schemas import USERNAME
from towline.control.db import Transaction, now
from towline.control.errors import ApiError, ErrorCode, StartupError
from towline.control.ids import DEFAULT_ORG

if TYPE_CHECKING:
    from towline.control.app import ControlPlane

LIFETIME = timedelta(minutes=30)
FILE = "setup-token"


async def prepare(control: ControlPlane) -> str:
    """Make the organisation, and on an empty database the first user or a setup token.

    Returns: the setup token when a person has to finish, else empty. Raises: StartupError: a bad password file.
    """
    async with control.db.begin() as tx:
        await repository.ensure_org(tx, DEFAULT_ORG, "default")
        empty = not await repository.has_users(tx)
    if not empty:
        return ""
    if control.settings.admin_password_file is not None:
        await _first_user_from_file(control, control.settings.admin_password_file)
        return ""
    return await renew(control)


async def renew(control: ControlPlane) -> str:
    """Make a new setup token; the one before it ends. Only while there is no user."""
    token = secrets.mint("twx")
    async with control.db.begin() as tx:
        await repository.put_setup_token(tx, secrets.hashed(token), LIFETIME)
    write_secret(control.settings.data_folder / FILE, f"{token}\n")
    return token


async def redeem(control: ControlPlane, tx: Transaction, token: str) -> None:
    """Use the setup token up, in one statement. Raises: ApiError: setup_done, or unauthenticated."""
    if await repository.has_users(tx):
        raise ApiError(ErrorCode.SETUP_DONE, "the first user exists already", hint="sign in")
    well_formed = secrets.is_well_formed(token, ("twx",))
    used = delete(SetupToken).where(SetupToken.secret_hash == secrets.hashed(token), SetupToken.expires_at > now())
    if not well_formed or (await tx.execute(used.returning(SetupToken.id))).one_or_none() is None:
        raise ApiError(
            ErrorCode.UNAUTHENTICATED,
            "the setup token is wrong, used or older than 30 minutes",
            hint=f"restart the server for a new one; it is in the file {FILE} of its data folder",
        )
    tx.after_commit.append(lambda: forget_file(control.settings.data_folder))


def forget_file(data_folder: Path) -> None:
    """Remove the file of a token that is used up."""
    (data_folder / FILE).unlink(missing_ok=True)


def write_secret(path: Path, content: str | bytes) -> None:
    """Write a file that only the server's user can read, whole or not at all."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".new")
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
        out.write(content.encode() if isinstance(content, str) else content)
        out.flush()
        os.fsync(out.fileno())
    partial.replace(path)


async def _first_user_from_file(control: ControlPlane, path: Path) -> None:
    try:
        password = (await asyncio.to_thread(path.read_text)).rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise StartupError(f"admin_password_file {path} cannot be read: {error}") from error
    try:
        await control.accounts.create_user(
            system_actor("setup"), control.settings.admin_username, password, roles=(Role.OWNER,)
        )
    except ApiError as error:
        raise StartupError(f"admin_password_file {path}: {error.message}") from error


async def reset_admin(control: ControlPlane, username: str, password: str) -> str:
    """Give a user a new password and the role of owner, making them if need be. For the command line alone.

    Returns: `created` or `reset`. Raises: ApiError: invalid, for what the API takes as no user name either.
    """
    if re.fullmatch(USERNAME, username) is None:
        raise ApiError(
            ErrorCode.INVALID,
            f"{username[:80]!r} is no user name: up to 63 of a-z, 0-9 and _ . @ -, beginning with a letter or a digit",
        )
    actor: Actor = system_actor("reset-admin")
    return await control.accounts.force_owner(actor, username, password)


__all__: Sequence[str] = ("FILE", "forget_file", "prepare", "redeem", "renew", "reset_admin", "write_secret")
