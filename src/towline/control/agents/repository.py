"""Every query of agents, their keys and join tokens. No rules here: what an UPDATE finds decides nothing by itself."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Select, bindparam, delete, select, update

from towline.control.agents.models import Agent, AgentInstance, AgentKey, JoinToken
from towline.control.db import Transaction, execute_many, now, table_of

# -- join tokens -------------------------------------------------------------------------------


async def token_by_digest(tx: Transaction, digest: str) -> JoinToken | None:
    return (await tx.execute(select(JoinToken).where(JoinToken.digest == digest))).scalar_one_or_none()


async def token_by_id(tx: Transaction, org_id: str, token_id: str) -> JoinToken | None:
    found = select(JoinToken).where(JoinToken.id == token_id, JoinToken.org_id == org_id)
    return (await tx.execute(found)).scalar_one_or_none()


def tokens(org_id: str, search: str = "") -> Select[Any]:
    """Return the query of an organisation's join tokens, without order."""
    query = select(JoinToken).where(JoinToken.org_id == org_id)
    return query.where(JoinToken.cluster_name.icontains(search, autoescape=True)) if search else query


async def use_token(tx: Transaction, digest: str) -> bool:
    """Use a join token up by one, in one statement: of thirty that try at once, one succeeds."""
    statement = (
        update(JoinToken)
        .where(
            JoinToken.digest == digest,
            JoinToken.used < JoinToken.max_uses,
            JoinToken.revoked.is_(False),
            JoinToken.expires_at > now(),
        )
        .values(used=JoinToken.used + 1)
        .returning(JoinToken.id)
        .execution_options(synchronize_session=False)
    )
    return (await tx.execute(statement)).first() is not None


async def any_usable_token(tx: Transaction) -> bool:
    usable = (JoinToken.used < JoinToken.max_uses, JoinToken.revoked.is_(False), JoinToken.expires_at > now())
    return (await tx.execute(select(JoinToken.id).where(*usable).limit(1))).first() is not None


async def revoke_token(tx: Transaction, token_id: str) -> None:
    await tx.execute(update(JoinToken).where(JoinToken.id == token_id).values(revoked=True))


# -- agents ------------------------------------------------------------------------------------


async def agent(tx: Transaction, org_id: str, agent_id: str) -> Agent | None:
    return (await tx.execute(select(Agent).where(Agent.id == agent_id, Agent.org_id == org_id))).scalar_one_or_none()


async def agents_of(tx: Transaction, cluster_ids: Collection[str]) -> Sequence[Agent]:
    """Return the agents of clusters, oldest first."""
    query = select(Agent).where(Agent.cluster_id.in_(cluster_ids)).order_by(Agent.created_at, Agent.id)
    return (await tx.execute(query)).scalars().all()


async def agents_by_id(tx: Transaction, agent_ids: Collection[str]) -> dict[str, Agent]:
    rows = (await tx.execute(select(Agent).where(Agent.id.in_(agent_ids)))).scalars()
    return {row.id: row for row in rows}


async def standings(tx: Transaction, agent_ids: Collection[str]) -> dict[str, tuple[str, str, int]]:
    """Return state, its reason and epoch of agents: all that a link is checked by, read for thousands at once."""
    query = select(Agent.id, Agent.state, Agent.state_reason, Agent.epoch).where(Agent.id.in_(agent_ids))
    return {row[0]: (row[1], row[2], row[3]) for row in await tx.execute(query)}


async def agents_by_token(tx: Transaction, token_ids: Collection[str]) -> Sequence[Agent]:
    """Return the agents that enrolled with join tokens."""
    query = select(Agent).where(Agent.join_token_id.in_(token_ids)).order_by(Agent.created_at, Agent.id)
    return (await tx.execute(query)).scalars().all()


async def keys_of(tx: Transaction, agent_ids: Collection[str]) -> dict[str, list[AgentKey]]:
    """Return the keys of agents, oldest first."""
    query = select(AgentKey).where(AgentKey.agent_id.in_(agent_ids)).order_by(AgentKey.created_at, AgentKey.id)
    found: dict[str, list[AgentKey]] = {agent_id: [] for agent_id in agent_ids}
    for key in (await tx.execute(query)).scalars():
        found[key.agent_id].append(key)
    return found


async def key_by_public_key(tx: Transaction, public_key: bytes) -> tuple[AgentKey, Agent] | None:
    query = select(AgentKey, Agent).join(Agent, Agent.id == AgentKey.agent_id).where(AgentKey.public_key == public_key)
    row = (await tx.execute(query)).one_or_none()
    return None if row is None else (row[0], row[1])


