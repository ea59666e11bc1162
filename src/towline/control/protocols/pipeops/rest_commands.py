"""The commands of REST agents: taken from jobs, handed out once, their results taken once. Says upward what happened.

The rows are what the journal of our own agent is: an order counts as taken when its row is there, and its result is
told again after each connect until it is stored with the job.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import msgspec

from towline.aio.clock import REAL_CLOCK, Clock
from towline.aio.tasks import TaskOwner
from towline.aio.together import Together
from towline.control.db import Database, Transaction, ask_together
from towline.control.logging import get_logger
from towline.control.protocols.lookups import AT_ONCE, MOST_WAITING
from towline.control.protocols.pipeops import rest_repository as repository
from towline.control.protocols.pipeops.rest_figures import Figures
from towline.control.protocols.pipeops.rest_leases import FETCH_WITHIN, LEASE_MARGIN, CommandState, after_lease
from towline.control.protocols.pipeops.rest_models import PipeopsCommand
from towline.control.protocols.pipeops.rest_orders import (
    CANCELLED,
    Ending,
    NotCarried,
    ending_of,
    messages,
    order_of,
)
from towline.control.sealing.service import Sealer
from towline.wire import link, orders, rfc3339
from towline.wire import pipeops_rest as rest

_log = get_logger("protocols")

PURPOSE = "pipeops command"
VERSION = 1
MOST_AT_ONCE = 20
"""Commands of one answer; the others come with the next."""
MOST_BYTES_AT_ONCE = rest.MAX_COMMANDS_BYTES // 2
"""Their payloads in sum, which leaves room for what JSON adds; one that is larger goes alone."""

Tell = Callable[[link.Message], None]


@dataclass(frozen=True, slots=True)
class Who:
    """The agent whose commands these are, and its session's epoch."""

    agent_id: str
    org_id: str
    epoch: int


