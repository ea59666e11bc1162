"""Server, agent, Docker and the link die at random moments of a deploy: the job still ends rightly, nothing runs twice.

`make soak` strikes twenty times each; the short form strikes each at least once. Both print their seed, which
`TOWLINE_CHAOS_SEED` gives back: with it the moments are the same.
"""

import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.support import oracle
from tests.support.chaos import Bed, at_moment
from tests.testbed import images
from tests.testbed.engine import PrivateEngine

pytestmark = [pytest.mark.docker, pytest.mark.root]

SEED = int(os.environ.get("TOWLINE_CHAOS_SEED", "20261"))
DEPLOY_SECONDS = 4.0
"""Moments are drawn from this long after the order: a deploy of the project takes some three seconds."""
LONGEST_AWAY = 2.0
"""Seconds that the dead thing stays dead at most, besides its own start."""
STRIKES = 20


class Scene:
    """A host with a private engine, and a project that was deployed once."""

    def __init__(self, bed: Bed, engine: PrivateEngine, draw: random.Random) -> None:
        self.bed = bed
        self.engine = engine
        self.draw = draw
        self.jobs: list[str] = []
        self.number = 0
        self.good = 0
        self.expected = oracle.Expectation(Path())
        self.engine_died = False
        self.undecided = 0
        """Deploys that were put back because a one-shot service died with Docker."""
        self._pause = threading.Event()

    # -- strikes: each takes something away, and brings it back a while later ------------------------

    def server(self) -> str:
        self.bed.server.kill()
        self._wait()
        self.bed.start_server()
        return "server"

    def agent(self) -> str:
        self.bed.agent.kill()
        self._wait()
        self.bed.agent.start()
        return "agent"

    def dockerd(self) -> str:
        self.engine_died = True
        self.engine.kill()
        self._wait()
        self.engine.start()
        return "engine"

    def link(self) -> str:
        if self.draw.random() < 0.5:
            self.bed.relay.cut()
        else:
            self.bed.relay.silence()
            self._wait()
            self.bed.relay.cut()
        self._wait()
        self.bed.relay.heal()
        return "link"

    def _wait(self) -> None:
        self._pause.wait(self.draw.uniform(0, LONGEST_AWAY))

    # -- rounds --------------------------------------------------------------------------------------

    def deploy(self, strike: Callable[[], object] | None = None, *, moment: float = 0.0, sick: bool = False) -> "Round":
        """Deploy one more revision while something strikes, then have everybody judged."""
        self.number += 1
        mark = f"m{self.number}"
        self.engine_died = False
        began = time.monotonic()
        with at_moment(moment, strike or (lambda: None)):
            text = oracle.compose_text(mark, sick=sick)
            job_id = self.bed.deploy(oracle.PROJECT, text, key=f"round-{self.number}")["id"]
        self.jobs.append(job_id)
        self.expected.marks.append(mark)
        job = self.bed.ended(job_id)
        took = time.monotonic() - began
        self._note(job, mark, sick=sick)
        if self.number == 1:
            self.expected.volume = oracle.volume_of(self.bed.docker_host)
        self._judge(job)
        return Round(mark, moment, took, time.monotonic() - began - took, sick)

    def _note(self, job: dict[str, Any], mark: str, *, sick: bool) -> None:
        """Compare how the job ended with how it had to end, and note what must run now."""
        died = self.engine_died and not sick and job["state"] == "failed"
        if died:  # its one-shot service died with Docker: what is half done is not done again, and somebody is told
            assert "once" in job["error"], f"{job}\n{self.bed.logs()}"
            self.undecided += 1
        if sick or died:
            assert job["state"] == "failed", f"{job}\n{self.bed.logs()}"
            assert job["detail"]["rolled_back_to"] == self.good, f"{job}\n{self.bed.logs()}"
        else:
            assert job["state"] == "succeeded", f"{job}\n{self.bed.logs()}"
            self.good, self.expected.running = self.number, mark

    def _judge(self, job: dict[str, object]) -> None:
        try:
            oracle.judge(self.bed, self.expected, job, self.good, self.jobs, engine_died=self.engine_died)
        finally:
            for name in ("once", "web"):
                (self.expected.volume / name).write_text(f"{self.expected.running}\n")


@dataclass(frozen=True, slots=True)
class Round:
    """What one strike cost: seconds until the job had ended, and from then until everybody agreed."""

    mark: str
    moment: float
    took: float
    agreed_after: float
    sick: bool


@pytest.fixture
def scene(tmp_path: Path, private_engine: PrivateEngine) -> Iterator[Scene]:
    images.ensure(private_engine.host)
    with Bed(tmp_path, private_engine.host) as bed:
        made = Scene(bed, private_engine, random.Random(SEED))
        made.deploy()
        yield made


def strike_times(scene: Scene, name: str, times: int) -> list[Round]:
    """Strike at random moments; every fourth deploy is of a revision that never gets healthy."""
    done = []
    for turn in range(times):
        moment = scene.draw.uniform(0, DEPLOY_SECONDS)
        sick = turn % 4 == 3
        print(f"{name} {turn + 1}/{times}: at {moment:.2f} s, {'sick' if sick else 'well'}", flush=True)
        done.append(scene.deploy(getattr(scene, name), moment=moment, sick=sick))
        print(f"  ended after {done[-1].took:.1f} s, agreed {done[-1].agreed_after:.1f} s later", flush=True)
    return done


@pytest.mark.timeout(150)
def test_a_deploy_ends_rightly_whatever_is_killed_during_it(scene: Scene) -> None:
    for name in ("agent", "server", "dockerd", "link"):
        strike_times(scene, name, 1)


@pytest.mark.soak
@pytest.mark.parametrize("name", ["server", "agent", "dockerd", "link"])
def test_twenty_random_kills(scene: Scene, name: str) -> None:
    rounds = strike_times(scene, name, STRIKES)
    slowest = max(rounds, key=lambda each: each.agreed_after)
    print(f"{name}: {len(rounds)} strikes; jobs took {min(r.took for r in rounds):.1f} to "
          f"{max(r.took for r in rounds):.1f} s; agreement within {slowest.agreed_after:.1f} s; "
          f"{scene.undecided} put back because a one-shot service died with Docker")  # fmt: skip
