"""The shipped command in the modes of older systems: it registers, answers on its own host, and tells how it stands."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from tests.support.older_planes import TOKEN, RestPlane
from tests.support.spoken_pipeops import PipeOpsPlane, said

TOWLINE = (sys.executable, "-m", "towline.cli.start", "agent")


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@asynccontextmanager
async def shipped(protocol: str, state: Path, *words: str, **more: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run `towline agent run` with the names that the original reads."""
    environment = os.environ | {
        "TOWLINE_AGENT_KUBERNETES": "off", "TOWLINE_AGENT_DOCKER_HOST": "unix:///nowhere/docker.sock", **more,
    }  # fmt: skip
    arguments = [*TOWLINE[1:], "run", "--protocol", protocol, "--state-folder", str(state), *words]
    with (state.parent / "agent.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(TOWLINE[0], *arguments, env=environment, stderr=log)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        await process.wait()


async def test_the_rest_agent_answers_on_the_port_of_the_original_and_tells_its_status(tmp_path: Path) -> None:
    # Two processes of the shipped command: some three seconds.
    port, state = free_port(), tmp_path / "state"
    async with (
        RestPlane() as plane,
        shipped(
            "pipeops-rest", state, PIPEOPS_API_URL=plane.url, PIPEOPS_TOKEN=TOKEN, PIPEOPS_PORT=str(port),
            PIPEOPS_CLUSTER_NAME="shop", AGENT_ID="agent-9",
        ),
    ):  # fmt: skip
        _, _, _, registered = await plane.called("register")
        assert (registered["id"], registered["cluster_name"]) == ("agent-9", "shop")
        await plane.called("heartbeat")
        async with aiohttp.ClientSession() as client, client.get(f"http://127.0.0.1:{port}/health") as answer:
            assert answer.status == 200
        told = await asyncio.create_subprocess_exec(
            *TOWLINE, "status", "-o", "json", "--state-folder", str(state), stdout=asyncio.subprocess.PIPE
        )
        shown = json.loads((await told.communicate())[0])
        assert (shown["agent"], shown["cluster"], shown["protocol"]) == ("agent-9", "shop", "pipeops-rest")
        assert shown["connected"] is True and shown["servers"] == [plane.url]
    assert TOKEN not in (tmp_path / "agent.log").read_text()


async def test_the_websocket_agent_reads_the_yaml_file_of_the_original(tmp_path: Path) -> None:
    async with PipeOpsPlane() as plane:
        file = tmp_path / "agent.yaml"
        file.write_text(
            f"pipeops: {{api_url: '{plane.url}', token: {TOKEN}}}\nagent: {{id: a-1, cluster_name: yard}}\n"
        )
        async with shipped("pipeops-ws", tmp_path / "state", "--protocol-file", str(file)):
            line = await plane.registered()
            await said(line, "heartbeat")
            await line.close()
            assert (await (await plane.connected()).next())["payload"]["metadata"]["registration_mode"] == "resume"


@pytest.mark.parametrize("protocol", ["instadeploy", "pipeops-ws"])
async def test_an_agent_that_knows_no_control_plane_says_what_to_set(protocol: str, tmp_path: Path) -> None:
    async with shipped(protocol, tmp_path / "state") as process:
        assert await process.wait() == 1
    told = (tmp_path / "agent.log").read_text()
    assert "SERVER_URL" in told or "PIPEOPS_API_URL" in told
