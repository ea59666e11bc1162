"""Clusters that run commands as a test says: agents on the real link, and the words of their results."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
from tests.support.control_app import ControlApp
from tests.support.scripted_agent import ScriptedAgent, enrolled, link_listener, until

from towline.control.access.permissions import Role
from towline.wire import link

KUBERNETES = (link.Capability(name="kubernetes", ready=True, version="1.36.0"),)
COMPOSE = (link.Capability(name="compose", ready=True, version="2.40.3"),)


@dataclass
class Order:
    """A command that an agent was told to run."""

    agent: ScriptedAgent
    job: link.Job
    seq: int = 0

    @property
    def payload(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(bytes(self.job.payload))
        return found

    async def say(self, stage: str, *texts: str) -> None:
        """Print something."""
        events = []
        for text in texts:
            self.seq += 1
            events.append(link.JobEvent(seq=self.seq, at=1.0, stage=stage, text=text))
        await self.agent.send(link.JobProgress(job_id=self.job.job_id, fence=self.agent.epoch, events=tuple(events)))
        await self.agent.synced()  # it is stored

    async def end(self, exit_code: int = 0, error: str = "", *, outcome: str = "", code: str = "", **more: Any) -> None:
        """Say how it ended."""
        detail = {"exit_code": exit_code, "stdout_bytes": 0, "stderr_bytes": 0, "truncated": False} | more
        word = outcome or ("succeeded" if exit_code == 0 else "failed")
        code = code or ("command_exit" if exit_code else "")
        await self.agent.send(
            link.JobResult(
                job_id=self.job.job_id,
                fence=self.agent.epoch,
                outcome=word,
                error=error,
                code=code,
                detail=detail,
            )
        )
        await self.agent.next(link.JobStored)

    async def answer(self, text: str, exit_code: int = 0) -> None:
        """Print one text and end."""
        await self.say("stderr" if exit_code else "stdout", text)
        await self.end(exit_code, text.strip() if exit_code else "")


@dataclass
class Place:
    """A control plane with some clusters."""

    app: ControlApp
    url: str
    agents: dict[str, ScriptedAgent] = field(default_factory=dict)

    async def cluster(
        self, name: str, *, labels: dict[str, str] | None = None, capabilities: Sequence[link.Capability] = KUBERNETES,
        connected: bool = True,
    ) -> ScriptedAgent:  # fmt: skip
        """A cluster whose agent is there, unless told otherwise."""
        agent = await enrolled(self.app, hostname=name, cluster_name=name, labels=labels or {})
        agent.capabilities = tuple(capabilities)
        self.agents[name] = agent
        await agent.connect(self.url)
        await agent.synced()
        await self.app.control.fleet.reports.flush()  # what it serves is in its row
        if not connected:
            await agent.stop()
            await until(lambda: not self.app.control.fleet.links.is_connected(agent.identity.cluster_id))
        return agent

    async def order(self, name: str) -> Order:
        """The next command that the agent of a cluster is told to run; it takes it."""
        agent = self.agents[name]
        job = await agent.next(link.Job)
        await agent.send(link.JobAccepted(job_id=job.job_id, fence=agent.epoch))
        return Order(agent, job)

    async def operator(self, name: str = "otto") -> httpx.AsyncClient:
        return await self.app.user(name, Role.OPERATOR)

    async def ended(self, client: httpx.AsyncClient, run_id: str) -> dict[str, Any]:
        """The run, once it has ended."""
        found: dict[str, Any] = {}
        async with client.stream("GET", f"/api/v1/commands/runs/{run_id}/events?output=false") as answer:
            async for _ in answer.aiter_lines():
                continue
        found = (await client.get(f"/api/v1/commands/runs/{run_id}")).json()
        assert found["ended_at"], found
        return found


@asynccontextmanager
async def place(app: ControlApp) -> AsyncIterator[Place]:
    """Clusters of a control plane; their agents stop at the end."""
    async with link_listener(app.control) as url:
        made = Place(app, url)
        try:
            yield made
        finally:
            for agent in made.agents.values():
                await agent.stop()


async def begin(client: httpx.AsyncClient, program: str, *arguments: str, **more: Any) -> dict[str, Any]:
    """Begin a run that must be taken."""
    body = {"program": program, "arguments": list(arguments), **more}
    answer = await client.post("/api/v1/commands/runs", json=body)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made
