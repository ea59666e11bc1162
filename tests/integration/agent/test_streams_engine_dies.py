"""An engine that is killed and started again under open streams."""

import asyncio

import pytest
from tests.support.log_reader import LogReader
from tests.support.tunnel_pair import loopback_tunnel
from tests.testbed import images

from towline.agent.docker.engine import Engine
from towline.agent.policy import LocalPolicy
from towline.agent.streams.exec import ExecServer
from towline.agent.streams.logs import LogServer
from towline.agent.streams.router import StreamRouter
from towline.aio.tasks import TaskOwner
from towline.wire.streams import Exec, Logs

pytestmark = [pytest.mark.docker, pytest.mark.root]

SCRIPT = "n=$(cat /n 2>/dev/null || echo 0); echo $((n+1)) > /n; for i in $(seq 500); do echo run $n line $i; done; \
echo run $n ready; exec sleep 1000"


async def test_followed_log_outlives_the_engine_and_exec_ends_with_it(private_engine):
    host = private_engine.host
    await asyncio.to_thread(images.ensure, host)
    container = await asyncio.to_thread(
        images.docker,
        "run",
        "-d",
        "--restart",
        "always",
        "--network",
        "none",
        images.BASE,
        "sh",
        "-c",
        SCRIPT,
        host=host,
    )
    async with loopback_tunnel() as pair, TaskOwner("streams") as owner:
        engine = Engine(host)
        servers = {Logs: LogServer(engine, LocalPolicy).serve, Exec: ExecServer(engine, LocalPolicy).serve}
        pair.agent.on_stream = StreamRouter(servers, owner, 4).take
        reader = LogReader(await pair.server.open_stream(Logs(containers=(container,), follow=True)))
        shell = await pair.server.open_stream(Exec(container=container, argv=("sleep", "1000")))
        await reader.until("run 0 ready")

        await asyncio.to_thread(private_engine.kill)
        async with asyncio.timeout(30):
            while await shell.read():
                continue
        await asyncio.to_thread(private_engine.start)
        await reader.until("run 1 ready")
        await reader.stream.aclose()
    runs = [[f"run {n} line {i}" for i in range(1, 501)] + [f"run {n} ready"] for n in (0, 1)]
    assert reader.words == runs[0] + runs[1]
