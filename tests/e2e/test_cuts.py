"""A bad revision, a failing pull and a cut line, through the whole product: what ran before runs on, what was ordered
is done without the line, and its end is told later.
"""

import secrets
import subprocess
from collections.abc import Iterator

import pytest
from tests.support.agent_host import containers_of, docker, remove_project
from tests.support.chaos import Bed
from tests.testbed import images

pytestmark = [pytest.mark.docker, pytest.mark.timeout(180)]

WEB = """
services:
  web:
    image: towline-test/web:1
    stop_signal: KILL
    environment: {REVISION: "%s"}
    volumes: ["data:/data"]
    healthcheck: {test: ["CMD", "true"], interval: 300ms}
  once:
    image: towline-test/base:1
    command: ["sh", "-c", "echo %s >> /data/once; sleep 1"]
    volumes: ["data:/data"]
volumes: {data: {}}
"""


def text(mark: str) -> str:
    return WEB % (mark, mark)


def sick(mark: str) -> str:
    check = 'test: ["CMD", "sh", "-c", "echo nobody is in; false"], retries: 2'
    return text(mark).replace('test: ["CMD", "true"]', check)


@pytest.fixture(scope="module")
def bed(tmp_path_factory: pytest.TempPathFactory, docker_engine: str) -> Iterator[Bed]:
    with Bed(tmp_path_factory.mktemp("bed"), "unix:///var/run/docker.sock") as made:
        yield made


@pytest.fixture
def project(bed: Bed) -> Iterator[str]:
    """A project whose first revision runs."""
    name = f"w1-{secrets.token_hex(4)}"
    try:
        assert bed.ended(bed.deploy(name, text("one"))["id"])["state"] == "succeeded"
        once = containers_of(name)["once"]  # a run that a later deploy interrupts may have to be run again
        bed.wait(
            lambda: docker("inspect", "-f", "{{.State.Status}}", once) == "exited", "the one-shot to have ended", 30
        )
        yield name
    finally:
        bed.relay.heal()
        remove_project(name)


def revision(project: str) -> str:
    """The mark of the one web container that runs."""
    shown = docker("inspect", "-f", "{{.State.Status}} {{.Config.Env}}", containers_of(project)["web"])
    assert shown.startswith("running"), shown
    return shown.partition("REVISION=")[2].partition(" ")[0].rstrip("]")


def runs_of_once(project: str) -> list[str]:
    return docker("run", "--rm", "-v", f"{project}_data:/data", images.BASE, "cat", "/data/once").split()


def test_a_revision_that_never_gets_healthy_leaves_the_old_one_running_and_its_data_untouched(
    bed: Bed, project: str
) -> None:
    docker("exec", containers_of(project)["web"], "sh", "-c", "echo precious > /data/kept")

    job = bed.ended(bed.deploy(project, sick("two"))["id"])

    assert (job["state"], job["code"], job["detail"]["rolled_back_to"]) == ("failed", "unhealthy", 1), job
    assert "web" in job["error"]
    assert revision(project) == "one"
    assert docker("exec", containers_of(project)["web"], "cat", "/data/kept") == "precious"
    assert runs_of_once(project) == ["one", "two"], "putting a revision back must not run its one-shot service again"
    shown = bed.wait(lambda: _settled(bed, project), "the deployment to be healthy again", 30)
    assert (shown["revision"], shown["latest_revision"]) == (1, 2)


def test_a_failing_pull_leaves_the_old_containers_running_with_the_same_ids(bed: Bed, project: str) -> None:
    before = containers_of(project)
    missing = text("two").replace("towline-test/web:1", "127.0.0.1:9/nobody/has-this:1")

    job = bed.ended(bed.deploy(project, missing)["id"])

    assert (job["state"], job["code"]) == ("failed", "pull_failed"), job
    assert containers_of(project) == before
    assert revision(project) == "one"
    assert bed.wait(lambda: _settled(bed, project), "the deployment to be healthy", 30)["revision"] == 1


def test_a_deploy_goes_on_without_the_line_and_its_end_is_told_later(bed: Bed, project: str) -> None:
    job_id = bed.deploy(project, text("two"))["id"]
    bed.wait(lambda: bed.job(job_id)["state"] == "running", "the agent to have the job", 30)

    bed.relay.cut()

    bed.wait(lambda: "web" in containers_of(project) and revision(project) == "two", "the new revision", 30)
    bed.wait(lambda: not bed.is_connected(), "the server to miss the host", 10)
    bed.wait(lambda: bed.deployment(project)["state"] == "unknown", "the deployment to be called unknown", 10)
    assert bed.deployment(project)["job_id"] == job_id
    assert bed.job(job_id)["state"] == "running"
    bed.relay.heal()
    job = bed.ended(job_id, 60)
    assert job["state"] == "succeeded", job
    numbers = [event["seq"] for event in bed.call("GET", f"/jobs/{job_id}/events")]
    assert numbers == list(range(1, job["last_seq"] + 1))
    assert runs_of_once(project) == ["one", "two"]


def test_a_bad_revision_is_put_back_without_the_line(bed: Bed, project: str) -> None:
    job_id = bed.deploy(project, sick("two"))["id"]
    bed.wait(lambda: bed.job(job_id)["stage"] in ("starting", "watching"), "the new revision to start", 30)

    bed.relay.cut()

    bed.wait(lambda: "once" not in containers_of(project) and revision(project) == "one", "the old revision", 60)
    bed.relay.heal()
    job = bed.ended(job_id, 60)
    assert (job["state"], job["detail"]["rolled_back_to"]) == ("failed", 1), job
    assert "nobody is in" in str(job["detail"]["failing"]) or job["detail"]["failing"], job


def test_work_for_a_host_that_is_away_waits_and_says_so(bed: Bed, project: str) -> None:
    bed.relay.cut()
    bed.wait(lambda: not bed.is_connected(), "the server to miss the host", 10)

    older = bed.deploy(project, text("two"))["id"]
    newer = bed.deploy(project, text("three"))["id"]

    waiting = bed.job(newer)
    assert (waiting["state"], waiting["started_at"]) == ("waiting", None), waiting
    assert waiting["deadline_at"], waiting
    bed.wait(lambda: "is away" in bed.deployment(project)["reason"], "the deployment to say that its host is away", 10)
    bed.relay.heal()
    assert bed.ended(newer, 90)["state"] == "succeeded"
    assert bed.job(older)["state"] == "superseded"
    assert revision(project) == "three"
    assert runs_of_once(project) == ["one", "three"]


def test_compose_works_in_the_projects_folder_without_us(bed: Bed, project: str) -> None:
    folder = bed.state_folder / "projects" / project
    words = ["docker", "compose", "ps", "web", "--format", "{{.Service}} {{.State}}"]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["web", "running"]


def _settled(bed: Bed, project: str) -> object:
    shown = bed.deployment(project)
    assert shown["state"] == "healthy", shown
    return shown
