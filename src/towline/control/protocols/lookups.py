"""What agents of older systems are looked up by, for all that come at the same time in one query.

After a restart of the server thousands are back within seconds, each with the same questions.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import select, tuple_

from towline.aio.tasks import TaskOwner
from towline.control.db import Database, Transaction, ask_together
from towline.control.protocols.models import CompatAgent, CompatToken

AT_ONCE: Final = 64
"""Agents in one query or transaction: some 50 ms of the database at most."""
MOST_WAITING: Final = 20_000
"""Questions that wait for the next query: two of each agent that one server serves."""


@dataclass(frozen=True, slots=True)
class Presented:
    """A token as somebody presented it."""

    protocol: str
    digest: str


@dataclass(frozen=True, slots=True)
class Called:
    """Who an agent is: its token, and what it calls itself; None: its token is one agent, whatever it says."""

    token_id: str
    external_id: str | None


class Lookups:
    """See the module. What it returns belongs to no transaction, and to several askers: nobody changes it."""

    def __init__(self, db: Database, owner: TaskOwner) -> None:
        self._db = db
        self._tokens = ask_together(owner, "tokens", self._find_tokens, most=AT_ONCE, waiting=MOST_WAITING)
        self._agents = ask_together(owner, "agents", self._find_agents, most=AT_ONCE, waiting=MOST_WAITING)
        self._by_id = ask_together(owner, "agents by id", self._find_by_id, most=AT_ONCE, waiting=MOST_WAITING)

    async def token(self, presented: Presented) -> tuple[CompatToken | None, datetime]:
        """Return a token, whatever its state, and the moment by the database's clock. Raises: ApiError: unavailable."""
        return await self._tokens.ask(presented)

    async def agent(self, called: Called) -> CompatAgent | None:
        """Return who came with a token before. Raises: ApiError: unavailable."""
        return await self._agents.ask(called)

    async def agent_by_id(self, agent_id: str) -> CompatAgent | None:
        """Return what an agent is in its own system. Raises: ApiError: unavailable."""
        return await self._by_id.ask(agent_id)

    async def _find_tokens(self, asked: Sequence[Presented]) -> list[tuple[CompatToken | None, datetime]]:
        query = select(CompatToken).where(CompatToken.digest.in_({one.digest for one in asked}))
        async with self._db.read() as tx:
            moment = await tx.now()
            rows = {Presented(row.protocol, row.digest): row for row in (await tx.execute(query)).scalars()}
        return [(rows.get(one), moment) for one in asked]

    async def _find_agents(self, asked: Sequence[Called]) -> list[CompatAgent | None]:
        async with self._db.read() as tx:
            found = await agents_called(tx, set(asked))
        return [found.get(one) for one in asked]

    async def _find_by_id(self, asked: Sequence[str]) -> list[CompatAgent | None]:
        query = select(CompatAgent).where(CompatAgent.agent_id.in_(set(asked)))
        async with self._db.read() as tx:
            rows = {row.agent_id: row for row in (await tx.execute(query)).scalars()}
        return [rows.get(one) for one in asked]


async def agents_called(tx: Transaction, asked: Collection[Called]) -> dict[Called, CompatAgent]:
    """Return those agents that are known."""
    found: dict[Called, CompatAgent] = {}
    alone = [one.token_id for one in asked if one.external_id is None]
    named = [(one.token_id, one.external_id) for one in asked if one.external_id is not None]
    if alone:
        for row in (await tx.execute(select(CompatAgent).where(CompatAgent.token_id.in_(alone)))).scalars():
            found[Called(row.token_id, None)] = row
    if named:
        names = tuple_(CompatAgent.token_id, CompatAgent.external_id)
        for row in (await tx.execute(select(CompatAgent).where(names.in_(named)))).scalars():
            found[Called(row.token_id, row.external_id)] = row
    return found
