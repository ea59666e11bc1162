"""An agent in a process of its own that does one command, to be killed: STATE KUBECONFIG ORDER."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import msgspec
from tests.support.agent_host import agent_host

from towline.agent.kubernetes.credentials import Credentials, find_source
from towline.agent.settings import AgentSettings
from towline.wire import orders

JOB = "job_killed"


async def main(state: Path, config: Path, order: Path) -> None:
    """Do the job and print what it says."""
    wanted = orders.decode("command.run", order.read_bytes())
    settings = msgspec.structs.replace(AgentSettings(), kubeconfig=config)
    async with agent_host(state, kubernetes=Credentials(find_source(settings, {}))) as host:
        await host.submit("command.run", wanted, timeout=600, job_id=JOB)
        told = 0
        while True:
            await host.published.wait()
            host.published.clear()
            for text in host.texts(JOB)[told:]:
                told += 1
                print(text, flush=True)


if __name__ == "__main__":
    asyncio.run(main(*map(Path, sys.argv[1:4])))
