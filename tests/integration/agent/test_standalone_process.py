"""The shipped commands of a standalone agent: run, token, status; and a stop that leaves nothing behind."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

from tests.support.standalone import standalone

from towline.agent.surface.tokens import OPERATE_FILE, READ_FILE

NO_DOCKER = "unix:///nowhere/docker.sock"


async def towline(*words: str) -> tuple[int, str, str]:
    command = [sys.executable, "-m", "towline.cli.start", "agent", *words]
    run = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=30)
    return run.returncode, run.stdout, run.stderr


async def test_commands_fit_together(tmp_path: Path) -> None:
    # Five processes of the shipped command, one after the other: some four seconds.
    folder = tmp_path / "agent"
    place = ("--state-folder", str(folder))
    code, _, said = await towline("token", *place)
    assert (code, "is made when the agent first runs with --listen" in " ".join(said.split())) == (1, True)

    async with standalone(folder, docker_host=NO_DOCKER, kubernetes="off") as agent:
        read, operate = await asyncio.gather(
            asyncio.to_thread(agent.token), asyncio.to_thread(agent.token, operate=True)
        )
        assert (read, operate) == (
            (folder / READ_FILE).read_text().strip(),
            (folder / OPERATE_FILE).read_text().strip(),
        )
        for token in (read, operate):
            assert (await agent.get("/version", token))[0] == 200
        await agent.until("/ready", read, lambda status, found: found["checks"][2]["state"] == "down")

        code, printed, _ = await towline("status", "-o", "json", *place)
        shown = json.loads(printed)
        assert code == 0
        assert (shown["standalone"], shown["running"], shown["connected"]) == (True, True, False)

    code, _, said = await towline("status", *place)
    assert (code, "has not joined" in said) == (1, True)


async def test_nobody_starts_an_agent_that_neither_joined_nor_stands_alone(tmp_path: Path) -> None:
    code, _, said = await towline("run", "--listen", "127.0.0.1:0", "--state-folder", str(tmp_path / "agent"))

    assert code == 1
    assert "towline agent join" in said
    assert not (tmp_path / "agent" / READ_FILE).exists()


async def test_server_in_the_settings_file_is_noticed_by_the_running_process(tmp_path: Path) -> None:
    # It looks every five seconds, and only the real process shows that it looks into the file that it was given.
    config = tmp_path / "agent.toml"
    config.write_text("")
    options = ("--config", str(config))
    async with standalone(tmp_path / "agent", *options, docker_host=NO_DOCKER, kubernetes="off") as agent:
        token = await asyncio.to_thread(agent.token)
        config.write_text('server = "https://127.0.0.1:9"\n')

        told = await agent.until("/api/health/detailed", token, lambda _, found: found["tunnel"]["state"] == "joining")
        assert told["tunnel"]["server"] == "https://127.0.0.1:9"