@dataclass(slots=True)
class Commands:
    """The journal of every REST agent.

    Methods that say something upward take `tell`, and call it when what it says is in the database.
    """

    db: Database
    sealer: Sealer
    figures: Figures
    tasks: TaskOwner
    clock: Clock = field(default=REAL_CLOCK)
    _held: Together[str, list[PipeopsCommand]] = field(init=False)

    def __post_init__(self) -> None:
        self._held = ask_together(self.tasks, "commands held", self._find_held, most=AT_ONCE, waiting=MOST_WAITING)

    # -- from jobs -------------------------------------------------------------------------------

    async def order(self, who: Who, job: link.Job, tell: Tell) -> None:
        """Take a job, or say why this kind of agent cannot do it."""
        try:
            order = order_of(job)
        except NotCarried as error:
            tell(link.JobResult(job_id=job.job_id, fence=job.fence, outcome="refused", code="bad_order",
                                error=str(error)))  # fmt: skip
            return
        payload = rest.encode(order.run)
        async with self.db.begin() as tx:
            known = await repository.of_job(tx, job.job_id, who.agent_id)
            if known is None:
                moment = await tx.now()
                known = PipeopsCommand(
                    job_id=job.job_id, org_id=who.org_id, agent_id=who.agent_id, fence=job.fence, type=order.type,
                    sealed=self.sealer.seal(who.org_id, job.job_id, VERSION, PURPOSE, payload),
                    payload_bytes=len(payload), output_bytes=order.run.output_bytes, reads=order.reads,
                    timeout=job.timeout, state=CommandState.WAITING, seq=1, lease_until=moment, created_at=moment,
                )  # fmt: skip
                tx.add(known)
                await tx.flush()
            await repository.renew(tx, job.job_id, FETCH_WITHIN, fence=job.fence)
        tell(link.JobAccepted(job_id=job.job_id, fence=job.fence))
        tell(self._event(known, 1, "received", "waits until the agent asks for its commands"))
        if known.state == CommandState.ENDED:
            self._tell_ending(known, tell)

    async def cancel(self, who: Who, job_id: str, tell: Tell) -> None:
        """End a command that its agent did not fetch yet; of one that it has, its result decides."""
        ending = Ending("cancelled", CANCELLED, "cancelled")
        async with self.db.begin() as tx:
            known = await repository.of_job(tx, job_id, who.agent_id)
            if known is None:
                return
            ended = await repository.end(tx, job_id, {CommandState.WAITING}, _kept(ending))
            noted = None if ended is not None or known.cancelling else await repository.note_cancel(tx, job_id)
        if ended is not None:
            self._tell_ending(ended, tell)
        elif noted is not None:
            words = "a PipeOps REST agent cannot stop a command that it has; its result decides"
            tell(self._event(noted, noted.seq, "cancelling", words))

    async def stored(self, who: Who, job_id: str) -> None:
        """The result is with the job."""
        async with self.db.begin() as tx:
            await repository.stored(tx, job_id, who.agent_id)

    async def resume(self, who: Who, tell: Tell) -> None:
        """Say which commands an agent holds, when its session begins, and tell again what is not stored."""
        found = await self._held.ask(who.agent_id)
        if found:
            async with self.db.begin() as tx:
                for row in found:
                    await repository.renew(tx, row.job_id, FETCH_WITHIN, fence=row.fence)
                    await repository.extend(tx, row.job_id, LEASE_MARGIN)
        running = [row.job_id for row in found if row.state != CommandState.ENDED]
        ended = [row for row in found if row.state == CommandState.ENDED]
        tell(link.JobsHeld(running=tuple(running), finished=tuple(row.job_id for row in ended)))
        for row in ended:
            self._tell_ending(row, tell)

    async def _find_held(self, agent_ids: Sequence[str]) -> list[list[PipeopsCommand]]:
        async with self.db.read() as tx:
            found = await repository.unstored(tx, agent_ids)
        return [[row for row in found if row.agent_id == agent_id] for agent_id in agent_ids]

    # -- from agents -----------------------------------------------------------------------------

    async def hand_out(self, who: Who, tell: Tell) -> list[rest.Command]:
        """Return the commands that an agent fetches now: each once, until its lease is over."""
        async with self.db.read() as tx:
            if not await repository.waiting(tx, who.agent_id, 1):
                return []
        async with self.db.begin() as tx:
            chosen = _that_fit(await repository.waiting(tx, who.agent_id, MOST_AT_ONCE))
            handed = [await repository.hand_out(tx, job_id, LEASE_MARGIN) for job_id in chosen]
        rows = [row for row in handed if row is not None]
        for row in rows:
            self.figures.commands.labels("handed_out").inc()
            tell(self._event(row, row.seq, "running", "the agent has taken it"))
            _log.info("command handed out", job=row.job_id, agent=who.agent_id, times=row.handed)
        return [self._command(row) for row in rows]

    async def result(self, who: Who, job_id: str, result: rest.Result, tell: Tell) -> bool:
        """Take the result of a command, once. Returns: False: this agent never had such a command."""
        async with self.db.begin() as tx:
            known = await repository.of_job(tx, job_id, who.agent_id)
            if known is None or not known.handed:
                return False
            ending = ending_of(result, most_bytes=known.output_bytes or orders.OUTPUT_BYTES)
            states = {CommandState.HANDED, CommandState.WAITING}
            ended = await repository.end(tx, job_id, states, _kept(ending))
        if ended is None:
            self.figures.commands.labels("result_repeated").inc()
            _log.info("result of a command came again", job=job_id, agent=who.agent_id)
            return True
        self.figures.commands.labels("result_taken").inc()
        self._tell_ending(ended, tell)
        return True

    # -- time ------------------------------------------------------------------------------------

    async def overdue(self) -> list[tuple[str, str]]:
        """Return command and agent of every lease that is over."""
        async with self.db.read() as tx:
            return list(await repository.overdue(tx))

    async def expire(self, who: Who, job_id: str, tell: Tell) -> None:
        """Decide what becomes of a command whose lease is over."""
        async with self.db.begin() as tx:
            row = await repository.of_job(tx, job_id, who.agent_id)
            if row is None or row.state not in (CommandState.WAITING, CommandState.HANDED):
                return
            if row.lease_until >= await tx.now():
                return
            message = await self._expired(tx, row)
        if message is not None:
            tell(message)
        else:
            async with self.db.read() as tx:
                ended = await repository.of_job(tx, job_id, who.agent_id)
            if ended is not None and ended.state == CommandState.ENDED:
                self._tell_ending(ended, tell)

    async def _expired(self, tx: Transaction, row: PipeopsCommand) -> link.Message | None:
        """Write down what follows. Returns: what to tell when it goes on; None when it has ended."""
        state = CommandState(row.state)
        ending = after_lease(state, reads=row.reads, handed=row.handed, cancelling=row.cancelling)
        if ending is None:
            again = await repository.wait_again(tx, row.job_id, FETCH_WITHIN)
            self.figures.commands.labels("lease_again").inc()
            words = "the agent did not answer in time; the command begins anew"
            return self._event(again, again.seq, orders.RESTARTED, words) if again is not None else None
        await repository.end(tx, row.job_id, {state}, _kept(ending))
        self.figures.commands.labels("not_fetched" if state is CommandState.WAITING else "lease_lost").inc()
        _log.warning("command given up", job=row.job_id, agent=row.agent_id, why=ending.error)
        return None

    # -- words -----------------------------------------------------------------------------------

    def _command(self, row: PipeopsCommand) -> rest.Command:
        payload = self.sealer.open(row.org_id, row.job_id, VERSION, PURPOSE, row.sealed)
        return rest.Command(
            id=row.job_id, type=row.type, payload=msgspec.json.decode(payload), created_at=rfc3339.write(row.created_at)
        )

    def _event(self, row: PipeopsCommand, seq: int, stage: str, text: str) -> link.JobProgress:
        event = link.JobEvent(seq=seq, at=self.clock.now().timestamp(), stage=stage, text=text)
        return link.JobProgress(job_id=row.job_id, fence=row.fence, events=(event,))

    def _tell_ending(self, row: PipeopsCommand, tell: Tell) -> None:
        ending = msgspec.convert(row.ending, Ending)
        at = row.ended_at.timestamp() if row.ended_at is not None else 0.0
        for message in messages(row.job_id, row.fence, ending, after=row.seq, at=at):
            tell(message)


def _kept(ending: Ending) -> dict[str, object]:
    """Return an ending as a row holds it: without what no database keeps. Whoever stores the job cleans the rest."""
    kept: dict[str, object] = msgspec.to_builtins(ending)
    return {name: _storable(value) if isinstance(value, str) else value for name, value in kept.items()}


def _storable(text: str) -> str:
    return text.replace("\0", "").encode("utf-8", "replace").decode()


def _that_fit(found: Iterable[tuple[str, int]]) -> list[str]:
    """Return the commands that fit into one answer, at least one."""
    chosen: list[str] = []
    total = 0
    for job_id, size in found:
        total += size
        if chosen and total > MOST_BYTES_AT_ONCE:
            break
        chosen.append(job_id)
    return chosen