async def claim(
    tx: Transaction, agent_id: str, *, epoch: int, states: Collection[str], values: Mapping[str, Any]
) -> int | None:
    """Take an agent's link over: move its epoch on by one, if nobody else did meanwhile. Returns the new epoch."""
    statement = (
        update(Agent)
        .where(Agent.id == agent_id, Agent.epoch == epoch, Agent.state.in_(states))
        .values(epoch=Agent.epoch + 1, **values)
        .returning(Agent.epoch)
        .execution_options(synchronize_session=False)
    )
    return (await tx.execute(statement)).scalar_one_or_none()


async def set_state(tx: Transaction, agent_id: str, *, before: Collection[str], values: Mapping[str, Any]) -> bool:
    """Change an agent's state where the present one allows it."""
    statement = (
        update(Agent)
        .where(Agent.id == agent_id, Agent.state.in_(before))
        .values(state_since=now(), **values)
        .returning(Agent.id)
        .execution_options(synchronize_session=False)
    )
    return (await tx.execute(statement)).first() is not None


async def set_rivals(tx: Transaction, agent_id: str, rivals: Sequence[Any]) -> None:
    """Note who tried to come in, for the administrator to look at."""
    await tx.execute(update(Agent).where(Agent.id == agent_id).values(rivals=rivals))


# -- instances of agents that run several --------------------------------------------------------


async def instances_of(tx: Transaction, agent_ids: Collection[str]) -> dict[tuple[str, str], AgentInstance]:
    """Return what is known of the instances of agents, by agent and name."""
    if not agent_ids:
        return {}
    query = select(AgentInstance).where(AgentInstance.agent_id.in_(agent_ids)).order_by(AgentInstance.first_seen_at)
    return {(row.agent_id, row.name): row for row in (await tx.execute(query)).scalars()}


async def write_instance(
    tx: Transaction, known: AgentInstance | None, agent_id: str, name: str, values: Mapping[str, Any]
) -> None:
    """Write one instance. The caller holds the agent's claim, so that nobody else writes it."""
    if known is None:
        known = AgentInstance(agent_id=agent_id, name=name, first_seen_at=values["last_seen_at"])
        tx.add(known)
    for column, value in values.items():
        setattr(known, column, value)
    await tx.flush()


async def forget_instances(tx: Transaction, agent_id: str, seen_before: datetime) -> None:
    """Remove instances that have not been seen for long: their pods are gone."""
    await tx.execute(
        delete(AgentInstance).where(AgentInstance.agent_id == agent_id, AgentInstance.last_seen_at < seen_before)
    )


async def acknowledge_instances(tx: Transaction, generations: Mapping[tuple[str, str], int]) -> None:
    """Note which generations are on the disks of instances."""
    table = table_of(AgentInstance)
    statement = (
        update(table)
        .where(
            table.c.agent_id == bindparam("agent"),
            table.c.name == bindparam("slot"),
            table.c.acked_generation < bindparam("acked"),
        )
        .values(acked_generation=bindparam("acked"))
    )
    rows = [{"agent": agent, "slot": name, "acked": acked} for (agent, name), acked in generations.items()]
    await execute_many(tx, statement, rows)


# -- claims of links -----------------------------------------------------------------------------


async def acknowledge(tx: Transaction, generations: Mapping[str, int]) -> None:
    """Note which generations are on the agents' disks."""
    table = table_of(Agent)
    statement = (
        update(table)
        .where(table.c.id == bindparam("agent"), table.c.acked_generation < bindparam("acked"))
        .values(acked_generation=bindparam("acked"), resync=False)
    )
    await execute_many(tx, statement, [{"agent": key, "acked": acked} for key, acked in generations.items()])


async def release(tx: Transaction, epochs: Mapping[str, int]) -> None:
    """Note that links have ended, unless a newer one has begun."""
    table = table_of(Agent)
    statement = update(table).where(table.c.id == bindparam("agent"), table.c.epoch == bindparam("ended"))
    rows = [{"agent": key, "ended": epoch} for key, epoch in epochs.items()]
    await execute_many(tx, statement.values(owner=""), rows)


async def release_all(tx: Transaction) -> None:
    """Note that no link is up: this process has just started and holds none."""
    await tx.execute(update(Agent).where(Agent.owner != "").values(owner=""))


async def remove_key(tx: Transaction, key_id: str) -> None:
    await tx.execute(delete(AgentKey).where(AgentKey.id == key_id))


async def retire_key(tx: Transaction, key_id: str, expires_at: datetime) -> None:
    """Let a key end; it already does when it had an end."""
    await tx.execute(
        update(AgentKey).where(AgentKey.id == key_id, AgentKey.expires_at.is_(None)).values(expires_at=expires_at)
    )


async def note_key_use(tx: Transaction, key_id: str) -> None:
    await tx.execute(update(AgentKey).where(AgentKey.id == key_id).values(used_at=now()))
