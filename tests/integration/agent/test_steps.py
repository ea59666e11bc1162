"""Steps under their shim, as real processes: once, whatever dies, and ended when asked to."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.agent_host import PATIENCE

from towline.agent import shim
from towline.agent.errors import StorageError
from towline.agent.jobs.steps import Command, Exit, Phase, Run, Steps


@pytest.fixture
def steps(tmp_path: Path) -> Steps:
    return Steps(tmp_path / "runs")


def shell(script: str, folder: Path, timeout: float = 30.0) -> Command:
    return Command(("/bin/sh", "-c", script), folder, {"PATH": os.environ["PATH"]}, timeout)


async def finish(steps: Steps, run: Run) -> tuple[Exit | None, bytes]:
    output: list[bytes] = []
    async with asyncio.timeout(PATIENCE):
        ended = await steps.finish(run, output.append)
    return ended, b"".join(output)


async def until(what: Path) -> None:
    async with asyncio.timeout(PATIENCE):
        while not what.exists():
            await asyncio.sleep(0.01)


async def test_output_and_status_of_a_command_come_back(steps: Steps, tmp_path: Path) -> None:
    run = steps.prepare("job", "up", shell("echo out; echo err >&2; exit 3", tmp_path))
    assert run.phase() is Phase.NEW

    ended, output = await finish(steps, run)

    assert ended is not None
    assert (ended.code, sorted(output.split())) == (3, [b"err", b"out"])
    assert run.error_tail() == "err\n"
    assert run.phase() is Phase.ENDED


async def test_step_runs_once_however_often_it_is_started(steps: Steps, tmp_path: Path) -> None:
    run = steps.prepare("job", "up", shell("echo x >> marks", tmp_path))
    await asyncio.gather(*(finish(steps, Run(run.folder, 1)) for _ in range(5)))
    again = subprocess.run([sys.executable, "-I", "-S", shim.__file__, run.folder], check=False)

    assert again.returncode == shim.ALREADY_STARTED
    assert (tmp_path / "marks").read_text() == "x\n"


async def test_step_begins_although_the_agent_looks_at_its_lock_in_that_moment(steps: Steps, tmp_path: Path) -> None:
    run = steps.prepare("job", "up", shell("echo x >> marks", tmp_path))
    looking = os.open(run.folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(looking, fcntl.LOCK_EX)
    begun = subprocess.Popen([sys.executable, "-I", "-S", shim.__file__, run.folder])
    with contextlib.suppress(subprocess.TimeoutExpired):
        begun.wait(0.2)  # long enough for it to find the lock taken; too short only makes the test easier
    os.close(looking)

    assert begun.wait(PATIENCE) == 0
    assert (tmp_path / "marks").read_text() == "x\n"


async def test_step_outlives_its_agent_and_is_waited_for_by_the_next(steps: Steps, tmp_path: Path) -> None:
    run = steps.prepare("job", "up", shell("while [ ! -e go ]; do sleep 0.02; done; echo done >> marks", tmp_path))
    watching = asyncio.ensure_future(steps.finish(run, lambda _: None))
    await until(run.folder / "started")
    watching.cancel()
    await asyncio.wait([watching])

    later = Steps(tmp_path / "runs").last("job", "up")
    assert later is not None
    assert later.phase() is Phase.RUNNING
    (tmp_path / "go").touch()
    ended, _ = await finish(steps, later)

    assert ended is not None
    assert ended.code == 0
    assert (tmp_path / "marks").read_text() == "done\n"


async def test_step_that_was_killed_with_its_shim_is_known_as_cut_off(steps: Steps, tmp_path: Path) -> None:
    run = steps.prepare("job", "up", shell("sleep 100", tmp_path))
    watching = asyncio.ensure_future(finish(steps, run))
    started = await pids(run)

    os.kill(started["pid"], signal.SIGKILL)
    assert run.phase() is Phase.RUNNING  # its command lives on
    os.killpg(started["command"], signal.SIGKILL)

    ended, _ = await watching
    assert ended is None
    assert run.phase() is Phase.CUT_OFF
    with pytest.raises(StorageError):
        run.exit()
    assert steps.prepare("job", "up", shell("true", tmp_path)).number == 2


@pytest.mark.parametrize("kill_shim", [False, True])
async def test_step_ends_when_it_is_told_to(steps: Steps, tmp_path: Path, kill_shim: bool) -> None:
    run = steps.prepare("job", "up", shell("sleep 100 & wait", tmp_path))
    watching = asyncio.ensure_future(finish(steps, run))
    started = await pids(run)
    if kill_shim:
        os.kill(started["pid"], signal.SIGKILL)
        while os.path.exists(f"/proc/{started['pid']}/fd/1"):  # False as well where a zombie may not be looked into
            await asyncio.sleep(0.01)

    run.stop()

    ended, _ = await watching
    assert (ended is None) == kill_shim
    assert ended is None or ended.cancelled


async def test_step_over_its_time_limit_is_ended(steps: Steps, tmp_path: Path) -> None:
    run = steps.prepare("job", "up", shell("sleep 100", tmp_path, timeout=1.0))

    ended, _ = await finish(steps, run)

    assert ended is not None
    assert (ended.timed_out, ended.code) == (True, 143)


async def test_command_that_does_not_exist_is_told(steps: Steps, tmp_path: Path) -> None:
    run = steps.prepare("job", "up", Command(("/no/such/program",), tmp_path, {}))

    ended, _ = await finish(steps, run)

    assert ended is not None
    assert (ended.code, ended.error) == (127, "/no/such/program: No such file or directory")


async def test_runs_of_a_job_are_listed_and_forgotten(steps: Steps, tmp_path: Path) -> None:
    steps.prepare("job_1", "pull", shell("true", tmp_path))
    steps.prepare("job_2", "pull", shell("true", tmp_path))
    assert steps.known() == ("job_1", "job_2")

    steps.forget("job_1")

    assert steps.known() == ("job_2",)
    assert steps.last("job_1", "pull") is None


async def pids(run: Run) -> dict[str, int]:
    """Wait until the shim has written down who runs."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                found: dict[str, int] = json.loads((run.folder / "started").read_bytes())
            except (FileNotFoundError, ValueError):
                await asyncio.sleep(0.01)
            else:
                return found
