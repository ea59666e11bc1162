"""Commands run by an agent's jobs without a link: who asks, what came out, and how it ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from tests.support.agent_host import AgentHost

from towline.wire import link, orders


@dataclass(frozen=True)
class Ran:
    """A command that has ended."""

    result: link.JobResult
    events: Sequence[link.JobEvent]

    @property
    def outcome(self) -> tuple[str, str]:
        return self.result.outcome, self.result.code

    @property
    def detail(self) -> orders.CommandDetail:
        return msgspec.convert(self.result.detail, orders.CommandDetail)

    @property
    def out(self) -> str:
        return "".join(event.text for event in self.events if event.stage == orders.STDOUT)

    @property
    def err(self) -> str:
        return "".join(event.text for event in self.events if event.stage == orders.STDERR)

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


def command(program: str, *arguments: str, role: str = "admin", **more: Any) -> orders.Command:
    """An order as the control plane makes it for somebody with a role."""
    values: dict[str, Any] = {
        "project": "",
        "program": program,
        "arguments": arguments,
        "user": "towline:ann",
        "groups": (f"towline:role:{role}",),
    }
    return orders.Command(**(values | more))


async def ended(host: AgentHost, job_id: str) -> Ran:
    """Wait for the end of a command."""
    result = await host.result(job_id)
    return Ran(result, host.host.journal.events(job_id, limit=100_000))


async def run(host: AgentHost, program: str, *arguments: str, timeout: float = 60.0, **more: Any) -> Ran:
    """Run a command to its end."""
    return await ended(host, await host.submit("command.run", command(program, *arguments, **more), timeout=timeout))
