"""Secrets planted in every place are found in no log, page, answer, argument list, database, backup or stray file."""

import base64
import os
import re
import secrets
import subprocess
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.support.agent_host import remove_project
from tests.support.chaos import HOST_NAME, Bed
from tests.testbed import images, postgres, processes
from tests.testbed.servers import Server

pytestmark = [pytest.mark.docker, pytest.mark.registry, pytest.mark.timeout(240)]

SAMPLE_INTERVAL = 0.01
"""Seconds between two looks at every process's arguments: Compose runs for some tens of milliseconds."""
MOST_PAGES = 80
LINK = re.compile(r'href="(/[^"#]*)')
COMPOSE = """
services:
  web:
    image: {image}
    stop_signal: KILL
    environment: {{PASSWORD: "${{DATABASE_PASSWORD}}"}}
    secrets: [certificate]
    healthcheck: {{test: ["CMD", "true"], interval: 300ms}}
"""


@dataclass
class Canaries:
    """Every secret of the story by a name that may be printed."""

    values: dict[str, str] = field(default_factory=dict)

    def plant(self, name: str) -> str:
        """Make a secret up."""
        return self.note(name, f"canary{secrets.token_hex(16)}")

    def note(self, name: str, value: str) -> str:
        """Remember a secret that the product made."""
        assert len(value) >= 16, f"{name} is too short to be looked for"
        self.values[name] = value
        return value

    def found_in(self, content: bytes) -> set[str]:
        """Return the names of the secrets that are in there, in any usual disguise."""
        return {name for name, value in self.values.items() if any(form in content for form in disguises(value))}


def disguises(value: str) -> tuple[bytes, ...]:
    """The forms in which a secret might lie about."""
    raw = value.encode()
    quoted = urllib.parse.quote(value, safe="").encode()
    return (raw, base64.b64encode(raw).rstrip(b"="), raw.hex().encode(), quoted)


class Watcher:
    """Looks at the arguments of every process, again and again."""

    def __init__(self) -> None:
        self.seen: set[str] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Watcher":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(SAMPLE_INTERVAL):
            self.seen |= {" ".join(words) for _, words in processes.command_lines()}


@pytest.fixture
def canaries() -> Canaries:
    return Canaries()


@pytest.fixture
def private_image(start_registry: Callable[..., Server], canaries: Canaries, tmp_path: Path) -> Iterator[str]:
    """An image that only a registry with accounts has; this machine's engine has forgotten it."""
    password = canaries.plant("registry password")
    registry = start_registry(accounts={"puller": password})
    name = f"{registry.address}/shop:1"
    images.make_web(name, revision=secrets.token_hex(4))
    login = ["docker", "--config", str(tmp_path / "login"), "login", "-u", "puller", "--password-stdin"]
    subprocess.run([*login, registry.address], input=password.encode(), check=True, capture_output=True)
    images.docker("--config", str(tmp_path / "login"), "push", name)
    images.docker("rmi", name)
    yield name
    images.docker("rmi", "-f", name)


@pytest.fixture
def bed(tmp_path: Path, database_url: str, docker_engine: str, canaries: Canaries) -> Iterator[Bed]:
    """A server that was set up by its one-time link, everything logged, and a host that joined."""
    url_file = tmp_path / "database-url"
    url_file.write_text(database_url)
    server = {"ADMIN_PASSWORD_FILE": "", "LOG_LEVEL": "debug", "DATABASE_URL_FILE": str(url_file)}
    made = Bed(tmp_path, "unix:///var/run/docker.sock", server=server, agent={"LOG_LEVEL": "debug"})
    try:
        made.start_server()
        set_up(made, canaries)
        canaries.note("join token", made.join())
        made.agent.start()
        made.wait_for_host()
        yield made
    finally:
        made.close()


