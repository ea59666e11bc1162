"""The session of an InstaDeploy agent: jobs of ours become its commands, its tables become our inventory.

The agent remembers nothing, so what our own agent keeps in its journal is read back from the rows (`shelf`): jobs that
had begun when the line was lost are done once more, which changes nothing that was done. One task does everything, one
command after the other. Not here: who may come in (`entrance`).
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from dataclasses import dataclass

import msgspec

from towline.aio.clock import REAL_CLOCK, Clock
from towline.aio.tasks import TaskOwner
from towline.control.agents.connect import Admitted
from towline.control.errors import ApiError, ErrorCode
from towline.control.logging import get_logger
from towline.control.protocols.instadeploy import operations
from towline.control.protocols.instadeploy.conversation import Conversation
from towline.control.protocols.instadeploy.looking import Looking
from towline.control.protocols.instadeploy.rendering import MOVE_ON
from towline.control.protocols.instadeploy.shelf import Begun, Shelf
from towline.control.protocols.instadeploy.task import Ended, Task
from towline.control.protocols.session import AdaptedSession
from towline.tunnel.errors import Closed, TargetRefused, TunnelClosed
from towline.tunnel.websocket import Channel
from towline.wire import instadeploy, link, orders, streams

LOOK_INTERVAL = 30.0
"""Seconds between two rounds of STATUS over all projects, and between two heartbeats: as often as our own agent's."""

GREETING_TIMEOUT = 20.0
"""Seconds for the first HEALTH_CHECK: the agent answers at once unless its host is overloaded."""

MOST_BAD = 100
"""Messages that are none until the connection is ended: a few are a flaw, a flood is none of our agents."""

CLOSE_BAD = 1008
MOST_RESULTS = 200
"""Results that the server has not confirmed: as many as could pile up while the database stalls."""

NO_BUNDLE = f"an InstaDeploy agent takes one Compose file and no further files; put all into the file, or {MOVE_ON}"

_DATABASE_AWAY = frozenset({ErrorCode.UNAVAILABLE, ErrorCode.STORAGE_FULL, ErrorCode.AGENT_AWAY})
"""Errors that say nothing about the job: it is taken up again by the next session."""

_log = get_logger("protocols")


@dataclass(frozen=True, slots=True)
class Order:
    """A job to be done. `seq`: number of its newest stored event; `payload` None: it is made once more."""

    job_id: str
    kind: str
    fence: int
    timeout: float
    payload: msgspec.Raw | None
    seq: int = 0


