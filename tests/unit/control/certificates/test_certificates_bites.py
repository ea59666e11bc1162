"""Statements about many names bind few enough of them for every database."""

from typing import Any, cast

import pytest
from sqlalchemy.dialects import sqlite

from towline.control.certificates import repository
from towline.control.db import Transaction

NAMES = [f"n{number}.example.test" for number in range(2 * repository.BITE + 1)]


class Statements:
    """A transaction that notes how many names each statement holds."""

    def __init__(self) -> None:
        self.held: list[int] = []

    async def execute(self, statement: Any) -> None:
        found = statement.compile(dialect=sqlite.dialect()).params.values()
        self.held += [len(value) for value in found if isinstance(value, list)]


@pytest.mark.parametrize("mark", ["wanted", "taken"])
async def test_names_are_marked_in_bites(mark: str) -> None:
    tx = Statements()
    if mark == "wanted":
        await repository.set_wanted(cast(Transaction, tx), NAMES, wanted=True)
    else:
        await repository.take_over(cast(Transaction, tx), NAMES)
    assert tx.held == [repository.BITE, repository.BITE, 1]
