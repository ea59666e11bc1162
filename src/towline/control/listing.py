"""Lists in the API: pages by cursor, sorted by an allow-listed column, counted whole.

A cursor holds the sort key of the last row, signed, so that it can neither be made up nor moved to another list.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Generic, TypeVar

from fastapi import Query
from pydantic import BaseModel
from sqlalchemy import ColumnElement, Select, and_, func, or_, select
from sqlalchemy.orm import InstrumentedAttribute

from towline.control.db import Transaction
from towline.control.errors import ApiError, ErrorCode

DEFAULT_LIMIT = 50
LARGEST_LIMIT = 500
"""Rows of one answer: a few hundred KiB."""
SEARCH_CHARACTERS = 100
CURSOR_CHARACTERS = 600
_SIGNATURE_BYTES = 12
_key = [os.urandom(32)]
"""Replaced by one made from the sealing keys, so that every process of one installation takes a cursor."""

Item = TypeVar("Item")
Row = TypeVar("Row")
Column = ColumnElement[Any] | InstrumentedAttribute[Any]


class Page(BaseModel, Generic[Item]):
    """What every list answers."""

    items: list[Item]
    next_cursor: str | None = None
    total: int = 0


@dataclass(frozen=True, slots=True)
class ListQuery:
    """What a caller asked of a list."""

    limit: int = DEFAULT_LIMIT
    cursor: str = ""
    sort: str = ""
    search: str = ""


def list_query(
    limit: Annotated[int, Query(ge=1, le=LARGEST_LIMIT)] = DEFAULT_LIMIT,
    cursor: Annotated[str, Query(max_length=CURSOR_CHARACTERS)] = "",
    sort: Annotated[str, Query(max_length=40, pattern=r"^-?[a-z_]*$")] = "",
    search: Annotated[str, Query(max_length=SEARCH_CHARACTERS)] = "",
) -> ListQuery:
    """Dependency of list handlers: `query: Annotated[ListQuery, Depends(list_query)]`."""
    return ListQuery(limit, cursor, sort, search)


@dataclass(frozen=True, slots=True)
class Listed(Generic[Row]):
    rows: Sequence[Row]
    next_cursor: str | None
    total: int


async def fetch(
    tx: Transaction,
    query: Select[Row],
    asked: ListQuery,
    *,
    sorts: Mapping[str, Column],
    default: str,
    key: Column,
) -> Listed[Row]:
    """Run a list query for one page.

    Args: query: selects one entity, filtered, not yet ordered. sorts: names a caller may sort by, never null.
        default: the sort without one, `-name` for descending. key: a unique column that breaks ties.
    Raises: ApiError: invalid, for an unknown sort or a foreign cursor.
    """
    wanted = asked.sort or default
    name, falling = wanted.lstrip("-"), wanted.startswith("-")
    if name not in sorts:
        raise ApiError(ErrorCode.INVALID, f"cannot sort by {name!r}", hint=f"one of {', '.join(sorted(sorts))}")
    column = sorts[name]
    total = await tx.scalar(select(func.count()).select_from(query.order_by(None).subquery())) or 0
    ordered = query.order_by(*((part.desc() if falling else part.asc()) for part in (column, key)))
    if asked.cursor:
        ordered = ordered.where(_after(column, key, falling, _read_cursor(asked.cursor, wanted)))
    extended = ordered.add_columns(column.label("_sort"), key.label("_key")).limit(asked.limit + 1)
    found = (await tx.execute(extended)).all()
    more = len(found) > asked.limit
    page = found[: asked.limit]
    cursor = _cursor(wanted, page[-1][-2], page[-1][-1]) if more else None
    return Listed([row[0] for row in page], cursor, total)


def use_key(key: bytes) -> None:
    """Sign cursors with this key from now on."""
    _key[0] = key


def contains(column: Column, text: str) -> ColumnElement[bool]:
    """Return the condition that a column holds a text, whatever its case; `%` and `_` mean themselves."""
    return func.lower(column).contains(text.lower(), autoescape=True)


def page(listed: Listed[Row], show: Callable[[Row], Item]) -> Page[Item]:
    """Return a page of the API from rows."""
    return Page(items=[show(row) for row in listed.rows], next_cursor=listed.next_cursor, total=listed.total)


def _after(column: Column, key: Column, falling: bool, place: tuple[Any, Any]) -> ColumnElement[bool]:
    value, tie = place
    if falling:
        return or_(column < value, and_(column == value, key < tie))
    return or_(column > value, and_(column == value, key > tie))


def _cursor(wanted: str, value: Any, tie: Any) -> str:
    moment = isinstance(value, datetime)
    body = json.dumps([wanted, "t" if moment else "", value.isoformat() if moment else value, tie]).encode()
    return base64.urlsafe_b64encode(_sign(body) + body).decode().rstrip("=")


def _read_cursor(cursor: str, wanted: str) -> tuple[Any, Any]:
    try:
        raw = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
    except (binascii.Error, ValueError):
        raw = b""
    signature, body = raw[:_SIGNATURE_BYTES], raw[_SIGNATURE_BYTES:]
    if not body or not hmac.compare_digest(signature, _sign(body)):
        raise ApiError(ErrorCode.INVALID, "the cursor is not of this list", hint="read the list from its beginning")
    sort, kind, value, tie = json.loads(body)
    if sort != wanted:
        raise ApiError(ErrorCode.INVALID, "the cursor belongs to another order", hint="keep sort while paging")
    return (datetime.fromisoformat(value) if kind == "t" else value), tie


def _sign(body: bytes) -> bytes:
    return hmac.digest(_key[0], body, hashlib.sha256)[:_SIGNATURE_BYTES]
