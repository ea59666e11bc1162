"""Which names need a certificate, as far as this package has to know: declared here, told by others.

Routes, the server's own name and the names of clusters are sources; `Wanted` puts them together.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from towline.control.certificates.models import Certificate
from towline.control.certificates.states import Source
from towline.control.ids import DEFAULT_ORG
from towline.gateway.certificates import covers


@dataclass(frozen=True, slots=True)
class WantedName:
    """A host, or `*.` and one, and whose it is."""

    name: str
    org_id: str = DEFAULT_ORG


Names = Callable[[], Awaitable[Sequence[WantedName]]]
"""Asked at each look, e.g. for the hosts of all routes."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What has to change so that the rows are those of the names that are wanted."""

    missing: tuple[WantedName, ...] = ()
    wanted: tuple[str, ...] = ()
    unwanted: tuple[str, ...] = ()
    lapsed: tuple[str, ...] = ()
    """Uploads that ended, of names that are needed: an authority is asked from now on."""


def plan(names: Sequence[WantedName], rows: Sequence[Certificate], moment: datetime, *, wildcard_of: str = "") -> Plan:
    """Compare what is wanted with what there is. Of two organisations that want a name, the first listed has it.

    Args: wildcard_of: a domain whose direct children share one wildcard certificate; empty for none.
    """
    brought = [row for row in rows if row.source == Source.UPLOAD]
    uploads = {name for row in brought if row.ends_at is None or row.ends_at > moment for name in row.names}
    asked: dict[str, WantedName] = {}
    for each in names:
        name = _shared(each.name, wildcard_of)
        asked.setdefault(name, WantedName(name, DEFAULT_ORG if name != each.name else each.org_id))
    needed = {name: each for name, each in asked.items() if not covers(uploads, name)}
    there = {row.name: row for row in rows}
    ours = [row for row in rows if row.source != Source.UPLOAD]
    return Plan(
        missing=tuple(each for name, each in needed.items() if name not in there),
        wanted=tuple(row.name for row in ours if not row.wanted and row.name in needed),
        unwanted=tuple(row.name for row in ours if row.wanted and row.name not in needed),
        lapsed=tuple(row.name for row in brought if row.name in needed),
    )


def _shared(name: str, wildcard_of: str) -> str:
    first, _, rest = name.partition(".")
    return f"*.{rest}" if wildcard_of and rest == wildcard_of and first != "*" else name