def set_up(bed: Bed, canaries: Canaries) -> None:
    setup_token = canaries.note("setup token", (bed.data_folder / "setup-token").read_text().strip())
    person = {"username": "ada", "password": canaries.plant("password of a user")}
    answer = bed.send("POST", "setup", json={"token": setup_token, **person})
    assert answer.status_code == 201, answer.text
    canaries.note("session", next(iter(answer.cookies.values())))
    bed._client.cookies.clear()
    token = bed.call("POST", "/login", json={**person, "client": "cli", "name": "canary"})["token"]
    bed._client.headers["authorization"] = f"Bearer {canaries.note('token of a sign-in', token)}"


def plant_the_rest(bed: Bed, canaries: Canaries, image: str) -> None:
    made = bed.call("POST", "/tokens", json={"name": "robot"})
    canaries.note("API token", made["token"])
    place = {"host": image.partition("/")[0], "username": "puller"}
    bed.call("POST", "/registries", json={"name": "private", **place, "password": canaries.values["registry password"]})
    other = {"username": "grace", "password": canaries.plant("password of another user")}
    bed.call("POST", "/users", json=other)
    wrong = {"username": "grace", "password": canaries.plant("wrong password")}
    assert bed.send("POST", "login", json=wrong).status_code == 401
    assert bed.send("GET", f"whoami?token={canaries.plant('token in a query')}").status_code < 500
    bearer = {"authorization": f"Bearer twl_{canaries.plant('wrong token')}"}
    assert bed.send("GET", "whoami", headers=bearer).status_code == 401


def deploy(bed: Bed, canaries: Canaries, project: str, image: str) -> str:
    """Deploy with secrets and a private image, then break it, so that the way back is looked at as well."""
    hidden = {name: canaries.plant(f"secret {name}") for name in ("DATABASE_PASSWORD", "certificate")}
    text = COMPOSE.format(image=image)
    more: dict[str, Any] = {"secrets": hidden, "registries": ["private"]}
    job = bed.ended(bed.deploy(project, text, **more)["id"])
    assert job["state"] == "succeeded", f"{job}\n{bed.logs()}"
    shouting = 'test: ["CMD", "sh", "-c", "echo $$PASSWORD; false"], retries: 1'
    command = 'command: ["sh", "-c", "echo it is $$PASSWORD; sleep 60"]\n    healthcheck'
    sick = text.replace('test: ["CMD", "true"]', shouting).replace("healthcheck", command)
    failed = bed.ended(bed.deploy(project, sick)["id"])
    assert (failed["state"], failed["code"]) == ("failed", "unhealthy"), failed
    bad = text.replace("environment:", "envronment:")
    bed.send("POST", f"clusters/{HOST_NAME}/deployments/{project}/validate", json={"compose": bad, "on_host": False})
    return str(failed["id"])


def answers_of_api(bed: Bed, project: str, job_id: str) -> Iterator[tuple[str, bytes]]:
    """Every GET of the API that answers at once, filled in with what there is."""
    known = {
        "cluster": HOST_NAME, "name": project, "number": "1", "job": job_id, "user": "ada", "project": project,
        "agent": bed.cluster()["agents"][0]["id"],
    }  # fmt: skip
    for path, methods in bed.call("GET", "/openapi.json")["paths"].items():
        names = re.findall(r"{(\w+)}", path)
        if "get" not in methods or (path.endswith(("/events", "/logs", "/exec", "/forward")) and "jobs" not in path):
            continue
        filled = path
        for name in names:
            filled = filled.replace(f"{{{name}}}", known.get(name.removesuffix("_name").removesuffix("_id"), "1"))
        answer = bed.send("GET", f"{filled}?limit=200" if not names else filled)
        assert answer.status_code < 500, f"GET {filled}: {answer.text}"
        yield filled, answer.content + str(answer.headers).encode()


