"""One stay at a PipeOps REST control plane: register, then beat, tell, ask for commands and tell their ends.

Commands are in the journal before they are begun, and their results until the control plane has taken them. Where it
does not know this agent any more, the stay ends and the next one begins with a registration.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import structlog

import towline
from towline.agent.errors import StorageError
from towline.agent.protocols import ids
from towline.agent.protocols.choosing import Means
from towline.agent.protocols.keeper import Up
from towline.agent.protocols.pipeops import commands, standing
from towline.agent.protocols.pipeops.calls import Calls, Unanswered
from towline.agent.protocols.place import Place, hostname
from towline.agent.surface.cache import ClusterCache
from towline.aio.tasks import TaskOwner
from towline.tunnel.errors import LinkDown
from towline.wire import link, rfc3339
from towline.wire import pipeops_rest as rest

POLL_INTERVAL = 10.0
"""Seconds between two questions for commands: somebody may wait for one."""
UNSPOKEN_INTERVAL = 300.0
"""Seconds between them where the control plane has no commands at all."""
RESULT_INTERVAL = 10.0
"""Seconds until a result is sent again that was not taken."""

MISSED_BEATS = 3
"""Heartbeats in a row without a good answer after which the agent registers anew."""

GONE = frozenset({404, 409, 410})
"""Answers to a result that no repetition will better: nobody waits for it any more."""

_log = structlog.get_logger("towline.agent.pipeops")


class Uplink:
    """Has one stay after the other; `hold` is for a `Keeper`."""

    def __init__(self, place: Place, means: Means) -> None:
        self._place = place
        self._means = means
        self._clock = means.host.clock
        self._untold: dict[str, None] = {}
        self._news = asyncio.Event()

    def __repr__(self) -> str:
        return f"<PipeOps REST {self._place.agent_id} {len(self._untold)} results>"

    async def hold(self, up: Up) -> str:
        """Register and stay until that is over; returns why. Raises: LinkDown, SettingsError."""
        async with await Calls.open(self._place) as calls:
            await self._register(calls)
            up(calls)
            self._untold = {entry.job_id: None for entry in self._means.host.journal.unstored()}
            self._news.set()
            async with TaskOwner("pipeops") as owner:
                cache = ClusterCache(self._means.api, self._means.host.policy, owner, clock=self._clock)
                ending = await self._work(calls, cache, owner)
        if isinstance(ending, LinkDown):
            raise ending
        return ending

    async def _work(self, calls: Calls, cache: ClusterCache, owner: TaskOwner) -> str | LinkDown:
        """Do everything side by side until one of them says that it is over."""
        loops: dict[str, Coroutine[Any, Any, str | LinkDown]] = {
            "heartbeats": self._beat(calls, cache),
            "status": self._tell_status(calls, cache),
            "commands": self._poll(calls),
            "results": self._tell_results(calls),
        }
        tasks = {owner.spawn(name, loop) for name, loop in loops.items()}
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return next(iter(done)).result()

    def job_said(self, job_id: str) -> None:
        """Tell the result of a job soon, when there is one."""
        entry = self._means.host.journal.entry(job_id)
        if entry is not None and entry.result is not None:
            self._untold[job_id] = None
            self._news.set()

    # -- who and how -------------------------------------------------------------------------------

    async def _register(self, calls: Calls) -> None:
        """Raises: LinkDown."""
        place, about = self._place, self._means.inventory.teller.book.about
        body = rest.Registration(
            id=place.agent_id,
            name=place.older.agent_name or place.cluster_name,
            cluster_name=place.cluster_name,
            version=towline.__version__,
            labels={**place.older.labels, "hostname": hostname(), "agent.pipeops.io/version": towline.__version__},
            hostname=hostname(),
            k8s_version=about.version,
            last_seen=self._now(),
        )
        agent = f"PipeOps-Agent/{towline.__version__}"
        try:
            await calls.post(rest.REGISTER_PATH, rest.encode(body), rest.REGISTERED, agent=agent)
        except Unanswered as error:
            raise error.as_link_down() from error

    async def _beat(self, calls: Calls, cache: ClusterCache) -> str | LinkDown:
        missed = 0
        while True:
            try:
                await calls.post(rest.heartbeat_path(self._place.agent_id), self._heartbeat(cache), rest.TAKEN)
                missed = 0
            except Unanswered as error:
                missed += 1
                _log.warning("heartbeat not taken", reason=str(error), missed=missed)
                if error.status == 404:
                    return "the control plane does not know this agent: it registers anew"
                if error.is_refusal or missed >= MISSED_BEATS:
                    return error.as_link_down()
            await self._clock.sleep(rest.HEARTBEAT_INTERVAL)

    def _heartbeat(self, cache: ClusterCache) -> bytes:
        metadata: dict[str, Any] = {"version": towline.__version__, **standing.counts(cache)}
        if (is_private := self._means.is_private()) is not None:
            metadata["is_private"] = is_private
        body = rest.Heartbeat(
            agent_id=self._place.agent_id,
            cluster_name=self._place.cluster_name,
            status="connected",
            proxy_status="direct",
            timestamp=self._now(),
            metadata=metadata,
        )
        return rest.encode(body)

    async def _tell_status(self, calls: Calls, cache: ClusterCache) -> str | LinkDown:
        while True:
            try:
                body = await standing.status(cache, self._clock.now())
                await calls.post(rest.status_path(self._place.agent_id), body, rest.TAKEN)
            except (standing.Unread, Unanswered) as error:
                _log.info("status not told", reason=str(error))
            await self._clock.sleep(rest.STATUS_INTERVAL)

    # -- commands ----------------------------------------------------------------------------------

    async def _poll(self, calls: Calls) -> str | LinkDown:
        while True:
            pause = POLL_INTERVAL
            try:
                for command in await self._asked(calls):
                    await self._begin(calls, command)
            except Unanswered as error:
                pause = UNSPOKEN_INTERVAL if error.status in (404, 405, 501) else POLL_INTERVAL
                _log.info("no commands", reason=str(error), next_in=pause)
            except rest.BadBody as error:
                _log.warning("the list of commands cannot be read", reason=str(error))
            await self._clock.sleep(pause)

    async def _asked(self, calls: Calls) -> tuple[rest.Command, ...]:
        text = await calls.get(rest.commands_path(self._place.agent_id), limit=rest.MAX_COMMANDS_BYTES)
        return rest.decode(rest.Commands, text, limit=rest.MAX_COMMANDS_BYTES).commands

    async def _begin(self, calls: Calls, command: rest.Command) -> None:
        """Promise to run it; one that was promised before is not run again, and its result is told again."""
        try:
            job = commands.job(command)
            self._means.runner.take(job)
        except (rest.BadBody, ids.BadId) as error:
            _log.warning("command refused", command=command.id[:64], reason=str(error))
            await self._send(calls, command.id, commands.refusal(str(error), self._clock.now().timestamp()))
            return
        except StorageError as error:
            _log.error("command not taken: it will be asked for again", command=command.id, reason=str(error))
            return
        self.job_said(job.job_id)

    async def _tell_results(self, calls: Calls) -> str | LinkDown:
        while True:
            await self._news.wait()
            self._news.clear()
            failed: dict[str, None] = {}
            while self._untold:
                job_id = next(iter(self._untold))
                del self._untold[job_id]
                if not await self._tell_result(calls, job_id):
                    failed[job_id] = None
            if failed:
                await self._clock.sleep(RESULT_INTERVAL)
                self._untold |= failed
                self._news.set()

    async def _tell_result(self, calls: Calls, job_id: str) -> bool:
        """Tell one. Returns: whether that is done with."""
        journal = self._means.host.journal
        entry = journal.entry(job_id)
        if entry is None or entry.result is None:
            return True
        events: list[link.JobEvent] = []
        while more := journal.events(job_id, events[-1].seq if events else 0):
            events += more
        if not await self._send(calls, ids.foreign_id(commands.PREFIX, job_id), commands.result(entry, events)):
            return False
        journal.mark_stored(job_id, self._clock.now().timestamp())
        return True

    async def _send(self, calls: Calls, command_id: str, result: rest.Result) -> bool:
        try:
            path = rest.result_path(self._place.agent_id, command_id)
            await calls.post(path, rest.encode(result), rest.TAKEN)
        except Unanswered as error:
            _log.warning("result not taken", command=command_id[:64], reason=str(error))
            return error.status in GONE
        return True

    def _now(self) -> str:
        return rfc3339.write(self._clock.now())
