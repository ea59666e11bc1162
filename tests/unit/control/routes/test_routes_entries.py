"""Rows that this release cannot serve are left out, and no reason to serve no others."""

from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from towline.control.links.registry import Links
from towline.control.routes.entries import EntryMaker
from towline.control.routes.targets import parse, stored
from towline.control.sealing.service import CannotOpen


@dataclass
class Row:
    """The columns of a route that entries are made of."""

    id: str = "rte_1"
    org_id: str = "org_1"
    name: str = "shop"
    host: str = "shop.example.test"
    path: str = "/"
    path_type: str = "prefix"
    targets: list[Any] = field(
        default_factory=lambda: [{"cluster_id": "clu_1", "target": stored(parse("tcp/10.0.0.1:80"))}]
    )
    options: dict[str, Any] = field(default_factory=dict)
    sealed: bytes | None = None


class Damaged:
    """A sealer that opens nothing."""

    def open(self, org_id: str, record_id: str, version: int, purpose: str, sealed: bytes) -> bytes:
        raise CannotOpen("made under another key")


@pytest.mark.parametrize(
    "changes",
    [{"sealed": b"x"}, {"options": {"from_the_future": 1}}, {"targets": []}],
    ids=["sealed", "option", "target"],
)
def test_row_that_cannot_be_read_is_left_out(changes: dict[str, Any]) -> None:
    maker = EntryMaker(cast(Links, None), Damaged(), knows_own_name=True)
    assert maker.entry(Row(**changes)) is None
    assert maker.entry(Row()) is not None
