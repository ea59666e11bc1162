"""Letting agents in: the proof of the key, the generation, the state, and the claim of the link.

Many agents come back at once when a server restarts, so claims that come together are written in one transaction.
Decisions are in `admission.py`, clones in `clones.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

from towline.aio.clock import REAL_CLOCK, Clock
from towline.aio.tasks import TaskOwner
from towline.control.access.actor import Actor
from towline.control.agents import instances, refusals, repository
from towline.control.agents.admission import Admit, Attempt, Decision, Deny, Turn, decide
from towline.control.agents.models import Agent, AgentInstance
from towline.control.agents.refusals import Refused
from towline.control.agents.states import AgentState, before
from towline.control.audit.service import AuditLog
from towline.control.clusters import repository as clusters
from towline.control.db import Database, Transaction, ask_together
from towline.control.errors import ApiError
from towline.control.ids import is_id
from towline.control.logging import get_logger
from towline.wire import link

_log = get_logger("agents")

_Cut = tuple[str, refusals.Refusal, str]
"""Agent, what it is told, and its instance; empty: all of them."""
_K = TypeVar("_K")

BATCH = 64
"""Claims in one transaction: one flush to disk for all, some 50 ms of the writer at most."""
WAITING_CLAIMS = 4096
"""Agents that may wait for their claim; more than that find the server busy and come back."""
FORGET_INSTANCES_AFTER = timedelta(days=7)
"""Pods come and go; one that was not seen for a week is gone."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """An agent that may have its link."""

    agent_id: str
    org_id: str
    cluster_id: str
    cluster_name: str
    epoch: int
    generation: int
    """The one to store before `ready`."""
    pending: bool
    key_id: str
    instance_id: str
    rotate_key: bool = False
    slot: str = ""
    """Name of the instance, for an agent that may run several at once: each has a link of its own."""


class Admissions:
    """Admits agents, in batches.

    Args: owner: id of this replica, written beside the epoch. live_instance: which instance of an agent has a link
        that is up in this process now; empty: none. live_instances: the same for an agent that may run several, by
        name. cut: end the links of an agent, or of its one instance, that became suspect.
    """

    def __init__(
        self,
        db: Database,
        audit: AuditLog,
        *,
        owner: str,
        live_instance: Callable[[str], str],
        live_instances: Callable[[str], Mapping[str, str]],
        cut: Callable[[str, refusals.Refusal, str], None],
        clock: Clock = REAL_CLOCK,
    ) -> None:
        self._db = db
        self._audit = audit
        self._owner = owner
        self._live_instance = live_instance
        self._live_instances = live_instances
        self._cut = cut
        self._clock = clock
        self._tasks = TaskOwner("admissions")
        self._claims = ask_together(self._tasks, "claims", self._claim_all, most=BATCH, waiting=WAITING_CLAIMS)
        self._acked: dict[tuple[str, str], int] = {}
        self._released: dict[str, int] = {}

    async def start(self) -> None:
        """Begin to admit. Links of an earlier process are gone."""
        async with self._db.begin() as tx:
            await repository.release_all(tx)

    async def stop(self) -> None:
        await self._tasks.close()

    async def admit(self, attempt: Attempt) -> Admitted:
        """Verify an agent and claim its link for this process. Raises: Refused."""
        try:
            return await self._admit(attempt)
        except Refused as error:
            raise self._counted(error) from None

    async def _admit(self, attempt: Attempt) -> Admitted:
        agent_id = attempt.hello.agent_id
        if not is_id(agent_id, "agt"):  # nobody has proved anything yet, so nothing else goes to the database
            raise Refused(refusals.unknown_agent(agent_id[:64]))
        try:
            return await self._claims.ask(attempt)
        except Refused:
            raise
        except Exception as error:  # told where it happened
            raise Refused(refusals.UNAVAILABLE) from error

    def acknowledged(self, agent_id: str, generation: int, slot: str = "") -> None:
        """Note that a generation is on the agent's disk. Written with the next batch; losing it only allows more."""
        self._acked[agent_id, slot] = generation

    def released(self, agent_id: str, epoch: int) -> None:
        """Note that a link has ended."""
        self._released[agent_id] = epoch

    async def flush(self) -> None:
        """Write what was acknowledged and what has ended."""
        acked, released = dict(self._acked), dict(self._released)
        if not acked and not released:
            return
        async with self._db.begin() as tx:
            await repository.acknowledge(tx, {agent: number for (agent, slot), number in acked.items() if not slot})
            await repository.acknowledge_instances(tx, {key: number for key, number in acked.items() if key[1]})
            await repository.release(tx, released)
        _drop(self._acked, acked)
        _drop(self._released, released)

    def _with_acknowledged(self, row: Agent, known: AgentInstance | None) -> None:
        """Add to a row what its agent acknowledged and no batch has written yet."""
        if known is not None:
            known.acked_generation = max(known.acked_generation, self._acked.get((row.id, known.name), 0))
        acked = self._acked.get((row.id, ""), 0)
        if acked > row.acked_generation:
            row.acked_generation, row.resync = acked, False

    def _counted(self, error: Refused) -> Refused:
        refusals.counts[error.refusal.code] += 1
        return error

    async def _claim_all(self, attempts: Sequence[Attempt]) -> list[Admitted | Exception]:
        try:
            return await self._claim(attempts)
        except ApiError as error:
            _log.error("agents not admitted", why=error.message, agents=len(attempts))
            raise
        except Exception as error:
            _log.error("agents not admitted", agents=len(attempts), exc_info=error)
            raise

    async def _claim(self, attempts: Sequence[Attempt]) -> list[Admitted | Exception]:
        cuts: list[_Cut] = []
        async with self._db.begin() as tx:
            ids = {attempt.hello.agent_id for attempt in attempts}
            rows = await repository.agents_by_id(tx, ids)
            keys = await repository.keys_of(tx, rows)
            several = await repository.instances_of(tx, [row.id for row in rows.values() if row.max_instances > 1])
            names = await clusters.names(tx, {row.cluster_id for row in rows.values() if row.cluster_id})
            turn = Turn(await tx.now(), self._clock.now().timestamp())
            outcomes: list[Admitted | Exception] = []
            seen: set[str] = set()
            for attempt in attempts:
                agent_id = attempt.hello.agent_id
                row = rows.get(agent_id)
                if row is None or agent_id in seen:  # a second attempt in one batch: it comes back in a moment
                    refusal = refusals.unknown_agent(agent_id[:64]) if row is None else refusals.UNAVAILABLE
                    outcomes.append(Refused(refusal))
                    continue
                seen.add(agent_id)
                known = several.get((agent_id, link.installation(attempt.hello.instance_id)))
                self._with_acknowledged(row, known)
                if row.max_instances > 1:
                    live = self._live_instances(agent_id)
                    decision = instances.decide(row, keys[agent_id], attempt, turn, known, live)
                else:
                    decision = decide(row, keys[agent_id], attempt, turn, self._live_instance(agent_id))
                outcomes.append(await self._apply(tx, row, known, attempt, decision, names, cuts))
        for cut in cuts:
            self._cut(*cut)
        return outcomes

    async def _apply(
        self,
        tx: Transaction,
        row: Agent,
        known: AgentInstance | None,
        attempt: Attempt,
        decision: Decision,
        names: dict[str, str],
        cuts: list[_Cut],
    ) -> Admitted | Refused:
        slot = link.installation(attempt.hello.instance_id) if row.max_instances > 1 else ""
        if not isinstance(decision, Admit):
            return await self._deny(tx, row, known, attempt, decision, slot, cuts)
        for key_id, expires_at in decision.retire:
            await repository.retire_key(tx, key_id, expires_at)
        if decision.first_use:
            await repository.note_key_use(tx, attempt.hello.key_id)
        values = {"owner": self._owner, **decision.values}
        epoch = await repository.claim(tx, row.id, epoch=row.epoch, states=[row.state], values=values)
        if epoch is None:
            return Refused(refusals.UNAVAILABLE)
        if slot:
            await self._write_instance(tx, row, known, attempt, slot, decision.instance | {"epoch": epoch})
        if decision.ahead:
            _log.warning("agent is ahead of the database", agent=row.id, generation=attempt.hello.generation)
        return Admitted(
            agent_id=row.id,
            org_id=row.org_id,
            cluster_id=row.cluster_id or "",
            cluster_name=names.get(row.cluster_id or "", ""),
            epoch=epoch,
            generation=decision.instance["generation"] if slot else decision.values["generation"],
            pending=row.state == AgentState.PENDING,
            key_id=attempt.hello.key_id,
            instance_id=attempt.hello.instance_id,
            rotate_key=row.rotate_requested_at is not None,
            slot=slot,
        )

    async def _deny(
        self,
        tx: Transaction,
        row: Agent,
        known: AgentInstance | None,
        attempt: Attempt,
        decision: Deny,
        slot: str,
        cuts: list[_Cut],
    ) -> Refused:
        if decision.quarantine and slot:
            await repository.set_rivals(tx, row.id, decision.values["rivals"])
            await repository.write_instance(tx, known, row.id, slot, decision.instance)
            await self._record_quarantine(tx, row, attempt, decision.refusal, {"instance": slot})
        elif decision.quarantine:
            await self._quarantine(tx, row, attempt, decision.refusal, decision.values)
        elif "rivals" in decision.values:
            await repository.set_rivals(tx, row.id, decision.values["rivals"])
            _log.warning("agent has no room for another instance", agent=row.id, instance=slot, most=row.max_instances)
        if decision.quarantine:
            cuts.append((row.id, decision.refusal, slot))
        return Refused(decision.refusal)

    async def _write_instance(
        self,
        tx: Transaction,
        row: Agent,
        known: AgentInstance | None,
        attempt: Attempt,
        slot: str,
        values: Mapping[str, Any],
    ) -> None:
        if known is None:
            await repository.forget_instances(tx, row.id, values["last_seen_at"] - FORGET_INSTANCES_AFTER)
            actor = Actor(kind="agent", org_id=row.org_id, username=row.hostname, address=attempt.address)
            await self._audit.record(
                tx, actor, action="agent.instance", target_kind="agent", target_id=row.id, target_name=row.hostname,
                cluster_id=row.cluster_id or "", detail={"instance": slot},
            )  # fmt: skip
        await repository.write_instance(tx, known, row.id, slot, values)

    async def _quarantine(
        self, tx: Transaction, row: Agent, attempt: Attempt, refusal: refusals.Refusal, values: dict[str, object]
    ) -> None:
        await repository.set_state(tx, row.id, before=before(AgentState.SUSPECT) | {AgentState.SUSPECT}, values=values)
        await self._record_quarantine(tx, row, attempt, refusal, {})
        tx.publish("agent", id=row.id, cluster_id=row.cluster_id or "", change="suspect")
        tx.publish("cluster", id=row.cluster_id or "")

    async def _record_quarantine(
        self, tx: Transaction, row: Agent, attempt: Attempt, refusal: refusals.Refusal, detail: dict[str, Any]
    ) -> None:
        actor = Actor(kind="agent", org_id=row.org_id, username=row.hostname, address=attempt.address)
        await self._audit.record(
            tx, actor, action="agent.quarantine", target_kind="agent", target_id=row.id, target_name=row.hostname,
            cluster_id=row.cluster_id or "", result="refused", reason=refusal.message,
            detail=detail,
        )  # fmt: skip
        _log.error("agent is suspect", agent=row.id, cluster=row.cluster_id, why=refusal.message, **detail)


def _drop(held: dict[_K, int], written: dict[_K, int]) -> None:
    """Forget what was written, unless something newer came meanwhile."""
    for key, value in written.items():
        if held.get(key) == value:
            del held[key]
