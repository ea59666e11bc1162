"""A full disk under the server: it says so, refuses what it cannot keep, and loses nothing when there is room again."""

import secrets
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.agent_host import remove_project
from tests.support.chaos import Bed

pytestmark = [pytest.mark.root, pytest.mark.docker, pytest.mark.timeout(180)]

DISK_MEBIBYTES = 128
MOST_WRITES = 300
"""A full disk refuses long before: what the write-ahead log has reserved holds some dozens of writes."""
COMPOSE = """
services:
  web:
    image: towline-test/web:1
    stop_signal: KILL
    healthcheck: {test: ["CMD", "true"], interval: 300ms}
"""


class SmallDisk:
    """A file system of its own for the server's data, that can be filled and freed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        options = f"size={DISK_MEBIBYTES}m,mode=0700"
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True)

    @property
    def _ballast(self) -> Path:
        return self.folder / "ballast"

    def fill(self) -> None:
        """Leave not one byte."""
        with self._ballast.open("ab", buffering=0) as file:
            for size in (1024 * 1024, 4096):
                try:
                    while file.write(bytes(size)) == size:
                        continue
                except OSError:
                    continue

    def free(self) -> None:
        self._ballast.unlink()

    def unmount(self) -> None:
        subprocess.run(["umount", "--lazy", self.folder], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    made = SmallDisk(tmp_path / "server")
    yield made
    made.unmount()


@pytest.fixture
def bed(tmp_path: Path, disk: SmallDisk, docker_engine: str) -> Iterator[Bed]:
    with Bed(tmp_path, "unix:///var/run/docker.sock") as made:
        yield made


def disk_check(bed: Bed) -> tuple[int, bool, str]:
    answer = bed.send("GET", "/readyz")
    check = next(each for each in answer.json()["checks"] if each["name"] == "disk")
    return answer.status_code, check["ok"], check["reason"]


def write_until_refused(bed: Bed) -> tuple[list[str], dict[str, object]]:
    """Make tokens until one is refused. Returns: the names of those that were promised, and the refusal."""
    promised = []
    for number in range(MOST_WRITES):
        answer = bed.send("POST", "tokens", json={"name": f"t{number}"})
        if answer.status_code != 201:
            assert answer.status_code == 507, answer.text
            return promised, answer.json()["error"]
        promised.append(f"t{number}")
    raise AssertionError(f"{MOST_WRITES} writes were promised on a full disk")


def token_names(bed: Bed) -> set[str]:
    return {item["name"] for item in bed.call("GET", "/tokens?limit=500")["items"]}


def test_a_full_disk_is_told_and_loses_nothing(bed: Bed, disk: SmallDisk) -> None:
    assert disk_check(bed) == (200, True, "")

    disk.fill()

    status, ok, reason = disk_check(bed)
    assert (status, ok) == (503, False)
    assert "free below" in reason and str(bed.data_folder) in reason
    promised, refusal = write_until_refused(bed)
    assert refusal["code"] == "storage_full"
    assert "disk" in str(refusal["message"]) and refusal["hint"]
    body = {"compose": COMPOSE}
    assert bed.send("POST", "clusters/site/deployments/shop/revisions", json=body).status_code == 507
    assert token_names(bed) >= set(promised), "what was promised can still be read"

    disk.free()

    bed.wait(lambda: disk_check(bed)[0] == 200, "the server to be ready again", 10)
    assert bed.call("POST", "/tokens", json={"name": "after"})["id"]
    assert token_names(bed) >= {*promised, "after"}
    assert bed.call("GET", "/audit/verify")["ok"]
    bed.server.kill()
    with sqlite3.connect(bed.data_folder / "towline.sqlite") as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    database.close()
    bed.start_server()
    assert token_names(bed) >= {*promised, "after"}


def test_a_job_that_ends_while_the_disk_is_full_is_told_when_there_is_room(bed: Bed, disk: SmallDisk) -> None:
    project = f"w1-{secrets.token_hex(4)}"
    try:
        job_id = bed.deploy(project, COMPOSE)["id"]
        bed.wait(lambda: bed.job(job_id)["state"] == "running", "the agent to have the job", 30)

        disk.fill()

        bed.wait(lambda: _ended_at_the_agent(bed, job_id), "the agent to be done", 60)
        disk.free()
        job = bed.ended(job_id, 60)
        assert job["state"] == "succeeded", job
        numbers = [event["seq"] for event in bed.call("GET", f"/jobs/{job_id}/events")]
        assert numbers == list(range(1, job["last_seq"] + 1))
    finally:
        remove_project(project)


def _ended_at_the_agent(bed: Bed, job_id: str) -> bool:
    books = sqlite3.connect(f"file:{bed.state_folder / 'journal.sqlite'}?mode=ro", uri=True)
    try:
        return bool(books.execute("SELECT result IS NOT NULL FROM job WHERE job_id=?", (job_id,)).fetchone()[0])
    finally:
        books.close()
