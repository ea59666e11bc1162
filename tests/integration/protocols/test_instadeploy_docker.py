"""Our own agent in InstaDeploy's mode at our own control plane, on a real engine."""

import asyncio
import os
import secrets
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.support.agent_host import containers_of, remove_project
from tests.support.compose_files import COLOURED_WEB as WEB
from tests.support.instadeploy_stand import SECRET, Stand, stand

from towline.control.clusters.names import name_from_host

pytestmark = pytest.mark.docker

MISSING = WEB.replace("towline-test/web:1", "localhost/missing:9")


@pytest.fixture
def project(docker_engine: str) -> Iterator[str]:
    name = f"in-{secrets.token_hex(4)}"
    yield name
    remove_project(name)


@asynccontextmanager
async def shipped_agent(bench: Stand, state: Path) -> AsyncIterator[None]:
    """Run `towline agent run --protocol instadeploy` with the names that the original reads."""
    listener = bench.control.protocols.instadeploy.place
    assert listener is not None
    words = ["-m", "towline.cli.start", "agent", "run", "--protocol", "instadeploy", "--state-folder", str(state)]
    environment = os.environ | {
        "SERVER_URL": f"ws://127.0.0.1:{listener.port}/ws",
        "AGENT_TOKEN": SECRET,
        "TOWLINE_AGENT_KUBERNETES": "off",
    }
    process = await asyncio.create_subprocess_exec(sys.executable, *words, env=environment)
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        await process.wait()


async def test_compose_deploy_status_stop_and_rollback_go_through_the_older_protocol(
    prepared_sqlite: Path, tmp_path: Path, project: str
) -> None:
    # Six runs of Compose on a real engine: some twenty seconds.
    cluster = name_from_host(socket.gethostname())
    place = {"name": project, "cluster": cluster}
    async with stand(tmp_path, prepared_sqlite, instadeploy_listen="127.0.0.1:0") as bench:
        await bench.shared_token()
        async with shipped_agent(bench, tmp_path / "state"):
            await bench.online(cluster)
            first = await bench.ended(await bench.deploy(WEB, variables={"COLOUR": "red"}, **place))
            assert first["state"] == "succeeded", first
            await bench.until(project, cluster, state="healthy")
            red = containers_of(project)["web"]

            broken = await bench.ended(await bench.deploy(MISSING, variables={"COLOUR": "red"}, **place))
            assert broken["state"] == "failed"
            assert containers_of(project)["web"] == red

            second = await bench.ended(await bench.deploy(WEB, variables={"COLOUR": "blue"}, **place))
            assert second["state"] == "succeeded", second
            assert containers_of(project)["web"] != red

            back = await bench.ended(await bench.operate("rollback", {"revision": 1}, **place))
            assert back["state"] == "succeeded", back
            assert (await bench.until(project, cluster, state="healthy"))["revision"] == 1

            stopped = await bench.ended(await bench.operate("stop", **place))
            assert stopped["state"] == "succeeded", stopped
            assert containers_of(project) == {}