class InstaDeploySession(AdaptedSession):
    """One agent, over its channel. Implements `towline.tunnel.websocket.ChannelEvents`."""

    what = "an InstaDeploy agent"

    def __init__(
        self,
        admitted: Admitted,
        announced: instadeploy.Announced,
        channel: Channel,
        shelf: Shelf,
        *,
        owner: TaskOwner,
        remote_address: str = "",
        clock: Clock = REAL_CLOCK,
    ) -> None:
        super().__init__(admitted, owner=owner, remote_address=remote_address, clock=clock)
        self.announced = announced
        self.channel = channel
        self.bad_messages = 0
        self.conversation = Conversation(self._write)
        self._shelf = shelf
        self._owner = owner
        self._tasks: list[asyncio.Task[None]] = []
        self._looking = Looking(self.conversation, shelf, admitted.cluster_id, admitted.epoch)
        self._queue: deque[Order] = deque()
        self._present: Task | None = None
        self._results: OrderedDict[str, link.JobResult] = OrderedDict()
        self._wanted = asyncio.Event()
        self._look_due = True

    # -- what the channel calls ----------------------------------------------------------------

    def text_arrived(self, text: bytes) -> None:
        self.heard()
        try:
            self.conversation.heard(instadeploy.decode_response(text))
        except instadeploy.BadMessage as error:
            self._bad(str(error))

    def binary_arrived(self, data: memoryview) -> None:
        self.heard()
        self._bad(f"{len(data)} bytes of binary data")

    def writable(self) -> None:
        """Commands are few and small: nobody waits for room."""

    def channel_closed(self, closed: Closed) -> None:
        self._over(closed)

    def _bad(self, why: str) -> None:
        self.bad_messages += 1
        _log.warning("message not understood", agent=self.agent_id, why=why[:300], count=self.bad_messages)
        if self.bad_messages >= MOST_BAD:
            self.close(CLOSE_BAD, f"{MOST_BAD} messages were none of this protocol")

    # -- the session -----------------------------------------------------------------------------

    @property
    def silence(self) -> float:
        protocol = self.channel.protocol
        heard_at = max(self.heard_at, protocol.heard_at if protocol is not None else 0.0)
        return self._clock.monotonic() - heard_at

    def begin(self) -> None:
        """Begin to work: the registry has the session, and the channel is open."""
        self._tasks = [
            self._owner.spawn(f"work of {self.agent_id}", self._work()),
            self._owner.spawn(f"beat of {self.agent_id}", self._beat()),
        ]

    def hang_up(self, code: int, reason: str) -> None:
        self.channel.close(code, reason)
        self._over(Closed(code, reason))

    def create_stream(self, target: streams.Target, *_args: object, **_more: object) -> asyncio.Transport:
        if isinstance(target, streams.Bundle):
            raise TargetRefused("unsupported", NO_BUNDLE)
        raise self.no_stream(target)

    async def deliver(self, message: link.Message) -> None:
        match message:
            case link.Job():
                self._ordered(message)
            case link.JobCancel():
                self._cancel(message.job_id)
            case link.JobStored():
                self._results.pop(message.job_id, None)

    def _over(self, closed: Closed) -> None:
        if self.closed is None:
            self.conversation.end(f"the agent went away: {closed}")
            self.ended(closed)
        for task in self._tasks:
            task.cancel()

    def _write(self, text: bytes) -> None:
        if not self.channel.is_open:
            raise TunnelClosed("the agent went away")
        self.channel.send_text(text)

    # -- jobs ------------------------------------------------------------------------------------

    def _ordered(self, job: link.Job) -> None:
        """Take a job; one that is known already is answered from what is known."""
        if job.job_id in self._results:
            self.tell(self._results[job.job_id])
            return
        known = {order.job_id for order in self._queue} | ({self._present.job_id} if self._present else set())
        if job.job_id not in known:
            self._queue.append(Order(job.job_id, job.kind, job.fence, job.timeout, job.payload))
            self._wanted.set()
        self.tell(link.JobAccepted(job_id=job.job_id, fence=job.fence))

    def _cancel(self, job_id: str) -> None:
        if self._present is not None and self._present.job_id == job_id:
            self._present.cancelled = True
            self._present.say("cancelling", "cancelled; what was sent already cannot be called back", level="warning")
            return
        for order in list(self._queue):
            if order.job_id == job_id:
                self._queue.remove(order)
                when = "before it was sent" if order.payload is not None else "after the line was lost; it may be done"
                error = f"cancelled {when}"
                self._finish(self._task(order), Ended("cancelled", "cancelled", error))

    def _task(self, order: Order) -> Task:
        return Task(
            job_id=order.job_id,
            kind=order.kind,
            fence=order.fence,
            timeout=order.timeout,
            cluster_id=self.cluster_id,
            conversation=self.conversation,
            shelf=self._shelf,
            tell=self.tell,
            seq=order.seq,
            clock=self._clock,
        )

    def _finish(self, task: Task, ended: Ended) -> None:
        result = operations.result(task, ended)
        self._results[task.job_id] = result
        while len(self._results) > MOST_RESULTS:
            self._results.popitem(last=False)
        self.tell(result)
        self._look_due = True

    # -- the one task ----------------------------------------------------------------------------

    async def _work(self) -> None:
        try:
            await self._greet()
            await self._take_up()
            while self.closed is None:
                if self._queue:
                    await self._run(self._queue.popleft())
                elif self._look_due:
                    self._look_due = False
                    await self._look()
                else:
                    await self._wait()
        except TunnelClosed:
            _log.info("work ends with the line", agent=self.agent_id, present=repr(self._present))
        except Exception as error:
            # The task ends here; the agent comes back and finds a new one, which begins from the rows.
            _log.error("work failed", agent=self.agent_id, exc_info=None if isinstance(error, ApiError) else error)
            self.close(link.CLOSE_DRAINING, "the server failed; come back in a moment")

    async def _wait(self) -> None:
        self._wanted.clear()
        if not self._queue and not self._look_due:
            await self._wanted.wait()

    async def _greet(self) -> None:
        """Ask how the agent is, and tell what it says of its host."""
        try:
            answer = await self.conversation.ask(
                instadeploy.health_check(f"hello.{self.epoch}"), timeout=GREETING_TIMEOUT
            )
            told = answer.data if isinstance(answer.data, dict) else {}
        except TimeoutError:
            told = {}
        known = msgspec.to_builtins(self.announced)
        words = {name: str(told.get(name) or known[name])[: instadeploy.MAX_HEADER_LENGTH] for name in known}
        system, _, machine = words["architecture"].partition("-")
        self.tell(link.Facts(
            hostname=words["hostname"],
            system=system,
            architecture=machine,
            addresses=(self.remote_address,) if self.remote_address else (),
            versions={"agent": f"InstaDeploy {words['version']}"},
        ))  # fmt: skip

    async def _take_up(self) -> None:
        """Go on with the jobs that had begun on an earlier line; from then on new ones may come."""
        begun = await self._begun()
        self._queue.extend(Order(each.job_id, each.kind, each.fence, each.timeout, None, each.seq) for each in begun)
        self.tell(link.JobsHeld(running=tuple(each.job_id for each in begun)))

    async def _begun(self) -> list[Begun]:
        return list(await self._shelf.begun(self.cluster_id))

    async def _run(self, order: Order) -> None:
        task = self._present = self._task(order)
        try:
            if order.payload is None:
                task.say("received", "the line was lost while this ran; it is sent again, which changes nothing twice")
            payload = order.payload if order.payload is not None else await self._payload(order)
            task.begin()
            ended = await operations.run(task, orders.decode(order.kind, payload))
        except orders.BadOrder as error:
            ended = Ended("refused", "bad_order", str(error))
        except ApiError as error:
            if error.code in _DATABASE_AWAY:
                raise
            ended = Ended("refused", "bad_order", error.message)
        except TunnelClosed:
            raise
        except Exception as error:
            # A job ends here: whatever went wrong with one, the next must run.
            _log.exception("job failed", agent=self.agent_id, job=order.job_id, kind=order.kind)
            ended = Ended("failed", "internal", f"the server failed: {type(error).__name__}")
        self._finish(task, ended)
        self._present = None

    async def _payload(self, order: Order) -> msgspec.Raw:
        return msgspec.Raw(msgspec.json.encode(await self._shelf.payload(order.job_id)))

    # -- looking ---------------------------------------------------------------------------------

    async def _beat(self) -> None:
        """Say that the agent lives, as long as it does, and have a look at its projects now and then."""
        while self.closed is None:
            self.tell(link.Heartbeat(
                sent_at=self._clock.now().timestamp(),
                round_trip=self.channel.round_trip,
                jobs_running=int(self._present is not None),
                capabilities=(self._looking.capability,),
            ))  # fmt: skip
            await self._clock.sleep(LOOK_INTERVAL)
            self._look_due = True
            self._wanted.set()

    async def _look(self) -> None:
        try:
            found = await self._looking.look(lambda: bool(self._queue))
        except ApiError as error:
            _log.warning("projects not looked at", agent=self.agent_id, why=error.message)
            return
        if found is not None:
            self.tell(found)
