"""Commands under a name: adding, changing, removing. Audited; no FastAPI.

They are the organisation's: who may run commands anywhere reads them and may add one; who added one, or manages the
clusters of the organisation, changes it. Whoever runs one runs it with their own rights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy.exc import IntegrityError

from towline.control.access.actor import Access, forbidden
from towline.control.access.permissions import Permission, Resource
from towline.control.audit.service import AuditLog
from towline.control.clusters.selectors import BadSelector
from towline.control.clusters.selectors import parse as parse_selector
from towline.control.commands import repository
from towline.control.commands.models import SavedCommand
from towline.control.commands.parameters import BadParameter, names
from towline.control.commands.schemas import SavedIn, SavedPatch
from towline.control.db import Database, Transaction
from towline.control.errors import ApiError, ErrorCode, not_found
from towline.control.ids import new_id
from towline.control.listing import Listed, ListQuery, fetch

MOST_SAVED = 500
"""Of an organisation: a list that people still find things in."""
SORTS: Mapping[str, Any] = {"name": SavedCommand.name, "created_at": SavedCommand.created_at}


class SavedCommands:
    """Saved commands of every organisation."""

    def __init__(self, db: Database, audit: AuditLog) -> None:
        self._db = db
        self._audit = audit

    async def page(self, access: Access, asked: ListQuery) -> Listed[SavedCommand]:
        """Return a page of them. Raises: ApiError: invalid."""
        async with self._db.read() as tx:
            query = repository.all_saved(access.org_id, asked.search)
            return await fetch(tx, query, asked, sorts=SORTS, default="name", key=SavedCommand.id)

    async def get(self, access: Access, name: str) -> SavedCommand:
        """Raises: ApiError: not_found."""
        async with self._db.read() as tx:
            return await self._require(tx, access, name)

    async def add(self, access: Access, asked: SavedIn) -> SavedCommand:
        """Raises: ApiError: invalid, name_taken, conflict."""
        _check(asked.arguments, asked.defaults, asked.selector)
        try:
            async with self._db.begin() as tx:
                if await repository.saved_count(tx, access.org_id) >= MOST_SAVED:
                    raise ApiError(ErrorCode.CONFLICT, f"an organisation may have {MOST_SAVED} saved commands")
                moment = await tx.now()
                row = SavedCommand(
                    id=new_id("cmd"), org_id=access.org_id, **asked.model_dump(), created_by=access.actor.username,
                    created_at=moment, updated_at=moment,
                )  # fmt: skip
                tx.add(row)
                await tx.flush()
                await self._record(tx, access, "command.save", row)
                return row
        except IntegrityError as error:
            raise _taken(asked.name) from error

    async def change(self, access: Access, name: str, asked: SavedPatch) -> SavedCommand:
        """Change what is given. Raises: ApiError: not_found, forbidden, invalid, name_taken."""
        try:
            async with self._db.begin() as tx:
                row = await self._require(tx, access, name, changes=True)
                changes = {
                    key: value for key, value in asked.model_dump(exclude_unset=True).items() if value is not None
                }
                for key, value in changes.items():
                    setattr(row, key, value)
                _check(row.arguments, row.defaults, row.selector)
                row.updated_at = await tx.now()
                await tx.flush()
                await self._record(tx, access, "command.change", row, changed=sorted(changes))
                return row
        except IntegrityError as error:
            raise _taken(asked.name or name) from error

    async def remove(self, access: Access, name: str) -> None:
        """Raises: ApiError: not_found, forbidden."""
        async with self._db.begin() as tx:
            row = await self._require(tx, access, name, changes=True)
            await tx.delete(row)
            await self._record(tx, access, "command.remove", row)

    def may_change(self, access: Access, row: SavedCommand) -> bool:
        """Tell whether somebody may change or remove a saved command."""
        mine = bool(access.actor.username) and row.created_by == access.actor.username
        return mine or access.may(Permission.CLUSTER_MANAGE, Resource(access.org_id))

    async def _require(self, tx: Transaction, access: Access, name: str, *, changes: bool = False) -> SavedCommand:
        row = await repository.saved(tx, access.org_id, name[:64])
        if row is None:
            raise not_found("saved command", name[:64])
        if changes and not self.may_change(access, row):
            raise forbidden(Permission.CLUSTER_MANAGE)
        return row

    async def _record(
        self, tx: Transaction, access: Access, action: str, row: SavedCommand, *, changed: Sequence[str] = ()
    ) -> None:
        detail = {"program": row.program, "arguments": list(row.arguments), "selector": row.selector}
        await self._audit.record(
            tx, access.actor, action=action, target_kind="command", target_id=row.id, target_name=row.name,
            detail=detail | ({"changed": list(changed)} if changed else {}),
        )  # fmt: skip
        tx.publish("command", id=row.id, org_id=row.org_id)


def _check(arguments: Sequence[str], defaults: Mapping[str, str], selector: str) -> None:
    try:
        known = names(arguments)
        if unknown := [name for name in defaults if name not in known]:
            raise BadParameter(f"there is no parameter {unknown[0]!r}")
        if selector:
            parse_selector(selector)
    except (BadParameter, BadSelector) as error:
        raise ApiError(ErrorCode.INVALID, str(error)) from error


def _taken(name: str) -> ApiError:
    return ApiError(ErrorCode.NAME_TAKEN, f"a command named {name} is saved already")
