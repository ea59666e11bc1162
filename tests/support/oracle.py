"""What must be true of a deploy and its host, whatever was killed meanwhile. The judge of `chaos.py`'s strikes.

The project leaves marks of its own: its one-shot service and its web service each append a line with the revision's
mark to a volume, so that what ran twice shows, no matter what Docker, the agent or the server remember.
"""

import json
import sqlite3
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.chaos import Bed
from tests.testbed import images

CONVERGE_TIMEOUT = 30.0
"""Seconds until the control plane, the agent and the host agree again, once everything runs."""
PROJECT = "shop"
HEALTHY_CHECK = '["CMD", "wget", "-q", "-O", "/dev/null", "http://127.0.0.1/"]'
SICK_CHECK = '["CMD", "false"]'


def compose_text(mark: str, *, sick: bool = False) -> str:
    """A web service that comes back by itself, and a one-shot service, with a volume that both write into.

    `always` and not `unless-stopped`: Docker 20.10 that was killed takes what it finds running for stopped by hand.
    """
    check = SICK_CHECK if sick else HEALTHY_CHECK
    return f"""
services:
  web:
    image: {images.WEB}
    command: ["sh", "-c", "echo {mark} >> /data/web; exec httpd -f -p 80 -h /www"]
    restart: always
    stop_signal: KILL
    labels: {{chaos.mark: "{mark}"}}
    volumes: ["data:/data"]
    healthcheck: {{test: {check}, interval: 300ms, timeout: 5s, retries: {3 if sick else 40}}}
  once:
    image: {images.BASE}
    command: ["sh", "-c", "echo {mark} >> /data/once"]
    labels: {{chaos.mark: "{mark}"}}
    restart: "no"
    volumes: ["data:/data"]
volumes:
  data: {{}}
"""


@dataclass(slots=True)
class Expectation:
    """What the deploys so far amount to. `running`: the mark that must run; `volume`: where the marks lie."""

    volume: Path
    running: str = ""
    marks: list[str] = field(default_factory=list)


def volume_of(engine_host: str) -> Path:
    """Where the project's volume lies on this machine."""
    name = f"{PROJECT}_data"
    return Path(images.docker("volume", "inspect", "-f", "{{.Mountpoint}}", name, host=engine_host))


def containers(engine_host: str) -> list[dict[str, Any]]:
    """Every container of the project, inspected. Raises: AssertionError: one went away meanwhile; look again."""
    ids = images.docker(
        "ps", "-aq", "--filter", f"label=com.docker.compose.project={PROJECT}", host=engine_host
    ).split()
    if not ids:
        return []
    try:
        found: list[dict[str, Any]] = json.loads(images.docker("inspect", *ids, host=engine_host))
    except RuntimeError as error:
        raise AssertionError(str(error)) from error
    return found


def counts(volume: Path, name: str) -> Counter[str]:
    """How often each revision's service has run."""
    path = volume / name
    return Counter(path.read_text().split()) if path.exists() else Counter()


def complaints_of_host(bed: Bed, expected: Expectation, *, engine_died: bool) -> list[str]:
    """Look at the host alone: which revision runs, and what ran twice."""
    found = [(each["Config"]["Labels"], each["State"], each["Name"]) for each in containers(bed.docker_host)]
    web = [(labels, state) for labels, state, _ in found if labels["com.docker.compose.service"] == "web"]
    said = []
    if [labels["chaos.mark"] for labels, _ in web] != [expected.running]:
        said.append(f"web: not exactly one container of {expected.running}: {found}")
    elif (state := web[0][1])["Status"] != "running" or state["Health"]["Status"] != "healthy":
        said.append(f"web is {state}")
    once = counts(expected.volume, "once")
    if twice := {mark: number for mark, number in once.items() if number > 1}:
        said.append(f"one-shot services ran more than once: {twice}")
    if once[expected.running] != 1:
        said.append(f"the one-shot service of {expected.running} ran {once[expected.running]} times")
    starts = counts(expected.volume, "web")
    # After a death of the engine its restart policy starts containers again, and that is right.
    if not engine_died and (twice := {mark: number for mark, number in starts.items() if number > 1}):
        allowed = set() if expected.running == expected.marks[-1] else {expected.running}  # put back after a sick one
        if set(twice) - allowed or any(number > 2 for number in twice.values()):
            said.append(f"web containers were started more than once: {twice}, {expected}")
    return said


def complaints_of_journal(bed: Bed, job_ids: list[str]) -> list[str]:
    """Look at the agent's own books: each job there once, ended, told and confirmed; nothing unknown."""
    with sqlite3.connect(f"file:{bed.state_folder / 'journal.sqlite'}?mode=ro", uri=True) as books:
        rows = books.execute("SELECT job_id, result IS NOT NULL, stored_at IS NOT NULL FROM job").fetchall()
        gaps = books.execute(
            "SELECT job_id FROM event GROUP BY job_id HAVING count(*) <> max(seq) OR min(seq) <> 1"
        ).fetchall()
    books.close()
    said = [f"the journal's {job}: finished {ended}, stored {stored}" for job, ended, stored in rows if not stored]
    if strangers := {row[0] for row in rows} ^ set(job_ids):
        said.append(f"jobs that only one side knows: {strangers}")
    if gaps:
        said.append(f"jobs with gaps in their progress: {gaps}")
    if left := [path.name for path in (bed.state_folder / "runs").iterdir()]:
        said.append(f"steps that nobody tidied up: {left}")
    return said


def complaints_of_server(bed: Bed, job: dict[str, Any], number: int) -> list[str]:
    """Look at the control plane: what it believes to run, its progress without a gap, its audit log whole."""
    shown = bed.deployment(PROJECT)
    said = []
    if (shown["state"], shown["revision"], shown["job_id"]) != ("healthy", number, None):
        said.append(f"the deployment is not healthy at revision {number}: {shown}")
    events = bed.call("GET", f"/jobs/{job['id']}/events")
    if [event["seq"] for event in events] != list(range(1, len(events) + 1)):
        said.append(f"progress with gaps or doubles: {[event['seq'] for event in events]}")
    verdict = bed.call("GET", "/audit/verify")
    if not verdict["ok"]:
        said.append(f"the audit log is broken: {verdict}")
    return said


def judge(
    bed: Bed, expected: Expectation, job: dict[str, Any], number: int, jobs: list[str], *, engine_died: bool
) -> None:
    """Wait until everybody agrees, within the limit, or fail with what is still wrong."""

    def agreed() -> bool:
        said = complaints_of_host(bed, expected, engine_died=engine_died)
        said += complaints_of_journal(bed, jobs)
        said += complaints_of_server(bed, job, number)
        assert not said, "\n".join(said)
        return True

    bed.wait(agreed, "server, agent and host to agree", CONVERGE_TIMEOUT)
