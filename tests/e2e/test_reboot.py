"""A host that reboots with its line cut starts the same revision, and ends the deploy that it was at."""

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support import oracle
from tests.support.chaos import Bed
from tests.testbed import images, processes
from tests.testbed.engine import PrivateEngine

pytestmark = [pytest.mark.docker, pytest.mark.root, pytest.mark.timeout(180)]


@pytest.fixture
def bed(tmp_path: Path, private_engine: PrivateEngine) -> Iterator[Bed]:
    images.ensure(private_engine.host)
    with Bed(tmp_path, private_engine.host) as made:
        yield made


def reboot(bed: Bed, engine: PrivateEngine) -> None:
    """Everything on the host dies without a word, then Docker and the agent start, as at boot; the line stays cut."""
    bed.relay.cut()
    bed.agent.kill()
    for pid, words in processes.command_lines():
        if any(word.startswith(f"{bed.state_folder}/") for word in words):  # shims of steps, and the Compose they run
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    engine.stop()
    engine.start()
    bed.agent.start()


def web(bed: Bed) -> list[tuple[str, str]]:
    """Mark and state of every web container."""
    found = [(each["Config"]["Labels"], each["State"]["Status"]) for each in oracle.containers(bed.docker_host)]
    service = "com.docker.compose.service"
    return [(labels["chaos.mark"], state) for labels, state in found if labels[service] == "web"]


def test_a_host_that_reboots_without_its_line_starts_the_same_revision(bed: Bed, private_engine: PrivateEngine) -> None:
    for mark in ("one", "two"):
        assert bed.ended(bed.deploy(oracle.PROJECT, oracle.compose_text(mark))["id"])["state"] == "succeeded"
    volume = oracle.volume_of(bed.docker_host)

    reboot(bed, private_engine)

    bed.wait(lambda: web(bed) == [("two", "running")], "the same revision to run", 30)
    assert oracle.counts(volume, "once") == {"one": 1, "two": 1}
    bed.relay.heal()
    bed.wait(bed.is_connected, "the host to come back", 60)
    bed.wait(lambda: bed.deployment(oracle.PROJECT)["state"] == "healthy", "the deployment to be healthy", 30)
    assert bed.deployment(oracle.PROJECT)["revision"] == 2


def test_a_deploy_that_a_reboot_cut_off_is_ended_without_the_line(bed: Bed, private_engine: PrivateEngine) -> None:
    """It goes on, or, where nobody can know whether the one-shot service has had its run, the old one is put back."""
    assert bed.ended(bed.deploy(oracle.PROJECT, oracle.compose_text("one"))["id"])["state"] == "succeeded"
    volume = oracle.volume_of(bed.docker_host)
    job_id = bed.deploy(oracle.PROJECT, oracle.compose_text("two"))["id"]
    bed.wait(lambda: bed.job(job_id)["state"] == "running", "the agent to have the job", 30)

    reboot(bed, private_engine)

    bed.relay.heal()
    ended = bed.ended(job_id, 90)["state"]
    assert (ended, web(bed)) in (("succeeded", [("two", "running")]), ("failed", [("one", "running")]))
    assert oracle.counts(volume, "once").get("two", 0) <= 1