def pages(bed: Bed, canaries: Canaries) -> Iterator[tuple[str, bytes]]:
    """Every page that links lead to, as the owner sees it."""
    with httpx.Client(base_url=str(bed._client.base_url), timeout=20, follow_redirects=True) as browser:
        body = {"username": "ada", "password": canaries.values["password of a user"]}
        assert browser.post("/api/v1/login", json=body).is_success
        canaries.note("second session", next(iter(browser.cookies.values())))
        todo, seen = ["/"], {"/"}
        while todo and len(seen) < MOST_PAGES:
            path = todo.pop(0)
            answer = browser.get(path)
            yield path, answer.content
            assert answer.status_code < 500, f"{path}: {answer.status_code}"
            fresh = {link for link in LINK.findall(answer.text) if not link.startswith(("/static", "/api"))} - seen
            seen |= fresh
            todo += sorted(fresh)
        assert len(seen) > 5, f"these pages lead nowhere: {seen}"


def log_lines(bed: Bed) -> Iterator[tuple[str, bytes]]:
    """Both logs; the printed one-time link is the one place where the setup token belongs."""
    for keeper in (bed.server, bed.agent):
        for line in keeper.log.read_bytes().splitlines():
            if b"/setup#" not in line or line.lstrip().startswith(b"{"):
                yield f"log of the {keeper.name}: {line[:200]!r}", line


def files_below(folder: Path) -> Iterator[tuple[str, bytes]]:
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            yield str(path.relative_to(folder)), path.read_bytes()


def database_text(bed: Bed, url: str, request: pytest.FixtureRequest) -> bytes:
    if url.startswith("sqlite"):
        names = ("towline.sqlite", "towline.sqlite-wal")
        folder = Path(url.removeprefix("sqlite:///")).parent
        return b"".join((folder / name).read_bytes() for name in names if (folder / name).exists())
    return postgres.dump(request.getfixturevalue("postgres_server"), url.rpartition("/")[2]).encode()


def test_no_planted_secret_is_found_anywhere(
    bed: Bed, canaries: Canaries, private_image: str, database_url: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    project = f"w1-{secrets.token_hex(4)}"
    hits: list[str] = []

    def look(places: Iterator[tuple[str, bytes]], *, shows: str = "") -> None:
        """Look for secrets; `shows`: something public that must be found, or we look at the wrong places."""
        looked = list(places)
        hits.extend(f"{sorted(found)} in {where}" for where, content in looked if (found := canaries.found_in(content)))
        assert any(shows.encode() in content for _, content in looked), (
            f"{shows} is not in {[each[0] for each in looked]}"
        )

    try:
        plant_the_rest(bed, canaries, private_image)
        with Watcher() as watcher:
            job_id = deploy(bed, canaries, project, private_image)
            backup = make_backup(bed, tmp_path, canaries)
        look(answers_of_api(bed, project, job_id), shows=project)
        look(pages(bed, canaries), shows=project)
        look((("arguments of a process", line.encode()) for line in watcher.seen), shows=project)
        look(iter([("backup", backup), ("metrics", bed.send("GET", "/metrics").content)]), shows="towline_")
        look(iter([("database", database_text(bed, database_url, request))]), shows=project)
        look((f"server's {name}", content) for name, content in files_below(bed.data_folder))
        look(
            ((f"agent's {name}", content) for name, content in files_below(bed.state_folder) if not belongs(name)),
            shows=project,
        )
        look(log_lines(bed), shows=project)
    finally:
        remove_project(project)
    assert not hits, "\n".join(hits)
    assert not (bed.data_folder / "setup-token").exists(), "the setup token is of no use any more, and stays"


def belongs(name: str) -> bool:
    """Tell whether a file on the host is where a project's secrets have to be."""
    return name.startswith("projects/") and ("/.towline/secrets/" in name or name.endswith("/.env"))


def make_backup(bed: Bed, folder: Path, canaries: Canaries) -> bytes:
    target = folder / "backup"
    words = [bed.server.argv[0], "server", "backup", str(target), "--passphrase-file", "-"]
    done = subprocess.run(
        words, input=canaries.plant("passphrase").encode(), env={**os.environ, **bed.server.environment},
        capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    return target.read_bytes() + done.stdout + done.stderr
